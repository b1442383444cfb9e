//! Threads that meet at one word: the end of a guard, waiters that take the key or give
//! up, the recall, the end of the watch, the loss of the key. At the end the key is gone, or
//! lingers under its watch, and nobody ever had it twice or after its deletion began.

use std::sync::{Mutex, PoisonError};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use word::{Rule, Taken, Terms, Word};

mod atomics {
    pub(super) use loom::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};
}

#[allow(dead_code, reason = "not all of it is explored")]
#[path = "../../src/concurrency/word.rs"]
mod word;

const HANDS_OVER: Terms = Terms {
    handed_max: 100,
    handed_time_max: 100,
    linger: 0,
    kept_time_max: 100,
    one_token_per_key: false,
};
const LINGERS: Terms = Terms {
    linger: 1,
    ..HANDS_OVER
};
/// The create_revision of the key that is held at the beginning.
const CREATED: i64 = 10;

/// One word with its turn, and what etcd and a witness know.
struct Lock {
    word: Word,
    is_free: AtomicBool,
    // Not loom's: it only watches, and orders nothing.
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    /// The key that is there.
    key: Option<i64>,
    is_held: bool,
    last: (i64, u32),
}

struct Turn<'a>(&'a Lock);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.is_free.fetch_or(true, Ordering::Release);
    }
}

impl Lock {
    /// Its key is there, and the turn's owner is to be told.
    fn registering(off: Option<Rule>, watched: bool) -> Arc<Lock> {
        let mut word = Word::new();
        word.off = off;
        let lock = Lock {
            word,
            is_free: AtomicBool::new(false),
            facts: Mutex::default(),
        };
        assert_eq!(lock.word.take(false, true, false), Taken::Fresh);
        if watched {
            assert_eq!(lock.word.watched(false), None);
        }
        lock.facts().key = Some(CREATED);
        Arc::new(lock)
    }

    /// Held, with the turn.
    fn held(off: Option<Rule>, watched: bool) -> Arc<Lock> {
        let lock = Lock::registering(off, watched);
        lock.word.granted(CREATED, 0);
        lock.hold(CREATED, 0);
        lock
    }

    fn facts(&self) -> std::sync::MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_turn(&self) -> Option<Turn<'_>> {
        // As tokio's semaphore does it.
        let free = self.is_free.load(Ordering::Acquire);
        let taken =
            free && self.is_free.compare_exchange(true, false, Ordering::AcqRel, Ordering::Acquire).is_ok();
        taken.then(|| Turn(self))
    }

    fn hold(&self, created: i64, sequence: u32) {
        let mut facts = self.facts();
        assert!(!facts.is_held, "two hold it");
        assert_eq!(facts.key, Some(created), "granted without its key");
        assert!((created, sequence) > facts.last, "a token that does not rise");
        facts.is_held = true;
        facts.last = (created, sequence);
    }

    /// The guard ends.
    fn end(&self, turn: Turn<'_>, terms: &Terms) {
        self.facts().is_held = false;
        if self.word.end(1, true, terms) {
            drop(turn);
            self.settle();
        } else {
            self.delete(turn);
        }
    }

    fn settle(&self) {
        if let Some(turn) = self.word.collect(|| self.try_turn()) {
            self.delete(turn);
        }
    }

    fn delete(&self, turn: Turn<'_>) {
        {
            let mut facts = self.facts();
            assert!(!facts.is_held, "deleted while it is held");
            assert!(facts.key.take().is_some(), "deleted twice");
        }
        self.word.freed();
        drop(turn);
    }

    /// A task that has the turn.
    fn use_turn(&self, turn: Turn<'_>, entered: bool, terms: &Terms) {
        match self.word.take(entered, true, false) {
            Taken::Granted(created, sequence) => {
                self.hold(created, sequence);
                self.end(turn, terms);
            }
            Taken::Fresh => {
                let created = self.facts().last.0 + 10;
                self.facts().key = Some(created);
                self.word.granted(created, 0);
                self.hold(created, 0);
                self.end(turn, terms);
            }
            Taken::Stale => self.delete(turn),
        }
    }

    /// A task that waits, looks for its turn as often as that, and gives up then.
    fn wait(&self, looks: usize, terms: &Terms) {
        let entered = self.word.enter();
        for _ in 0..looks {
            if let Some(turn) = self.try_turn() {
                return self.use_turn(turn, entered, terms);
            }
            thread::yield_now();
        }
        self.word.leave();
        self.settle();
    }

    fn assert_gone(&self) {
        assert_eq!(self.facts().key, None, "a key is left, and nobody answers for it");
        assert!(self.try_turn().is_some(), "a turn is lost");
    }

    fn assert_gone_or_lingers(&self) {
        self.word.check();
        if self.word.in_use() != word::Use::Lingers {
            self.assert_gone();
        }
    }
}

/// Runs the bodies beside one another, in every order, on a lock that the first holds.
fn explore(off: Option<Rule>, watched: bool, bodies: &'static [fn(&Lock)], at_end: fn(&Lock)) {
    let mut model = loom::model::Builder::new();
    // With three, each preemption more costs a minute.
    model.preemption_bound = Some(if bodies.len() > 2 { 2 } else { 3 });
    model.check(move || {
        let lock = Lock::held(off, watched);
        let (first, others) = bodies.split_first().expect("a body");
        let others: Vec<_> = others
            .iter()
            .map(|body| {
                let lock = lock.clone();
                thread::spawn(move || body(&lock))
            })
            .collect();
        first(&lock);
        others.into_iter().for_each(|other| other.join().expect("no panic"));
        at_end(&lock);
    });
}

/// Whether a lock whose rule is out of force is found to be wrong.
fn misses(rule: Rule, watched: bool, bodies: &'static [fn(&Lock)], at_end: fn(&Lock)) -> bool {
    std::panic::catch_unwind(|| explore(Some(rule), watched, bodies, at_end)).is_err()
}

fn hands_over(lock: &Lock) {
    lock.end(Turn(lock), &HANDS_OVER);
}

fn lets_linger(lock: &Lock) {
    lock.end(Turn(lock), &LINGERS);
}

fn waits(lock: &Lock) {
    lock.wait(1, &HANDS_OVER);
}

fn lingers_after_waiting(lock: &Lock) {
    lock.wait(1, &LINGERS);
}

fn gives_up(lock: &Lock) {
    lock.wait(0, &HANDS_OVER);
}

fn is_recalled(lock: &Lock) {
    lock.word.recall();
    lock.settle();
}

fn goes_deaf(lock: &Lock) {
    lock.word.unwatched();
    lock.settle();
}

fn lingered_enough(lock: &Lock) {
    lock.word.let_go();
    lock.settle();
}

fn loses_the_key(lock: &Lock) {
    lock.word.lose(CREATED + 1);
    lock.settle();
}

#[test]
fn the_end_of_a_key_counts_also_where_it_is_heard_before_the_grant() {
    loom::model(|| {
        let lock = Lock::registering(None, true);
        let other = lock.clone();
        let hears = thread::spawn(move || other.word.lose(CREATED + 1));
        let is_ours = lock.word.granted(CREATED, 0);
        let was_held = hears.join().expect("no panic");
        assert!(was_held || !is_ours, "a loss that nobody is told of");
        assert!(!lock.word.end(1, true, &LINGERS), "a key that is gone stays ours");
    });
}

#[test]
fn a_hand_off_and_waiters_that_give_up_leave_no_key() {
    explore(None, false, &[hands_over, gives_up], Lock::assert_gone);
    explore(None, false, &[hands_over, waits], Lock::assert_gone);
    explore(None, false, &[hands_over, waits, gives_up], Lock::assert_gone);
}

#[test]
fn a_recall_is_never_overheard() {
    explore(None, true, &[lets_linger, is_recalled], Lock::assert_gone);
    explore(
        None,
        true,
        &[lets_linger, is_recalled, gives_up],
        Lock::assert_gone,
    );
    // A key that was granted after the recall may linger.
    explore(
        None,
        true,
        &[lets_linger, is_recalled, lingers_after_waiting],
        Lock::assert_gone_or_lingers,
    );
}

#[test]
fn nothing_lingers_once_the_watch_is_gone() {
    explore(None, true, &[lets_linger, goes_deaf], Lock::assert_gone);
    explore(
        None,
        true,
        &[lets_linger, goes_deaf, lingers_after_waiting],
        Lock::assert_gone,
    );
}

#[test]
fn a_key_that_lingers_is_let_go_or_granted_again() {
    explore(
        None,
        true,
        &[lets_linger, lingered_enough, lingers_after_waiting],
        Lock::assert_gone_or_lingers,
    );
}

#[test]
fn a_lost_key_is_granted_to_nobody_who_comes_later() {
    explore(None, true, &[lets_linger, loses_the_key], |lock| {
        lock.assert_gone_or_lingers();
        assert_ne!(lock.word.in_use(), word::Use::Lingers, "lost, and yet it lingers");
    });
    explore(
        None,
        true,
        &[lets_linger, loses_the_key, lingers_after_waiting],
        Lock::assert_gone_or_lingers,
    );
}

#[test]
fn the_expiry_is_final_for_who_looks_after_it() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let lock = Lock::held(None, false);
        let valid = Arc::new(AtomicBool::new(true));
        let waiter = thread::spawn({
            let (lock, valid) = (lock.clone(), valid.clone());
            move || {
                let entered = lock.word.enter();
                let Some(turn) = lock.try_turn() else {
                    lock.word.leave();
                    return lock.settle();
                };
                let is_valid = valid.load(Ordering::Acquire);
                match lock.word.take(entered, is_valid, false) {
                    Taken::Granted(..) => {
                        assert!(is_valid, "granted after the end");
                        lock.delete(turn);
                    }
                    Taken::Fresh => {
                        lock.word.freed();
                        drop(turn);
                    }
                    Taken::Stale => lock.delete(turn),
                }
            }
        });
        let ending = thread::spawn({
            let valid = valid.clone();
            move || valid.store(false, Ordering::Release)
        });
        lock.facts().is_held = false;
        match lock.word.end(1, valid.load(Ordering::Acquire), &HANDS_OVER) {
            true => {
                drop(Turn(&lock));
                lock.settle();
            }
            false => lock.delete(Turn(&lock)),
        }
        waiter.join().expect("no panic");
        ending.join().expect("no panic");
        lock.assert_gone();
    });
}

#[test]
fn without_the_fences_a_key_is_left_behind() {
    assert!(misses(
        Rule::Fence,
        false,
        &[hands_over, gives_up],
        Lock::assert_gone
    ));
}

#[test]
fn without_compare_and_swap_a_recall_is_overwritten() {
    assert!(misses(
        Rule::Compare,
        true,
        &[lets_linger, is_recalled],
        Lock::assert_gone
    ));
}

#[test]
fn lingering_without_a_watch_is_seen() {
    assert!(misses(
        Rule::Watched,
        true,
        &[lets_linger, goes_deaf],
        Lock::assert_gone_or_lingers
    ));
}
