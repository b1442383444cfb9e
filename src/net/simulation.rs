//! A run that is a function of its seed: on a thread that simulates, what the others
//! here read of the boot clock and of chance comes from tokio's clock and from a seed.
//! It drives nothing, and without the feature `unstable` it is not there.
//!
//! ```text
//!   clock::now  ──▶ on this thread? ── no ──▶ boot clock
//!   a seed      ──▶       │         ── no ──▶ chance
//!                         └── yes ──▶ tokio's clock, the next draw of the seed
//! ```

use std::cell::RefCell;
use std::marker::PhantomData;

use tokio::time;

use crate::core::jitter::Jitter;
use crate::core::time::Instant;

thread_local! {
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
}

#[derive(Debug)]
struct Running {
    jitter: Jitter,
    start: time::Instant,
}

/// Makes the clients of this thread a function of a seed for as long as it lives, where
/// all else is: on a current-thread runtime whose clock is paused, over byte streams in
/// memory ([`Client::connect_over`](crate::Client::connect_over)). Deadlines then follow
/// that clock, and what a client does by chance follows the seed.
///
/// Behind the feature `unstable`: it may change in any release.
#[derive(Debug)]
#[must_use = "it is over when this is dropped"]
pub struct Simulation {
    /// Of one thread.
    _thread: PhantomData<*const ()>,
}

impl Simulation {
    /// Begins; to be called on the runtime whose clock is to count. One that runs on
    /// this thread already is over.
    pub fn new(seed: u64) -> Simulation {
        RUNNING.set(Some(Running {
            jitter: Jitter::new(seed),
            start: time::Instant::now(),
        }));
        Simulation { _thread: PhantomData }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        RUNNING.set(None);
    }
}

/// The reading of the clock, where there is a simulation. Its first hour is over:
/// nothing happens at zero.
pub(super) fn now() -> Option<Instant> {
    const HOUR_NANOS: u64 = 3_600_000_000_000;
    RUNNING.with_borrow(|running| {
        let passed = running.as_ref()?.start.elapsed();
        Some(Instant(HOUR_NANOS) + passed)
    })
}

/// The next draw, where there is a simulation.
pub(crate) fn chance() -> Option<u64> {
    RUNNING.with_borrow_mut(|running| Some(running.as_mut()?.jitter.next_u64()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::clock;

    #[tokio::test(start_paused = true)]
    async fn on_its_thread_the_clock_is_tokios_and_chance_repeats() {
        let [one, same, other] = [1, 1, 2].map(|seed| {
            let _running = Simulation::new(seed);
            chance()
        });
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_eq!(chance(), None);
        let running = Simulation::new(1);
        let before = clock::now();
        clock::sleep_until(before + Duration::from_secs(1000)).await;
        assert_eq!(clock::now().saturating_since(before), Duration::from_secs(1000));
        drop(running);
        let after = clock::now();
        assert!(after.saturating_since(before) != Duration::from_secs(1000));
    }
}
