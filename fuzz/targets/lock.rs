//! A session that wants one lock of a model of etcd, in which others queue as well:
//! requests are carried out late, answers are lost, members lag, keys are deleted by
//! hand, the task gives up whenever it likes. While the answers are etcd's the lock is
//! never granted behind an older key, and a machine at rest has no key and gets none.
//! Whatever the answers are, it keeps its invariants, comes to rest and is granted in
//! the end.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use tenure::core::lock::{Action, Failure, Lock, Place, Registered, Watched};
use tenure::core::time::Instant;
use tenure::pb::mvccpb::KeyValue;
use tenure::{LeaseId, Revision};

use self::store::{OTHERS, Reply, Store};
use crate::inputs::inputs;

#[path = "lock/store.rs"]
mod store;

#[derive(Arbitrary, Debug)]
enum Input {
    Acquire,
    Try,
    /// The task gives up, or is done, or is dropped while it undoes.
    Release,
    /// By a member that lags so many revisions behind, where that may be.
    Answered(u8),
    /// Nobody knows whether it was carried out.
    Failed(Fate),
    NotSent,
    Refused,
    CarriedOut(u8),
    Changed(u8),
    /// Many others come at once.
    Crowded,
    Told(u8),
    WatchLost,
    Renewed,
    Ended,
    Timeout,
    Later(u32),
    Nonsense(Nonsense),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Fate {
    Done,
    Late,
    Lost,
}

/// What no etcd says.
#[derive(Arbitrary, Debug)]
struct Nonsense {
    /// News of the watch, though there may be none, instead of an answer.
    is_news: bool,
    put: bool,
    more: bool,
    revision: i8,
    gate: i8,
    /// Which key, its revision, and whether it is on the own lease.
    keys: Vec<(u8, i8, bool)>,
}

const INPUTS_MAX: usize = 400;
const TTL: Duration = Duration::from_secs(60);
const LEASE: LeaseId = LeaseId(0x70);
/// Others that may queue: more than are watched one and all.
const CROWD: u8 = 40;
/// So many requests bring a machine to rest, or to the lock, once nothing fails.
const CALM_STEPS_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Idle,
    Locking { tries: bool },
    Holding,
    Undoing,
}

struct Driver {
    now: Instant,
    deadline: Instant,
    place: Place,
    store: Store,
    task: Task,
    /// What was sent and is not answered yet.
    pending: Option<Action>,
    /// What is given up and may be carried out yet.
    late: Vec<Action>,
    /// What is watched, and up to which revision that was told.
    watch: Option<(Watched, i64)>,
    /// The last revision of which the machine was told anything.
    shown: i64,
    token: Revision,
    /// Nothing but what etcd would say was said.
    trusted: bool,
    ended: bool,
}

pub(crate) fn run(data: &[u8]) {
    let mut data = Unstructured::new(data);
    let Ok((seed, shown_max)) = <(u64, u8)>::arbitrary(&mut data) else {
        return;
    };
    let place = Place::new("jobs", LEASE, "").expect("a name");
    let mut driver = Driver {
        now: Instant::default(),
        deadline: Instant::default() + TTL,
        place: place.clone(),
        store: Store::new(usize::from(shown_max) + 1),
        task: Task::Idle,
        pending: None,
        late: Vec::new(),
        watch: None,
        shown: 0,
        token: Revision::ZERO,
        trusted: true,
        ended: false,
    };
    let mut lock = Lock::new(place, driver.deadline, seed);
    for input in inputs(&mut data).take(INPUTS_MAX) {
        driver.feed(&mut lock, input);
        driver.drain(&mut lock);
        if driver.ended {
            return driver.end(&lock);
        }
    }
    driver.calm(&mut lock);
}

impl Driver {
    fn feed(&mut self, lock: &mut Lock, input: Input) {
        match input {
            Input::Acquire => self.want(lock, false),
            Input::Try => self.want(lock, true),
            Input::Release => self.release(lock),
            Input::Answered(lag) => self.answered(lock, lag.into()),
            Input::Failed(fate) => self.failed(lock, fate),
            Input::NotSent => {
                if let Some(action) = self.pending.take() {
                    self.fail(lock, &action, false);
                }
            }
            Input::Refused => self.refused(lock),
            Input::CarriedOut(at) if !self.late.is_empty() => {
                let action = self.late.swap_remove(usize::from(at) % self.late.len());
                self.store.carry_out(&self.place, &action, 0);
            }
            Input::CarriedOut(_) => {}
            Input::Changed(at) => self.change(at),
            Input::Crowded => {
                for other in 0..CROWD {
                    self.store.create(&key(other), OTHERS);
                }
            }
            Input::Told(count) => self.told(lock, count.into()),
            Input::WatchLost => {
                if self.watch.take().is_some() {
                    self.pending = None;
                    lock.handle_watch_lost();
                }
            }
            // A refusal that is not heard yet was right when it was said.
            Input::Renewed if lock.has_action() => {}
            Input::Renewed => self.renew(lock),
            Input::Ended => {
                self.ended = true;
                self.pending = None;
                lock.handle_session_ended();
            }
            Input::Timeout => {
                self.now = lock.poll_timeout().unwrap_or(self.now).max(self.now);
                lock.handle_timeout(self.now);
            }
            Input::Later(micros) => self.now = self.now + Duration::from_micros(micros.into()),
            Input::Nonsense(nonsense) => self.nonsense(lock, nonsense),
        }
    }

    fn renew(&mut self, lock: &mut Lock) {
        self.deadline = self.now + TTL;
        lock.handle_deadline(self.deadline);
    }

    fn want(&mut self, lock: &mut Lock, tries: bool) {
        if self.task == Task::Idle {
            assert!(lock.is_free(), "the next may try, and something is left");
            self.task = Task::Locking { tries };
            match tries {
                true => lock.handle_try_acquire(self.now),
                false => lock.handle_acquire(self.now),
            }
        }
    }

    /// What is under way goes on without anybody who waits for it.
    fn release(&mut self, lock: &mut Lock) {
        if self.task == Task::Idle {
            return;
        }
        self.late.extend(self.pending.take());
        self.watch = None;
        lock.handle_release();
        self.task = match lock.is_free() {
            true => self.rest(),
            false => Task::Undoing,
        };
    }

    fn refused(&mut self, lock: &mut Lock) {
        if let Some(Action::Register { .. } | Action::RegisterIfEmpty { .. }) = self.pending {
            self.pending = None;
            lock.handle_register_refused();
            self.release(lock);
        }
    }

    fn failed(&mut self, lock: &mut Lock, fate: Fate) {
        let Some(action) = self.pending.take() else {
            return;
        };
        match fate {
            Fate::Done => drop(self.store.carry_out(&self.place, &action, 0)),
            Fate::Late => self.late.push(action.clone()),
            Fate::Lost => {}
        }
        self.fail(lock, &action, true);
    }

    fn fail(&mut self, lock: &mut Lock, action: &Action, unknown: bool) {
        match action {
            Action::Register { .. } | Action::RegisterIfEmpty { .. } => {
                lock.handle_register_failed(self.now, unknown);
            }
            Action::Watch(_) => lock.handle_watch_lost(),
            Action::Range { .. } => lock.handle_range_failed(),
            _ => lock.handle_undo_failed(),
        }
    }

    fn answered(&mut self, lock: &mut Lock, lag: i64) {
        let Some(action) = self.pending.take() else {
            return;
        };
        match self.store.carry_out(&self.place, &action, lag) {
            Reply::Registered {
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
                    gate,
                    own: own.as_ref(),
                    queue: &queue,
                    more,
                };
                lock.handle_registered(self.now, &answer);
            }
            Reply::Released(revision, own) => {
                let closed = matches!(action, Action::Release { close_gate: true, .. });
                lock.handle_released(revision, closed, own.as_ref());
            }
            Reply::Withdrawn(revision) => lock.handle_withdrawn(revision),
            Reply::Passed(gate, own) => lock.handle_withdraw_passed(gate, own.as_ref()),
            Reply::Ranged(revision, (queue, more)) => {
                self.shown = self.shown.max(revision.0);
                lock.handle_ranged(self.now, revision, &queue, more);
            }
            Reply::Watching(revision) => {
                if let Action::Watch(watched) = action {
                    self.watch = Some((watched, revision.0));
                    lock.handle_watching(revision);
                }
            }
        }
    }

    /// The next so many revisions of what is watched, whole.
    fn told(&mut self, lock: &mut Lock, count: i64) {
        let Some((watched, told)) = &mut self.watch else {
            return;
        };
        let since = std::mem::replace(told, self.store.revision.min(*told + count));
        let is_watched = |key: &Bytes| match &*watched {
            Watched::Queue => key.starts_with(&self.place.prefix),
            Watched::Predecessor(predecessor) => key == predecessor || *key == self.place.key,
        };
        let news = self.store.deletions.iter().filter(|(at, _)| since < *at && *at <= *told);
        let news: Vec<_> = news.filter(|(_, key)| is_watched(key)).collect();
        self.shown = self.shown.max(news.last().map_or(0, |(at, _)| *at));
        lock.handle_deleted(self.now, news.into_iter().map(|(at, key)| (key, Revision(*at))));
        self.told_first(lock);
    }

    /// What the watch says goes before a reading that is under way.
    fn told_first(&mut self, lock: &Lock) {
        if lock.has_action() && matches!(self.pending, Some(Action::Range { .. })) {
            self.pending = None;
        }
    }

    /// Somebody else comes or goes, or deletes by hand, or takes the own key.
    fn change(&mut self, at: u8) {
        let key = match at % (CROWD + 4) {
            0 | 1 => self.place.key.clone(),
            2 => Bytes::from_static(b"jobs/nightly/1"),
            other => key(other - 3),
        };
        if !self.store.delete(&key) {
            self.store.create(&key, OTHERS);
        }
    }

    fn nonsense(&mut self, lock: &mut Lock, nonsense: Nonsense) {
        self.trusted = false;
        let Nonsense { put, more, .. } = nonsense;
        let (revision, gate) = (Revision(nonsense.revision.into()), Revision(nonsense.gate.into()));
        let kv = |(at, revision, is_own): &(u8, i8, bool)| KeyValue {
            key: match at % 8 {
                0 => self.place.key.clone(),
                other => key(other),
            },
            create_revision: (*revision).into(),
            lease: if *is_own { LEASE.0 } else { OTHERS },
            ..KeyValue::default()
        };
        let queue: Vec<_> = nonsense.keys.iter().map(kv).collect();
        let own = queue.first();
        if nonsense.is_news {
            let deleted = queue.iter().map(|kv| (&kv.key, Revision(kv.create_revision)));
            lock.handle_deleted(self.now, deleted);
            return self.told_first(lock);
        }
        match self.pending.take() {
            Some(Action::Register { .. } | Action::RegisterIfEmpty { .. }) => {
                let queue = &queue[..];
                let answer = Registered {
                    put,
                    revision,
                    gate,
                    own,
                    queue,
                    more,
                };
                lock.handle_registered(self.now, &answer);
            }
            Some(Action::Watch(_)) => lock.handle_watching(revision),
            Some(Action::Range { .. }) => lock.handle_ranged(self.now, revision, &queue, more),
            Some(Action::Release { close_gate, .. }) => lock.handle_released(revision, close_gate, own),
            Some(Action::Withdraw { .. }) if put => lock.handle_withdrawn(revision),
            Some(Action::Withdraw { .. }) => lock.handle_withdraw_passed(gate, own),
            _ => {}
        }
    }

    fn drain(&mut self, lock: &mut Lock) {
        lock.check();
        while self.pending.is_none() {
            match lock.poll_action() {
                Some(Action::Grant(created)) => self.granted(created),
                Some(Action::Fail(failure)) => {
                    self.refusable(failure);
                    self.release(lock);
                }
                Some(Action::Freed) => self.task = self.rest(),
                Some(action) => {
                    if let Action::Watch(_) = action {
                        self.watch = None;
                    }
                    self.pending = Some(action);
                }
                None => break,
            }
            lock.check();
        }
    }

    fn granted(&mut self, created: Revision) {
        assert!(
            matches!(self.task, Task::Locking { .. }),
            "granted, and nobody asked"
        );
        assert!(self.now < self.deadline, "granted after the deadline");
        self.task = Task::Holding;
        self.watch = None;
        if self.trusted {
            assert!(created > self.token, "token {created} after {}", self.token);
            self.token = created;
            let older = self.store.older(&self.place, created);
            assert_eq!(older, None, "granted {created} behind an older key");
            let deleted = self.store.deleted_after(&self.place.key, created);
            let is_seen = deleted.is_some_and(|deleted| deleted <= self.shown);
            assert!(!is_seen, "granted {created}, which was seen deleted");
        }
    }

    fn refusable(&self, failure: Failure) {
        let Task::Locking { tries } = self.task else {
            panic!("{failure:?}, and nobody asked");
        };
        match failure {
            Failure::Busy => assert!(tries, "who waits is not told that others do"),
            Failure::SessionEnded => assert!(self.ended || self.now >= self.deadline),
            Failure::KeyDeleted if self.trusted => {
                let deleted = self.store.deleted_after(&self.place.key, Revision::ZERO);
                assert!(deleted.is_some(), "nobody has deleted the key");
            }
            Failure::KeyDeleted | Failure::KeyTaken => {}
        }
    }

    /// Nothing of the machine is on the server, nor can come there.
    fn rest(&mut self) -> Task {
        if self.trusted && !self.ended {
            assert!(!self.store.has(&self.place, LEASE), "a key is left behind");
            let may_land = |action: &Action| match action {
                Action::Register { gate } | Action::RegisterIfEmpty { gate } => {
                    *gate == self.store.gate(&self.place)
                }
                _ => false,
            };
            assert!(!self.late.iter().any(may_land), "a register may still land");
        }
        Task::Idle
    }

    /// The keys go with the lease.
    fn end(&self, lock: &Lock) {
        let is_over = lock.is_free() || self.task == Task::Holding;
        assert!(is_over, "neither granted nor undone, and the session has ended");
        assert_eq!(self.pending, None, "something is sent without a session");
    }

    /// From now on nothing fails: what is left is undone, and the next is granted.
    fn calm(&mut self, lock: &mut Lock) {
        self.renew(lock);
        self.release(lock);
        self.drain(lock);
        self.until(lock, Task::Idle);
        for action in std::mem::take(&mut self.late) {
            self.store.carry_out(&self.place, &action, 0);
        }
        self.rest();
        self.store.delete_all(&self.place.prefix);
        // There is one to wait for.
        self.store.create(&key(0), OTHERS);
        self.feed(lock, Input::Acquire);
        self.drain(lock);
        self.until(lock, Task::Holding);
        self.release(lock);
        self.drain(lock);
        self.until(lock, Task::Idle);
    }

    fn until(&mut self, lock: &mut Lock, task: Task) {
        for step in 0..CALM_STEPS_MAX {
            if self.task == task {
                return;
            }
            if step == CALM_STEPS_MAX / 2 {
                self.store.delete_others(&self.place);
            }
            match self.pending {
                Some(_) => self.answered(lock, 0),
                None => self.told(lock, i64::MAX / 2),
            }
            self.drain(lock);
        }
        panic!("{:?} and not {task:?}: {lock:?}", self.task);
    }
}

fn key(other: u8) -> Bytes {
    format!("jobs/{other}").into()
}
