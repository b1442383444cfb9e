//! What a software transaction has read and written, what its commit has to compare,
//! and which reads need no server. It sends nothing, and it does not try again:
//! `concurrency::stm` drives it, with a new one for each attempt.
//!
//! ```text
//!   get, range ──▶ written? ──▶ read? ──▶ inside a range that was read? ──▶ ask the server
//!   put, delete ─▶ written                                                    │
//!   commit ◀── conditions, writes                            handle_read ◀────┘
//! ```
//!
//! A range that was read is a predicate: "these keys are all there are, and this is what they
//! are". It holds as long as each key it showed has the revision it had, which finds the deleted and
//! the changed ones, and none in it is younger than the reading, which finds the new ones.

#[cfg(test)]
mod simulation;

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::pb::mvccpb::KeyValue;
use crate::types::{KeyRange, LeaseId, Revision};

/// How far concurrent transactions are kept apart. The names are those of etcd's Go client.
///
/// | level | all reads are of one moment | the commit fails where | so these can happen |
/// |---|---|---|---|
/// | `SerializableSnapshot` | yes | a key or a range that was read is not as it was, or a written key was put since the first read | nothing of the below |
/// | `Serializable` | yes | a key or a range that was read is not as it was | a write that read nothing covers one that it has not seen |
/// | `RepeatableReads` | no | a key that was read, alone or in a range, is not as it was | also phantoms: a range has a key more than it had; and attempts that see parts of different moments, but are not committed |
/// | `ReadCommitted` | no | never | also lost updates and write skew |
///
/// At every level a transaction sees its own writes, sees none that is not committed, gets the same
/// answer when it reads a key again, and is written whole or not at all. At the first two a range too is the same again;
/// below, one that overlaps it may have brought keys since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// As if one transaction ran after the other, and no write goes unseen.
    #[default]
    SerializableSnapshot,
    /// As if one transaction ran after the other.
    Serializable,
    /// What was read is still so at the commit.
    RepeatableReads,
    /// What was read had been committed.
    ReadCommitted,
}

impl Isolation {
    /// Whether all reads are of one revision, and ranges are compared as a whole.
    fn is_serializable(self) -> bool {
        matches!(self, Isolation::SerializableSnapshot | Isolation::Serializable)
    }
}

/// What one attempt of a transaction has touched; see the head of this file.
#[derive(Clone, Debug)]
pub struct Footprint {
    isolation: Isolation,
    /// The revision of the first reading.
    first: Option<Revision>,
    read: BTreeMap<Bytes, Seen>,
    /// The ranges that were read, each with the revision that its answer is of.
    ranges: Vec<(KeyRange, Revision)>,
    written: BTreeMap<Bytes, Write>,
    #[cfg(test)]
    forgets: Option<simulation::Forgets>,
}

/// What a key was when it was read.
#[derive(Clone, Debug)]
struct Seen {
    /// Zero where there was none.
    mod_revision: Revision,
    value: Option<Bytes>,
}

/// What the commit does to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Puts it.
    Put {
        /// Its value.
        value: Bytes,
        /// What it hangs on.
        lease: LeaseId,
    },
    /// Deletes it.
    Delete,
}

/// What has to hold in etcd for the commit to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The key's mod_revision is this one; zero: there is no such key.
    Unchanged(Bytes, Revision),
    /// No key of the range has a mod_revision above this one.
    NothingSince(KeyRange, Revision),
}

impl Footprint {
    /// Nothing is read or written yet.
    #[must_use]
    pub fn new(isolation: Isolation) -> Footprint {
        Footprint {
            isolation,
            first: None,
            read: BTreeMap::new(),
            ranges: Vec::new(),
            written: BTreeMap::new(),
            #[cfg(test)]
            forgets: None,
        }
    }

    /// What the transaction sees at this key: its value, or that there is none. `None` where
    /// that has to be read first.
    #[must_use]
    pub fn get(&self, key: &Bytes) -> Option<Option<Bytes>> {
        if let Some(write) = self.written.get(key) {
            return Some(write.value());
        }
        if let Some(seen) = self.read.get(key) {
            return Some(seen.value.clone());
        }
        self.is_read(&KeyRange::key(key.clone())).then_some(None)
    }

    /// What the transaction sees in this range, by key. `None` where that has to be read first.
    #[must_use]
    pub fn range(&self, keys: &KeyRange) -> Option<Vec<(Bytes, Bytes)>> {
        if !self.is_read(keys) {
            return None;
        }
        let Some(span) = span(keys) else {
            return Some(Vec::new());
        };
        let read = self.read.range::<Bytes, _>(span.clone());
        let mut shown: BTreeMap<&Bytes, Option<Bytes>> =
            read.map(|(key, seen)| (key, seen.value.clone())).collect();
        shown.extend(self.written.range::<Bytes, _>(span).map(|(key, write)| (key, write.value())));
        Some(shown.into_iter().filter_map(|(key, value)| Some((key.clone(), value?))).collect())
    }

    /// The revision to read at; zero: the present one.
    #[must_use]
    pub fn read_at(&self) -> Revision {
        match self.isolation.is_serializable() {
            true => self.first.unwrap_or_default(),
            false => Revision::ZERO,
        }
    }

    /// What a key or a range was when it was read at the revision `at`, by an answer of the
    /// store's `revision`. Where a key was read before, that counts, so that reads repeat.
    /// False where another first reading has come meanwhile: it is to be read again, at that one.
    #[must_use]
    pub fn handle_read(
        &mut self,
        at: Revision,
        keys: KeyRange,
        revision: Revision,
        kvs: Vec<KeyValue>,
    ) -> bool {
        if self.read_at() != at {
            return false;
        }
        // The header of an answer has the store's revision, whatever was read at.
        let revision = if at == Revision::ZERO { revision } else { at };
        self.first.get_or_insert(revision);
        let is_empty = kvs.is_empty();
        for kv in kvs {
            self.read.entry(kv.key).or_insert(Seen {
                mod_revision: Revision(kv.mod_revision),
                value: Some(kv.value),
            });
        }
        if !keys.range_end.is_empty() {
            self.ranges.push((keys, revision));
        } else if is_empty {
            self.read.entry(keys.key).or_insert(Seen {
                mod_revision: Revision::ZERO,
                value: None,
            });
        }
        true
    }

    /// Puts a key with the commit.
    pub fn put(&mut self, key: Bytes, value: Bytes, lease: LeaseId) {
        self.written.insert(key, Write::Put { value, lease });
    }

    /// Deletes a key with the commit.
    pub fn delete(&mut self, key: Bytes) {
        self.written.insert(key, Write::Delete);
    }

    /// Forgets what was written. What was read is compared all the same.
    pub fn rollback(&mut self) {
        self.written.clear();
    }

    /// The revision of the first reading.
    #[must_use]
    pub fn first_read(&self) -> Option<Revision> {
        self.first
    }

    /// What the commit writes.
    #[must_use]
    pub fn writes(&self) -> &BTreeMap<Bytes, Write> {
        &self.written
    }

    /// Whether there is anything to be sent. What a serializable transaction has read is what was
    /// there at one revision, and the first read saw all that had been committed before it: without a
    /// write it took place at that revision, and nothing has to be compared.
    #[must_use]
    pub fn needs_commit(&self) -> bool {
        !self.written.is_empty() || self.isolation == Isolation::RepeatableReads && !self.read.is_empty()
    }

    /// What the commit has to compare.
    #[must_use]
    pub fn conditions(&self) -> Vec<Condition> {
        if self.isolation == Isolation::ReadCommitted {
            return Vec::new();
        }
        let read = self.read.iter();
        let mut conditions: Vec<Condition> =
            read.map(|(key, seen)| Condition::Unchanged(key.clone(), seen.mod_revision)).collect();
        if self.isolation.is_serializable() {
            let ranges = self.ranges.iter();
            conditions.extend(ranges.map(|(keys, at)| Condition::NothingSince(keys.clone(), *at)));
        }
        if let (Isolation::SerializableSnapshot, Some(first)) = (self.isolation, self.first) {
            let unread = self.written.keys().filter(|key| !self.read.contains_key(*key));
            conditions.extend(unread.map(|key| Condition::NothingSince(KeyRange::key(key.clone()), first)));
        }
        #[cfg(test)]
        conditions.retain(|condition| !self.forgets.is_some_and(|forgets| forgets.forgets(condition)));
        conditions
    }

    /// Whether a range that was read covers all of `keys`.
    fn is_read(&self, keys: &KeyRange) -> bool {
        let Some((Bound::Included(first), last)) = span(keys) else {
            return true;
        };
        self.ranges.iter().any(|(range, _)| {
            let within = |key: &Bytes| key >= &range.key && (is_endless(range) || key < &range.range_end);
            within(&first)
                && match &last {
                    Bound::Included(last) => within(last),
                    Bound::Excluded(end) => is_endless(range) || end <= &range.range_end,
                    Bound::Unbounded => is_endless(range),
                }
        })
    }
}

impl Write {
    fn value(&self) -> Option<Bytes> {
        match self {
            Write::Put { value, .. } => Some(value.clone()),
            Write::Delete => None,
        }
    }
}

fn is_endless(keys: &KeyRange) -> bool {
    *keys.range_end == [0]
}

/// The bounds of a range, `None` where nothing can be in it.
fn span(keys: &KeyRange) -> Option<(Bound<Bytes>, Bound<Bytes>)> {
    let last = match &keys.range_end {
        end if end.is_empty() => Bound::Included(keys.key.clone()),
        _ if is_endless(keys) => Bound::Unbounded,
        end if *end <= keys.key => return None,
        end => Bound::Excluded(end.clone()),
    };
    Some((Bound::Included(keys.key.clone()), last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &'static str, value: &'static str, revision: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: value.into(),
            mod_revision: revision,
            ..KeyValue::default()
        }
    }

    fn shown(footprint: &Footprint, keys: KeyRange) -> Option<String> {
        let shown = footprint.range(&keys)?;
        let shown = shown.iter().map(|(key, value)| {
            format!(
                "{}={}",
                String::from_utf8_lossy(key),
                String::from_utf8_lossy(value)
            )
        });
        Some(shown.collect::<Vec<_>>().join(" "))
    }

    fn read(footprint: &mut Footprint, keys: KeyRange, revision: i64, kvs: Vec<KeyValue>) {
        assert!(footprint.handle_read(footprint.read_at(), keys, Revision(revision), kvs));
    }

    fn put(footprint: &mut Footprint, key: &'static str, value: &'static str) {
        footprint.put(key.into(), value.into(), LeaseId::NONE);
    }

    #[test]
    fn later_reads_see_the_buffered_writes() {
        let mut footprint = Footprint::new(Isolation::Serializable);
        read(
            &mut footprint,
            KeyRange::prefix("a/"),
            9,
            vec![kv("a/1", "x", 3), kv("a/3", "z", 4)],
        );
        put(&mut footprint, "a/2", "new");
        put(&mut footprint, "a/3", "other");
        put(&mut footprint, "b", "outside");
        footprint.delete("a/1".into());
        assert_eq!(
            shown(&footprint, KeyRange::prefix("a/")).unwrap(),
            "a/2=new a/3=other"
        );
        assert_eq!(footprint.get(&"a/1".into()), Some(None));
        assert_eq!(footprint.get(&"b".into()), Some(Some("outside".into())));
        footprint.rollback();
        assert_eq!(shown(&footprint, KeyRange::prefix("a/")).unwrap(), "a/1=x a/3=z");
        assert_eq!(footprint.get(&"b".into()), None);
    }

    #[test]
    fn what_lies_inside_a_range_that_was_read_is_known() {
        let mut footprint = Footprint::new(Isolation::Serializable);
        read(
            &mut footprint,
            KeyRange::range("b", "f"),
            9,
            vec![kv("c", "x", 3)],
        );
        assert_eq!(footprint.get(&"d".into()), Some(None));
        assert_eq!(shown(&footprint, KeyRange::range("b", "e")).unwrap(), "c=x");
        assert_eq!(shown(&footprint, KeyRange::range("c", "f")).unwrap(), "c=x");
        assert_eq!(shown(&footprint, KeyRange::range("e", "c")).unwrap(), "");
        for unknown in [
            KeyRange::range("a", "e"),
            KeyRange::range("b", "g"),
            KeyRange::from_key("c"),
            KeyRange::key("f"),
        ] {
            assert_eq!(footprint.range(&unknown), None, "{unknown:?}");
        }
        read(
            &mut footprint,
            KeyRange::all(),
            9,
            vec![kv("c", "x", 3), kv("g", "y", 5)],
        );
        assert_eq!(shown(&footprint, KeyRange::from_key("b")).unwrap(), "c=x g=y");
    }

    #[test]
    fn each_level_compares_what_it_promises() {
        let conditions = |isolation| {
            let mut footprint = Footprint::new(isolation);
            read(&mut footprint, KeyRange::key("k"), 9, vec![]);
            read(
                &mut footprint,
                KeyRange::prefix("a/"),
                12,
                vec![kv("a/1", "x", 3)],
            );
            put(&mut footprint, "a/1", "y");
            put(&mut footprint, "blind", "z");
            footprint.conditions()
        };
        let keys = [
            Condition::Unchanged("a/1".into(), Revision(3)),
            Condition::Unchanged("k".into(), Revision(0)),
        ];
        // At the revision of the first reading, whatever the second answer's header says.
        let range = Condition::NothingSince(KeyRange::prefix("a/"), Revision(9));
        let blind = Condition::NothingSince(KeyRange::key("blind"), Revision(9));
        assert_eq!(conditions(Isolation::ReadCommitted), []);
        assert_eq!(conditions(Isolation::RepeatableReads), keys);
        assert_eq!(conditions(Isolation::Serializable)[..2], keys);
        assert_eq!(
            conditions(Isolation::Serializable)[2..],
            *std::slice::from_ref(&range)
        );
        assert_eq!(conditions(Isolation::SerializableSnapshot)[2..], [range, blind]);
    }

    #[test]
    fn reads_repeat_although_the_store_moves_on() {
        let mut footprint = Footprint::new(Isolation::RepeatableReads);
        read(&mut footprint, KeyRange::key("a"), 9, vec![kv("a", "old", 3)]);
        assert_eq!(footprint.read_at(), Revision::ZERO);
        read(
            &mut footprint,
            KeyRange::range("a", "c"),
            12,
            vec![kv("a", "new", 11)],
        );
        assert_eq!(shown(&footprint, KeyRange::range("a", "c")).unwrap(), "a=old");
        assert_eq!(
            footprint.conditions(),
            [Condition::Unchanged("a".into(), Revision(3))]
        );
    }

    #[test]
    fn of_two_first_readings_one_counts() {
        let mut footprint = Footprint::new(Isolation::Serializable);
        assert!(footprint.handle_read(Revision::ZERO, KeyRange::key("a"), Revision(9), vec![]));
        assert!(!footprint.handle_read(
            Revision::ZERO,
            KeyRange::key("b"),
            Revision(12),
            vec![kv("b", "x", 11)]
        ));
        assert_eq!(
            (footprint.get(&"b".into()), footprint.read_at()),
            (None, Revision(9))
        );
        assert!(footprint.handle_read(Revision(9), KeyRange::key("b"), Revision(12), vec![]));
        assert_eq!(footprint.get(&"b".into()), Some(None));
    }

    #[test]
    fn a_serializable_reader_commits_nothing() {
        for (isolation, needs) in [
            (Isolation::SerializableSnapshot, false),
            (Isolation::Serializable, false),
            (Isolation::RepeatableReads, true),
            (Isolation::ReadCommitted, false),
        ] {
            let mut footprint = Footprint::new(isolation);
            read(&mut footprint, KeyRange::key("a"), 9, vec![]);
            assert_eq!(footprint.needs_commit(), needs, "{isolation:?}");
            footprint.delete("a".into());
            assert!(footprint.needs_commit(), "{isolation:?}");
        }
    }
}
