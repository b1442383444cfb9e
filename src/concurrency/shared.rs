//! What a session's users share with its releaser.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::backlog::Backlog;
use super::entries::Entries;
use super::slot::{Slot, Slots, Turn};
use crate::client::{Client, Lease, LeaseEnd, chance};
use crate::core::backoff::Backoff;
use crate::core::lock::Place;
use crate::net::host;

/// A failed transaction is tried again soon at first, and often enough that what
/// was dropped is free well before its lease runs out.
const RETRY_WAIT_FIRST: Duration = Duration::from_millis(20);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(1);

/// So many names of a session linger at a time: each costs the server a watch, and others
/// a recall.
const LINGERING_MAX: usize = 64;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Shared {
    client: Client,
    lease: Arc<Lease>,
    gate_prefix: String,
    /// What the keys of the session say about who holds them.
    holder: Bytes,
    slots: Arc<Slots>,
    backlog: Backlog,
    /// The attempts with keys of their own.
    entries: Entries,
    /// A permit for each name that may linger.
    lingering: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(client: Client, lease: Lease, gate_prefix: String) -> Shared {
        let slots = Arc::new(Slots::new(client.channel().figures().clone()));
        Shared {
            client,
            lease: Arc::new(lease),
            gate_prefix,
            holder: host::process().into(),
            slots,
            backlog: Backlog::default(),
            entries: Entries::default(),
            lingering: Arc::new(Semaphore::new(LINGERING_MAX)),
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Whether the session is over and had a delay: what it has not given back by then is left to the
    /// lease, so that nobody has it any sooner.
    pub(super) fn is_delayed(&self) -> bool {
        !self.lease.reserve().is_zero() && !self.lease.is_valid()
    }

    pub(super) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    pub(super) fn entries(&self) -> &Entries {
        &self.entries
    }

    pub(super) fn gate_prefix(&self) -> &str {
        &self.gate_prefix
    }

    pub(super) fn lingering(&self) -> &Arc<Semaphore> {
        &self.lingering
    }

    pub(super) fn holder(&self) -> Bytes {
        self.holder.clone()
    }

    /// The lock of this turn is to be given back.
    pub(super) fn give_back(&self, turn: Turn) {
        // What a session had that was orphaned goes with its lease, as after a crash.
        let is_orphaned = self.lease.end() == Some(LeaseEnd::Closed);
        let free = turn.slot().handle(|lock, now| {
            turn.slot().ended(now);
            lock.handle_release();
            if is_orphaned {
                lock.handle_session_ended();
            }
            lock.is_free()
        });
        match free {
            true => turn.slot().word().freed(),
            false => self.backlog.push(turn),
        }
    }

    /// The session has ended, or nobody is there any more to see it end: nobody waits any longer.
    pub(super) fn end_waiting(&self) {
        self.lease.forget();
        self.slots.close();
    }

    /// The server does not have the lease any more.
    pub(super) fn gone(&self) {
        self.lease.gone();
        self.slots.close();
    }

    /// Gives the lock back where its key is there and nobody answers for it any more: to be
    /// called by whoever may have brought that about.
    pub(super) fn settle(&self, slot: &Arc<Slot>) {
        if let Some(turn) = slot.word().collect(|| slot.try_turn()) {
            self.give_back(turn);
        }
    }

    /// Others may have used the lease before. To be called before anything is made from it.
    pub(super) fn inherit(&self) {
        self.entries.number_from(chance() >> 16);
        self.slots.inherit();
    }

    /// The waits between the tries of one lock.
    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(RETRY_WAIT_FIRST, RETRY_WAIT_MAX, chance())
    }

    /// The slot of this name, shared by all tasks that want it; `None` where it cannot be
    /// the name of a lock.
    pub(super) fn slot(&self, name: &str) -> Option<Arc<Slot>> {
        Place::is_name(name).then_some(())?;
        self.find(name, || Place::new(name, self.lease.id(), &self.gate_prefix))
    }

    /// The slot of this name and this owner; `None` where they cannot be those of a lock.
    pub(super) fn slot_of_owner(&self, name: &str, owner: &str) -> Option<Arc<Slot>> {
        Place::is_owner(owner).then_some(())?;
        // No other pair reads so, and no name, for none ends like the prefix of a gate.
        let both = format!("{name}/{owner}#gate");
        self.find(&both, || {
            Place::of_owner(name, owner, self.lease.id(), &self.gate_prefix)
        })
    }

    fn find(&self, name: &str, place: impl FnOnce() -> Option<Place>) -> Option<Arc<Slot>> {
        let slot = self.slots.find(name, &self.lease, place)?;
        self.backlog.reserve(self.slots.len());
        Some(slot)
    }
}
