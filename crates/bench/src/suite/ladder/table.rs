//! The rungs of a ladder, and their table.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tenure_chart::{Axis, Chart, Curve};

use crate::Failure;
use crate::child::unexpected;
use crate::peer::Peer;
use crate::report::{Finding, markdown, nothing, show};
use crate::tally::Spread;

/// Waits are kept in nanoseconds and to so many digits.
pub(super) const DIGITS: u8 = 3;
pub(super) const WAIT_MAX: u64 = 3_600_000_000_000;

/// All rungs with so many processes.
pub(super) struct Table {
    processes: usize,
    story: String,
    pub(super) rungs: Vec<Rung>,
    /// What there is to say below.
    pub(super) notes: Vec<String>,
}

/// So many tasks, over all rounds.
pub(super) struct Rung {
    pub(super) tasks: usize,
    waits: Histogram<u64>,
    /// Locks a second, of each round.
    rates: Vec<f64>,
    errors: u64,
}

/// What one process printed.
#[derive(Default)]
pub(super) struct Part {
    waits: Vec<(u64, u64)>,
    errors: u64,
    /// In nanoseconds, on the clock that all processes share.
    begun: u64,
    ended: u64,
}

impl Part {
    pub(super) fn read(&mut self, line: &str) -> Result<(), Failure> {
        let mut words = line.split(' ');
        let what = words.next();
        let mut number = || words.next().and_then(|text| text.parse().ok()).ok_or_else(|| unexpected(line));
        match what {
            Some("wait") => self.waits.push((number()?, number()?)),
            Some("errors") => self.errors = number()?,
            Some("begun") => self.begun = number()?,
            Some("ended") => self.ended = number()?,
            _ => return Err(unexpected(line)),
        }
        Ok(())
    }
}

impl Rung {
    fn new(tasks: usize) -> Rung {
        Rung {
            tasks,
            waits: Histogram::new_with_max(WAIT_MAX, DIGITS).expect("valid bounds"),
            rates: Vec::new(),
            errors: 0,
        }
    }

    /// Adds a round, unless nothing came of it. It lasts from the first process's beginning to the last one's end.
    pub(super) fn add(&mut self, parts: Vec<Part>) {
        let mut locks = 0;
        let begun = parts.iter().map(|part| part.begun).min().unwrap_or_default();
        let ended = parts.iter().map(|part| part.ended).max().unwrap_or_default();
        for part in parts {
            self.errors += part.errors;
            for (wait, count) in part.waits {
                locks += count;
                self.waits.saturating_record_n(wait, count);
            }
        }
        if locks > 0 {
            self.rates
                .push(locks as f64 / Duration::from_nanos(ended.saturating_sub(begun)).as_secs_f64());
        }
    }

    fn rate(&self) -> Option<f64> {
        self.rates().map(|rates| rates.median)
    }

    fn rates(&self) -> Option<Spread<f64>> {
        Spread::of(&self.rates)
    }

    /// A line about what there is so far.
    pub(super) fn told(&self) -> String {
        let rate = self.rate().unwrap_or_default();
        format!(
            "{} tasks: {rate:.0} locks per second, {} errors",
            self.tasks, self.errors
        )
    }

    fn wait(&self, percentile: f64) -> Duration {
        Duration::from_nanos(self.waits.value_at_percentile(percentile))
    }

    fn mean(&self) -> Duration {
        Duration::from_nanos(self.waits.mean() as u64)
    }

    fn cells(&self) -> Vec<String> {
        let spread = self.rates().map(|rates| format!("{:.0} to {:.0}", rates.min, rates.max));
        vec![
            self.tasks.to_string(),
            self.waits.len().to_string(),
            self.rate().map_or_else(nothing, |rate| format!("{rate:.0}")),
            spread.unwrap_or_else(nothing),
            show(self.mean()),
            show(self.wait(50.0)),
            show(self.wait(99.0)),
            show(self.wait(100.0)),
            self.errors.to_string(),
        ]
    }

    fn to_json(&self) -> Value {
        let ns = |duration: Duration| duration.as_nanos() as u64;
        json!({
            "tasks": self.tasks,
            "locks": self.waits.len(),
            "per_second_of_rounds": self.rates,
            "mean_ns": ns(self.mean()),
            "p50_ns": ns(self.wait(50.0)),
            "p99_ns": ns(self.wait(99.0)),
            "max_ns": ns(self.wait(100.0)),
            "errors": self.errors,
        })
    }
}

impl Table {
    pub(super) fn new(processes: usize, story: &str, tasks: &[usize]) -> Table {
        Table {
            processes,
            story: story.to_owned(),
            rungs: tasks.iter().copied().map(Rung::new).collect(),
            notes: Vec::new(),
        }
    }

    fn title(&self) -> String {
        match self.processes {
            1 => format!("One lock, all tasks in one process, on {}", self.story),
            processes => format!("One lock, the tasks in {processes} processes, on {}", self.story),
        }
    }
}

impl Finding for Table {
    fn draw(&self) -> String {
        let head = [
            "tasks",
            "locks",
            "per second",
            "of rounds",
            "mean wait",
            "p50",
            "p99",
            "max",
            "errors",
        ];
        let rows: Vec<_> = self.rungs.iter().map(Rung::cells).collect();
        markdown(&self.title(), &head.map(str::to_owned), &rows, &self.notes)
    }

    fn to_json(&self) -> Value {
        json!({
            "title": self.title(),
            "processes": self.processes,
            "notes": self.notes,
            "rungs": self.rungs.iter().map(Rung::to_json).collect::<Vec<_>>(),
        })
    }

    fn failures(&self) -> usize {
        self.rungs.iter().filter(|rung| rung.errors > 0).count()
    }

    /// The locks a second, by the number of tasks.
    fn chart(&self) -> Option<Chart> {
        let tasks = || self.rungs.iter().map(|rung| rung.tasks as f64);
        let rates = || self.rungs.iter().filter_map(Rung::rate);
        let x = Axis::logarithmic("tasks", tasks(), |tasks| format!("{tasks:.0}"))?;
        let curve = Curve {
            name: Peer::Tenure.name(),
            points: tasks().map(f64::log10).zip(rates()).collect(),
        };
        Some(Chart {
            title: self.title(),
            x,
            y: Axis::linear("locks per second, median of rounds", rates())?,
            curves: vec![curve],
        })
    }
}
