//! The decisions of a lock: one machine for each (session, name). It says which
//! transaction to send, when the lock is granted, and what must still be undone
//! before the next local task may try. It sends nothing itself; the task that
//! wants the lock drives it, and the session's releaser where that task is gone.
//!
//! The lock is a queue in etcd. Everybody who wants it has a key under
//! `<name>/`, and the key with the least create_revision owns it. What else can be
//! claimed than to be alone, and beside whom, is told in `claim`; below, an older key is
//! one that is in the way of the own claim. A machine may also stand in several queues,
//! with keys that one transaction created.
//!
//! ```text
//!       acquire, try          older keys, wanted       the last one goes
//!   Free -----------> Register -----------> Wait ---------------------.
//!    ^ ^                 |  '-- no older key ------------------------.|
//!    | |    cancel, held |                   | cancel                vv
//!    | '---- Withdraw <--'                   |            release   Held
//!    '------ Release  <----------------------+------------------------'
//! ```
//!
//! Why a grant by watching needs no read: nothing is ever created with a lower
//! create_revision, so the set of older keys, once read, only shrinks, and the
//! watch sees every key leave it. Where there are many, only the newest of them is
//! watched, and its end leads to a read; `wait` decides that.
//!
//! An owner's key may be there from an earlier session of the same owner. It is taken over by
//! putting it on our lease, which keeps its create_revision, so its place, and all that was
//! said above; which session has it is told by its mod_revision.
//!
//! Why there is a gate: a register whose answer was lost may be carried out long
//! after, by another member, when this side has given up or has already released.
//! Each register demands that the gate key has not changed since it was read, so
//! changing the gate stops every register that is still under way. It may be changed by
//! another machine of the session as well: who finds it moved registers anew.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use self::rules::{Rule, Rules};
use self::wait::{Learnt, Wait};
use super::jitter::Jitter;
use super::time::Instant;
use crate::pb::mvccpb::KeyValue;
use crate::types::Revision;

mod action;
mod claim;
#[cfg(test)]
mod claims;
#[cfg(test)]
mod owners;
mod place;
mod put;
#[cfg(test)]
mod readings;
mod rules;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod undo;
mod wait;

pub use self::action::{Action, Failure, Registered, Watched};
pub use self::claim::Claim;
pub use self::place::{ASK_SUFFIX, Place};
pub use self::put::Put;

/// How many keys an answer about the queue shows at most, the newest ones: room
/// for what is watched and some keys of nested names, and 10 KB or so however
/// long the queue is.
pub const READING_KEYS_MAX: u32 = 128;

/// With more older keys than these, the newest of them alone is watched. A watch of
/// all costs the server one event for each waiter and release; that of one costs
/// the waiter one read before its grant. At about 32 waiters both were found to
/// cost the server the same CPU time for a lock.
const WATCHED_MAX: usize = 32;

/// The queue is read again at the latest after once to twice this time.
const REREAD_WAIT: Duration = Duration::from_secs(30);

/// The machine; see the head of this file.
#[derive(Debug)]
pub struct Lock {
    place: Place,
    /// The gate's mod_revision as last seen; 0 while there is no gate key.
    gate: Revision,
    /// A register of unknown fate may still be carried out at this gate.
    loose: bool,
    /// And at another gate than the one that is known.
    inherits: bool,
    deadline: Instant,
    /// The task does not want to wait.
    tries: bool,
    /// The lease that an owner's key was found on first.
    orphan: Option<i64>,
    put: Put,
    phase: Phase,
    actions: VecDeque<Action>,
    jitter: Jitter,
    watched_max: usize,
    reread_wait: Duration,
    rules: Rules,
}

#[derive(Debug)]
enum Phase {
    Free,
    Register {
        in_flight: bool,
        if_empty: bool,
        /// What is taken over.
        over: Option<Put>,
    },
    Wait(Wait),
    Held(Revision),
    Release(Revision),
    Withdraw,
}

impl Lock {
    /// A machine at rest, for a session whose lease is proven until `deadline`.
    #[must_use]
    pub fn new(place: Place, deadline: Instant, seed: u64) -> Lock {
        Lock {
            place,
            gate: Revision::ZERO,
            loose: false,
            inherits: false,
            deadline,
            tries: false,
            orphan: None,
            put: Put::default(),
            phase: Phase::Free,
            actions: VecDeque::new(),
            jitter: Jitter::new(seed),
            watched_max: WATCHED_MAX,
            reread_wait: REREAD_WAIT,
            rules: Rules::default(),
        }
    }

    /// A machine for a lease that somebody had before: what he has left of the lock, or has still under
    /// way, is to be released first, for he may have been granted it.
    #[must_use]
    pub fn inheriting(place: Place, deadline: Instant, seed: u64) -> Lock {
        Lock {
            loose: true,
            inherits: true,
            phase: Phase::Withdraw,
            ..Lock::new(place, deadline, seed)
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

    /// The gate's mod_revision, as another machine of the session with the same gate
    /// has seen it.
    pub fn handle_gate(&mut self, gate: Revision) {
        if let Phase::Free = self.phase {
            self.gate = self.gate.max(gate);
        }
    }

    /// The gate's mod_revision, as last seen.
    #[must_use]
    pub fn gate(&self) -> Revision {
        self.gate
    }

    /// How the key was put that was granted last.
    #[must_use]
    pub fn put(&self) -> Put {
        self.put
    }

    /// A task wants the lock, and waits for it. Only at rest.
    pub fn handle_acquire(&mut self, now: Instant) {
        self.begin(now, false);
    }

    /// A task wants the lock if it is free. Only at rest.
    pub fn handle_try_acquire(&mut self, now: Instant) {
        self.begin(now, true);
    }

    /// The own key is there since this revision: nothing is registered, but who is older
    /// is still to be learnt. Only at rest.
    pub fn handle_resume(&mut self, now: Instant, created: Revision) {
        debug_assert!(self.is_free(), "one task at a time");
        self.tries = false;
        let reread_at = self.next_reread(now);
        self.phase = Phase::Wait(Wait::new(created, created, reread_at));
        self.ask(true);
    }

    /// A register was answered.
    pub fn handle_registered(&mut self, now: Instant, answer: &Registered<'_>) {
        let Phase::Register { if_empty, over, .. } = self.phase else {
            return;
        };
        let moved = !answer.put && self.gate != answer.gate;
        if moved {
            // What was loose at the old gate is stopped.
            self.loose = false;
            self.gate = answer.gate;
        }
        self.put = match answer.own {
            _ if answer.put => Put::new(answer.revision, over),
            Some(own) if own.lease == self.place.lease.0 => Put::found(own),
            Some(own) if self.place.is_owned() && self.orphan.is_none_or(|lease| lease == own.lease) => {
                return self.take_over(own);
            }
            // Not ours to delete: a release of a key that does not exist closes the
            // gate where that has to be done.
            Some(_) => return self.leave(Failure::KeyTaken, self.loose.then_some(Revision::ZERO)),
            None if self.tries && self.place.is_taken(self.rules, answer.queue) => {
                return self.leave(Failure::Busy, None);
            }
            // The first of our keys is gone and another one is not, or it would have been put.
            None if !moved && !if_empty && !self.place.has_one_key() => {
                return self.leave(Failure::KeyDeleted, Some(Revision::ZERO));
            }
            // Where neither the gate nor an entry was in the way, nested names were.
            None => return self.register(if_empty && moved),
        };
        let reread_at = self.next_reread(now);
        self.phase = Phase::Wait(Wait::new(self.put.created, answer.revision, reread_at));
        let is_newest = answer.put && over.is_none();
        match is_newest || !answer.more && self.place.has_one_key() {
            true => self.learn(now, answer.revision, answer.queue, answer.more),
            // The newest entries; we may be older than all of them. And where one key
            // of several is found, it has to be seen whether the others are there.
            false => self.ask(true),
        }
    }

    /// A register failed. `unknown`: it may have been carried out, or may yet be.
    pub fn handle_register_failed(&mut self, now: Instant, unknown: bool) {
        if let Phase::Register {
            in_flight, if_empty, ..
        } = &mut self.phase
        {
            *in_flight = false;
            let if_empty = *if_empty;
            self.loose |= unknown && self.rules.keep(Rule::Gate);
            if self.expired(now) {
                return self.leave(Failure::SessionEnded, None);
            }
            self.register(if_empty);
        }
    }

    /// The server refused a register for good: it was not carried out. The lock is
    /// to be released next.
    pub fn handle_register_refused(&mut self) {
        if let Phase::Register { in_flight, .. } = &mut self.phase {
            *in_flight = false;
        }
    }

    /// The watch has begun after this revision; of several, the latest.
    pub fn handle_watching(&mut self, created: Revision) {
        if let Phase::Wait(wait) = &mut self.phase {
            if wait.watching(created) {
                self.ask(false);
            }
        }
    }

    /// The watch broke; what happened meanwhile is not known.
    pub fn handle_watch_lost(&mut self) {
        self.watch();
    }

    /// Whole revisions of deletions were watched: each key with its mod_revision. That an
    /// owner's key was put is told as its deletion, for it is another session's now.
    /// Decides only when all are folded, for they may end with the own key.
    pub fn handle_deleted<'a>(
        &mut self,
        now: Instant,
        deleted: impl IntoIterator<Item = (&'a Bytes, Revision)>,
    ) {
        for (key, revision) in deleted {
            let Phase::Wait(wait) = &mut self.phase else {
                return;
            };
            if wait.deleted((self.rules, &self.place), key, revision) {
                self.ask(false);
            }
            if !self.rules.keep(Rule::WholeRevisions) {
                self.decide(now);
            }
        }
        self.decide(now);
    }

    /// The queue was read at this revision, down from the own key. `more`: only the newest part
    /// of it is here. Says whether that is recent enough; it is asked again if not.
    pub fn handle_ranged(
        &mut self,
        now: Instant,
        revision: Revision,
        queue: &[KeyValue],
        more: bool,
    ) -> bool {
        let Phase::Wait(wait) = &mut self.phase else {
            return true;
        };
        if !wait.accepts(revision) {
            // The member is behind its own watch, or a proxy asked another one.
            self.ask(true);
            return false;
        }
        if !self.place.is_whole(self.rules, queue, wait.created) || self.place.is_taken_over(queue, self.put)
        {
            if more && wait.want_whole() {
                self.ask(true);
                return true;
            }
            wait.own_is_gone(self.rules);
        }
        wait.reread_at = now + self.reread_wait + self.jitter.below(self.reread_wait);
        self.learn(now, revision, queue, more);
        true
    }

    /// Reading the queue failed.
    pub fn handle_range_failed(&mut self) {
        self.ask(true);
    }

    /// It is time for what [`Lock::poll_timeout`] said.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            let next = self.next_reread(now);
            if let Phase::Wait(wait) = &mut self.phase {
                wait.reread_at = next;
            }
            // The watch's member is what is in doubt.
            self.ask(true);
        }
    }

    /// The task no longer wants the lock, is done with it, or was dropped while it
    /// gave it back.
    pub fn handle_release(&mut self) {
        self.actions.clear();
        match self.phase {
            Phase::Register { in_flight, .. } => {
                self.loose |= in_flight && self.rules.keep(Rule::Gate) && self.rules.keep(Rule::GateOnCancel);
                self.undo(None);
            }
            Phase::Wait(Wait { created, .. }) | Phase::Held(created) => self.undo(Some(self.mark(created))),
            // Whoever was at it was dropped: the fate of what it sent is unknown.
            Phase::Release(_) | Phase::Withdraw => self.handle_undo_failed(),
            Phase::Free => {}
        }
    }

    /// The session has ended, or its deadline has passed; the driver waits for that beside everything else.
    /// Its keys go with the lease, and no register of it can be carried out any more.
    pub fn handle_session_ended(&mut self) {
        // How the attempt came out is to be told, or whoever drives it waits for ever.
        self.actions.retain(|action| matches!(action, Action::Grant(_) | Action::Fail(_)));
        match self.phase {
            Phase::Register { .. } | Phase::Wait(_) => self.fail(Failure::SessionEnded),
            Phase::Release(_) | Phase::Withdraw => self.free(),
            Phase::Held(_) | Phase::Free => {}
        }
    }

    /// What to do next. To be drained after every input.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Lock::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Wait(wait) if !wait.is_unread() && self.rules.keep(Rule::Reread) => Some(wait.reread_at),
            _ => None,
        }
    }

    /// Whether something is to be done.
    #[must_use]
    pub fn has_action(&self) -> bool {
        !self.actions.is_empty()
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
            Phase::Wait(wait) => wait.check(&self.place),
            _ => {}
        }
        assert!(self.actions.len() <= 4, "nobody drains the actions");
    }

    fn begin(&mut self, now: Instant, tries: bool) {
        debug_assert!(self.is_free(), "one task at a time");
        self.tries = tries;
        self.orphan = None;
        if self.expired(now) {
            return self.fail(Failure::SessionEnded);
        }
        self.register(tries);
    }

    fn expired(&self, now: Instant) -> bool {
        now >= self.deadline && self.rules.keep(Rule::Deadline)
    }

    fn next_reread(&mut self, now: Instant) -> Instant {
        now + self.reread_wait + self.jitter.below(self.reread_wait)
    }

    fn register(&mut self, if_empty: bool) {
        let gate = self.gate;
        self.put_key(
            if_empty,
            None,
            match if_empty {
                true => Action::RegisterIfEmpty { gate },
                false => Action::Register { gate },
            },
        );
    }

    /// Puts what an earlier session has left on our lease. Where another does so too, it has it.
    fn take_over(&mut self, own: &KeyValue) {
        self.orphan = Some(own.lease);
        let (gate, seen) = (self.gate, Revision(own.mod_revision));
        self.put_key(false, Some(Put::found(own)), Action::TakeOver { gate, seen });
    }

    fn put_key(&mut self, if_empty: bool, over: Option<Put>, action: Action) {
        self.phase = Phase::Register {
            in_flight: true,
            if_empty,
            over,
        };
        self.actions.push_back(action);
    }

    /// What tells the own key, with this create_revision, from others of its name.
    fn mark(&self, created: Revision) -> Revision {
        let put_anew = self.place.is_owned() && self.rules.keep(Rule::LastPut);
        if put_anew { self.put.at } else { created }
    }

    fn learn(&mut self, now: Instant, revision: Revision, queue: &[KeyValue], more: bool) {
        let Phase::Wait(wait) = &mut self.phase else {
            return;
        };
        let about = (self.rules, &self.place);
        match wait.read(about, revision, (queue, more), self.watched_max) {
            Learnt::Unclear => self.ask(true),
            Learnt::Watch => self.watch(),
            Learnt::Known => {}
        }
        self.decide(now);
    }

    /// Has the queue read. A reading that is asked for twice is needed once.
    fn ask(&mut self, linearizable: bool) {
        let Phase::Wait(wait) = &self.phase else { return };
        // What was created later is behind us, also under the key of somebody older.
        let upto = match self.rules.keep(Rule::Incarnations) {
            true => wait.created,
            false => Revision(i64::MAX),
        };
        self.actions.retain(|action| !matches!(action, Action::Range { .. }));
        self.actions.push_back(Action::Range {
            upto,
            whole: wait.needs_whole(),
            linearizable,
        });
    }

    fn watch(&mut self) {
        let Phase::Wait(wait) = &self.phase else { return };
        let Some(watched) = wait.watched() else {
            return self.ask(true);
        };
        self.actions.retain(|action| !matches!(action, Action::Watch(_)));
        self.actions.push_back(Action::Watch(watched));
    }

    /// Grants where nothing speaks against it: not the own key, not the clock, not
    /// an older key, not a gap in what is known.
    fn decide(&mut self, now: Instant) {
        let Phase::Wait(wait) = &self.phase else { return };
        let (created, about) = (wait.created, (self.rules, &self.place));
        if wait.is_own_deleted() {
            // Of several keys the others may still be there.
            let left = (!self.place.has_one_key()).then_some(created);
            self.leave(Failure::KeyDeleted, left);
        } else if self.expired(now) {
            self.leave(Failure::SessionEnded, Some(self.mark(created)));
        } else if wait.is_next(about) {
            self.actions.clear();
            self.phase = Phase::Held(created);
            self.actions.push_back(Action::Grant(created));
        } else if self.tries && wait.is_behind(about) {
            self.leave(Failure::Busy, Some(self.mark(created)));
        }
    }

    fn leave(&mut self, failure: Failure, created: Option<Revision>) {
        self.actions.clear();
        self.actions.push_back(Action::Fail(failure));
        self.undo(created);
    }

    fn fail(&mut self, failure: Failure) {
        self.actions.push_back(Action::Fail(failure));
        self.free();
    }

    fn free(&mut self) {
        (self.loose, self.inherits) = (false, false);
        self.phase = Phase::Free;
        self.actions.push_back(Action::Freed);
    }
}
