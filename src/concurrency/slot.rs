//! The lock of one name in one session: whose turn it is among the session's tasks,
//! what is known of its key, and the machine that goes with the turn. It drives nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Semaphore;

use super::linger::Linger;
use super::templates::Templates;
use super::word::{Taken, Terms, Word};
use crate::client::{Lease, chance};
use crate::core::grants::Grants;
use crate::core::lock::{Action, Lock, Place, Put};
use crate::core::time::Instant;
use crate::net::clock;
use crate::net::figures::Figures;
use crate::net::trace;
use crate::types::Revision;

/// The names that a session's tasks use at the moment.
#[derive(Debug)]
pub(super) struct Slots {
    names: Mutex<Names>,
    /// Of the client.
    figures: Arc<Figures>,
    /// Others may have used the lease before.
    inherits: AtomicBool,
}

#[derive(Debug, Default)]
struct Names {
    slots: HashMap<Arc<str>, Weak<Slot>>,
    /// The session has ended.
    is_over: bool,
}

impl Slots {
    pub(super) fn new(figures: Arc<Figures>) -> Slots {
        Slots {
            names: Mutex::default(),
            figures,
            inherits: AtomicBool::new(false),
        }
    }

    /// For a lease that somebody had before. To be called before the first slot is made.
    pub(super) fn inherit(&self) {
        self.inherits.store(true, Ordering::Relaxed);
    }

    /// The slot of a name, or of a name and an owner, shared by all tasks that want it; `make` finds its place
    /// where it is a new one.
    pub(super) fn find(
        self: &Arc<Slots>,
        name: &str,
        lease: &Arc<Lease>,
        make: impl FnOnce() -> Option<Place>,
    ) -> Option<Arc<Slot>> {
        let mut names = self.lock();
        if let Some(slot) = names.slots.get(name).and_then(Weak::upgrade) {
            return Some(slot);
        }
        let place = make()?;
        let inherits = self.inherits.load(Ordering::Relaxed);
        let lock = if inherits { Lock::inheriting } else { Lock::new };
        let slot = Arc::new(Slot {
            name: name.into(),
            slots: Arc::downgrade(self),
            lease: lease.clone(),
            turn: Semaphore::new(1),
            word: if inherits { Word::inheriting() } else { Word::new() },
            linger: Linger::default(),
            grants: self.figures.locks.grants.begin(),
            figures: self.figures.clone(),
            lock: Mutex::new(lock(place.clone(), lease.deadline(), chance())),
            place,
            templates: Templates::default(),
        });
        if names.is_over {
            slot.turn.close();
        }
        names.slots.insert(slot.name.clone(), Arc::downgrade(&slot));
        Some(slot)
    }

    /// The session has ended: there is no turn to be had any more, and whoever waits for one is
    /// told. So thousands wait with neither a timer nor an ear for the session each. And what is held
    /// is lost.
    pub(super) fn close(&self) {
        let slots: Vec<Arc<Slot>> = {
            let mut names = self.lock();
            names.is_over = true;
            names.slots.values().filter_map(Weak::upgrade).collect()
        };
        for slot in slots {
            slot.turn.close();
            // Its key goes with the lease, if it is not gone: later than any other.
            slot.deleted(Revision(i64::MAX));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().slots.len()
    }

    /// The name has no user left, unless a new slot has taken its place meanwhile.
    fn forget(&self, name: &str) {
        let slots = &mut self.lock().slots;
        if slots.get(name).is_some_and(|slot| slot.strong_count() == 0) {
            slots.remove(name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two tasks of a session share its one key in the queue, so they take turns:
/// first come, first served.
pub(super) struct Slot {
    name: Arc<str>,
    slots: Weak<Slots>,
    lease: Arc<Lease>,
    turn: Semaphore,
    word: Word,
    linger: Linger,
    grants: Arc<Grants>,
    figures: Arc<Figures>,
    lock: Mutex<Lock>,
    place: Place,
    templates: Templates,
}

impl Slot {
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn templates(&self) -> &Templates {
        &self.templates
    }

    pub(super) fn word(&self) -> &Word {
        &self.word
    }

    pub(super) fn linger(&self) -> &Linger {
        &self.linger
    }

    /// Waits for the turn; `None` once the session has ended. Cancel safe: dropped, it gives its
    /// place up.
    pub(super) async fn turn(self: &Arc<Slot>) -> Option<Turn> {
        self.turn.acquire().await.ok()?.forget();
        Some(Turn::new(self))
    }

    /// The turn, if nobody has it, nobody waits for it and the session has not ended.
    pub(super) fn try_turn(self: &Arc<Slot>) -> Option<Turn> {
        self.turn.try_acquire().ok()?.forget();
        Some(Turn::new(self))
    }

    /// What the turn is worth to a task that has it; see [`Word::take`].
    pub(super) fn take(&self, entered: bool, terms: &Terms) -> Taken {
        let taken = self.word.take(entered, self.lease.is_valid(), terms.one_token_per_key);
        if let Taken::Granted(..) = taken {
            self.grants.regranted(entered);
        }
        taken
    }

    /// The key was granted to who has the turn.
    pub(super) fn granted(&self, created: Revision) {
        let now = clock::now();
        self.grants.granted(now);
        if !self.word.granted(self.mark(created).0, now.0) {
            self.lost();
        }
    }

    /// The own key was deleted at this revision; see [`Word::lose`].
    pub(super) fn deleted(&self, deleted: Revision) {
        // Whoever had it may count the loss too. That is once, but where it has another key by now: two round
        // trips later, and never with the session's end.
        if self.word.lose(deleted.0) {
            self.lost();
        }
    }

    /// How the key was put that is granted, with this mark. Only for who has the turn.
    pub(super) fn put(&self, mark: Revision) -> Put {
        match self.place.is_owned() {
            true => self.lock().put(),
            false => Put {
                created: mark,
                at: mark,
                takeovers: 0,
            },
        }
    }

    /// What tells the key that is granted, with this create_revision, from others of its name.
    /// Only for who has the turn.
    pub(super) fn mark(&self, created: Revision) -> Revision {
        match self.place.is_owned() {
            true => self.lock().put().at,
            false => created,
        }
    }

    /// Who has the turn is done with the lock; see [`Word::end`].
    pub(super) fn end(&self, terms: &Terms) -> bool {
        let now = clock::now();
        self.linger.set_idles_until(now.0.saturating_add(terms.linger));
        let is_valid = self.lease.is_valid_at(now);
        let is_kept = self.word.end(now.0, is_valid, terms);
        if !is_kept && self.ended(now) && !is_valid {
            self.lost();
        }
        is_kept
    }

    /// The key is given back. Whether there was one that had been granted. Only with the turn.
    pub(super) fn ended(&self, now: Instant) -> bool {
        let held = self.grants.ended(now);
        if let Some(held) = held {
            self.figures.locks.holds.record(held);
        }
        held.is_some()
    }

    /// What was granted is lost to its holder; counted once for each key.
    pub(super) fn lost(&self) {
        if self.grants.lost() {
            self.figures.locks.lost.add();
            trace::lock_lost(self.lease.id());
        }
    }

    /// Gives the machine an input, with the time and what the lease is worth.
    pub(super) fn handle<T>(&self, input: impl FnOnce(&mut Lock, Instant) -> T) -> T {
        let mut lock = self.lock();
        lock.handle_deadline(self.lease.deadline());
        input(&mut lock, clock::now())
    }

    pub(super) fn poll_action(&self) -> Option<Action> {
        self.lock().poll_action()
    }

    pub(super) fn has_action(&self) -> bool {
        self.lock().has_action()
    }

    /// When the machine is to be given the time.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.lock().poll_timeout()
    }

    /// Only the holder of the turn comes here, so nobody waits.
    fn lock(&self) -> MutexGuard<'_, Lock> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody uses the name any more: the session forgets it.
impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(slots) = self.slots.upgrade() {
            slots.forget(&self.name);
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.name).finish()
    }
}

/// The turn at a lock, which one at a time has. Dropped, it goes to the next who waits.
#[derive(Debug)]
pub(super) struct Turn {
    slot: Arc<Slot>,
    is_had: bool,
}

impl Turn {
    fn new(slot: &Arc<Slot>) -> Turn {
        Turn {
            slot: slot.clone(),
            is_had: true,
        }
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Whether it was neither given up nor taken away.
    pub(super) fn is_had(&self) -> bool {
        self.is_had
    }

    /// Passes it to the next who waits.
    pub(super) fn give_up(&mut self) {
        if std::mem::take(&mut self.is_had) {
            self.slot.turn.add_permits(1);
        }
    }

    pub(super) fn take(&mut self) -> Turn {
        Turn {
            slot: self.slot.clone(),
            is_had: std::mem::take(&mut self.is_had),
        }
    }

    /// Nobody has a turn at this lock any more.
    pub(super) fn forget(mut self) {
        self.is_had = false;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.give_up();
    }
}
