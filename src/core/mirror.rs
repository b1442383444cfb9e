//! A mirror: what the destination has to be told so that it is as the source was at one revision,
//! and then at each later one. It owns the order of the changes and how they are cut into
//! transactions; it reads and writes nothing: `client/mirror` carries its steps out.
//!
//! ```text
//!   source's keys ──┐
//!                   ├─▶ Comparison ─▶ changes ──┐
//!   copied keys  ───┘                           ├─▶ Cutter ─▶ transaction, transaction, ..
//!   source's events, whole revisions ───────────┘
//! ```
//!
//! What has been copied is written down in a [`Checkpoint`], a key beside the copy: with each
//! transaction, and in it. The transaction compares the checkpoint's mod_revision, so of two
//! mirrors only the one that wrote last can write. It does no harm to send it again: carried out
//! once, its comparison holds no more, and the mark in the checkpoint tells whose doing that was.

mod checkpoint;
mod comparison;
mod cutter;
mod end;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::core::watch::Event;

pub use checkpoint::{Checkpoint, Phase};
pub use comparison::{Comparison, Need};
pub use cutter::{Cut, Cutter, Limits};
pub use end::{Halt, MirrorEnd};

/// One key that is to be other than it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, without the prefix of either side.
    pub key: Bytes,
    /// Its value; it is to be deleted where there is none.
    pub value: Option<Bytes>,
}

impl Change {
    /// What an event of the source means to the copy. The lease is the source's, and stays there.
    #[must_use]
    pub fn of(event: Event) -> Change {
        match event {
            Event::Put { kv, .. } => Change {
                key: kv.key,
                value: Some(kv.value),
            },
            Event::Delete { kv, .. } => Change {
                key: kv.key,
                value: None,
            },
        }
    }

    /// What it takes in a request, nearly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}
