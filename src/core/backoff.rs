//! How long to wait before the next attempt: exponential, capped, and jittered,
//! so that clients which lost the same server do not come back together. Who
//! tries, and when an attempt counts as good, is the caller's.

use std::time::Duration;

use super::jitter::Jitter;

/// The waits between attempts. The n-th lies between half of and the whole
/// `base * 2^n`, which is never taken above `max`.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    ceiling: Duration,
    jitter: Jitter,
}

impl Backoff {
    /// Waits of about `base` at first and of at most `max`. A `max` below `base`
    /// wins.
    #[must_use]
    pub fn new(base: Duration, max: Duration, seed: u64) -> Backoff {
        Backoff {
            base,
            max,
            ceiling: base.min(max),
            jitter: Jitter::new(seed),
        }
    }

    /// The wait before the next attempt; the one after that is twice as long.
    pub fn next_wait(&mut self) -> Duration {
        let half = self.ceiling / 2;
        let wait = half + self.jitter.below(self.ceiling - half);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.max);
        wait
    }

    /// An attempt was good: the next wait is a first one again.
    pub fn reset(&mut self) {
        self.ceiling = self.base.min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(10);
    const MAX: Duration = Duration::from_millis(100);

    #[test]
    fn doubles_within_its_jitter_up_to_the_cap() {
        let mut backoff = Backoff::new(BASE, MAX, 3);
        for ceiling_ms in [10, 20, 40, 80, 100, 100, 100] {
            let ceiling = Duration::from_millis(ceiling_ms);
            let wait = backoff.next_wait();
            assert!(
                ceiling / 2 <= wait && wait < ceiling,
                "{wait:?} is not near {ceiling:?}"
            );
        }
    }

    #[test]
    fn begins_anew_after_success() {
        let mut backoff = Backoff::new(BASE, MAX, 3);
        for _ in 0..10 {
            backoff.next_wait();
        }
        backoff.reset();
        assert!(backoff.next_wait() < BASE);
    }

    #[test]
    fn two_seeds_part_and_one_seed_repeats() {
        let waits = |seed| {
            let mut backoff = Backoff::new(BASE, MAX, seed);
            [backoff.next_wait(), backoff.next_wait(), backoff.next_wait()]
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }

    #[test]
    fn the_longest_durations_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::MAX, 1);
        backoff.next_wait();
        backoff.next_wait();
        let mut instant = Backoff::new(Duration::ZERO, MAX, 1);
        assert_eq!(instant.next_wait(), Duration::ZERO);
    }
}
