//! What can be found wrong.

use std::fmt;
use std::ops::Range;

use crate::Token;

/// Something that a lock must never do, or a history that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// The events are out of order, or one is missing.
    NoHistory {
        /// What the key does that it cannot do.
        what: &'static str,
        /// The key.
        key: String,
        /// The revision of the event.
        revision: i64,
    },
    /// Two keys of one lock were created by one transaction: which is first?
    Tie {
        /// One key.
        one: String,
        /// The other.
        other: String,
        /// The create_revision of both.
        created: i64,
    },
    /// A claim under a key that never owned the lock.
    NeverOwned {
        /// The claim.
        claim: String,
    },
    /// A claim at a revision at which its key was not the owner.
    NotOwner {
        /// The claim.
        claim: String,
        /// The revision.
        revision: i64,
        /// When its key was the owner.
        owned: Range<i64>,
    },
    /// Two held the lock at the same time.
    Overlap {
        /// The one that began first.
        one: String,
        /// The other.
        other: String,
    },
    /// A smaller token was seen to hold the lock at a revision behind those of a greater one.
    HeldAgain {
        /// The claim with the smaller token.
        one: String,
        /// That with the greater token.
        other: String,
        /// The revision at which the smaller one held it still.
        revision: i64,
    },
    /// The lock was granted to one that had come later than the next.
    OutOfTurn {
        /// The one that was first served.
        one: String,
        /// The next.
        other: String,
    },
    /// Two grants came with the same token.
    TokenTwice {
        /// One claim.
        one: String,
        /// The other.
        other: String,
    },
    /// The register took a write though it had seen a greater token.
    StaleWrite {
        /// The write.
        id: u64,
        /// Its token.
        token: Token,
        /// The greater one.
        greater: Token,
    },
    /// A grant whose token is not above what had been written already.
    LowGrant {
        /// The claim.
        claim: String,
        /// The token that had been written.
        written: Token,
    },
    /// A write was refused, and no greater token can have been the reason.
    NeedlessRefusal {
        /// The write.
        id: u64,
        /// Its token.
        token: Token,
    },
    /// A write was refused, and the register has it.
    RefusedAndStored {
        /// The write.
        id: u64,
    },
    /// The register took a write twice.
    StoredTwice {
        /// The write.
        id: u64,
    },
    /// The register has what nobody sent.
    StoredByNobody {
        /// What stands there for the write.
        id: u64,
    },
    /// A write was acknowledged, and the register never had it.
    WriteLost {
        /// The write.
        id: u64,
    },
    /// A key is still there.
    KeyLeft {
        /// The key.
        key: String,
        /// Its create_revision.
        created: i64,
    },
    /// A lease is still alive.
    LeaseLeft {
        /// Its number.
        lease: i64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::NoHistory { what, key, revision } => {
                write!(f, "no history: at revision {revision} {key} {what}")
            }
            Violation::Tie { one, other, created } => {
                write!(f, "no history: {one} and {other} were both created at {created}")
            }
            Violation::NeverOwned { claim } => write!(f, "{claim}: this key never owned the lock"),
            Violation::NotOwner {
                claim,
                revision,
                owned,
            } => {
                write!(
                    f,
                    "{claim}: held it at revision {revision}, and owned it at {owned:?}"
                )
            }
            Violation::Overlap { one, other } => write!(f, "two at once: {one}; {other}"),
            Violation::HeldAgain { one, other, revision } => {
                write!(f, "{one}: held it at revision {revision}, after {other}")
            }
            Violation::OutOfTurn { one, other } => write!(f, "out of turn: {one}; then {other}"),
            Violation::TokenTwice { one, other } => write!(f, "one token for two: {one}; {other}"),
            Violation::StaleWrite { id, token, greater } => {
                write!(
                    f,
                    "write {id} with token {token} was taken after one with {greater}"
                )
            }
            Violation::LowGrant { claim, written } => {
                write!(f, "{claim}: {written} had been written when it was granted")
            }
            Violation::NeedlessRefusal { id, token } => {
                write!(
                    f,
                    "write {id} with token {token} was refused, and nothing greater was sent"
                )
            }
            Violation::RefusedAndStored { id } => write!(f, "write {id} was refused, and is stored"),
            Violation::StoredTwice { id } => write!(f, "write {id} is stored twice"),
            Violation::StoredByNobody { id } => write!(f, "what is stored as write {id} was never sent"),
            Violation::WriteLost { id } => write!(f, "write {id} was acknowledged, and is not stored"),
            Violation::KeyLeft { key, created } => write!(f, "{key}, created at {created}, is left"),
            Violation::LeaseLeft { lease } => write!(f, "lease {lease:x} is left"),
        }
    }
}

impl std::error::Error for Violation {}
