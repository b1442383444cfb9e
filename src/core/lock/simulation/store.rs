//! A model of etcd as far as the lock uses it: revisions, keys on leases, the
//! lock's transactions, and the log from which members lag.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::super::*;

/// The lease of the other clients.
pub(super) const OTHERS: i64 = 1;

/// A rule that is out of force, by the model's or the driver's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    /// A register is carried out at any gate.
    RegisterAtAnyGate,
    /// A release leaves the gate alone, whatever it was told.
    GateStaysOpen,
    /// A withdrawal is carried out at any gate.
    WithdrawAtAnyGate,
    /// The own key's deletion is not seen.
    OwnKeyUnseen,
    /// Deletions from before the last reading count.
    OldNewsCount,
    /// A watch that begins late is taken for one that did not.
    GapIgnored,
    /// A revision's deletions are told one by one.
    RevisionsTorn,
    /// All attempts of a session have the same number.
    NumbersUsedAgain,
    /// A lock of several takes a key that the session has already as one of its own.
    Adopts,
    /// An owner's key is taken over whoever has put it last.
    TakesOverAnyPut,
    /// An owner's key is released whoever has put it last.
    ReleasesAnyPut,
    /// A withdrawal deletes an owner's key on whatever lease it hangs.
    WithdrawsAnyLease,
    /// A fence holds while there is a key, whichever.
    FencedByVersion,
}

pub(super) struct Store {
    pub(super) flaw: Flaw,
    /// How many keys of the queue an answer has at most.
    part: usize,
    pub(super) revision: i64,
    pub(super) keys: BTreeMap<Bytes, KeyValue>,
    /// What each revision did to which key.
    pub(super) log: Vec<(i64, Bytes, Option<KeyValue>)>,
    pub(super) leases: BTreeSet<i64>,
}

pub(super) enum Answer {
    Registered {
        put: bool,
        revision: Revision,
        gate: Revision,
        own: Option<KeyValue>,
        queue: Part,
    },
    LeaseNotFound,
    Released(Revision, Option<KeyValue>),
    Withdrawn(Revision),
    Passed(Revision, Option<KeyValue>),
    Watching(u64, Revision),
    Ranged(Revision, Part),
}

/// Some keys of the queue, and whether there are more.
pub(super) type Part = (Vec<KeyValue>, bool);

impl Store {
    pub(super) fn new(flaw: Flaw, part: usize) -> Store {
        Store {
            flaw,
            part,
            revision: 1,
            keys: BTreeMap::new(),
            log: Vec::new(),
            leases: BTreeSet::from([OTHERS]),
        }
    }

    pub(super) fn commit(&mut self, changes: Vec<(Bytes, Option<i64>)>) -> Revision {
        self.revision += 1;
        for (key, lease) in changes {
            let kv = lease.map(|lease| KeyValue {
                key: key.clone(),
                create_revision: self.keys.get(&key).map_or(self.revision, |kv| kv.create_revision),
                mod_revision: self.revision,
                version: self.keys.get(&key).map_or(1, |kv| kv.version + 1),
                lease,
                ..KeyValue::default()
            });
            match &kv {
                Some(kv) => self.keys.insert(key.clone(), kv.clone()),
                None => self.keys.remove(&key),
            };
            self.log.push((self.revision, key, kv));
        }
        Revision(self.revision)
    }

    fn deletions(&self, place: &Place) -> Vec<(Bytes, Option<i64>)> {
        let there = place.keys().filter(|key| self.keys.contains_key(*key));
        there.map(|key| (key.clone(), None)).collect()
    }

    fn gate(&self, place: &Place) -> Revision {
        Revision(self.keys.get(&place.gate).map_or(0, |kv| kv.mod_revision))
    }

    /// All entries of all queues.
    pub(super) fn queues(&self) -> Vec<KeyValue> {
        self.keys.values().filter(|kv| is_queued(&kv.key)).cloned().collect()
    }

    /// The queues of a place, one after the other.
    pub(super) fn queue(&self, place: &Place) -> Vec<KeyValue> {
        below(place, &self.queues(), usize::MAX).0
    }

    /// The queues as a member has them that has come to this revision.
    pub(super) fn queues_at(&self, revision: i64) -> Vec<KeyValue> {
        let mut keys = BTreeMap::new();
        for (_, key, kv) in self.log.iter().take_while(|(at, ..)| *at <= revision) {
            keys.insert(key, kv);
        }
        let there = keys.into_values().flatten();
        there.filter(|kv| is_queued(&kv.key)).cloned().collect()
    }

    /// The newest keys of each queue, as many as an answer has.
    pub(super) fn newest(&self, place: &Place, queues: &[KeyValue]) -> Part {
        below(place, queues, self.part)
    }

    pub(super) fn register(&mut self, place: &Place, gate: Revision, if_empty: bool) -> Answer {
        let own = self.keys.get(&place.key).cloned();
        let gate_now = self.gate(place);
        let there = |key: &&Bytes| self.keys.contains_key(*key);
        let absent = if if_empty {
            self.queue(place).is_empty()
        } else {
            !place.keys().any(|key| there(&key)) || self.flaw == Flaw::Adopts && own.is_none()
        };
        let put = absent && (gate == gate_now || self.flaw == Flaw::RegisterAtAnyGate);
        if put {
            if !self.leases.contains(&place.lease.0) {
                return Answer::LeaseNotFound;
            }
            let missing = place.keys().filter(|key| !self.keys.contains_key(*key));
            let puts = missing.map(|key| (key.clone(), Some(place.lease.0))).collect();
            self.commit(puts);
        }
        Answer::Registered {
            put,
            revision: Revision(self.revision),
            gate: gate_now,
            own,
            queue: match put && if_empty {
                true => (Vec::new(), false),
                false => self.newest(place, &self.queues()),
            },
        }
    }

    pub(super) fn take_over(&mut self, place: &Place, gate: Revision, seen: Revision) -> Answer {
        let own = self.keys.get(&place.key).cloned();
        let is_it = |kv: &KeyValue| kv.mod_revision == seen.0 || self.flaw == Flaw::TakesOverAnyPut;
        let gate_now = self.gate(place);
        let put = own.as_ref().is_some_and(is_it) && gate == gate_now;
        if put {
            if !self.leases.contains(&place.lease.0) {
                return Answer::LeaseNotFound;
            }
            self.commit(vec![(place.key.clone(), Some(place.lease.0))]);
        }
        Answer::Registered {
            put,
            revision: Revision(self.revision),
            gate: gate_now,
            own,
            queue: self.newest(place, &self.queues()),
        }
    }

    pub(super) fn release(&mut self, place: &Place, created: Revision, close_gate: bool) -> Answer {
        let closes = close_gate && self.flaw != Flaw::GateStaysOpen;
        if closes && !self.leases.contains(&place.lease.0) {
            return Answer::LeaseNotFound;
        }
        let own = self.keys.get(&place.key);
        let is_it = |own: &KeyValue| match place.is_owned() {
            true => own.mod_revision == created.0 || self.flaw == Flaw::ReleasesAnyPut,
            false => own.create_revision == created.0,
        };
        let mut changes = match own.is_some_and(is_it) || place.is_once() {
            true => self.deletions(place),
            false => Vec::new(),
        };
        changes.extend(closes.then(|| (place.gate.clone(), Some(place.lease.0))));
        if !changes.is_empty() {
            self.commit(changes);
        }
        let own = self.keys.get(&place.key).filter(|_| close_gate && !place.is_once()).cloned();
        Answer::Released(Revision(self.revision), own)
    }

    pub(super) fn withdraw(&mut self, place: &Place, gate: Revision) -> Answer {
        if self.gate(place) != gate && self.flaw != Flaw::WithdrawAtAnyGate && !place.is_once() {
            return Answer::Passed(self.gate(place), self.keys.get(&place.key).cloned());
        }
        if !self.leases.contains(&place.lease.0) {
            return Answer::LeaseNotFound;
        }
        let mut changes = self.deletions(place);
        let is_ours = |key: &Bytes| self.keys.get(key).is_some_and(|kv| kv.lease == place.lease.0);
        if place.is_owned() && self.flaw != Flaw::WithdrawsAnyLease {
            changes.retain(|(key, _)| is_ours(key));
        }
        changes.push((place.gate.clone(), Some(place.lease.0)));
        Answer::Withdrawn(self.commit(changes))
    }

    pub(super) fn expire(&mut self, lease: i64) {
        self.leases.remove(&lease);
        let keys = self.keys.values().filter(|kv| kv.lease == lease);
        let gone: Vec<_> = keys.map(|kv| (kv.key.clone(), None)).collect();
        if !gone.is_empty() {
            self.commit(gone);
        }
    }
}

/// The queues of the simulation.
pub(super) const NAMES: [&str; 3] = ["jobs", "runs", "tasks"];

pub(super) fn is_queued(key: &Bytes) -> bool {
    let below = |name: &&str| key.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"));
    NAMES.iter().any(below)
}

/// The newest of each queue of a place, and whether a queue has more.
fn below(place: &Place, queues: &[KeyValue], each: usize) -> Part {
    let (mut all, mut more) = (Vec::new(), false);
    for prefix in place.prefixes() {
        let mut queue: Vec<_> = queues.iter().filter(|kv| kv.key.starts_with(prefix)).cloned().collect();
        queue.sort_by_key(|kv| Reverse(kv.create_revision));
        more |= queue.len() > each;
        queue.truncate(each);
        all.extend(queue);
    }
    (all, more)
}
