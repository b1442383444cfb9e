//! What a client counts, always: numbers in atomics, each written where the thing happens
//! and read by a snapshot. Nobody waits for anybody here, and nothing is concluded from one number
//! about another.
//!
//! Each group is on cache lines of its own, for what one kind of task writes is no other's business.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::feed::Feed;
use crate::core::grants::AllGrants;
use crate::core::histogram::Histogram;
use crate::core::lease::LeaseEnd;
use crate::error::{Delivery, Error, Origin};
use crate::types::LeaseId;

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) calls: Calls,
    pub(crate) connections: Connections,
    pub(crate) watches: Watches,
    pub(crate) leases: Leases,
    pub(crate) locks: Locks,
    pub(crate) breakers_opened: Counter,
    pub(crate) feed: Feed,
}

/// Something that only ever rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Calls {
    pub(crate) ok: Counter,
    /// By origin, then by delivery.
    failed: [[Counter; DELIVERIES]; ORIGINS],
    pub(crate) dropped: Counter,
    pub(crate) shed: Counter,
    pub(crate) retries: Counter,
    pub(crate) failovers: Counter,
    pub(crate) detours: Counter,
    pub(crate) latency: Histogram,
}

#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Connections {
    pub(crate) dialled: Counter,
    pub(crate) failed: Counter,
    pub(crate) opened: Counter,
    pub(crate) reopened: Counter,
    pub(crate) drained: Counter,
    pub(crate) lost: Counter,
}

#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Watches {
    pub(crate) opened: Counter,
    pub(crate) resumed: Counter,
    pub(crate) lagged: Counter,
    pub(crate) ended: Counter,
}

#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Leases {
    pub(crate) kept: Counter,
    pub(crate) renewals: Counter,
    pub(crate) lost: Counter,
}

#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Locks {
    pub(crate) granted: Counter,
    pub(crate) waited: Counter,
    pub(crate) lost: Counter,
    pub(crate) grants: AllGrants,
    pub(crate) waits: Histogram,
    pub(crate) holds: Histogram,
}

pub(crate) const ORIGINS: usize = 4;
pub(crate) const DELIVERIES: usize = 3;

impl Counter {
    pub(crate) fn add(&self) {
        // Relaxed: nothing is concluded from a count but that count.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Calls {
    /// A call has ended, so long after it was made.
    pub(super) fn ended(&self, error: Option<&Error>, time: Duration) {
        match error {
            None => self.ok.add(),
            Some(error) => self.failed[row(error.origin())][column(error.delivery())].add(),
        }
        self.latency.record(time);
    }

    /// By origin, then by delivery.
    pub(crate) fn failed(&self) -> [[u64; DELIVERIES]; ORIGINS] {
        self.failed.each_ref().map(|row| row.each_ref().map(Counter::count))
    }
}

/// Where the calls are counted that failed with this origin.
pub(crate) fn row(origin: Origin) -> usize {
    match origin {
        Origin::Caller => 0,
        Origin::Library => 1,
        Origin::Transport => 2,
        Origin::Server => 3,
    }
}

/// And of these, those that came so far.
pub(crate) fn column(delivery: Delivery) -> usize {
    match delivery {
        Delivery::NotSent => 0,
        Delivery::Unknown => 1,
        Delivery::Answered => 2,
    }
}

impl Figures {
    /// A lease is over. One that was closed or revoked on this side is not lost.
    pub(super) fn lease_ended(&self, lease: LeaseId, end: LeaseEnd) {
        if matches!(end, LeaseEnd::Revoked | LeaseEnd::Closed) {
            return;
        }
        self.leases.lost.add();
        self.feed.lease_lost(lease, end);
    }
}
