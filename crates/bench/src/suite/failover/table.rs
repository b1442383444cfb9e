//! The outcome of one fault: a row for each client, over all rounds.

use std::time::Duration;

use serde_json::{Value, json};

use super::fault::Fault;
use super::trial::{Answers, Trial};
use crate::peer::Peer;
use crate::report::{Finding, markdown, show};

/// What the clients shall keep to.
const FIRST_GOAL: Duration = Duration::from_millis(250);
const OVERRUN_GOAL: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) fault: Fault,
    title: String,
    pub(super) rows: Vec<Row>,
    /// Somebody had a whole turn.
    pub(super) has_begun: bool,
    notes: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) peer: Peer,
    pub(super) trials: Vec<Trial>,
    /// Why it did not run to the end.
    pub(super) failure: Option<String>,
}

impl Table {
    pub(super) fn new(fault: Fault, story: &str) -> Table {
        let row = |peer: &Peer| Row {
            peer: *peer,
            trials: Vec::new(),
            failure: None,
        };
        Table {
            fault,
            title: format!("Failover: {}; on {story}", fault.story()),
            rows: Peer::CLIENTS.iter().map(row).collect(),
            has_begun: false,
            notes: Vec::new(),
        }
    }

    /// Says below how the goals were kept to, and this.
    pub(super) fn tell(&mut self, circumstances: &[String]) {
        self.notes.extend(self.against_goals());
        self.notes.extend_from_slice(circumstances);
    }

    fn against_goals(&self) -> Option<String> {
        let row = &self.rows[0];
        row.trials.first()?;
        let never = Duration::MAX;
        let first = |of: fn(&Trial) -> &Answers| row.worst(|trial| of(trial).first.unwrap_or(never));
        let first = first(|trial| &trial.gets)?.max(first(|trial| &trial.puts)?);
        let verdict = |worst: Duration, goal: Duration| {
            let verdict = if worst <= goal { "met" } else { "missed" };
            let worst = if worst == never {
                "none".to_owned()
            } else {
                show(worst)
            };
            format!("at most {}: {verdict} with {worst}", show(goal))
        };
        Some(format!(
            "Goals of {} in the worst round: first answer {}; overrun {}, where its own timer was up to {} late.",
            row.peer.name(),
            verdict(first, FIRST_GOAL),
            verdict(row.worst(|trial| trial.overrun)?, OVERRUN_GOAL),
            show(row.worst(|trial| trial.late)?),
        ))
    }
}

impl Finding for Table {
    /// As Markdown; two figures in a cell are the median and the worst of the rounds.
    fn draw(&self) -> String {
        let from = if self.fault.deposes() {
            "new leader"
        } else {
            "fault"
        };
        let head = [
            "".to_owned(),
            "rounds".to_owned(),
            format!("{from} to first get"),
            format!("{from} to first put"),
            "longest gap, gets".to_owned(),
            "longest gap, puts".to_owned(),
            "slowest call".to_owned(),
            "over deadline".to_owned(),
            "timer late".to_owned(),
            "puts unknown".to_owned(),
            "puts refused".to_owned(),
            "gets failed".to_owned(),
        ];
        let rows: Vec<Vec<String>> = self.rows.iter().map(Row::cells).collect();
        let failures = self.rows.iter().filter_map(|row| {
            let cause = row.failure.as_ref()?;
            Some(format!("{} did not run to the end: {cause}", row.peer.name()))
        });
        let notes: Vec<String> = self.notes.iter().cloned().chain(failures).collect();
        markdown(&self.title, &head, &rows, &notes)
    }

    fn to_json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "name": row.peer.name(),
                "failure": row.failure,
                "rounds": row.trials.iter().map(Trial::to_json).collect::<Vec<_>>(),
            })
        };
        json!({
            "title": self.title,
            "notes": self.notes,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }

    fn failures(&self) -> usize {
        self.rows.iter().filter(|row| row.failure.is_some()).count()
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let never = Duration::MAX;
        vec![
            self.peer.name(),
            self.trials.len().to_string(),
            self.spread(|trial| trial.gets.first.unwrap_or(never)),
            self.spread(|trial| trial.puts.first.unwrap_or(never)),
            self.spread(|trial| trial.gets.gap),
            self.spread(|trial| trial.puts.gap),
            self.spread(|trial| trial.slowest),
            self.spread(|trial| trial.overrun),
            self.spread(|trial| trial.late),
            self.sum(|trial| trial.failed.unknown_puts),
            self.sum(|trial| trial.failed.refused_puts),
            self.sum(|trial| trial.failed.gets),
        ]
    }

    /// The median and the worst.
    fn spread(&self, of: impl Fn(&Trial) -> Duration) -> String {
        let mut figures: Vec<Duration> = self.trials.iter().map(of).collect();
        figures.sort();
        let show = |figure: &Duration| match *figure {
            Duration::MAX => "never".to_owned(),
            Duration::ZERO => "0".to_owned(),
            figure => show(figure),
        };
        match figures.as_slice() {
            [] => "-".to_owned(),
            [only] => show(only),
            [.., worst] => format!("{}, {}", show(&figures[(figures.len() - 1) / 2]), show(worst)),
        }
    }

    fn worst(&self, of: impl Fn(&Trial) -> Duration) -> Option<Duration> {
        self.trials.iter().map(of).max()
    }

    /// Over all rounds.
    fn sum(&self, of: impl Fn(&Trial) -> u64) -> String {
        match self.trials.as_slice() {
            [] => "-".to_owned(),
            trials => trials.iter().map(of).sum::<u64>().to_string(),
        }
    }
}
