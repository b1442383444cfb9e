//! What a session's users share with its releaser.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::backlog::Backlog;
use super::entries::Entries;
use super::slot::{Slot, Slots};
use crate::client::{Client, Lease, chance};
use crate::core::backoff::Backoff;
use crate::core::lock::Place;
use crate::error::Error;
use crate::net::host;

/// A failed transaction is tried again soon at first, and often enough that what
/// was dropped is free well before its lease runs out.
const RETRY_WAIT_FIRST: Duration = Duration::from_millis(20);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(1);

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
}

impl Shared {
    pub(super) fn new(client: Client, lease: Lease, gate_prefix: String) -> Shared {
        Shared {
            client,
            lease: Arc::new(lease),
            gate_prefix,
            holder: host::process().into(),
            slots: Arc::default(),
            backlog: Backlog::default(),
            entries: Entries::default(),
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
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

    pub(super) fn holder(&self) -> Bytes {
        self.holder.clone()
    }

    /// The waits between the tries of one lock.
    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(RETRY_WAIT_FIRST, RETRY_WAIT_MAX, chance())
    }

    /// The slot of this name, shared by all tasks that want it.
    pub(super) fn slot(&self, name: &str) -> Result<Arc<Slot>, Error> {
        let slot = self.slots.find(name, &self.lease, || {
            let place = Place::new(name, self.lease.id(), &self.gate_prefix);
            place.ok_or_else(|| Error::invalid(format!("{name:?} cannot be the name of a lock")))
        })?;
        self.backlog.reserve(self.slots.len());
        Ok(slot)
    }
}
