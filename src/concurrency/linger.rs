//! What a lock's users and its recall watch share about lingering: until when the
//! key stays, whether there is a watch, and whether lingering rests because it did not pay.
//!
//! ```text
//!            begin                    end
//!   Unwatched -----> Watched ----------------------> Unwatched
//!      ^                |  recalled, for too little
//!      '---- Rests <----'  (each time twice as long)
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::core::time::Instant;

/// A key that was granted again so often before it was called back has paid: each of these
/// saved two round trips, while the recall cost somebody else about one.
const REGRANTS_MIN: u32 = 2;

/// After a recall that did not pay, so long at first: a name that two processes want in turns
/// soon costs what it costs without lingering, but for one recall in this time.
const REST_FIRST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Linger {
    /// On the boot clock, in nanoseconds.
    idles_until: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_watched: bool,
    /// Recalls in a row that did not pay.
    losses: u32,
    rests_until: Instant,
}

impl Linger {
    /// Until when the key stays that is about to be Idle.
    pub(super) fn set_idles_until(&self, until: u64) {
        // Relaxed: the step to Idle is taken after, and who reads this has seen it.
        self.idles_until.store(until, Ordering::Relaxed);
    }

    pub(super) fn idles_until(&self) -> Instant {
        Instant(self.idles_until.load(Ordering::Relaxed))
    }

    /// Whether the caller is to watch.
    pub(super) fn begin(&self, now: Instant) -> bool {
        let mut state = self.state();
        let begins = !state.is_watched && now >= state.rests_until;
        state.is_watched |= begins;
        begins
    }

    /// Nobody watches any more.
    pub(super) fn end(&self) {
        self.state().is_watched = false;
    }

    /// A key was called back after it had been granted again so often. Says whether
    /// lingering rests now.
    pub(super) fn recalled(&self, now: Instant, regrants: u32) -> bool {
        let mut state = self.state();
        if regrants >= REGRANTS_MIN {
            state.losses = 0;
            return false;
        }
        let rest = REST_FIRST.saturating_mul(1 << state.losses.min(16)).min(REST_MAX);
        state.losses = state.losses.saturating_add(1);
        state.rests_until = now + rest;
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn there_is_one_watch_at_a_time() {
        let linger = Linger::default();
        assert!(linger.begin(Instant(1)));
        assert!(!linger.begin(Instant(2)));
        linger.end();
        assert!(linger.begin(Instant(3)));
    }

    #[test]
    fn recalls_that_do_not_pay_make_it_rest_ever_longer_and_one_that_pays_ends_that() {
        let linger = Linger::default();
        let mut now = Instant(SECOND);
        for rest in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            assert!(linger.begin(now));
            assert!(linger.recalled(now, REGRANTS_MIN - 1));
            linger.end();
            assert!(!linger.begin(Instant(now.0 + rest * SECOND - 1)), "{rest} s");
            now = Instant(now.0 + rest * SECOND);
        }
        assert!(linger.begin(now));
        assert!(!linger.recalled(now, REGRANTS_MIN));
        linger.end();
        assert!(linger.begin(now));
        linger.recalled(now, 0);
        linger.end();
        assert!(linger.begin(now + REST_FIRST), "it begins anew");
    }
}
