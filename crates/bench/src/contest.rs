//! A contest: competitors that do the same on the same server, in turn. What the
//! machine does beside it then falls on all of them alike.

use crate::Failure;
use crate::machine;
use crate::probe::Counts;
use crate::report::{Row, Table};
use crate::stop::Stop;
use crate::tally::{Round, Tally};

/// What every contest is told.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) rounds: u32,
    pub(crate) stop: Stop,
}

/// One who takes part.
pub(crate) trait Competitor {
    /// What its row is called.
    fn name(&self) -> String;

    /// Has ready what takes long the first time, a program that is built above all: it would be
    /// beside the turns of the others.
    fn prepare(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// One turn. It looks at `setting.stop` between operations and returns what there is.
    fn run_round(&mut self, setting: &Setting) -> Result<Round, Failure>;

    /// What is counted once, after all rounds, and what could not be.
    fn count(&mut self, _: &Setting) -> (Counts, Vec<String>) {
        Default::default()
    }
}

/// Runs the rounds and returns a row for each competitor, in their order.
///
/// In each round another one begins. One that fails has no further turns, and its
/// row says why.
pub(crate) fn run(mut table: Table, mut competitors: Vec<Box<dyn Competitor>>, setting: &Setting) -> Table {
    let count = competitors.len();
    let mut tallies = vec![Tally::new(); count];
    eprintln!("{}", table.title);
    let prepare =
        |competitor: &mut Box<dyn Competitor>| competitor.prepare().err().map(|cause| cause.to_string());
    let mut failures: Vec<Option<String>> = competitors.iter_mut().map(prepare).collect();
    let load_before = machine::load_average();
    for round in 0..setting.rounds {
        for turn in 0..count {
            let index = (turn + round as usize) % count;
            if setting.stop.is_set() || failures[index].is_some() {
                continue;
            }
            let competitor = &mut competitors[index];
            let name = competitor.name();
            let told = match competitor.run_round(setting) {
                Ok(measured) => {
                    tallies[index].add(&measured);
                    crate::report::summary(&measured, table.unit)
                }
                Err(cause) => failures[index].insert(cause.to_string()).clone(),
            };
            eprintln!("  round {}/{}  {name}: {told}", round + 1, setting.rounds);
        }
    }
    for ((competitor, tally), failure) in competitors.iter_mut().zip(tallies).zip(failures) {
        let is_counted = !setting.stop.is_set() && failure.is_none();
        let (counts, uncounted) = if is_counted {
            competitor.count(setting)
        } else {
            Default::default()
        };
        table.rows.push(Row {
            name: competitor.name(),
            tally,
            counts,
            failure,
        });
        for note in uncounted {
            // What is missing is missing for all of them.
            if !table.notes.contains(&note) {
                table.notes.push(note);
            }
        }
    }
    table.notes.extend(circumstances(setting, load_before));
    table
}

/// What there is to say below any table: whether it is whole, and how busy the machine was, before which
/// it was as busy as that.
pub(crate) fn circumstances(setting: &Setting, load_before: Option<f64>) -> Vec<String> {
    let stopped = "It was stopped: these are the figures until then.".to_owned();
    let load = load_before.zip(machine::load_average());
    let load = load
        .map(|(before, after)| format!("The machine's load average was {before} before and {after} after."));
    setting.stop.is_set().then_some(stopped).into_iter().chain(load).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::stop::Stop;

    struct Scripted {
        name: &'static str,
        turns: Rc<RefCell<Vec<&'static str>>>,
        /// In which of its turns it fails, from 1.
        fails_in: usize,
        stops: bool,
    }

    impl Competitor for Scripted {
        fn name(&self) -> String {
            self.name.to_owned()
        }

        fn run_round(&mut self, setting: &Setting) -> Result<Round, Failure> {
            let mut turns = self.turns.borrow_mut();
            turns.push(self.name);
            if turns.iter().filter(|name| **name == self.name).count() == self.fails_in {
                return Err("out of luck".into());
            }
            if self.stops {
                setting.stop.set();
            }
            Ok(Round {
                latencies: vec![Duration::from_millis(1)],
                ..Round::default()
            })
        }
    }

    fn contest(rounds: u32, competitors: &[(&'static str, usize, bool)]) -> (Vec<&'static str>, Table) {
        let turns = Rc::default();
        let scripted = |(name, fails_in, stops): &(&'static str, usize, bool)| -> Box<dyn Competitor> {
            let turns = Rc::clone(&turns);
            Box::new(Scripted {
                name,
                turns,
                fails_in: *fails_in,
                stops: *stops,
            })
        };
        let setting = Setting {
            rounds,
            stop: Stop::default(),
        };
        let table = run(
            Table::new("scripted".to_owned(), "turns"),
            competitors.iter().map(scripted).collect(),
            &setting,
        );
        (turns.take(), table)
    }

    #[test]
    fn each_round_begins_with_another_one() {
        let (turns, table) = contest(3, &[("a", 0, false), ("b", 0, false)]);
        assert_eq!(turns, ["a", "b", "b", "a", "a", "b"]);
        assert_eq!(
            table.rows.iter().map(|row| row.tally.count()).collect::<Vec<_>>(),
            [3, 3]
        );
    }

    #[test]
    fn one_that_fails_keeps_what_it_did_and_the_others_go_on() {
        let (turns, table) = contest(3, &[("a", 2, false), ("b", 0, false)]);
        assert_eq!(turns, ["a", "b", "b", "a", "b"]);
        assert_eq!(table.rows[0].failure.as_deref(), Some("out of luck"));
        assert_eq!(
            table.rows.iter().map(|row| row.tally.count()).collect::<Vec<_>>(),
            [1, 3]
        );
    }

    #[test]
    fn after_a_stop_there_are_the_rows_so_far() {
        let (turns, table) = contest(9, &[("a", 0, false), ("b", 0, true)]);
        assert_eq!(turns, ["a", "b"]);
        assert_eq!(table.rows.len(), 2);
        assert_eq!(table.rows[1].tally.count(), 1);
    }
}
