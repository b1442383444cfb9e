//! When and how often the own key was put, which tells it from what was or will be there
//! under its name.

use crate::pb::mvccpb::KeyValue;
use crate::types::Revision;

/// See the head of this file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// Its create_revision.
    pub created: Revision,
    /// Its mod_revision: another one where it was taken over.
    pub at: Revision,
    /// How often it was taken over.
    pub takeovers: u32,
}

impl Put {
    /// It was put at this revision: created, or taken over as it was found.
    pub(super) fn new(at: Revision, over: Option<Put>) -> Put {
        match over {
            Some(found) => Put {
                at,
                takeovers: found.takeovers.saturating_add(1),
                ..found
            },
            None => Put {
                created: at,
                at,
                takeovers: 0,
            },
        }
    }

    /// As it was found.
    pub(super) fn found(own: &KeyValue) -> Put {
        Put {
            created: Revision(own.create_revision),
            at: Revision(own.mod_revision),
            takeovers: u32::try_from(own.version.saturating_sub(1)).unwrap_or(u32::MAX),
        }
    }
}
