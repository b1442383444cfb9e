//! The keeping of leases: it starts the driver with the first one. It renews
//! nothing itself.

use std::fmt;
use std::sync::Arc;

use super::channel::Channel;
use super::lease_driver::LeaseDriver;
use super::lease_inbox::{LeaseInbox, Proof};
use super::lease_state::LeaseState;
use crate::core::lease::{LeaseEnd, Term};
use crate::core::time::Instant;
use crate::types::LeaseId;

/// A cheap clone. The driver lives while a lease is kept, on the client's own thread
/// or the runtime that the first of them was kept on; if that runtime ends, its leases
/// run out.
#[derive(Clone)]
pub(crate) struct LeaseKeeper {
    channel: Channel,
    seed: u64,
    inbox: Arc<LeaseInbox>,
}

impl LeaseKeeper {
    pub(crate) fn new(channel: Channel, seed: u64) -> LeaseKeeper {
        let inbox = Arc::new(LeaseInbox::new(channel.figures().clone()));
        LeaseKeeper { channel, seed, inbox }
    }

    /// How many leases are kept at this moment.
    pub(crate) fn kept(&self) -> usize {
        self.inbox.kept()
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Keeps a lease alive that a request sent at `sent` granted or renewed. Each
    /// call is undone by one of [`LeaseKeeper::release`]. Must be called on a
    /// tokio runtime, if not the client has one of its own.
    pub(crate) fn keep(&self, id: LeaseId, sent: Instant, term: Term, proof: Proof) -> Arc<LeaseState> {
        let (lease, starts) = self.inbox.keep(id, sent, term, proof);
        if starts {
            let driver = LeaseDriver::new(self.channel.clone(), self.inbox.clone(), self.seed);
            self.channel.runtime().spawn(driver.run());
        }
        lease
    }

    /// A handle is gone. With the last one the lease is no longer renewed.
    pub(crate) fn release(&self, lease: &Arc<LeaseState>) {
        self.inbox.release(lease);
    }

    /// Ends the lease for all its handles, at once.
    pub(crate) fn give_up(&self, lease: &Arc<LeaseState>, end: LeaseEnd) {
        self.inbox.give_up(lease, end);
    }
}

impl fmt::Debug for LeaseKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseKeeper").field("kept", &self.inbox.kept()).finish_non_exhaustive()
    }
}
