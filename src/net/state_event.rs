//! What can become of a client. `net/feed` tells it, `net/trace` traces it.

use std::sync::Arc;

use crate::core::lease::LeaseEnd;
use crate::error::Error;
use crate::types::{LeaseId, MemberId};

/// Something that became of a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StateEvent {
    /// A connection to this endpoint is up. There may be others to it.
    Connected {
        /// Its address.
        endpoint: Arc<str>,
    },
    /// A connection to this endpoint that was up is gone, or takes nothing new.
    Lost {
        /// Its address.
        endpoint: Arc<str>,
        /// What ended it.
        why: Arc<Error>,
    },
    /// Calls to this endpoint failed one after the other
    /// ([`Config::breaker_failures`](crate::Config::breaker_failures)): others are asked first.
    BreakerOpened {
        /// Its address.
        endpoint: Arc<str>,
    },
    /// A call to this endpoint was good again: it has its turn like others.
    BreakerClosed {
        /// Its address.
        endpoint: Arc<str>,
    },
    /// An answer was of another term than those before it, or the first: there was an election.
    Leader {
        /// The raft term.
        term: u64,
        /// Who leads, where that was said: by [`Maintenance::status`](crate::client::Maintenance::status)
        /// and by nothing else.
        member: Option<MemberId>,
    },
    /// A lease that was kept alive is lost, and what hangs on it.
    LeaseLost {
        /// Which.
        lease: LeaseId,
        /// Why.
        end: LeaseEnd,
    },
    /// A [`ManagedSession`](crate::ManagedSession) has another lease.
    SessionReplaced {
        /// The new one.
        lease: LeaseId,
        /// How many there were before.
        generation: u64,
        /// Why the one before was lost.
        lost: LeaseEnd,
    },
    /// The reader was slow: these events it will not hear.
    Missed {
        /// How many.
        events: u64,
    },
}
