//! A session of the simulation: what its user wants, what its driver waits for,
//! and how that drives the machine.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::store::{Answer, Flaw};
use super::{REREAD, TTL};
use crate::types::LeaseId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Idle,
    Locking,
    Holding(Revision),
    Undoing,
}

/// What a session's driver waits for.
pub(super) struct Pending {
    pub(super) id: u64,
    pub(super) action: Action,
    pub(super) fails_at: u64,
    pub(super) unknown: bool,
    pub(super) answer: Option<(u64, Answer)>,
}

/// What has come of a watch.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) member: u64,
    pub(super) watched: Watched,
    /// The revision up to which it has told its deletions.
    pub(super) upto: i64,
    /// Nothing will come any more, and nobody says so.
    pub(super) deaf: bool,
}

/// A session with its one machine, driven as `concurrency` does it.
pub(super) struct Client {
    pub(super) place: Place,
    pub(super) lock: Lock,
    pub(super) task: Task,
    pub(super) deadline: u64,
    pub(super) renews: bool,
    pub(super) pending: Option<Pending>,
    pub(super) ready_at: u64,
    pub(super) watch: Option<Told>,
    /// The greatest revision that the machine was told of.
    pub(super) shown: i64,
    /// The keys that were deleted by hand.
    pub(super) robbed: BTreeSet<i64>,
    pub(super) grants: u32,
    /// How often it may still find out that the lock is not free.
    pub(super) tries_left: u32,
    /// What the session knows of each gate.
    gates: BTreeMap<Bytes, Revision>,
    attempts: u64,
    /// The writer that holds the lock became a reader.
    pub(super) reads: bool,
    /// Whose key it is, where sessions come back under their name.
    pub(super) owner: Option<u64>,
}

impl Client {
    pub(super) fn new(lease: i64, time: u64, watched_max: usize, rules: Rules) -> Client {
        let place = Place::new("jobs", LeaseId(lease), "").unwrap();
        let deadline = time + TTL;
        let mut lock = Lock::new(place.clone(), Instant(deadline), time);
        (lock.watched_max, lock.reread_wait, lock.rules) = (watched_max, REREAD, rules);
        Client {
            lock,
            place,
            task: Task::Idle,
            deadline,
            renews: true,
            pending: None,
            ready_at: 0,
            watch: None,
            shown: 0,
            robbed: BTreeSet::new(),
            grants: 0,
            tries_left: 5,
            gates: BTreeMap::new(),
            attempts: 0,
            reads: false,
            owner: None,
        }
    }

    /// The next attempt is for this claim on these names: a machine of its own, which
    /// has its gate in common with the others.
    pub(super) fn attempt(&mut self, names: &[&str], claim: Claim, flaw: Flaw) {
        self.gates.insert(self.place.gate.clone(), self.lock.gate());
        if flaw != Flaw::NumbersUsedAgain {
            self.attempts += 1;
        }
        self.place = Place::once(names, claim, self.attempts, self.place.lease, "").unwrap();
        let mut lock = Lock::new(self.place.clone(), Instant(self.deadline), self.attempts);
        (lock.watched_max, lock.reread_wait, lock.rules) = (self.lock.watched_max, REREAD, self.lock.rules);
        lock.handle_gate(self.gates.get(&self.place.gate).copied().unwrap_or_default());
        self.lock = lock;
        self.reads = false;
    }

    /// What it holds, by its own account.
    pub(super) fn holds(&self) -> Option<Claim> {
        match (self.task, self.place.claim()) {
            (Task::Holding(_), Claim::Writer) if self.reads => Some(Claim::Reader),
            (Task::Holding(_), claim) => Some(claim),
            _ => None,
        }
    }

    /// The task is done with the lock, or was dropped in whatever state.
    pub(super) fn release(&mut self) {
        self.pending = None;
        self.watch = None;
        self.lock.handle_release();
        self.task = if self.lock.is_free() {
            Task::Idle
        } else {
            Task::Undoing
        };
    }

    pub(super) fn handle_answer(&mut self, now: Instant, action: &Action, answer: Answer, flaw: Flaw) {
        match answer {
            Answer::LeaseNotFound => self.lock.handle_session_ended(),
            Answer::Registered {
                put,
                revision,
                gate,
                own,
                queue: (queue, more),
            } => {
                self.shown = self.shown.max(revision.0);
                let answer = Registered {
                    put,
                    revision,
                    gate: if put { Revision::ZERO } else { gate },
                    own: own.as_ref(),
                    queue: &queue,
                    more,
                };
                self.lock.handle_registered(now, &answer);
            }
            Answer::Released(revision, own) => {
                let close_gate = matches!(action, Action::Release { close_gate: true, .. });
                self.lock.handle_released(revision, close_gate, own.as_ref());
            }
            Answer::Withdrawn(revision) => self.lock.handle_withdrawn(revision),
            Answer::Passed(gate, own) => self.lock.handle_withdraw_passed(gate, own.as_ref()),
            Answer::Watching(member, revision) => {
                let Action::Watch(watched) = action.clone() else {
                    unreachable!("a watch was asked for");
                };
                self.watch = Some(Told {
                    member,
                    watched,
                    upto: revision.0,
                    deaf: false,
                });
                let told = if flaw == Flaw::GapIgnored {
                    Revision::ZERO
                } else {
                    revision
                };
                self.lock.handle_watching(told);
            }
            Answer::Ranged(revision, (mut queue, more)) => {
                self.shown = self.shown.max(revision.0);
                if let (Flaw::OwnKeyUnseen, Phase::Wait(wait)) = (flaw, &self.lock.phase) {
                    queue.extend(self.place.keys().map(|key| KeyValue {
                        key: key.clone(),
                        create_revision: wait.created.0,
                        ..KeyValue::default()
                    }));
                }
                self.lock.handle_ranged(now, revision, &queue, more);
            }
        }
    }

    pub(super) fn handle_failed(&mut self, now: Instant, action: &Action, unknown: bool) {
        match action {
            Action::Register { .. } | Action::RegisterIfEmpty { .. } | Action::TakeOver { .. } => {
                self.lock.handle_register_failed(now, unknown);
            }
            Action::Watch(_) => self.lock.handle_watch_lost(),
            Action::Range { .. } => self.lock.handle_range_failed(),
            _ => self.lock.handle_undo_failed(),
        }
    }

    pub(super) fn handle_deletions(&mut self, now: Instant, events: &[(Bytes, Revision)], flaw: Flaw) {
        let told = |(key, revision): &(Bytes, Revision)| match flaw {
            Flaw::OwnKeyUnseen if self.place.is_own(key) => None,
            Flaw::OldNewsCount => Some((key.clone(), Revision(i64::MAX))),
            _ => Some((key.clone(), *revision)),
        };
        let told: Vec<_> = events.iter().filter_map(told).collect();
        let size = if flaw == Flaw::RevisionsTorn {
            1
        } else {
            told.len().max(1)
        };
        for part in told.chunks(size) {
            self.lock.handle_deleted(now, part.iter().map(|(key, at)| (key, *at)));
        }
    }
}
