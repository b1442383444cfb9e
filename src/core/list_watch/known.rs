//! What the reader has been told of: each key, and the revision of its last change.
//!
//! A key is copied out of the message that it came in, once, and the events of that key
//! that are handed out share the copy: who keeps them does not keep the message for its key.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use crate::core::watch::Event;
use crate::pb::mvccpb::KeyValue;
use crate::types::Revision;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Known {
    keys: BTreeMap<Bytes, Revision>,
}

impl Known {
    /// Takes note of what the watch saw.
    pub(super) fn apply(&mut self, events: &mut [Event]) {
        for event in events {
            match event {
                Event::Put { kv, .. } => self.put(kv),
                Event::Delete { kv, .. } => drop(self.keys.remove(&kv.key)),
            }
        }
    }

    /// How what was listed at `at` differs from what is known, so many events of it at
    /// most; none once all of it is told. Both go by key, beginning at `from`, which
    /// moves along. Where `more` is to follow, nothing is said of what lies behind the page.
    pub(super) fn compare(
        &mut self,
        at: Revision,
        from: &mut Bound<Bytes>,
        page: &mut VecDeque<KeyValue>,
        more: bool,
        max: usize,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < max {
            let rest = (from.as_ref().map(|key| &key[..]), Bound::Unbounded);
            let old = self.keys.range::<[u8], _>(rest).next();
            let gone = match (page.front(), old) {
                (None, None) => break,
                (None, Some(_)) if more => break,
                (None, Some((key, _))) => Some(key.clone()),
                (Some(new), Some((key, _))) if *key < new.key => Some(key.clone()),
                (Some(_), _) => None,
            };
            if let Some(key) = gone {
                self.keys.remove(&key);
                events.push(deletion(key, at));
                continue;
            }
            let Some(mut kv) = page.pop_front() else {
                break;
            };
            let known = self.keys.get(&kv.key).copied();
            let changed = known != Some(Revision(kv.mod_revision));
            self.put(&mut kv);
            *from = Bound::Excluded(kv.key.clone());
            if changed {
                events.push(Event::Put { kv, prev_kv: None });
            }
        }
        events
    }

    /// Takes note of a key, and lends it the copy.
    fn put(&mut self, kv: &mut KeyValue) {
        let known = self.keys.get_key_value(&kv.key);
        let key = known.map_or_else(|| Bytes::copy_from_slice(&kv.key), |(key, _)| key.clone());
        kv.key = key.clone();
        self.keys.insert(key, Revision(kv.mod_revision));
    }
}

fn deletion(key: Bytes, at: Revision) -> Event {
    let kv = KeyValue {
        key,
        mod_revision: at.0,
        ..KeyValue::default()
    };
    Event::Delete { kv, prev_kv: None }
}
