//! The fencing token of a lock.

use std::fmt;

use crate::types::Revision;

/// A number that rises with every grant of a lock, for resources that are to
/// refuse a holder that is late: they keep the greatest token they saw, and
/// refuse a smaller one (M. Kleppmann, "How to do distributed locking", 2016).
///
/// It is the create_revision of the holder's key in etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(Revision);

impl Token {
    pub(super) fn new(created: Revision) -> Token {
        Token(created)
    }

    /// The create_revision of the holder's key.
    #[must_use]
    pub fn create_revision(self) -> Revision {
        self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
