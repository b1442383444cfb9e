//! How long things took: buckets of fixed bounds in atomics. Recording adds to two
//! numbers and allocates nothing; what is recorded elsewhere at the same time is not waited for.
//!
//! The bounds are linear up to 8 units of 1.024 µs, and from there on eight to each power of two, so that
//! a bucket is at most an eighth as wide as what is in it is long. The last one takes all from 73 minutes on.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A unit is so many bits of nanoseconds: 1.024 µs.
const UNIT_BITS: u32 = 10;
/// Each power of two has so many buckets, as bits.
const STEP_BITS: u32 = 3;
/// So many bits of units are told apart.
const RANGE_BITS: u32 = 32;
const BUCKETS: usize = ((RANGE_BITS - STEP_BITS + 1) << STEP_BITS) as usize;

/// What is recorded, by any number of threads.
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_nanos: AtomicU64,
}

/// How long things took, as of one moment: a count for each of 240 buckets.
///
/// A bucket is at most an eighth as wide as the times in it are long; below 8 µs they are
/// told apart by 1 µs. All above 73 minutes are one bucket.
#[derive(Clone, PartialEq, Eq)]
pub struct Latencies {
    buckets: Box<[u64; BUCKETS]>,
    sum_nanos: u64,
}

impl Histogram {
    /// Nothing is recorded yet.
    #[must_use]
    pub const fn new() -> Histogram {
        Histogram {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum_nanos: AtomicU64::new(0),
        }
    }

    /// Something took so long.
    pub fn record(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // Relaxed: nothing is concluded from a count but that count.
        self.buckets[bucket_of(nanos)].fetch_add(1, Ordering::Relaxed);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What was recorded until now. What is recorded meanwhile may be in it or not.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        let mut buckets = Box::new([0; BUCKETS]);
        for (count, bucket) in buckets.iter_mut().zip(&self.buckets) {
            *count = bucket.load(Ordering::Relaxed);
        }
        Latencies {
            buckets,
            sum_nanos: self.sum_nanos.load(Ordering::Relaxed),
        }
    }
}

impl Latencies {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// How long all of them took together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos)
    }

    /// How long they took on average; `None` where there were none.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.sum_nanos.checked_div(self.count()).map(Duration::from_nanos)
    }

    /// The time that this share of them took at most, 0.99 for 99 in 100: the upper bound of the bucket
    /// that the last of these is in. `None` where there were none. A share outside of 0 to 1 is taken as the nearer one.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank is exact below 2^53 and the share is clamped"
    )]
    pub fn percentile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        let rank = (count as f64 * share.clamp(0.0, 1.0)).ceil() as u64;
        let rank = rank.clamp(1, count.max(1));
        let reached = self.buckets().find(|(_, within)| *within >= rank);
        reached.map(|(bound, _)| bound)
    }

    /// The bound of each bucket and how many took less than that, in rising order. The last one
    /// takes what is longer, too; its bound is [`Duration::MAX`].
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        self.buckets.iter().enumerate().scan(0, |within, (at, count)| {
            *within += count;
            Some((bound_of(at), *within))
        })
    }

    /// What came since `earlier`, which is a snapshot of the same client.
    #[must_use]
    pub fn since(&self, earlier: &Latencies) -> Latencies {
        let mut since = self.clone();
        since.sum_nanos = self.sum_nanos.saturating_sub(earlier.sum_nanos);
        for (count, earlier) in since.buckets.iter_mut().zip(&*earlier.buckets) {
            *count = count.saturating_sub(*earlier);
        }
        since
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies {
            buckets: Box::new([0; BUCKETS]),
            sum_nanos: 0,
        }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.latencies().fmt(f)
    }
}

impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latencies")
            .field("count", &self.count())
            .field("mean", &self.mean())
            .field("p50", &self.percentile(0.5))
            .field("p99", &self.percentile(0.99))
            .finish_non_exhaustive()
    }
}

fn bucket_of(nanos: u64) -> usize {
    let units = nanos >> UNIT_BITS;
    let bits = u64::BITS - units.leading_zeros();
    let shift = bits.saturating_sub(STEP_BITS + 1);
    // The highest bit stands for the first bucket of its power of two.
    let bucket = (u64::from(shift) << STEP_BITS) + (units >> shift);
    usize::try_from(bucket).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1))
}

/// What the times in this bucket are below of.
fn bound_of(bucket: usize) -> Duration {
    if bucket + 1 >= BUCKETS {
        return Duration::MAX;
    }
    let next = bucket as u64 + 1;
    let steps = 1 << STEP_BITS;
    let units = match next >> STEP_BITS {
        0 => next,
        power => (steps + (next & (steps - 1))) << (power - 1),
    };
    Duration::from_nanos(units << UNIT_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_below_its_buckets_bound_and_not_below_the_one_before() {
        let powers = (0..63).map(|bit| 1_u64 << bit);
        for nanos in powers.flat_map(|power| [power - 1, power, power + 1, power + power / 3]) {
            let bucket = bucket_of(nanos);
            assert!(
                Duration::from_nanos(nanos) < bound_of(bucket),
                "{nanos} in {bucket}"
            );
            if let Some(before) = bucket.checked_sub(1) {
                assert!(
                    bound_of(before) <= Duration::from_nanos(nanos),
                    "{nanos} in {bucket}"
                );
            }
        }
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_bucket_is_at_most_an_eighth_as_wide_as_its_times_are_long() {
        for bucket in 8..BUCKETS - 1 {
            let (from, to) = (bound_of(bucket - 1), bound_of(bucket));
            assert!(from < to && to - from <= from / 8, "{bucket}: {from:?} to {to:?}");
        }
    }

    #[test]
    fn percentiles_are_bounds_of_what_was_recorded() {
        let histogram = Histogram::new();
        (1..=1_000).for_each(|millis| histogram.record(Duration::from_millis(millis)));
        let latencies = histogram.latencies();
        assert_eq!(latencies.count(), 1_000);
        assert_eq!(latencies.sum(), Duration::from_millis(500_500));
        assert_eq!(latencies.mean(), Some(Duration::from_micros(500_500)));
        for (share, millis) in [(0.0, 1), (0.5, 500), (0.99, 990), (1.0, 1_000), (7.0, 1_000)] {
            let exact = Duration::from_millis(millis);
            let bound = latencies.percentile(share).unwrap();
            assert!(exact < bound && bound <= exact + exact / 8, "{share}: {bound:?}");
        }
    }

    #[test]
    fn nothing_has_no_percentile_and_no_mean() {
        let latencies = Latencies::default();
        assert_eq!((latencies.count(), latencies.sum()), (0, Duration::ZERO));
        assert_eq!((latencies.mean(), latencies.percentile(0.5)), (None, None));
    }

    #[test]
    fn what_came_since_is_the_difference() {
        let histogram = Histogram::new();
        histogram.record(Duration::from_millis(3));
        let earlier = histogram.latencies();
        histogram.record(Duration::from_millis(40));
        let since = histogram.latencies().since(&earlier);
        assert_eq!((since.count(), since.sum()), (1, Duration::from_millis(40)));
    }
}
