//! What goes on on one connection, told by those who use it and read by its task:
//! a few counters, since calls begin and end too often for a message each.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::core::ping::Traffic;
use crate::core::time::Instant;

/// Nothing but hints for when to ping: no order among them is relied upon.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    calls: AtomicUsize,
    streams: AtomicUsize,
    /// When the peer was last heard.
    heard: AtomicU64,
    /// When the first of those began that nobody was heard after.
    since: AtomicU64,
}

/// What is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It waits for an answer.
    Call,
    /// It may be quiet for long.
    Stream,
}

impl Pulse {
    pub(super) fn begin(&self, now: Instant, kind: Kind) {
        self.count(kind).fetch_add(1, Ordering::Relaxed);
        if self.since.load(Ordering::Relaxed) <= self.heard.load(Ordering::Relaxed) {
            self.since.store(now.0, Ordering::Relaxed);
        }
    }

    pub(super) fn end(&self, kind: Kind) {
        self.count(kind).fetch_sub(1, Ordering::Relaxed);
    }

    /// The peer sent something that somebody waits for.
    pub(super) fn heard(&self, now: Instant) {
        // Two at once may leave the earlier one of their two times.
        if self.heard.load(Ordering::Relaxed) < now.0 {
            self.heard.store(now.0, Ordering::Relaxed);
        }
    }

    /// Whether the peer ever sent anything that somebody waited for.
    pub(super) fn was_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed) > 0
    }

    /// Whether nothing was heard since then.
    pub(super) fn is_quiet_since(&self, since: Instant) -> bool {
        self.heard.load(Ordering::Relaxed) <= since.0
    }

    pub(super) fn traffic(&self) -> Traffic {
        let calls = self.calls.load(Ordering::Relaxed);
        let heard = Instant(self.heard.load(Ordering::Relaxed));
        Traffic {
            calls,
            streams: calls + self.streams.load(Ordering::Relaxed),
            quiet_since: heard.max(Instant(self.since.load(Ordering::Relaxed))),
            heard,
        }
    }

    fn count(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::Call => &self.calls,
            Kind::Stream => &self.streams,
        }
    }
}
