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

    fn deletion(&self, key: &Bytes) -> Vec<(Bytes, Option<i64>)> {
        self.keys.get(key).map(|kv| (kv.key.clone(), None)).into_iter().collect()
    }

    fn gate(&self, place: &Place) -> Revision {
        Revision(self.keys.get(&place.gate).map_or(0, |kv| kv.mod_revision))
    }

    pub(super) fn queue(&self) -> Vec<KeyValue> {
        self.keys.values().filter(|kv| kv.key.starts_with(b"jobs/")).cloned().collect()
    }

    /// The queue as a member has it that has come to this revision.
    pub(super) fn queue_at(&self, revision: i64) -> Vec<KeyValue> {
        let mut keys = BTreeMap::new();
        for (_, key, kv) in self.log.iter().take_while(|(at, ..)| *at <= revision) {
            keys.insert(key, kv);
        }
        let there = keys.into_values().flatten();
        there.filter(|kv| kv.key.starts_with(b"jobs/")).cloned().collect()
    }

    /// The newest keys, as many as an answer has.
    pub(super) fn newest(&self, mut queue: Vec<KeyValue>) -> Part {
        queue.sort_by_key(|kv| Reverse(kv.create_revision));
        let more = queue.len() > self.part;
        queue.truncate(self.part);
        (queue, more)
    }

    pub(super) fn register(&mut self, place: &Place, gate: Revision, if_empty: bool) -> Answer {
        let own = self.keys.get(&place.key).cloned();
        let gate_now = self.gate(place);
        let absent = if if_empty {
            self.queue().is_empty()
        } else {
            own.is_none()
        };
        let put = absent && (gate == gate_now || self.flaw == Flaw::RegisterAtAnyGate);
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
            queue: match put && if_empty {
                true => (Vec::new(), false),
                false => self.newest(self.queue()),
            },
        }
    }

    pub(super) fn release(&mut self, place: &Place, created: Revision, close_gate: bool) -> Answer {
        let closes = close_gate && self.flaw != Flaw::GateStaysOpen;
        if closes && !self.leases.contains(&place.lease.0) {
            return Answer::LeaseNotFound;
        }
        let own = self.keys.get(&place.key);
        let mut changes = match own.is_some_and(|own| own.create_revision == created.0) {
            true => self.deletion(&place.key),
            false => Vec::new(),
        };
        changes.extend(closes.then(|| (place.gate.clone(), Some(place.lease.0))));
        if !changes.is_empty() {
            self.commit(changes);
        }
        let own = self.keys.get(&place.key).filter(|_| close_gate).cloned();
        Answer::Released(Revision(self.revision), own)
    }

    pub(super) fn withdraw(&mut self, place: &Place, gate: Revision) -> Answer {
        if self.gate(place) != gate && self.flaw != Flaw::WithdrawAtAnyGate {
            return Answer::Passed(self.gate(place), self.keys.get(&place.key).cloned());
        }
        if !self.leases.contains(&place.lease.0) {
            return Answer::LeaseNotFound;
        }
        let mut changes = self.deletion(&place.key);
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
