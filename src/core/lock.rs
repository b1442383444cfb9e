//! The decisions of a lock: one machine for each (session, name). It says which
//! transaction to send, when the lock is granted, and what must still be undone
//! before the next local task may try. It sends nothing itself; the task that
//! wants the lock drives it, and the session's releaser where that task is gone.
//!
//! The lock is a queue in etcd. Everybody who wants it has a key under
//! `<name>/`, and the key with the least create_revision owns it.
//!
//! ```text
//!           acquire            older keys             the last one goes
//!   Free -----------> Register -----------> Wait ---------------------.
//!    ^ ^                 |  '-- no older key ------------------------.|
//!    | |          cancel |                   | cancel                vv
//!    | '---- Withdraw <--'                   |            release   Held
//!    '------ Release  <----------------------+------------------------'
//! ```
//!
//! Why a grant by watching needs no read: nothing is ever created with a lower
//! create_revision, so the set of older keys, once read, only shrinks, and the
//! watch sees every key leave it. Two readings of the queue are therefore joined
//! by intersection.
//!
//! Why there is a gate: a register whose answer was lost may be carried out long
//! after, by another member, when this side has given up or has already released.
//! Each register demands that the gate key has not changed since it was read, so
//! changing the gate stops every register that is still under way.

use std::collections::VecDeque;

use bytes::Bytes;

use super::time::Instant;
use crate::pb::mvccpb::KeyValue;
use crate::types::{LeaseId, Revision};

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// The keys of one session in the queue of one name.
#[derive(Clone, Debug)]
pub struct Place {
    /// What every key of the queue begins with: `<name>/`.
    pub prefix: Bytes,
    /// The session's own key: `<name>/<lease>`.
    pub key: Bytes,
    /// The key whose change stops registers that are still under way. It lies
    /// beside the queue, for in it, it would be an entry to other clients.
    pub gate: Bytes,
    /// The session's lease, on which both keys hang.
    pub lease: LeaseId,
}

const GATE_SUFFIX: &str = "#gate";

impl Place {
    /// The gate lies beside the name, behind `gate_prefix`. `None` where the name is
    /// empty, or would put one lock's gate into the queue of another.
    #[must_use]
    pub fn new(name: &str, lease: LeaseId, gate_prefix: &str) -> Option<Place> {
        if name.is_empty() || name.ends_with(GATE_SUFFIX) {
            return None;
        }
        Some(Place {
            prefix: format!("{name}/").into(),
            key: format!("{name}/{lease}").into(),
            gate: format!("{gate_prefix}{name}{GATE_SUFFIX}/{lease}").into(),
            lease,
        })
    }

    /// The entries of the queue that are older than `created`. Names nest: a key
    /// with a further `/` belongs to the queue of another lock.
    fn older<'a>(&'a self, queue: &'a [KeyValue], created: Revision) -> impl Iterator<Item = &'a KeyValue> {
        queue.iter().filter(move |kv| {
            let entry = kv.key.strip_prefix(&*self.prefix);
            entry.is_some_and(|entry| !entry.contains(&b'/')) && kv.create_revision < created.0
        })
    }
}

/// The machine; see the head of this file.
#[derive(Debug)]
pub struct Lock {
    place: Place,
    /// The gate's mod_revision as last seen; 0 while there is no gate key.
    gate: Revision,
    /// A register of unknown fate may still be carried out at this gate.
    loose: bool,
    deadline: Instant,
    phase: Phase,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
enum Phase {
    Free,
    Register { in_flight: bool },
    Wait(Wait),
    Held { created: Revision },
    Release { created: Revision },
    Withdraw,
}

#[derive(Debug)]
struct Wait {
    created: Revision,
    /// Whoever comes first: key and create_revision, for a key alone may have
    /// gone and come back behind us.
    older: Vec<(Bytes, Revision)>,
    /// The revision of the response that last gave the queue. Events up to it are
    /// old news, and may tell of an earlier life of an older key.
    seen: Revision,
    /// The watch began after `seen`, so events may be missing between the two:
    /// until the queue is read at this revision or later, nothing is granted.
    gap: Option<Revision>,
    own_deleted: bool,
}

/// What the driver is to do. All reads are without values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// If the own key is absent and the gate's mod_revision is `gate`, put the own
    /// key and read the queue, else read the own key, the gate and the queue.
    Register {
        /// The gate's mod_revision.
        gate: Revision,
    },
    /// Watch the queue for deletions, from now on.
    Watch,
    /// Read the queue, serializable on the watch's connection, or linearizable.
    Range {
        /// Whether the member that serves the watch is not to be trusted with it.
        linearizable: bool,
    },
    /// If the own key has this create_revision, delete it.
    Release {
        /// The create_revision.
        created: Revision,
        /// Whether to put the gate as well, in either case, and to read the own key
        /// where it has another create_revision.
        close_gate: bool,
    },
    /// If the gate's mod_revision is `gate`, delete the own key and put the gate,
    /// else read the gate and the own key.
    Withdraw {
        /// The gate's mod_revision.
        gate: Revision,
    },
    /// The lock is ours; this is the key's create_revision, the fencing token.
    Grant(Revision),
    /// The lock cannot be had.
    Fail(Failure),
    /// Nothing is left on the server that could hold the lock: the next may try.
    Freed,
}

/// Why a lock cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The session's lease has ended, or its deadline has passed.
    SessionEnded,
    /// Somebody deleted the own key while it queued.
    KeyDeleted,
    /// The own key hangs on a lease that is not ours.
    KeyTaken,
}

/// The answer to [`Action::Register`], or the reading part of one.
#[derive(Debug)]
pub struct Registered<'a> {
    /// Whether this very register put the key.
    pub put: bool,
    /// The answer's revision.
    pub revision: Revision,
    /// The gate's mod_revision, where the register did not put the key.
    pub gate: Revision,
    /// The own key, where the register did not put it and it exists.
    pub own: Option<&'a KeyValue>,
    /// Everything below the prefix.
    pub queue: &'a [KeyValue],
}

impl Lock {
    /// A machine at rest, for a session whose lease is proven until `deadline`.
    #[must_use]
    pub fn new(place: Place, deadline: Instant) -> Lock {
        Lock {
            place,
            gate: Revision::ZERO,
            loose: false,
            deadline,
            phase: Phase::Free,
            actions: VecDeque::new(),
        }
    }

    /// The keys that this machine is about.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The lease is proven until then.
    pub fn handle_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// A task wants the lock. Only at rest.
    pub fn handle_acquire(&mut self, now: Instant) {
        debug_assert!(self.is_free(), "one task at a time");
        if self.expired(now) {
            return self.fail(Failure::SessionEnded);
        }
        self.register();
    }

    /// A register was answered.
    pub fn handle_registered(&mut self, now: Instant, answer: &Registered<'_>) {
        if !matches!(self.phase, Phase::Register { .. }) {
            return;
        }
        let created = match answer.own {
            _ if answer.put => answer.revision,
            Some(own) if own.lease == self.place.lease.0 => Revision(own.create_revision),
            // Not ours to delete: a release of a key that does not exist closes the
            // gate where that has to be done.
            Some(_) => return self.leave(Failure::KeyTaken, self.loose.then_some(Revision::ZERO)),
            None => {
                // The gate has moved: what was loose at the old one is stopped.
                self.loose = self.loose && self.gate == answer.gate;
                self.gate = answer.gate;
                return self.register();
            }
        };
        if !answer.put && self.gate != answer.gate {
            self.gate = answer.gate;
            self.loose = false;
        }
        let older = self.place.older(answer.queue, created);
        let older: Vec<_> = older.map(|kv| (kv.key.clone(), Revision(kv.create_revision))).collect();
        let wait = Wait {
            created,
            older,
            seen: answer.revision,
            gap: None,
            own_deleted: false,
        };
        let free = wait.older.is_empty();
        self.phase = Phase::Wait(wait);
        if free {
            self.decide(now)
        } else {
            self.actions.push_back(Action::Watch)
        }
    }

    /// A register failed. `unknown`: it may have been carried out, or may yet be.
    pub fn handle_register_failed(&mut self, now: Instant, unknown: bool) {
        if let Phase::Register { in_flight } = &mut self.phase {
            *in_flight = false;
            self.loose |= unknown;
            if self.expired(now) {
                return self.leave(Failure::SessionEnded, None);
            }
            self.register();
        }
    }

    /// The server refused a register for good: it was not carried out. The lock is
    /// to be released next.
    pub fn handle_register_refused(&mut self) {
        if let Phase::Register { in_flight } = &mut self.phase {
            *in_flight = false;
        }
    }

    /// The watch has begun after this revision.
    pub fn handle_watching(&mut self, created: Revision) {
        if let Phase::Wait(wait) = &mut self.phase {
            if created > wait.seen {
                wait.gap = Some(created);
                self.actions.push_back(Action::Range { linearizable: false });
            }
        }
    }

    /// The watch broke; what happened meanwhile is not known.
    pub fn handle_watch_lost(&mut self) {
        if let Phase::Wait(_) = self.phase {
            self.actions.push_back(Action::Watch);
        }
    }

    /// Whole revisions of deletions were watched: each key with its mod_revision.
    /// Decides only when all are folded, for they may end with the own key.
    pub fn handle_deleted<'a>(
        &mut self,
        now: Instant,
        deleted: impl IntoIterator<Item = (&'a Bytes, Revision)>,
    ) {
        let Phase::Wait(wait) = &mut self.phase else {
            return;
        };
        for (key, revision) in deleted {
            if revision <= wait.seen {
                continue;
            }
            if *key == self.place.key {
                wait.own_deleted = true;
            } else if let Some(index) = wait.older.iter().position(|(older, _)| older == key) {
                wait.older.swap_remove(index);
            }
        }
        self.decide(now);
    }

    /// The queue was read at this revision.
    pub fn handle_ranged(&mut self, now: Instant, revision: Revision, queue: &[KeyValue]) {
        let Phase::Wait(wait) = &mut self.phase else {
            return;
        };
        if wait.gap.is_some_and(|gap| revision < gap) {
            // The member is behind its own watch, or a proxy asked another one.
            return self.actions.push_back(Action::Range { linearizable: true });
        }
        let is_there = |key: &Bytes, created: Revision| {
            queue.iter().any(|kv| kv.key == *key && kv.create_revision == created.0)
        };
        wait.own_deleted |= !is_there(&self.place.key, wait.created);
        wait.older.retain(|(key, created)| is_there(key, *created));
        wait.seen = wait.seen.max(revision);
        wait.gap = None;
        self.decide(now);
    }

    /// Reading the queue failed.
    pub fn handle_range_failed(&mut self) {
        if let Phase::Wait(_) = self.phase {
            self.actions.push_back(Action::Range { linearizable: true });
        }
    }

    /// The task no longer wants the lock, is done with it, or was dropped while it
    /// gave it back.
    pub fn handle_release(&mut self) {
        self.actions.clear();
        match self.phase {
            Phase::Register { in_flight } => {
                self.loose |= in_flight;
                self.undo(None);
            }
            Phase::Wait(Wait { created, .. }) | Phase::Held { created } => self.undo(Some(created)),
            // Whoever was at it was dropped: the fate of what it sent is unknown.
            Phase::Release { .. } | Phase::Withdraw => self.handle_undo_failed(),
            Phase::Free => {}
        }
    }

    /// A release was answered. `gate_closed`: it put the gate at `revision`. `own`:
    /// the own key where it was another one, put by a register that was still under
    /// way after somebody had deleted ours.
    pub fn handle_released(&mut self, revision: Revision, gate_closed: bool, own: Option<&KeyValue>) {
        if let Phase::Release { .. } = self.phase {
            if gate_closed {
                self.gate = revision;
                self.loose = false;
            }
            let own = own.filter(|own| own.lease == self.place.lease.0);
            self.undo(own.map(|own| Revision(own.create_revision)));
        }
    }

    /// A withdrawal found its gate, deleted the key and put the gate.
    pub fn handle_withdrawn(&mut self, revision: Revision) {
        if let Phase::Withdraw = self.phase {
            self.gate = revision;
            self.loose = false;
            self.undo(None);
        }
    }

    /// A withdrawal found another gate: an earlier copy of it got through.
    pub fn handle_withdraw_passed(&mut self, gate: Revision, own: Option<&KeyValue>) {
        if let Phase::Withdraw = self.phase {
            self.loose = self.loose && self.gate == gate;
            self.gate = gate;
            let own = own.filter(|own| own.lease == self.place.lease.0);
            self.undo(own.map(|own| Revision(own.create_revision)));
        }
    }

    /// A release or a withdrawal failed, or its fate is unknown: once more.
    pub fn handle_undo_failed(&mut self) {
        match self.phase {
            Phase::Release { created } => self.undo(Some(created)),
            Phase::Withdraw => self.undo(None),
            _ => {}
        }
    }

    /// The session has ended, or its deadline has passed; the driver waits for that
    /// beside everything else. Its keys go with the lease, and no register of it can be
    /// carried out any more.
    pub fn handle_session_ended(&mut self) {
        self.actions.clear();
        match self.phase {
            Phase::Register { .. } | Phase::Wait(_) => self.fail(Failure::SessionEnded),
            Phase::Release { .. } | Phase::Withdraw => self.free(),
            Phase::Held { .. } | Phase::Free => {}
        }
    }

    /// What to do next. To be drained after every input.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether nothing of this machine is on the server, nor can come there.
    #[must_use]
    pub fn is_free(&self) -> bool {
        matches!(self.phase, Phase::Free)
    }

    /// Asserts what always holds.
    pub fn check(&self) {
        match &self.phase {
            Phase::Free => assert!(!self.loose, "a register may still land"),
            Phase::Wait(wait) => {
                assert!(
                    wait.older.iter().all(|(key, created)| *created < wait.created && *key != self.place.key)
                );
                assert!(wait.gap.is_none_or(|gap| gap > wait.seen));
                assert!(wait.created <= wait.seen);
            }
            _ => {}
        }
        assert!(self.actions.len() <= 4, "nobody drains the actions");
    }

    fn expired(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    fn register(&mut self) {
        self.phase = Phase::Register { in_flight: true };
        self.actions.push_back(Action::Register { gate: self.gate });
    }

    /// Grants where nothing speaks against it: not the own key, not the clock, not
    /// an older key, not a gap in what is known.
    fn decide(&mut self, now: Instant) {
        let Phase::Wait(wait) = &self.phase else { return };
        let created = wait.created;
        if wait.own_deleted {
            self.leave(Failure::KeyDeleted, None);
        } else if self.expired(now) {
            self.leave(Failure::SessionEnded, Some(created));
        } else if wait.older.is_empty() && wait.gap.is_none() {
            self.actions.clear();
            self.phase = Phase::Held { created };
            self.actions.push_back(Action::Grant(created));
        }
    }

    fn leave(&mut self, failure: Failure, created: Option<Revision>) {
        self.actions.clear();
        self.actions.push_back(Action::Fail(failure));
        self.undo(created);
    }

    /// Takes the next step back to rest: the key that is known to exist is
    /// released, a register that may still land is withdrawn.
    fn undo(&mut self, created: Option<Revision>) {
        match created {
            Some(created) => {
                self.phase = Phase::Release { created };
                self.actions.push_back(Action::Release {
                    created,
                    close_gate: self.loose,
                });
            }
            None if self.loose => {
                self.phase = Phase::Withdraw;
                self.actions.push_back(Action::Withdraw { gate: self.gate });
            }
            None => self.free(),
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.actions.push_back(Action::Fail(failure));
        self.free();
    }

    fn free(&mut self) {
        self.loose = false;
        self.phase = Phase::Free;
        self.actions.push_back(Action::Freed);
    }
}
