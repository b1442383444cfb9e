//! What so many tasks came to: how many locks in which time, how long each was waited for, and what
//! failed.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tenure::Error;

pub(super) const HEAD: [&str; 8] = [
    "tasks",
    "locks",
    "per second",
    "mean wait",
    "p50",
    "p99",
    "max",
    "errors",
];

/// Waits are kept in nanoseconds and to so many digits; one above this counts as this.
const DIGITS: u8 = 3;
const WAIT_MAX: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug)]
pub(super) struct Rung {
    tasks: u32,
    time: Duration,
    waits: Histogram<u64>,
    errors: u64,
    first_error: Option<String>,
}

impl Rung {
    pub(super) fn new(tasks: u32) -> Rung {
        Rung {
            tasks,
            time: Duration::ZERO,
            waits: Histogram::new_with_max(nanoseconds(WAIT_MAX), DIGITS).expect("valid bounds"),
            errors: 0,
            first_error: None,
        }
    }

    /// A task got the lock after this time.
    pub(super) fn waited(&mut self, time: Duration) {
        self.waits.saturating_record(nanoseconds(time));
    }

    /// A task did not get it.
    pub(super) fn failed(&mut self, error: &Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    /// All that was in so much time.
    pub(super) fn took(&mut self, time: Duration) {
        self.time = time;
    }

    pub(super) fn tasks(&self) -> u32 {
        self.tasks
    }

    pub(super) fn time(&self) -> Duration {
        self.time
    }

    pub(super) fn locks(&self) -> u64 {
        self.waits.len()
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors
    }

    pub(super) fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }

    /// Locks per second.
    pub(super) fn rate(&self) -> f64 {
        match self.time.is_zero() {
            true => 0.0,
            false => self.locks() as f64 / self.time.as_secs_f64(),
        }
    }

    /// What so many of a hundred waits do not exceed; `None` without any.
    pub(super) fn wait(&self, percentile: f64) -> Option<Duration> {
        (self.locks() > 0).then(|| Duration::from_nanos(self.waits.value_at_percentile(percentile)))
    }

    fn mean(&self) -> Option<Duration> {
        (self.locks() > 0).then(|| Duration::from_nanos(self.waits.mean() as u64))
    }

    /// A row of the table.
    pub(super) fn row(&self) -> Vec<String> {
        vec![
            self.tasks.to_string(),
            self.locks().to_string(),
            format!("{:.0}", self.rate()),
            show(self.mean()),
            show(self.wait(50.0)),
            show(self.wait(99.0)),
            show(self.wait(100.0)),
            self.errors.to_string(),
        ]
    }

    /// A line while it is under way.
    pub(super) fn line(&self) -> String {
        format!(
            "{:>6} tasks {:>9.0} locks/s   p50 {:>9}   p99 {:>9}   max {:>9}   {} errors",
            self.tasks,
            self.rate(),
            show(self.wait(50.0)),
            show(self.wait(99.0)),
            show(self.wait(100.0)),
            self.errors,
        )
    }

    pub(super) fn to_json(&self) -> Value {
        let ns = |wait: Option<Duration>| wait.map(nanoseconds);
        json!({
            "tasks": self.tasks,
            "seconds": self.time.as_secs_f64(),
            "locks": self.locks(),
            "locks_per_second": self.rate(),
            "wait_mean_ns": ns(self.mean()),
            "wait_p50_ns": ns(self.wait(50.0)),
            "wait_p99_ns": ns(self.wait(99.0)),
            "wait_max_ns": ns(self.wait(100.0)),
            "errors": self.errors,
            "first_error": self.first_error,
        })
    }
}

fn show(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.2?}"))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rung_is_its_locks_by_its_time_and_its_waits_by_percentile() {
        let mut rung = Rung::new(7);
        for wait in 1..=100 {
            rung.waited(Duration::from_millis(wait));
        }
        rung.took(Duration::from_millis(500));
        assert_eq!(rung.row()[..3], ["7", "100", "200"]);
        assert_eq!(rung.to_json()["locks_per_second"], 200.0);
        let near = |wait: Option<Duration>, milliseconds: f64| {
            let found = wait.expect("a wait").as_secs_f64() * 1e3;
            assert!((found / milliseconds - 1.0).abs() < 0.002, "{found}");
        };
        near(rung.wait(50.0), 50.0);
        near(rung.wait(99.0), 99.0);
        near(rung.wait(100.0), 100.0);
        near(rung.mean(), 50.5);
    }

    #[test]
    fn without_a_lock_there_is_no_wait() {
        let rung = Rung::new(1);
        assert_eq!(rung.row(), ["1", "0", "0", "-", "-", "-", "-", "0"]);
        assert!(rung.to_json()["wait_p99_ns"].is_null());
    }
}
