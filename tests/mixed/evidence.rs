//! The registers beside each name, whose values say who wrote them: one is written under a
//! guard's fence, the other keeps the greatest token and refuses a smaller one.

use tenure::Compare;
use tenure_history::{Stored, Token};

use crate::note::token;

/// Written in transactions with the fence.
pub(crate) fn fenced(name: &str) -> String {
    format!("mixed-fenced/{name}")
}

/// Written by those who have it beside others, with their fences: nobody's order is kept there.
pub(crate) fn shared(name: &str) -> String {
    format!("mixed-shared/{name}")
}

/// Written without a fence, but with a token; by late holders as well.
pub(crate) fn greatest(name: &str) -> String {
    format!("mixed-greatest/{name}")
}

/// What a register holds; tokens compare as the bytes do.
pub(crate) fn stored(token: Token, id: u64) -> String {
    format!("{} {id}", padded(token))
}

pub(crate) fn read(value: &str) -> Option<Stored> {
    let (text, id) = value.split_once(' ')?;
    Some(Stored {
        id: id.parse().ok()?,
        token: token(text)?,
    })
}

/// Nothing greater is written there: '~' is behind every number of a write.
pub(crate) fn not_above(register: String, token: Token) -> Compare {
    Compare::value(register).less(format!("{}~", padded(token)))
}

fn padded(token: Token) -> String {
    format!("{:020}.{:010}", token.created, token.sequence)
}
