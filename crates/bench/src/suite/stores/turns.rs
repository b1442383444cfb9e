//! A store's turns: its client is a process for each of them, which is given an order and prints its figures.

use std::rc::Rc;

use super::Entry;
use crate::Failure;
use crate::child::Child;
use crate::contest::{Competitor, Setting};
use crate::probe::Counts;
use crate::tally::Round;

#[derive(Debug)]
pub(super) struct Turns {
    entry: Rc<Entry>,
    /// What to do, but where.
    order: Vec<String>,
    /// Where a hand-off is what counts: how many there were, and how many locks.
    handoffs: Option<Handoffs>,
}

#[derive(Debug, Default)]
struct Handoffs {
    count: u64,
    locks: u64,
}

impl Turns {
    pub(super) fn of_locks(entry: Rc<Entry>, order: Vec<String>) -> Turns {
        Turns {
            entry,
            order,
            handoffs: None,
        }
    }

    /// Per hand-off, not per lock: where nobody queues, most locks go to who has just released it.
    pub(super) fn of_handoffs(entry: Rc<Entry>, order: Vec<String>) -> Turns {
        Turns {
            entry,
            order,
            handoffs: Some(Handoffs::default()),
        }
    }
}

impl Competitor for Turns {
    fn name(&self) -> String {
        match &self.entry.running {
            Ok(running) => running.story().to_owned(),
            Err(_) => self.entry.store.name().to_owned(),
        }
    }

    fn run_round(&mut self, setting: &Setting) -> Result<Round, Failure> {
        let running = self.entry.running.as_ref().map_err(String::clone)?;
        let mut client = self.entry.store.command()?;
        client.args(&self.order).args(running.options());
        let round = Child::start(&mut client)?.round(&setting.stop)?;
        Ok(match &mut self.handoffs {
            Some(handoffs) => handoffs.counted(round),
            None => round,
        })
    }

    fn count(&mut self, _: &Setting) -> (Counts, Vec<String>) {
        let counts = Counts {
            locks: self.handoffs.as_ref().and_then(Handoffs::locks_each),
            ..Counts::default()
        };
        (counts, Vec::new())
    }
}

impl Handoffs {
    fn counted(&mut self, mut round: Round) -> Round {
        let count = round.latencies.len() as u64;
        if let Some((operations, _)) = &mut round.pace {
            self.count += count;
            self.locks += *operations;
            *operations = count;
        }
        round
    }

    fn locks_each(&self) -> Option<f64> {
        (self.count > 0).then(|| self.locks as f64 / self.count as f64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lock_that_comes_back_is_no_operation_and_counts_for_the_next_hand_off() {
        let mut handoffs = Handoffs::default();
        assert_eq!(handoffs.locks_each(), None);
        let second = Duration::from_secs(1);
        for locks in [30, 10] {
            let round = handoffs.counted(Round {
                latencies: vec![second; 4],
                pace: Some((locks, second)),
                ..Round::default()
            });
            assert_eq!(round.pace, Some((4, second)));
        }
        assert_eq!(handoffs.locks_each(), Some(5.0));
    }
}
