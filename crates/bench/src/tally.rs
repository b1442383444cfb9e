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
}

/// The rounds of one competitor.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    latencies: Histogram<u64>,
    medians: Vec<Duration>,
    rates: Vec<f64>,
    operations: u64,
    cost: Option<Cost>,
    server: Option<Duration>,
}

/// A figure of each round: their median, the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread<T> {
    pub(crate) median: T,
    pub(crate) min: T,
    pub(crate) max: T,
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
            operations: 0,
            cost: None,
            server: None,
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
            if let Some(cost) = round.cost {
                *self.cost.get_or_insert_default() += cost;
            }
            if let Some(server) = round.server {
                *self.server.get_or_insert_default() += server;
            }
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

    /// What an operation costs the server of its processor.
    pub(crate) fn server_each(&self) -> Option<Duration> {
        Some(self.server?.div_f64(self.operations as f64))
    }
}

impl<T: Copy + PartialOrd> Spread<T> {
    fn of(figures: &[T]) -> Option<Spread<T>> {
        let sorted = sorted(figures);
        Some(Spread {
            median: *sorted.get(sorted.len() / 2)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
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
    }
}
