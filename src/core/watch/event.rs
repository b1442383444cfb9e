//! What a watch hands out: events, in batches of whole revisions.

use bytes::Bytes;

use crate::core::namespace::Namespace;
use crate::error::Error;
use crate::pb::mvccpb::{self, KeyValue, event::EventType};
use crate::types::Revision;

use super::refusal::breach;

/// A larger message has come in several frames of HTTP/2, and was gathered in a buffer of
/// its own size. A smaller one may be a slice of a buffer of about this size.
pub(super) const MESSAGE_SHARED_BYTES: usize = 16 << 10;

/// What a queue needs for a batch: its place, at worst twice, and two allocations.
const BATCH_BYTES: usize = 2 * size_of::<(Batch, usize)>() + 64;

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

    /// Its keys are those in the namespace from now on.
    pub(super) fn leave(&mut self, namespace: &Namespace) -> Result<(), Error> {
        let mut left = self.kvs_mut().map(|kv| namespace.leave_key(&mut kv.key));
        left.try_for_each(|left| left)
            .map_err(|_| breach("a watch event outside of the namespace"))
    }

    /// What the event takes up: its own size, which dwarfs a small key, and its keys and values.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Event>() + self.payload()
    }

    fn payload(&self) -> usize {
        let payload = |kv: &KeyValue| kv.key.len() + kv.value.len();
        payload(self.kv()) + self.prev_kv().map_or(0, payload)
    }

    fn kvs_mut(&mut self) -> impl Iterator<Item = &mut KeyValue> {
        let (Event::Put { kv, prev_kv } | Event::Delete { kv, prev_kv }) = self;
        std::iter::once(kv).chain(prev_kv)
    }
}

/// The events of one or more whole revisions, in their order; never a part of a
/// transaction. Or a notice without events, for those who asked for one: see its kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// What it is.
    pub kind: BatchKind,
    /// The revision of the member's store when it sent this. It may be ahead of
    /// the events that this watch has seen, so it is no place to resume from.
    pub revision: Revision,
    /// Where a new watch has to start to see exactly what follows this batch.
    pub resume_revision: Revision,
    /// The events, by revision and within one revision as the server ordered them.
    pub events: Vec<Event>,
}

/// What a [`Batch`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchKind {
    /// Events.
    Events,
    /// How far the watch has come: no event, only revisions.
    Progress,
    /// The watch was created again after its stream was lost, or the server cancelled
    /// it for a reason that passes. No event was lost: what follows begins at
    /// [`Batch::resume_revision`].
    Reconnected,
}

impl Batch {
    /// Whether this is a progress notification: no event, only revisions.
    #[must_use]
    pub fn is_progress(&self) -> bool {
        self.kind == BatchKind::Progress
    }

    pub(super) fn reconnected(revision: Revision, resume_revision: Revision) -> Batch {
        Batch {
            kind: BatchKind::Reconnected,
            revision,
            resume_revision,
            events: Vec::new(),
        }
    }

    /// What the batch takes up in a queue, beside the buffers that it shares.
    pub(super) fn bytes(&self) -> usize {
        let spare = self.events.capacity() - self.events.len();
        BATCH_BYTES + bytes_of(&self.events) + spare * size_of::<Event>()
    }

    /// Copies keys and values out of the message they came in, into one buffer, where
    /// the message may be a small part of what it holds.
    pub(super) fn detach(&mut self) {
        self.events.shrink_to_fit();
        let payload = self.events.iter().map(Event::payload).sum();
        if payload > MESSAGE_SHARED_BYTES {
            return;
        }
        let mut copied = Vec::with_capacity(payload);
        for kv in self.events.iter_mut().flat_map(Event::kvs_mut) {
            copied.extend_from_slice(&kv.key);
            copied.extend_from_slice(&kv.value);
        }
        let mut copied = Bytes::from(copied);
        for kv in self.events.iter_mut().flat_map(Event::kvs_mut) {
            kv.key = copied.split_to(kv.key.len());
            kv.value = copied.split_to(kv.value.len());
        }
    }
}

pub(super) fn bytes_of(events: &[Event]) -> usize {
    events.iter().map(Event::bytes).sum()
}
