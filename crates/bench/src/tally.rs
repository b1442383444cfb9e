//! What one competitor's rounds add up to: a histogram of the latencies over all
//! of them, and a figure for each round, whose spread says how far to trust the rest.

use std::time::Duration;

use hdrhistogram::Histogram;
use tenure_bench_worker::Cost;

/// Latencies are kept in nanoseconds and to three digits, and one above this counts as this.
const DIGITS: u8 = 3;
const LATENCY_MAX: Duration = Duration::from_secs(3600);

/// What one competitor did in one turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Round {
    pub(crate) latencies: Vec<Duration>,
    /// How many operations there were, and in which time. `None` where the suite
    /// sets the pace, so that a rate would say nothing.
    pub(crate) pace: Option<(u64, Duration)>,
    /// What all operations cost; only with a pace.
    pub(crate) cost: Option<Cost>,
    /// What they cost the server of its processor, likewise.
    pub(crate) server: Option<Duration>,
    /// How many of the leases that it kept were lost, where it kept any.
    pub(crate) lost: Option<u64>,
}

/// The rounds of one competitor.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    latencies: Histogram<u64>,
    medians: Vec<Duration>,
    rates: Vec<f64>,
    shares: Vec<f64>,
    operations: u64,
    elapsed: Duration,
    cost: Option<Cost>,
    server: Option<Duration>,
    lost: Option<u64>,
}

/// A figure of each round: their median, the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread<T> {
    pub(crate) median: T,
    pub(crate) min: T,
    pub(crate) max: T,
}

/// What it took of a core, 1 being all of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

/// A cost, divided by the operations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CostEach {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) allocations: f64,
    pub(crate) allocated_bytes: f64,
}

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally {
            latencies: Histogram::new_with_max(nanoseconds(LATENCY_MAX), DIGITS).expect("valid bounds"),
            medians: Vec::new(),
            rates: Vec::new(),
            shares: Vec::new(),
            operations: 0,
            elapsed: Duration::ZERO,
            cost: None,
            server: None,
            lost: None,
        }
    }

    /// Adds a round, unless nothing came of it.
    pub(crate) fn add(&mut self, round: &Round) {
        if let Some(median) = median_of(&round.latencies) {
            self.medians.push(median);
        }
        for latency in &round.latencies {
            self.latencies.saturating_record(nanoseconds(*latency));
        }
        if let Some((operations, elapsed)) = round.pace.filter(|(count, _)| *count > 0) {
            self.rates.push(operations as f64 / elapsed.as_secs_f64());
            self.operations += operations;
            self.elapsed += elapsed;
            if let Some(cost) = round.cost {
                self.shares.push(cost.cpu().as_secs_f64() / elapsed.as_secs_f64());
                *self.cost.get_or_insert_default() += cost;
            }
            if let Some(server) = round.server {
                *self.server.get_or_insert_default() += server;
            }
        }
        // Where all are lost, nothing else came of it.
        if let Some(lost) = round.lost {
            *self.lost.get_or_insert_default() += lost;
        }
    }

    /// How many latencies there are.
    pub(crate) fn count(&self) -> u64 {
        self.latencies.len()
    }

    /// How many operations there were, where somebody counted them.
    pub(crate) fn operations(&self) -> u64 {
        self.operations
    }

    /// The latency that this many of a hundred do not exceed; `None` without any.
    pub(crate) fn percentile(&self, percentile: f64) -> Option<Duration> {
        (self.count() > 0).then(|| Duration::from_nanos(self.latencies.value_at_percentile(percentile)))
    }

    pub(crate) fn max(&self) -> Option<Duration> {
        self.percentile(100.0)
    }

    /// The median latency of each round.
    pub(crate) fn medians(&self) -> Option<Spread<Duration>> {
        Spread::of(&self.medians)
    }

    /// The same as they came: a round in which two took part is at the same place for both.
    pub(crate) fn medians_in_order(&self) -> &[Duration] {
        &self.medians
    }

    /// The operations per second of each round.
    pub(crate) fn rates(&self) -> Option<Spread<f64>> {
        Spread::of(&self.rates)
    }

    pub(crate) fn cost_each(&self) -> Option<CostEach> {
        let cost = self.cost?;
        let count = self.operations as f64;
        Some(CostEach {
            user: cost.user.div_f64(count),
            system: cost.system.div_f64(count),
            allocations: cost.allocations as f64 / count,
            allocated_bytes: cost.allocated_bytes as f64 / count,
        })
    }

    /// Of a core, over the time of all rounds.
    pub(crate) fn share(&self) -> Option<Share> {
        let (cost, elapsed) = (self.cost?, self.elapsed.as_secs_f64());
        Some(Share {
            user: cost.user.as_secs_f64() / elapsed,
            system: cost.system.as_secs_f64() / elapsed,
        })
    }

    /// The user's and the system's share together, of each round.
    pub(crate) fn shares(&self) -> Option<Spread<f64>> {
        Spread::of(&self.shares)
    }

    /// How many leases were lost, in all rounds together.
    pub(crate) fn lost(&self) -> Option<u64> {
        self.lost
    }

    /// What an operation costs the server of its processor.
    pub(crate) fn server_each(&self) -> Option<Duration> {
        Some(self.server?.div_f64(self.operations as f64))
    }
}

impl<T: Figure> Spread<T> {
    pub(crate) fn of(figures: &[T]) -> Option<Spread<T>> {
        let sorted = sorted(figures);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        // Of an even number, what lies between the two in the middle.
        let (lower, upper) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Spread {
            median: lower.halfway(upper),
            min,
            max,
        })
    }
}

/// What has a median.
pub(crate) trait Figure: Copy + PartialOrd {
    /// To a greater one.
    fn halfway(self, greater: Self) -> Self;
}

impl Figure for f64 {
    fn halfway(self, greater: f64) -> f64 {
        self.midpoint(greater)
    }
}

impl Figure for Duration {
    fn halfway(self, greater: Duration) -> Duration {
        self + (greater - self) / 2
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn median_of(latencies: &[Duration]) -> Option<Duration> {
    Spread::of(latencies).map(|spread| spread.median)
}

fn sorted<T: Copy + PartialOrd>(figures: &[T]) -> Vec<T> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(latencies: impl IntoIterator<Item = u64>) -> Round {
        Round {
            latencies: latencies.into_iter().map(Duration::from_millis).collect(),
            ..Round::default()
        }
    }

    #[test]
    fn percentiles_are_of_all_rounds_together() {
        let mut tally = Tally::new();
        tally.add(&milliseconds(1..=500));
        tally.add(&milliseconds(501..=1000));
        assert_eq!(tally.count(), 1000);
        let near = |percentile: f64, expected: f64| {
            let found = tally.percentile(percentile).unwrap().as_secs_f64() * 1000.0;
            assert!((found / expected - 1.0).abs() < 0.002, "p{percentile}: {found}");
        };
        near(50.0, 500.0);
        near(99.0, 990.0);
        near(99.9, 999.0);
        near(100.0, 1000.0);
    }

    #[test]
    fn the_spread_is_over_rounds() {
        let mut tally = Tally::new();
        for median in [30, 10, 20] {
            tally.add(&milliseconds([1, median, 90]));
        }
        let spread = tally.medians().unwrap();
        assert_eq!(
            [spread.min, spread.median, spread.max].map(|d| d.as_millis()),
            [10, 20, 30]
        );
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
        let four = [4, 1, 2, 9].map(Duration::from_secs);
        assert_eq!(Spread::of(&four).unwrap().median, Duration::from_secs(3));
        assert_eq!(Spread::of(&four[..3]).unwrap().median, Duration::from_secs(2));
        assert_eq!(Spread::of(&[7.0]).unwrap().median, 7.0);
        assert_eq!(Spread::<f64>::of(&[]), None);
    }

    #[test]
    fn costs_are_divided_by_the_operations_of_all_rounds() {
        let mut tally = Tally::new();
        for (operations, allocations) in [(10, 300), (30, 100)] {
            tally.add(&Round {
                pace: Some((operations, Duration::from_secs(2))),
                cost: Some(Cost {
                    user: Duration::from_micros(300),
                    system: Duration::from_micros(100),
                    allocations,
                    allocated_bytes: 4000,
                }),
                server: Some(Duration::from_micros(500)),
                lost: Some(2),
                ..Round::default()
            });
        }
        let each = tally.cost_each().unwrap();
        assert_eq!(
            (each.user, each.system),
            (Duration::from_micros(15), Duration::from_micros(5))
        );
        assert_eq!(each.allocations, 10.0);
        assert_eq!(tally.server_each(), Some(Duration::from_micros(25)));
        assert_eq!(tally.rates().unwrap().max, 15.0);
        let share = tally.share().unwrap();
        assert!(
            (share.user - 150e-6).abs() < 1e-9 && (share.system - 50e-6).abs() < 1e-9,
            "{share:?}"
        );
        assert_eq!(tally.lost(), Some(4));
    }

    #[test]
    fn nothing_measured_is_nothing_said() {
        let mut tally = Tally::new();
        tally.add(&Round {
            pace: Some((0, Duration::ZERO)),
            cost: Some(Cost::default()),
            ..Round::default()
        });
        assert_eq!(tally.percentile(50.0), None);
        assert_eq!(tally.medians(), None);
        assert_eq!(tally.rates(), None);
        assert_eq!(tally.cost_each(), None);
        assert_eq!(tally.server_each(), None);
        assert_eq!(tally.share(), None);
        assert_eq!(tally.lost(), None);
    }
}
