//! The part of etcd that the lock uses, written down from its documentation and not
//! from the machine: keys on leases, revisions, the lock's transactions.

use std::collections::BTreeMap;

use bytes::Bytes;
use tenure::core::lock::{Action, Place};
use tenure::pb::mvccpb::KeyValue;
use tenure::{LeaseId, Revision};

/// The lease of the other clients.
pub(super) const OTHERS: i64 = 1;

pub(super) struct Store {
    pub(super) revision: i64,
    /// Each deletion and its revision.
    pub(super) deletions: Vec<(i64, Bytes)>,
    keys: BTreeMap<Bytes, KeyValue>,
    /// What every revision has changed.
    log: Vec<(i64, Bytes, Option<KeyValue>)>,
    /// So many keys of a queue are in an answer at most.
    shown_max: usize,
}

/// Some keys of the queue, and whether there are more.
type Part = (Vec<KeyValue>, bool);

pub(super) enum Reply {
    Registered {
        put: bool,
        revision: Revision,
        gate: Revision,
        own: Option<KeyValue>,
        queue: Part,
    },
    Released(Revision, Option<KeyValue>),
    Withdrawn(Revision),
    Passed(Revision, Option<KeyValue>),
    Ranged(Revision, Part),
    Watching(Revision),
}

impl Store {
    pub(super) fn new(shown_max: usize) -> Store {
        Store {
            revision: 1,
            deletions: Vec::new(),
            keys: BTreeMap::new(),
            log: Vec::new(),
            shown_max,
        }
    }

    pub(super) fn create(&mut self, key: &Bytes, lease: i64) {
        if !self.keys.contains_key(key) {
            self.commit(&[(key, Some(lease))]);
        }
    }

    /// Whether there was something to delete.
    pub(super) fn delete(&mut self, key: &Bytes) -> bool {
        let is_there = self.keys.contains_key(key);
        if is_there {
            self.commit(&[(key, None)]);
        }
        is_there
    }

    pub(super) fn delete_all(&mut self, prefix: &[u8]) {
        self.delete_where(|kv| kv.key.starts_with(prefix));
    }

    pub(super) fn delete_others(&mut self, place: &Place) {
        self.delete_where(|kv| kv.key.starts_with(&place.prefix) && kv.key != place.key);
    }

    pub(super) fn has(&self, place: &Place, lease: LeaseId) -> bool {
        self.keys.get(&place.key).is_some_and(|kv| kv.lease == lease.0)
    }

    pub(super) fn gate(&self, place: &Place) -> Revision {
        Revision(self.keys.get(&place.gate).map_or(0, |kv| kv.mod_revision))
    }

    /// An entry of the queue that is older.
    pub(super) fn older(&self, place: &Place, created: Revision) -> Option<&KeyValue> {
        let is_nested = |kv: &KeyValue| kv.key[place.prefix.len()..].contains(&b'/');
        let mut queue = self.keys.values().filter(|kv| kv.key.starts_with(&place.prefix) && !is_nested(kv));
        queue.find(|kv| kv.create_revision < created.0)
    }

    /// The revision in which what was created then, or later, was deleted.
    pub(super) fn deleted_after(&self, key: &Bytes, created: Revision) -> Option<i64> {
        let deleted = self.deletions.iter().find(|(at, deleted)| *at > created.0 && deleted == key);
        deleted.map(|(at, _)| *at)
    }

    /// By a member that is so many revisions behind, where a request allows for one.
    pub(super) fn carry_out(&mut self, place: &Place, action: &Action, lag: i64) -> Reply {
        let lagging = (self.revision - lag).max(1);
        match *action {
            Action::Register { gate } => self.register(place, gate, false),
            Action::RegisterIfEmpty { gate } => self.register(place, gate, true),
            Action::Watch(_) => Reply::Watching(Revision(lagging)),
            Action::Range {
                upto,
                whole,
                linearizable,
            } => {
                let revision = if linearizable { self.revision } else { lagging };
                let mut queue = self.queue_at(place, revision);
                queue.retain(|kv| kv.create_revision <= upto.0);
                let part = if whole { (queue, false) } else { self.newest(queue) };
                Reply::Ranged(Revision(revision), part)
            }
            Action::Release { created, close_gate } => self.release(place, created, close_gate),
            Action::Withdraw { gate } => self.withdraw(place, gate),
            Action::TakeOver { .. } => unreachable!("nobody has an owner here"),
            Action::Grant(_) | Action::Fail(_) | Action::Freed => unreachable!("nothing to send"),
        }
    }

    fn register(&mut self, place: &Place, gate: Revision, if_empty: bool) -> Reply {
        let own = self.keys.get(&place.key).cloned();
        let gate_now = self.gate(place);
        let is_absent = match if_empty {
            true => self.queue_at(place, self.revision).is_empty(),
            false => own.is_none(),
        };
        let put = is_absent && gate == gate_now;
        if put {
            self.commit(&[(&place.key, Some(place.lease.0))]);
        }
        let queue = match put && if_empty {
            true => (Vec::new(), false),
            false => self.newest(self.queue_at(place, self.revision)),
        };
        Reply::Registered {
            put,
            revision: Revision(self.revision),
            gate: if put { Revision::ZERO } else { gate_now },
            own,
            queue,
        }
    }

    fn release(&mut self, place: &Place, created: Revision, close_gate: bool) -> Reply {
        let own = self.keys.get(&place.key);
        let is_it = own.is_some_and(|own| own.create_revision == created.0);
        let mut changes = Vec::new();
        changes.extend(is_it.then_some((&place.key, None)));
        changes.extend(close_gate.then_some((&place.gate, Some(place.lease.0))));
        if !changes.is_empty() {
            self.commit(&changes);
        }
        let own = self.keys.get(&place.key).filter(|_| close_gate);
        Reply::Released(Revision(self.revision), own.cloned())
    }

    fn withdraw(&mut self, place: &Place, gate: Revision) -> Reply {
        if self.gate(place) != gate {
            return Reply::Passed(self.gate(place), self.keys.get(&place.key).cloned());
        }
        self.commit(&[(&place.key, None), (&place.gate, Some(place.lease.0))]);
        Reply::Withdrawn(Revision(self.revision))
    }

    /// One revision. A key that is not there is not deleted.
    fn commit(&mut self, changes: &[(&Bytes, Option<i64>)]) {
        self.revision += 1;
        for (key, lease) in changes {
            let key = Bytes::clone(key);
            let before = self.keys.remove(&key);
            let kv = lease.map(|lease| KeyValue {
                key: key.clone(),
                create_revision: before.as_ref().map_or(self.revision, |kv| kv.create_revision),
                mod_revision: self.revision,
                lease,
                ..KeyValue::default()
            });
            match &kv {
                Some(kv) => drop(self.keys.insert(key.clone(), kv.clone())),
                None if before.is_none() => continue,
                None => self.deletions.push((self.revision, key.clone())),
            }
            self.log.push((self.revision, key, kv));
        }
    }

    /// In one revision.
    fn delete_where(&mut self, is_meant: impl Fn(&KeyValue) -> bool) {
        let keys: Vec<_> = self.keys.values().filter(|kv| is_meant(kv)).map(|kv| kv.key.clone()).collect();
        if !keys.is_empty() {
            let changes: Vec<_> = keys.iter().map(|key| (key, None)).collect();
            self.commit(&changes);
        }
    }

    /// The queue as it was at a revision.
    fn queue_at(&self, place: &Place, revision: i64) -> Vec<KeyValue> {
        let mut keys = BTreeMap::new();
        for (_, key, kv) in self.log.iter().take_while(|(at, ..)| *at <= revision) {
            keys.insert(key, kv);
        }
        let queue = keys.into_values().flatten().filter(|kv| kv.key.starts_with(&place.prefix));
        queue.cloned().collect()
    }

    fn newest(&self, mut queue: Vec<KeyValue>) -> Part {
        queue.sort_by_key(|kv| std::cmp::Reverse(kv.create_revision));
        let more = queue.len() > self.shown_max;
        queue.truncate(self.shown_max);
        (queue, more)
    }
}
