//! The machine against a model of the store: its history by revision, read in pages
//! and watched late, while it is compacted, calls fail and watches end. A reader
//! that applies what it is told has, whenever it is told so, the range as the store
//! had it; no event comes twice, and while it is synced none is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Action, ListThenWatch, Update};
use crate::core::time::Instant;
use crate::core::watch::{Batch, BatchKind, Event, WatchEnd};
use crate::error::{Code, Delivery, Error, Origin};
use crate::pb::etcdserverpb::{RangeResponse, ResponseHeader};
use crate::pb::mvccpb::KeyValue;
use crate::types::{KeyRange, Revision};

const SEEDS: u64 = 200;
const STEPS: usize = 400;
const KEYS: u64 = 12;

/// Not a divisor of the number of keys.
const PAGE_KEYS: u32 = 5;

#[test]
fn a_reader_has_the_range_as_the_store_had_it_whatever_is_compacted() {
    let (mut synced, mut relists, mut gone, mut split) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let mut failing = Failing(Some(seed));
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.settle();
        synced += world.reader.synced;
        relists += world.reader.relists;
        gone += world.reader.gone;
        split += world.reader.split;
        failing.0 = None;
    }
    assert!(synced > 500, "no list is ever complete: {synced}");
    assert!(relists > 300, "nothing is compacted: {relists}");
    assert!(gone > 200, "no key is gone: {gone}");
    assert!(split > 50, "no compaction falls between two pages: {split}");
}

/// Says which seed failed, unless it was told that none did.
struct Failing(Option<u64>);

impl Drop for Failing {
    fn drop(&mut self) {
        if let Some(seed) = self.0 {
            eprintln!("failed with seed {seed}");
        }
    }
}

struct World {
    chance: Chance,
    store: Store,
    machine: ListThenWatch,
    reader: Reader,
    now: Instant,
    asked: Asked,
}

/// What the machine waits for.
#[derive(Debug)]
enum Asked {
    Nothing,
    Page(KeyRange, u32, Revision),
    Watch(i64),
}

impl World {
    fn new(seed: u64) -> World {
        let mut machine = ListThenWatch::new(KeyRange::prefix("key/"), seed);
        machine.set_page_keys(PAGE_KEYS);
        World {
            chance: Chance(seed),
            store: Store::new(),
            machine,
            reader: Reader::default(),
            now: Instant::default(),
            asked: Asked::Nothing,
        }
    }

    fn step(&mut self) {
        match self.chance.below(100) {
            0..=49 => self.store.write(&mut self.chance),
            50..=55 => self.store.compact(&mut self.chance),
            56..=59 => self.fail(),
            _ => self.serve(),
        }
        self.act();
    }

    /// Lets everything through. What the reader has then is the store.
    fn settle(&mut self) {
        while self.reader.at != self.store.revision || !self.reader.is_synced {
            self.serve();
            self.act();
        }
        assert_eq!(self.reader.has, self.store.at(self.store.revision));
    }

    /// Answers what is asked, or lets a wait pass.
    fn serve(&mut self) {
        match &self.asked {
            Asked::Nothing => {
                if let Some(at) = self.machine.poll_timeout() {
                    self.now = at;
                    self.machine.handle_timeout(at);
                }
            }
            Asked::Page(keys, limit, revision) => {
                let page = self.store.page(keys, *limit, *revision);
                self.reader.split += usize::from(page.is_err() && !self.reader.is_synced);
                self.asked = Asked::Nothing;
                self.machine.handle_page(self.now, page);
            }
            Asked::Watch(next) if *next <= self.store.compacted => {
                self.asked = Asked::Nothing;
                // A list that was followed for long makes the next wait a short one.
                self.now = self.now + Duration::from_secs(31);
                let compact_revision = Revision(self.store.compacted);
                self.machine.handle_watch_end(self.now, WatchEnd::Compacted { compact_revision });
            }
            Asked::Watch(next) => {
                let batch = self.store.batch(*next, &mut self.chance);
                self.asked = Asked::Watch(batch.resume_revision.0);
                self.machine.handle_batch(batch);
            }
        }
    }

    /// What is under way fails for a reason that passes.
    fn fail(&mut self) {
        let error = Error::new(
            Code::Unavailable,
            Origin::Transport,
            Delivery::Unknown,
            "the connection is gone",
        );
        match std::mem::replace(&mut self.asked, Asked::Nothing) {
            // Of the very first page it would be the end.
            asked @ (Asked::Nothing | Asked::Page(_, _, Revision::ZERO)) => self.asked = asked,
            Asked::Page(..) => self.machine.handle_page(self.now, Err(error)),
            Asked::Watch(next) => {
                let end = WatchEnd::disconnected(&Arc::new(error), Revision(next));
                self.machine.handle_watch_end(self.now, end);
            }
        }
    }

    fn act(&mut self) {
        self.machine.check();
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Tell(update) => self.reader.take(update, &self.store),
                Action::Read {
                    keys,
                    limit,
                    revision,
                } => self.asked = Asked::Page(keys, limit, revision),
                Action::Watch { start } => {
                    assert_eq!(start.0, self.reader.at + 1, "a gap, or an overlap");
                    self.machine.handle_watching(self.now);
                    self.asked = Asked::Watch(start.0);
                }
            }
        }
        assert!(self.machine.end().is_none(), "it ended: {:?}", self.machine.end());
        let waits = self.machine.poll_timeout().is_some();
        assert_eq!(matches!(self.asked, Asked::Nothing), waits, "it does nothing");
    }
}

/// Applies what it is told, and holds it against the store.
#[derive(Default)]
struct Reader {
    has: Contents,
    /// All up to here was told.
    at: i64,
    is_synced: bool,
    synced: usize,
    relists: usize,
    gone: usize,
    split: usize,
}

impl Reader {
    fn take(&mut self, update: Update, store: &Store) {
        match update {
            Update::Listed(events) => {
                assert!(!self.is_synced && !events.is_empty() && events.len() <= PAGE_KEYS as usize);
                let keys: Vec<_> = events.iter().map(|event| &event.kv().key).collect();
                assert!(keys.is_sorted_by(|one, next| one < next), "out of order");
                events.into_iter().for_each(|event| self.apply(event));
            }
            Update::Synced { revision } => {
                assert!(!self.is_synced && revision.0 >= self.at);
                (self.at, self.is_synced) = (revision.0, true);
                self.synced += 1;
                assert_eq!(self.has, store.at(self.at));
            }
            Update::Changed(batch) => {
                assert!(self.is_synced);
                let told: Vec<_> = batch.events.iter().map(|event| event.revision().0).collect();
                let last = *told.last().expect("an event");
                assert_eq!(told, store.changed_in(self.at + 1..=last));
                batch.events.into_iter().for_each(|event| self.apply(event));
                self.at = last;
                assert_eq!(self.has, store.at(self.at));
            }
            Update::Progress { revision } => {
                assert!(store.changed_in(self.at + 1..=revision.0).is_empty());
                self.at = self.at.max(revision.0);
            }
            Update::Relisting => {
                self.is_synced = false;
                self.relists += 1;
            }
        }
    }

    fn apply(&mut self, event: Event) {
        let key = event.kv().key.clone();
        let before = match event {
            Event::Put { kv, .. } => {
                let before = self.has.insert(key.clone(), kv.mod_revision);
                assert!(before < Some(kv.mod_revision), "{key:?} is told twice");
                return;
            }
            Event::Delete { .. } => self.has.remove(&key),
        };
        assert!(before.is_some(), "{key:?} is not there to be deleted");
        self.gone += usize::from(!self.is_synced);
    }
}

/// Each key with its mod_revision.
type Contents = BTreeMap<Bytes, i64>;

struct Store {
    revision: i64,
    compacted: i64,
    /// At each revision, by its number.
    past: Vec<Contents>,
}

impl Store {
    fn new() -> Store {
        Store {
            revision: 1,
            compacted: 0,
            past: vec![Contents::new(); 2],
        }
    }

    fn at(&self, revision: i64) -> Contents {
        self.past[revision as usize].clone()
    }

    /// A transaction that puts or deletes some keys; now and then all of them go.
    fn write(&mut self, chance: &mut Chance) {
        let mut now = self.at(self.revision);
        self.revision += 1;
        match chance.below(12) {
            0 => now.clear(),
            1..=4 => drop(now.remove(&key(chance.below(KEYS)))),
            _ => {
                for _ in 0..=chance.below(3) {
                    now.insert(key(chance.below(KEYS)), self.revision);
                }
            }
        }
        // A deletion of nothing makes no revision.
        match self.past.last() == Some(&now) {
            true => self.revision -= 1,
            false => self.past.push(now),
        }
    }

    fn compact(&mut self, chance: &mut Chance) {
        let room = self.revision - self.compacted;
        self.compacted = match chance.below(2) {
            0 => self.revision,
            _ => self.compacted + chance.below(room as u64 + 1) as i64,
        };
    }

    fn page(&self, keys: &KeyRange, limit: u32, revision: Revision) -> Result<RangeResponse, Error> {
        let at = match revision {
            Revision::ZERO => self.revision,
            Revision(at) => at,
        };
        if at < self.compacted {
            let text = "etcdserver: mvcc: required revision has been compacted";
            return Err(Error::answered(Code::OutOfRange, text));
        }
        let mut kvs: Vec<_> = self.past[at as usize]
            .range(keys.key.clone()..keys.range_end.clone())
            .map(|(key, mod_revision)| KeyValue {
                key: key.clone(),
                mod_revision: *mod_revision,
                ..KeyValue::default()
            })
            .collect();
        let more = kvs.len() > limit as usize;
        kvs.truncate(limit as usize);
        let header = Some(ResponseHeader {
            revision: self.revision,
            ..ResponseHeader::default()
        });
        Ok(RangeResponse {
            header,
            kvs,
            more,
            ..RangeResponse::default()
        })
    }

    /// Some revisions from `next` on, or that there are none yet.
    fn batch(&self, next: i64, chance: &mut Chance) -> Batch {
        let to = (next + chance.below(2) as i64).min(self.revision);
        let events: Vec<_> = (next..=to).flat_map(|revision| self.events(revision)).collect();
        let (kind, resume) = match events.is_empty() {
            true => (BatchKind::Progress, self.revision + 1),
            false => (BatchKind::Events, to + 1),
        };
        Batch {
            kind,
            revision: Revision(self.revision),
            resume_revision: Revision(resume),
            events,
        }
    }

    fn events(&self, revision: i64) -> Vec<Event> {
        let (before, after) = (&self.past[revision as usize - 1], &self.past[revision as usize]);
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let changed = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
        let event = |key: &Bytes| {
            let kv = KeyValue {
                key: key.clone(),
                mod_revision: revision,
                ..KeyValue::default()
            };
            match after.contains_key(key) {
                true => Event::Put { kv, prev_kv: None },
                false => Event::Delete { kv, prev_kv: None },
            }
        };
        changed.map(event).collect()
    }

    /// The revisions in this range, once for each change.
    fn changed_in(&self, revisions: std::ops::RangeInclusive<i64>) -> Vec<i64> {
        let events = revisions.flat_map(|revision| self.events(revision));
        events.map(|event| event.revision().0).collect()
    }
}

fn key(number: u64) -> Bytes {
    format!("key/{number}").into()
}

/// SplitMix64 (Steele, Lea, Flood 2014): any seed will do.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
