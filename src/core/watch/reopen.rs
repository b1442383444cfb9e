//! When the next stream may be opened. A server that ends every stream at once is
//! asked again after ever longer waits, and one whose stream was good after a short
//! one: good is a stream that brought an event, or held for longer than any wait.
//! One that breaks the protocol again and again, with no event in between, is given up.

use std::time::Duration;

use crate::core::backoff::Backoff;
use crate::core::time::Instant;

/// A member that goes leaves another that is up already.
pub(super) const WAIT_FIRST: Duration = Duration::from_millis(20);
/// Some two seconds of trying.
pub(super) const BREACHES_MAX: u32 = 8;
pub(super) const WAIT_MAX: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(super) struct Reopen {
    backoff: Backoff,
    /// Since when there is a stream.
    opened: Option<Instant>,
    /// No stream before.
    at: Option<Instant>,
    /// How many streams broke the protocol since the last event.
    breaches: u32,
}

impl Reopen {
    pub(super) fn new(seed: u64) -> Reopen {
        Reopen {
            backoff: Backoff::new(WAIT_FIRST, WAIT_MAX, seed),
            opened: None,
            at: None,
            breaches: 0,
        }
    }

    pub(super) fn handle_opened(&mut self, now: Instant) {
        self.opened = Some(now);
        self.at = None;
    }

    /// The stream brought what only a good one brings.
    pub(super) fn handle_good(&mut self) {
        self.backoff.reset();
        self.breaches = 0;
    }

    /// The stream broke the protocol; says whether that was once too often.
    pub(super) fn handle_breach(&mut self) -> bool {
        self.breaches += 1;
        let is_hopeless = self.breaches >= BREACHES_MAX;
        if is_hopeless {
            self.breaches = 0;
        }
        is_hopeless
    }

    pub(super) fn handle_lost(&mut self, now: Instant) {
        let opened = self.opened.take();
        if opened.is_some_and(|opened| now.saturating_since(opened) > WAIT_MAX) {
            self.backoff.reset();
        }
        self.at = Some(now + self.backoff.next_wait());
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.at = self.at.filter(|&at| now < at);
    }

    /// When the wait is over; `None` where there is none.
    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }
}
