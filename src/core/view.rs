//! The keys of a range as of a revision, kept up by the events of a watch. It reads and
//! watches nothing: `concurrency::following` feeds it.
//!
//! ```text
//!   watch from "now" ──▶ created at c      read ──▶ keys at r >= c      events above r
//!                                          View::new                    handle_events, fold_next
//! ```
//!
//! It steps from one revision to the next and never stands inside of one, so whatever is decided on it is
//! decided on a state that there was. A key is another one once it was created anew.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use super::watch::Event;
use crate::pb::mvccpb::KeyValue;
use crate::types::Revision;

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct View {
    revision: Revision,
    /// When each was created.
    keys: BTreeMap<Bytes, Revision>,
    /// What lies ahead of `revision`: whole revisions.
    ahead: VecDeque<Event>,
}

impl View {
    /// The keys that a read found, and the revision of its answer.
    #[must_use]
    pub fn new(revision: Revision, kvs: &[KeyValue]) -> View {
        let keys = kvs.iter().map(|kv| (kv.key.clone(), Revision(kv.create_revision)));
        View {
            revision,
            keys: keys.collect(),
            ahead: VecDeque::new(),
        }
    }

    /// The events of whole revisions, in their order. Those that the read has seen are old news.
    pub fn handle_events(&mut self, events: impl IntoIterator<Item = Event>) {
        let read = self.revision;
        self.ahead.extend(events.into_iter().filter(|event| event.revision() > read));
    }

    /// Goes to the next revision that changed something. False where none is known yet.
    pub fn fold_next(&mut self) -> bool {
        let Some(next) = self.ahead.front().map(Event::revision) else {
            return false;
        };
        while self.ahead.front().is_some_and(|event| event.revision() == next) {
            let Some(event) = self.ahead.pop_front() else {
                break;
            };
            match event {
                Event::Put { kv, .. } => self.keys.insert(kv.key, Revision(kv.create_revision)),
                Event::Delete { kv, .. } => self.keys.remove(&kv.key),
            };
        }
        self.revision = next;
        true
    }

    /// The revision that it shows.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// When this key was created, if it is there.
    #[must_use]
    pub fn created(&self, key: &[u8]) -> Option<Revision> {
        self.keys.get(key).copied()
    }

    /// The keys that begin with `prefix`, in their order, and when each was created.
    pub fn below<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = (&'a Bytes, Revision)> {
        let from = self.keys.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
        from.take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, created)| (key, *created))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &'static str, created: i64, changed: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            create_revision: created,
            mod_revision: changed,
            ..KeyValue::default()
        }
    }

    fn put(key: &'static str, created: i64, changed: i64) -> Event {
        Event::Put {
            kv: kv(key, created, changed),
            prev_kv: None,
        }
    }

    fn delete(key: &'static str, at: i64) -> Event {
        Event::Delete {
            kv: kv(key, 0, at),
            prev_kv: None,
        }
    }

    fn shown(view: &View) -> Vec<(&[u8], i64)> {
        view.below(b"").map(|(key, created)| (&key[..], created.0)).collect()
    }

    #[test]
    fn steps_from_revision_to_revision() {
        let mut view = View::new(Revision(9), &[kv("a", 3, 3), kv("b", 4, 8)]);
        view.handle_events([
            put("c", 10, 10),
            delete("a", 10),
            delete("b", 12),
            put("b", 13, 13),
        ]);
        assert_eq!(shown(&view), [(&b"a"[..], 3), (b"b", 4)]);
        assert!(view.fold_next());
        assert_eq!(
            (shown(&view), view.revision()),
            (vec![(&b"b"[..], 4), (b"c", 10)], Revision(10))
        );
        assert!(view.fold_next());
        assert_eq!((view.created(b"b"), view.revision()), (None, Revision(12)));
        assert!(view.fold_next());
        assert_eq!(view.created(b"b"), Some(Revision(13)));
        assert!(!view.fold_next());
    }

    #[test]
    fn what_the_read_has_seen_is_old_news() {
        // As when the watch tells of a deletion from before the key was put again.
        let mut view = View::new(Revision(9), &[kv("a", 9, 9)]);
        view.handle_events([delete("a", 8), put("a", 9, 9)]);
        assert!(!view.fold_next());
        assert_eq!(view.created(b"a"), Some(Revision(9)));
    }

    #[test]
    fn shows_what_lies_below_a_prefix() {
        let view = View::new(
            Revision(9),
            &[kv("a", 1, 1), kv("a/1", 2, 2), kv("a/2", 3, 3), kv("a0", 4, 4)],
        );
        let below: Vec<_> = view.below(b"a/").map(|(_, created)| created.0).collect();
        assert_eq!(below, [2, 3]);
    }
}
