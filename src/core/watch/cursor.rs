//! How far one watch has come: which revision it sees next, and the fragments of
//! a revision that is not yet whole.
//!
//! The rules (etcd's guarantees for watches, facts about its server):
//!
//! - A watch from "now" begins behind the revision C that its `created` answer
//!   names; the server may still send events at or below C, and they are dropped.
//! - The place to resume at is the last handed out event's revision + 1, or the
//!   header's + 1 of a progress notification that is the watch's own. The header
//!   of any other message may be ahead of events that are still to come.
//! - Fragments end with the first message whose `fragment` is false. Revisions are
//!   handed out as soon as a later one begins, so that no more is held back than one.

use crate::core::namespace::Namespace;
use crate::error::Error;
use crate::pb::mvccpb;
use crate::types::Revision;

use super::event::{Batch, BatchKind, Event, bytes_of};
use super::refusal::breach;
use super::rules::{Rule, Rules};

/// The place behind it is no revision, so that a watch could not resume there. A store
/// never comes so far.
const LAST: Revision = Revision(i64::MAX);

/// See the module.
#[derive(Debug)]
pub(super) struct Cursor {
    /// Every event below is handed out, or was never this watch's.
    next: Revision,
    /// The events of one revision, at or above `next`, while its fragments come.
    open: Vec<Event>,
    open_bytes: usize,
    /// The message that passes it is still taken, the next one no more.
    open_bytes_max: usize,
    namespace: Option<Namespace>,
    rules: Rules,
}

/// Why a cursor cannot go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// The server does not keep to the protocol.
    Breach(Error),
    /// The revision has more events than may be held back.
    TooLarge(Revision),
}

impl Cursor {
    /// For a watch that asked for `start`, zero for "now", and was created at `created`.
    pub(super) fn new(start: Revision, created: Revision, open_bytes_max: usize, rules: Rules) -> Cursor {
        let next = if start > Revision::ZERO {
            start
        } else {
            // No store is at less than 1; below, the next watch would begin at "now" again.
            created.next().max(Revision(1))
        };
        Cursor {
            next,
            open: Vec::new(),
            open_bytes: 0,
            open_bytes_max,
            namespace: None,
            rules,
        }
    }

    /// For a watch in this namespace.
    pub(super) fn within(mut self, namespace: Option<Namespace>) -> Cursor {
        self.namespace = namespace;
        self
    }

    /// Where a new watch has to start to see what this one has not handed out.
    pub(super) fn next(&self) -> Revision {
        self.next
    }

    /// A message of this watch: what of it is whole and new.
    pub(super) fn handle_events(
        &mut self,
        header: Revision,
        events: Vec<mvccpb::Event>,
        fragment: bool,
    ) -> Result<Option<Batch>, Stop> {
        if events.is_empty() && self.open.is_empty() && !fragment {
            self.next = self.next.max(header.next());
            return Ok(Some(self.batch(header, Vec::new())));
        }
        if self.open_bytes > self.open_bytes_max {
            // Everything before it was handed out.
            return Err(Stop::TooLarge(
                self.open.first().map_or(self.next, Event::revision),
            ));
        }
        let events = self.admit(events).map_err(Stop::Breach)?;
        let whole = self.whole(events, fragment);
        let Some(last) = whole.last() else {
            return Ok(None);
        };
        self.next = match self.rules.keep(Rule::EventRevision) {
            true => last.revision().next(),
            false => header.next(),
        };
        Ok(Some(self.batch(header, whole)))
    }

    /// The answer to a progress request, which goes to every watch of the stream.
    /// Some servers' answer is ahead of their events, so it moves nothing.
    pub(super) fn handle_progress(&self, header: Revision) -> Batch {
        self.batch(header, Vec::new())
    }

    pub(super) fn check(&self) {
        let first = self.open.first().map(Event::revision);
        assert!(
            self.open.iter().all(|event| Some(event.revision()) == first),
            "more than one revision is held back"
        );
        assert!(
            first.is_none_or(|first| first >= self.next),
            "an event is held back that was handed out"
        );
        assert_eq!(bytes_of(&self.open), self.open_bytes);
    }

    fn batch(&self, header: Revision, events: Vec<Event>) -> Batch {
        let kind = match events.is_empty() {
            true => BatchKind::Progress,
            false => BatchKind::Events,
        };
        Batch {
            kind,
            revision: header,
            resume_revision: self.next,
            events,
        }
    }

    /// The events that are this watch's to see, in place: both kinds of event are equally large.
    fn admit(&self, events: Vec<mvccpb::Event>) -> Result<Vec<Event>, Error> {
        let mut events = events.into_iter().map(Event::from_wire).collect::<Result<Vec<_>, _>>()?;
        let backwards =
            |event: &Event| self.open.last().is_some_and(|open| event.revision() < open.revision());
        if !events.is_sorted_by_key(Event::revision) || events.first().is_some_and(backwards) {
            return Err(breach("watch events out of order"));
        }
        if events.first().is_some_and(|event| event.revision() <= Revision::ZERO) {
            return Err(breach("a watch event without a revision"));
        }
        if events.last().is_some_and(|event| event.revision() == LAST) {
            return Err(breach("a watch event at a revision that nothing can follow"));
        }
        let seen = events.partition_point(|event| event.revision() < self.next);
        if seen > 0 {
            events.drain(..seen);
        }
        if let Some(namespace) = &self.namespace {
            events.iter_mut().try_for_each(|event| event.leave(namespace))?;
        }
        Ok(events)
    }

    /// What is complete of the held back events and these; the rest is held back.
    fn whole(&mut self, mut events: Vec<Event>, fragment: bool) -> Vec<Event> {
        if !fragment || !self.rules.keep(Rule::WholeRevisions) {
            if self.open.is_empty() {
                return events;
            }
            self.open.append(&mut events);
            return self.take_open();
        }
        let Some(last) = events.last().map(Event::revision) else {
            return Vec::new();
        };
        let mut rest = events.split_off(events.partition_point(|event| event.revision() < last));
        let mut whole = match self.open.first() {
            Some(first) if first.revision() < last => self.take_open(),
            _ => Vec::new(),
        };
        whole.append(&mut events);
        if !self.rules.keep(Rule::Fragments) {
            rest.clear();
        }
        self.open_bytes += bytes_of(&rest);
        self.open.append(&mut rest);
        whole
    }

    fn take_open(&mut self) -> Vec<Event> {
        self.open_bytes = 0;
        std::mem::take(&mut self.open)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn put(key: &'static str, mod_revision: i64) -> mvccpb::Event {
        let kv = mvccpb::KeyValue {
            key: Bytes::from_static(key.as_bytes()),
            mod_revision,
            ..mvccpb::KeyValue::default()
        };
        mvccpb::Event {
            kv: Some(kv.clone()),
            prev_kv: Some(kv),
            ..mvccpb::Event::default()
        }
    }

    #[test]
    fn events_are_told_with_the_keys_of_the_namespace_and_strangers_break_the_stream() {
        let namespace = Namespace::new(Bytes::from_static(b"p/"));
        let cursor = || Cursor::new(Revision(5), Revision(4), 1 << 20, Rules::here());
        let mut within = cursor().within(namespace);
        let batch = within.handle_events(Revision(6), vec![put("p/a", 5)], false);
        let batch = batch.expect("it is inside").expect("it is whole");
        assert_eq!(batch.events[0].kv().key, "a");
        assert_eq!(batch.events[0].prev_kv().map(|kv| &kv.key[..]), Some(&b"a"[..]));
        let events = vec![put("p/b", 6), put("q/b", 6)];
        assert!(matches!(
            within.handle_events(Revision(6), events, false),
            Err(Stop::Breach(_))
        ));
    }
}
