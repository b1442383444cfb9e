//! Transactions that run into one another on a store with a history, from a seed. Each one that
//! commits is run again, alone, at the place where it was committed: at the serializable levels it has
//! to see what it saw. And what shows that the check can fail: footprints that forget.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Condition, Footprint, Isolation, Write, span};
use crate::core::jitter::Jitter;
use crate::pb::mvccpb::KeyValue;
use crate::types::{KeyRange, LeaseId, Revision};

const SEEDS: u64 = 100;
const TRANSACTIONS: usize = 60;
const AT_ONCE: usize = 4;
const STEPS: u64 = 4;
const KEYS: u64 = 5;

/// What a footprint leaves out of its conditions.
#[derive(Clone, Copy, Debug)]
pub(super) enum Forgets {
    /// That a key was read.
    Key,
    /// That a range was read.
    Range,
}

impl Forgets {
    pub(super) fn forgets(self, condition: &Condition) -> bool {
        match self {
            Forgets::Key => matches!(condition, Condition::Unchanged(..)),
            Forgets::Range => matches!(condition, Condition::NothingSince(..)),
        }
    }
}

/// All states that there were; the index is the revision.
struct Store(Vec<BTreeMap<Bytes, (Revision, Bytes)>>);

impl Store {
    fn revision(&self) -> Revision {
        Revision(self.0.len() as i64 - 1)
    }

    fn read(&self, keys: &KeyRange, at: Revision) -> Vec<KeyValue> {
        let at = if at == Revision::ZERO { self.revision() } else { at };
        let Some(span) = span(keys) else {
            return Vec::new();
        };
        let range = self.0[at.0 as usize].range::<Bytes, _>(span);
        let kvs = range.map(|(key, (mod_revision, value))| KeyValue {
            key: key.clone(),
            value: value.clone(),
            mod_revision: mod_revision.0,
            ..KeyValue::default()
        });
        kvs.collect()
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Unchanged(key, revision) => {
                let kvs = self.read(&KeyRange::key(key.clone()), Revision::ZERO);
                kvs.first().map_or(0, |kv| kv.mod_revision) == revision.0
            }
            Condition::NothingSince(keys, revision) => {
                self.read(keys, Revision::ZERO).iter().all(|kv| kv.mod_revision <= revision.0)
            }
        }
    }

    fn write(&mut self, writes: &BTreeMap<Bytes, Write>) {
        let mut state = self.0.last().expect("a state").clone();
        let revision = self.revision().next();
        for (key, write) in writes {
            match write {
                Write::Put { value, .. } => state.insert(key.clone(), (revision, value.clone())),
                Write::Delete => state.remove(key),
            };
        }
        self.0.push(state);
    }
}

/// What a transaction does; what it writes depends on what it has seen.
struct Program {
    footprint: Footprint,
    seed: u64,
    jitter: Jitter,
    steps: u64,
    seen: Vec<String>,
}

impl Program {
    fn new(seed: u64, footprint: Footprint) -> Program {
        let mut jitter = Jitter::new(seed);
        Program {
            footprint,
            seed,
            steps: 1 + jitter.next_u64() % STEPS,
            jitter,
            seen: Vec::new(),
        }
    }

    fn step(&mut self, store: &Store, at: Option<Revision>) {
        self.steps -= 1;
        let key = Bytes::from(format!("k{}", self.jitter.next_u64() % KEYS));
        match self.jitter.next_u64() % 6 {
            0 | 1 => self.see(store, at, KeyRange::key(key)),
            2 => {
                let end = format!("k{}", self.jitter.next_u64() % (KEYS + 1));
                self.see(store, at, KeyRange::range(key, end));
            }
            3 => self.footprint.delete(key),
            _ => {
                let value = format!("{}:{}", self.seed, self.seen.join(","));
                self.footprint.put(key, Bytes::from(value), LeaseId::NONE);
            }
        }
    }

    fn see(&mut self, store: &Store, at: Option<Revision>, keys: KeyRange) {
        let known = |footprint: &Footprint| match keys.range_end.is_empty() {
            true => footprint.get(&keys.key).map(|value| format!("{value:?}")),
            false => footprint.range(&keys).map(|kvs| format!("{kvs:?}")),
        };
        if known(&self.footprint).is_none() {
            let asked = self.footprint.read_at();
            let kvs = store.read(&keys, at.unwrap_or(asked));
            assert!(self.footprint.handle_read(asked, keys.clone(), store.revision(), kvs));
        }
        // Its end is enough to tell one answer from another.
        let shown = known(&self.footprint).expect("it was read");
        self.seen.push(shown.chars().rev().take(24).collect());
    }
}

/// The first transaction that does not see alone what it saw among others.
fn violation(seed: u64, isolation: Isolation, forgets: Option<Forgets>) -> Option<String> {
    let mut jitter = Jitter::new(seed);
    let mut store = Store(vec![BTreeMap::new(), BTreeMap::new()]);
    let mut running: Vec<Program> = Vec::new();
    let mut started = 0;
    while started < TRANSACTIONS || !running.is_empty() {
        if running.len() < AT_ONCE && started < TRANSACTIONS {
            let mut footprint = Footprint::new(isolation);
            footprint.forgets = forgets;
            running.push(Program::new(jitter.next_u64(), footprint));
            started += 1;
            continue;
        }
        let index = (jitter.next_u64() % running.len() as u64) as usize;
        if running[index].steps > 0 {
            running[index].step(&store, None);
            continue;
        }
        let done = running.swap_remove(index);
        let footprint = &done.footprint;
        if !footprint.needs_commit() {
            let at = footprint.first_read().unwrap_or(store.revision());
            if !replays(&store, &done, at) {
                return Some(format!("a reader at {at}: {:?}", done.seen));
            }
        } else if footprint.conditions().iter().all(|condition| store.holds(condition)) {
            if !replays(&store, &done, store.revision()) {
                return Some(format!("a writer behind {}: {:?}", store.revision(), done.seen));
            }
            store.write(footprint.writes());
        }
    }
    None
}

fn replays(store: &Store, done: &Program, at: Revision) -> bool {
    let mut alone = Program::new(done.seed, Footprint::new(Isolation::ReadCommitted));
    while alone.steps > 0 {
        alone.step(store, Some(at));
    }
    alone.seen == done.seen && alone.footprint.writes() == done.footprint.writes()
}

fn violations(isolation: Isolation, forgets: Option<Forgets>) -> usize {
    (0..SEEDS).filter(|&seed| violation(seed, isolation, forgets).is_some()).count()
}

#[test]
fn what_commits_could_have_run_alone_at_that_place() {
    for isolation in [Isolation::SerializableSnapshot, Isolation::Serializable] {
        for seed in 0..SEEDS {
            let violation = violation(seed, isolation, None);
            assert_eq!(violation, None, "{isolation:?}, seed {seed}");
        }
    }
}

#[test]
fn the_weaker_levels_are_weaker() {
    assert!(violations(Isolation::RepeatableReads, None) > 0);
    assert!(violations(Isolation::ReadCommitted, None) > 0);
}

#[test]
fn a_footprint_that_forgets_a_read_is_caught() {
    assert!(violations(Isolation::Serializable, Some(Forgets::Key)) > 0);
}

#[test]
fn a_footprint_that_forgets_the_predicate_of_a_range_is_caught() {
    assert!(violations(Isolation::Serializable, Some(Forgets::Range)) > 0);
    assert!(violations(Isolation::SerializableSnapshot, Some(Forgets::Range)) > 0);
}
