//! The key-value store: every version of every key since the last compaction,
//! at revisions. It owns the history and answers reads at any revision that is
//! kept; it knows no lease's life, no watcher, no clock and no IO. [`Etcd`] drives it.
//!
//! [`Etcd`]: crate::etcd::Etcd
//!
//! ```text
//!   key -> [put 2, put 5, delete 7, put 9]      one history a key; a delete ends a generation
//!   5   -> [event, event]                       what each revision changed, for watchers that are behind
//! ```

mod check;
mod range;
mod txn;

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::error::Error;
use crate::pb::{Event, KeyValue, event};

pub(crate) use check::{check_delete, check_put, check_range, check_txn};
pub(crate) use txn::Write;

/// The revision of a store that nothing was ever written to.
const REVISION_FIRST: i64 = 1;

#[derive(Clone, Debug)]
pub(crate) struct Store {
    revision: i64,
    /// -1 before the first compaction, as in etcd: a compaction at 0 is a valid one.
    compacted: i64,
    keys: BTreeMap<Bytes, Vec<Record>>,
    log: BTreeMap<i64, Vec<Event>>,
}

/// What one revision made of a key: a value, or nothing.
#[derive(Clone, Debug)]
struct Record {
    revision: i64,
    kv: Option<KeyValue>,
}

impl Store {
    pub(crate) fn new() -> Store {
        Store {
            revision: REVISION_FIRST,
            compacted: -1,
            keys: BTreeMap::new(),
            log: BTreeMap::new(),
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// The last compaction's revision, the oldest one that can be read; -1 where there was none.
    pub(crate) fn compacted(&self) -> i64 {
        self.compacted
    }

    /// Drops what was overwritten or deleted before `revision`.
    ///
    /// # Errors
    ///
    /// `Compacted` at or below an earlier one, `FutureRevision` above the present revision.
    pub(crate) fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.compacted {
            return Err(Error::Compacted);
        }
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        self.compacted = revision;
        // Of each key the last record at or below the revision stays, unless it is a deletion.
        self.keys.retain(|_, records| {
            let last = records.partition_point(|record| record.revision <= revision);
            if last > 0 {
                let dead = records[last - 1].kv.is_none();
                records.drain(..last - usize::from(!dead));
            }
            !records.is_empty()
        });
        self.log = self.log.split_off(&revision);
        Ok(())
    }

    /// A key as it was at a revision that is kept; else nothing.
    pub(crate) fn at(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        let records = self.keys.get(key).filter(|_| revision >= self.compacted)?;
        live(records, revision)
    }

    /// The events of the revisions from `first` on, each with its revision, in order.
    pub(crate) fn events_from(&self, first: i64) -> impl Iterator<Item = (i64, &[Event])> {
        self.log.range(first..).map(|(revision, events)| (*revision, &events[..]))
    }

    /// The live keys of a range at a revision, in order.
    fn scan<'a>(&'a self, range: &KeyRange<'a>, revision: i64) -> impl Iterator<Item = &'a KeyValue> {
        let bounds = (!range.is_empty()).then(|| range.bounds());
        bounds
            .into_iter()
            .flat_map(|bounds| self.keys.range::<[u8], _>(bounds))
            .filter_map(move |(_, records)| live(records, revision))
    }

    /// Makes a record of the revision that is being written.
    fn record(&mut self, revision: i64, key: &Bytes, kv: Option<KeyValue>) {
        let record = Record { revision, kv };
        self.keys.entry(key.clone()).or_default().push(record);
    }

    /// What was written becomes the next revision.
    fn commit(&mut self, events: Vec<Event>) {
        if !events.is_empty() {
            self.revision += 1;
            self.log.insert(self.revision, events);
        }
    }
}

/// A range as etcd spells it: a key alone, `[key, end)`, or all from `key` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyRange<'a> {
    key: &'a [u8],
    end: &'a [u8],
}

impl<'a> KeyRange<'a> {
    pub(crate) fn new(key: &'a [u8], end: &'a [u8]) -> KeyRange<'a> {
        KeyRange { key, end }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match self.end {
            [] => key == self.key,
            [0] => key >= self.key,
            end => key >= self.key && key < end,
        }
    }

    /// Whether no key at all can be in it: the end is not behind the start.
    pub(crate) fn is_empty(&self) -> bool {
        !matches!(self.end, [] | [0]) && self.key >= self.end
    }

    fn bounds(&self) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
        let end = match self.end {
            [] => Bound::Included(self.key),
            [0] => Bound::Unbounded,
            end => Bound::Excluded(end),
        };
        (Bound::Included(self.key), end)
    }
}

fn live(records: &[Record], revision: i64) -> Option<&KeyValue> {
    let behind = records.partition_point(|record| record.revision <= revision);
    records[..behind].last()?.kv.as_ref()
}

/// The event of a deletion: only key and revision of what is gone are told.
fn deletion(key: &Bytes, revision: i64) -> Event {
    Event {
        kind: event::DELETE,
        kv: Some(KeyValue {
            key: key.clone(),
            mod_revision: revision,
            ..KeyValue::default()
        }),
        prev_kv: None,
    }
}

#[cfg(test)]
mod tests;
