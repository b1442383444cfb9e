//! Why a lock is lost.

use std::fmt;

use crate::client::LeaseEnd;

/// Why a lock is ours no more, as [`Guard::lost`](super::Guard::lost) says it. As an error it is the
/// source of what [`Guard::release`](super::Guard::release) and [`Guard::run`](super::Guard::run) fail with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// The session that it hung on has ended.
    Session(LeaseEnd),
    /// It was held for longer than [`Mutex::hold_at_most`](super::Mutex::hold_at_most) allows.
    HeldTooLong,
    /// Another session of the same [owner](super::Mutex::owner) has taken it over.
    TakenOver,
    /// Somebody deleted its key by hand. Only a lock with an owner is told of that.
    KeyDeleted,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::Session(end) => end.fmt(f),
            Lost::HeldTooLong => f.write_str("it was held for longer than it may be"),
            Lost::TakenOver => f.write_str("another session of its owner has taken it over"),
            Lost::KeyDeleted => f.write_str("somebody deleted its key"),
        }
    }
}

impl std::error::Error for Lost {}
