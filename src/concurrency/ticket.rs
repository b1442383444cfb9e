//! The keys of one attempt, and the machine that goes with them: driven by the entry,
//! and where that was dropped by the collector.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::client::{Lease, chance};
use crate::core::lock::{Action, Lock, Place};
use crate::core::time::Instant;
use crate::net::clock;
use crate::types::Revision;

/// See the head of this file.
pub(super) struct Ticket {
    place: Place,
    lock: Mutex<Lock>,
}

impl Ticket {
    /// Nothing is sent for it yet. The lease is proven until `deadline`.
    pub(super) fn new(place: Place, deadline: Instant) -> Ticket {
        let lock = Mutex::new(Lock::new(place.clone(), deadline, chance()));
        Ticket { place, lock }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Gives the machine an input, with the time and what the lease is worth.
    pub(super) fn handle<T>(&self, lease: &Lease, input: impl FnOnce(&mut Lock, Instant) -> T) -> T {
        let mut lock = self.lock();
        lock.handle_deadline(lease.deadline());
        input(&mut lock, clock::now())
    }

    pub(super) fn poll_action(&self) -> Option<Action> {
        self.lock().poll_action()
    }

    pub(super) fn has_action(&self) -> bool {
        self.lock().has_action()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.lock().poll_timeout()
    }

    /// The gate's mod_revision, as earlier attempts have seen it.
    pub(super) fn begin_at(&self, gate: Revision) {
        self.lock().handle_gate(gate);
    }

    /// The gate's mod_revision, as the attempt has last seen it.
    pub(super) fn gate(&self) -> Revision {
        self.lock().gate()
    }

    /// An attempt has one user at a time, so nobody waits.
    fn lock(&self) -> MutexGuard<'_, Lock> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.place.key).finish()
    }
}
