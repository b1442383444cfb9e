//! When the next stream may be opened. A server that ends every stream at once is
//! asked again after ever longer waits, and one whose stream was good after a short
//! one: good is a stream that brought an event, or held for longer than any wait.

use std::time::Duration;

use crate::core::backoff::Backoff;
use crate::core::time::Instant;

/// A member that goes leaves another that is up already.
const WAIT_FIRST: Duration = Duration::from_millis(20);
pub(super) const WAIT_MAX: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(super) struct Reopen {
    backoff: Backoff,
    /// Since when there is a stream.
    opened: Option<Instant>,
    /// No stream before.
    at: Option<Instant>,
}

impl Reopen {
    pub(super) fn new(seed: u64) -> Reopen {
        Reopen {
            backoff: Backoff::new(WAIT_FIRST, WAIT_MAX, seed),
            opened: None,
            at: None,
        }
    }

    pub(super) fn handle_opened(&mut self, now: Instant) {
        self.opened = Some(now);
        self.at = None;
    }

    /// The stream brought what only a good one brings.
    pub(super) fn handle_good(&mut self) {
        self.backoff.reset();
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
