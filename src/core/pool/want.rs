//! What asks the pool for a connection, and of which class of traffic it is.

use super::EndpointId;

/// What must not be stuck behind what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    /// Calls of any size.
    #[default]
    Bulk,
    /// Leases, watches and locks: small, and somebody's lease hangs on them.
    Control,
}

/// What asks for a connection.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// What it is part of.
    pub class: Class,
    /// It lives long, so that where it goes is worth a wait.
    pub stream: bool,
    /// Its answer may be due only once somebody else does something.
    pub waits: bool,
    /// An endpoint that was just tried in vain.
    pub avoid: Option<EndpointId>,
    /// The endpoint that it is for; no other will do.
    pub only: Option<EndpointId>,
}

impl Want {
    /// A call of this class, to any endpoint.
    #[must_use]
    pub fn call(class: Class) -> Want {
        Want {
            class,
            stream: false,
            waits: false,
            avoid: None,
            only: None,
        }
    }

    /// Whether this endpoint may be asked at all.
    pub(super) fn admits(self, id: EndpointId) -> bool {
        self.only.is_none_or(|only| only == id)
    }

    /// Whether it may find out how a member does: it ends soon, and goes where the pool says.
    pub(super) fn may_probe(self) -> bool {
        !self.stream && !self.waits && self.only.is_none()
    }
}
