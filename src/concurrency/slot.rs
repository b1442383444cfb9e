//! The lock of one name in one session: whose turn it is among the session's tasks,
//! and the machine that goes with the turn. It drives nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::client::{Lease, chance};
use crate::core::lock::{Action, Lock, Place};
use crate::core::time::Instant;
use crate::net::clock;

/// The names that a session's tasks use at the moment.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Mutex<HashMap<Arc<str>, Weak<Slot>>>,
}

impl Slots {
    /// The slot of a name, shared by all tasks that want it; `make` finds its place
    /// where it is a new one.
    pub(super) fn find<E>(
        self: &Arc<Slots>,
        name: &str,
        lease: &Arc<Lease>,
        make: impl FnOnce() -> Result<Place, E>,
    ) -> Result<Arc<Slot>, E> {
        let mut slots = self.lock();
        if let Some(slot) = slots.get(name).and_then(Weak::upgrade) {
            return Ok(slot);
        }
        let place = make()?;
        let slot = Arc::new(Slot {
            name: name.into(),
            slots: Arc::downgrade(self),
            lease: lease.clone(),
            turn: Arc::new(Semaphore::new(1)),
            lock: Mutex::new(Lock::new(place.clone(), lease.deadline(), chance())),
            place,
        });
        slots.insert(slot.name.clone(), Arc::downgrade(&slot));
        Ok(slot)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// The name has no user left, unless a new slot has taken its place meanwhile.
    fn forget(&self, name: &str) {
        let mut slots = self.lock();
        if slots.get(name).is_some_and(|slot| slot.strong_count() == 0) {
            slots.remove(name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Weak<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two tasks of a session share its one key in the queue, so they take turns:
/// first come, first served.
pub(super) struct Slot {
    name: Arc<str>,
    slots: Weak<Slots>,
    lease: Arc<Lease>,
    turn: Arc<Semaphore>,
    lock: Mutex<Lock>,
    place: Place,
}

impl Slot {
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Waits for the turn. Cancel safe: dropped, it gives its place up. The
    /// semaphore is never closed, so there is always a permit.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.turn.clone().acquire_owned().await.ok()
    }

    /// The turn, if nobody has it and nobody waits for it.
    pub(super) fn try_turn(&self) -> Option<OwnedSemaphorePermit> {
        self.turn.clone().try_acquire_owned().ok()
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
