//! What a watch hands out: events, in batches of whole revisions.

use crate::error::Error;
use crate::pb::mvccpb::{self, KeyValue, event::EventType};
use crate::types::Revision;

use super::breach;

/// One change of one key.
///
/// Keys and values share the buffer that the message was received in: a kept one
/// keeps the whole message. Copy the small ones that are kept for long.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "both variants are equally large, and a box would cost every event an allocation"
)]
pub enum Event {
    /// The key was put.
    Put {
        /// The key as this put left it.
        kv: KeyValue,
        /// The key as it was before: only where the watch asked for it, the key
        /// existed, and that revision is not compacted.
        prev_kv: Option<KeyValue>,
    },
    /// The key was deleted, or its lease ended.
    Delete {
        /// The key, and in `mod_revision` the revision of the deletion; the rest is empty.
        kv: KeyValue,
        /// The key as it was before: only where the watch asked for it, and that
        /// revision is not compacted.
        prev_kv: Option<KeyValue>,
    },
}

impl Event {
    /// The key, in the state that the change left it in.
    #[must_use]
    pub fn kv(&self) -> &KeyValue {
        match self {
            Event::Put { kv, .. } | Event::Delete { kv, .. } => kv,
        }
    }

    /// The key before the change, where the watch asked for it and the server still has it.
    #[must_use]
    pub fn prev_kv(&self) -> Option<&KeyValue> {
        match self {
            Event::Put { prev_kv, .. } | Event::Delete { prev_kv, .. } => prev_kv.as_ref(),
        }
    }

    /// The revision of the change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision(self.kv().mod_revision)
    }

    pub(super) fn from_wire(event: mvccpb::Event) -> Result<Event, Error> {
        let prev_kv = event.prev_kv;
        let Some(kv) = event.kv else {
            return Err(breach("a watch event without a key"));
        };
        match EventType::try_from(event.r#type) {
            Ok(EventType::Put) => Ok(Event::Put { kv, prev_kv }),
            Ok(EventType::Delete) => Ok(Event::Delete { kv, prev_kv }),
            Err(_) => Err(breach("a watch event of an unknown type")),
        }
    }

    /// What the event takes up: its own size, which dwarfs a small key, and its keys and values.
    pub(super) fn bytes(&self) -> usize {
        let payload = |kv: &KeyValue| kv.key.len() + kv.value.len();
        size_of::<Event>() + payload(self.kv()) + self.prev_kv().map_or(0, payload)
    }
}

/// The events of one or more whole revisions, in their order; never a part of a
/// transaction. A batch without events is a progress notification.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The revision of the member's store when it sent this. It may be ahead of
    /// the events that this watch has seen, so it is no place to resume from.
    pub revision: Revision,
    /// Where a new watch has to start to see exactly what follows this batch.
    pub resume_revision: Revision,
    /// The events, by revision and within one revision as the server ordered them.
    pub events: Vec<Event>,
}

impl Batch {
    /// Whether this is a progress notification: no event, only revisions.
    #[must_use]
    pub fn is_progress(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Batch>() + bytes_of(&self.events)
    }
}

pub(super) fn bytes_of(events: &[Event]) -> usize {
    events.iter().map(Event::bytes).sum()
}
