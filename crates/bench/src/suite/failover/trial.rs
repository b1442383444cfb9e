//! One turn: all calls of a client, and what they say of how it got on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Incident;
use crate::Failure;
use crate::child::unexpected;
use crate::report::show;

/// One call, as the client's process printed it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Call {
    is_put: bool,
    begun: SystemTime,
    took: Duration,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answered,
    Unknown,
    Refused,
    /// It never returned.
    Open,
}

/// What a client made of a fault.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trial {
    pub(super) gets: Answers,
    pub(super) puts: Answers,
    /// The longest time that a call took, answered or not.
    pub(super) slowest: Duration,
    /// The longest time that a call took beyond its deadline.
    pub(super) overrun: Duration,
    /// The most by which the timer of the client's process was late.
    pub(super) late: Duration,
    pub(super) failed: Failed,
}

/// The answers to calls of one kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Answers {
    /// From a leader, or where there is no election from the fault, until the first of them; `None`
    /// where none came while the fault lasted.
    pub(super) first: Option<Duration>,
    /// The longest time without any.
    pub(super) gap: Duration,
}

/// The calls that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) unknown_puts: u64,
    pub(super) refused_puts: u64,
    pub(super) gets: u64,
}

impl Call {
    pub(super) fn read(line: &str) -> Result<Call, Failure> {
        Call::parse(line).ok_or_else(|| unexpected(line))
    }

    fn parse(line: &str) -> Option<Call> {
        let mut words = line.split(' ');
        let is_put = match words.next()? {
            "put" => true,
            "get" => false,
            _ => return None,
        };
        let begun = UNIX_EPOCH + Duration::from_nanos(words.next()?.parse().ok()?);
        let took = Duration::from_nanos(words.next()?.parse().ok()?);
        let outcome = match words.next()? {
            "ok" => Outcome::Answered,
            "unknown" => Outcome::Unknown,
            "refused" => Outcome::Refused,
            "open" => Outcome::Open,
            _ => return None,
        };
        Some(Call {
            is_put,
            begun,
            took,
            outcome,
        })
    }

    fn ended(&self) -> SystemTime {
        self.begun + self.took
    }
}

impl Trial {
    pub(super) fn of(calls: &[Call], incident: &Incident, deadline: Duration) -> Trial {
        let slowest = calls.iter().map(|call| call.took).max().unwrap_or_default();
        let failed = |is_put: bool, outcomes: &[Outcome]| {
            let those = calls.iter().filter(|call| call.is_put == is_put && outcomes.contains(&call.outcome));
            those.count() as u64
        };
        let all = [Outcome::Unknown, Outcome::Refused, Outcome::Open];
        Trial {
            gets: Answers::of(calls.iter().filter(|call| !call.is_put), incident),
            puts: Answers::of(calls.iter().filter(|call| call.is_put), incident),
            slowest,
            overrun: slowest.saturating_sub(deadline),
            late: Duration::ZERO,
            failed: Failed {
                unknown_puts: failed(true, &[Outcome::Unknown, Outcome::Open]),
                refused_puts: failed(true, &[Outcome::Refused]),
                gets: failed(false, &all),
            },
        }
    }

    /// One line.
    pub(super) fn story(&self) -> String {
        let first = |answers: &Answers| answers.first.map_or_else(|| "never".to_owned(), show);
        format!(
            "first get {}, first put {}, longest gaps {} and {}, slowest call {} (timer late {}), failed puts {} + {}, gets {}",
            first(&self.gets),
            first(&self.puts),
            show(self.gets.gap),
            show(self.puts.gap),
            show(self.slowest),
            show(self.late),
            self.failed.unknown_puts,
            self.failed.refused_puts,
            self.failed.gets,
        )
    }

    pub(super) fn to_json(&self) -> Value {
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let answers = |answers: &Answers| {
            json!({
                "first_after_leader_ns": answers.first.map(ns),
                "longest_gap_ns": ns(answers.gap),
            })
        };
        json!({
            "gets": answers(&self.gets),
            "puts": answers(&self.puts),
            "slowest_ns": ns(self.slowest),
            "overrun_ns": ns(self.overrun),
            "timer_late_ns": ns(self.late),
            "failed": {
                "puts_of_unknown_fate": self.failed.unknown_puts,
                "puts_refused": self.failed.refused_puts,
                "gets": self.failed.gets,
            },
        })
    }
}

impl Answers {
    /// A gap that the end of the fault cuts short counts as far as there.
    fn of<'a>(calls: impl Iterator<Item = &'a Call>, incident: &Incident) -> Answers {
        let mut answered: Vec<&Call> = calls
            .filter(|call| call.outcome == Outcome::Answered)
            .filter(|call| (incident.at..incident.end).contains(&call.ended()))
            .collect();
        answered.sort_by_key(|call| call.ended());
        // Without an election the answers to what was asked before the fault say nothing of it.
        let elects = incident.unled > incident.at;
        let counts = |call: &&&Call| call.ended() >= incident.unled && (elects || call.begun >= incident.at);
        let first = answered.iter().find(counts);
        let ends = answered.iter().map(|call| call.ended());
        let bounds = [incident.at].into_iter().chain(ends).chain([incident.end]);
        let bounds: Vec<SystemTime> = bounds.collect();
        let gaps = bounds.windows(2).map(|pair| between(pair[0], pair[1]));
        Answers {
            first: first.map(|call| between(incident.led, call.ended())),
            gap: gaps.max().unwrap_or_default(),
        }
    }
}

/// None where the second one is the earlier.
fn between(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fault at 1 s, a leader at 3 s, which it was not at 2.9 s; over at 10 s.
    fn incident() -> Incident {
        let at = |milliseconds| UNIX_EPOCH + Duration::from_millis(milliseconds);
        Incident {
            at: at(1000),
            unled: at(2900),
            led: at(3000),
            end: at(10_000),
        }
    }

    fn trial(lines: &[&str]) -> Trial {
        let calls: Vec<Call> = lines.iter().map(|line| Call::read(line).unwrap()).collect();
        Trial::of(&calls, &incident(), Duration::from_secs(5))
    }

    #[test]
    fn the_first_answer_is_counted_from_the_leader() {
        let trial = trial(&[
            "put 1000000000 1000000 ok",
            "put 1001000000 2199000000 ok",
            "put 3500000000 1000000 ok",
        ]);
        assert_eq!(trial.puts.first, Some(Duration::from_millis(200)));
        assert_eq!(trial.puts.gap, Duration::from_millis(6499));
        assert_eq!(trial.gets.first, None);
        assert_eq!(trial.gets.gap, Duration::from_secs(9));
    }

    #[test]
    fn an_answer_before_its_leader_was_reported_took_no_time() {
        let trial = trial(&["get 1000000000 1950000000 ok"]);
        assert_eq!(trial.gets.first, Some(Duration::ZERO));
    }

    #[test]
    fn without_an_election_only_what_was_asked_after_the_fault_counts() {
        let at = incident().at;
        let incident = Incident {
            unled: at,
            led: at,
            ..incident()
        };
        let lines = ["get 990000000 20000000 ok", "get 1010000000 30000000 ok"];
        let calls: Vec<Call> = lines.iter().map(|line| Call::read(line).unwrap()).collect();
        let trial = Trial::of(&calls, &incident, Duration::from_secs(5));
        assert_eq!(trial.gets.first, Some(Duration::from_millis(40)));
    }

    #[test]
    fn what_failed_is_counted_by_kind_and_its_overrun_kept() {
        let trial = trial(&[
            "put 1000000000 5100000000 unknown",
            "put 1000000000 15000000000 open",
            "put 1000000000 1000000 refused",
            "get 1000000000 1000000 unknown",
        ]);
        let failed = Failed {
            unknown_puts: 2,
            refused_puts: 1,
            gets: 1,
        };
        assert_eq!(trial.failed, failed);
        assert_eq!(trial.overrun, Duration::from_secs(10));
    }

    #[test]
    fn what_is_no_call_is_refused() {
        for line in ["", "put", "put soon 1 ok", "put 1 1 perhaps", "delete 1 1 ok"] {
            assert!(Call::read(line).is_err(), "{line}");
        }
    }
}
