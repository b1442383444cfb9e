//! Holds what a reader saw against the history: none lost, none twice, in order, whole
//! revisions, the right previous values, nothing that was filtered, and an end that is true.

use std::fmt;

use tenure::BatchKind;

use crate::change::Change;
use crate::history::History;
use crate::life::{Ended, Life, Seen};

/// What is wrong with a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Lost,
    Twice,
    Disordered,
    /// A revision is in two batches, or not all of it came.
    Split,
    PrevKv,
    /// A filter or the range of keys did not hold.
    Filtered,
    /// It was before the start of the watch.
    Early,
    /// It never happened, or not like this.
    Invented,
    /// The batch says that one may go on where something would be lost or come again.
    Resume,
    /// It ended in a compaction that took nothing from it, or that never was.
    End,
}

/// A fault, and where.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) fault: Fault,
    what: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.fault, self.what)
    }
}

/// Judges one life.
pub(crate) fn judge(life: &Life, history: &History) -> Result<(), Verdict> {
    let Some(start) = life.start else {
        return Ok(());
    };
    let trial = Trial {
        life,
        history,
        start,
        expected: life.sight.of_history(history, start),
    };
    trial.run()
}

struct Trial<'a> {
    life: &'a Life,
    history: &'a History,
    start: i64,
    expected: Vec<Change>,
}

impl Trial<'_> {
    fn run(&self) -> Result<(), Verdict> {
        let mut next = 0;
        let mut last = self.start - 1;
        for seen in &self.life.batches {
            if let Some(first) = seen.changes.first().filter(|first| first.revision() == last) {
                if !self.expected[..next].iter().any(|before| before.is_same(first)) {
                    return Err(fault(Fault::Split, format!("{first:?} has a batch of its own")));
                }
            }
            for change in &seen.changes {
                self.compare(change, next)?;
                next += 1;
                last = change.revision();
            }
            self.check_batch(seen, next, last)?;
        }
        self.check_whole(next)?;
        self.check_end(next)
    }

    /// Holds one change against the one that has to come next.
    fn compare(&self, change: &Change, next: usize) -> Result<(), Verdict> {
        let expected = self.expected.get(next);
        let what = || format!("{change:?} comes where {expected:?} should");
        match expected {
            Some(expected) if expected == change => Ok(()),
            Some(expected) if expected.is_same(change) => {
                let (alike, told) = (
                    expected.without_prev() == change.without_prev(),
                    change.prev.is_some(),
                );
                // The server has no previous value that is compacted.
                let forgotten = self.life.sight.prev_kv && change.revision() <= self.history.compacted();
                match alike {
                    true if !told && forgotten => Ok(()),
                    true => Err(fault(Fault::PrevKv, what())),
                    false => Err(fault(Fault::Invented, what())),
                }
            }
            _ => Err(fault(self.misplaced(change, next), what())),
        }
    }

    /// Why something came that was not to come now.
    fn misplaced(&self, change: &Change, next: usize) -> Fault {
        let place = self.expected.iter().position(|expected| expected.is_same(change));
        match place {
            Some(place) if place < next => Fault::Twice,
            Some(_) => {
                let missing = &self.expected[next];
                match self.life.changes().any(|seen| seen.is_same(missing)) {
                    true => Fault::Disordered,
                    false => Fault::Lost,
                }
            }
            None if !self.history.at(change.revision()).iter().any(|true_one| true_one.is_same(change)) => {
                Fault::Invented
            }
            None if change.revision() < self.start => Fault::Early,
            None => Fault::Filtered,
        }
    }

    fn check_batch(&self, seen: &Seen, next: usize, last: i64) -> Result<(), Verdict> {
        let follows = self.expected.get(next).map_or(i64::MAX, Change::revision);
        let resumes_well = last < seen.resume && seen.resume <= follows;
        // Inside a revision it does not resume at all: see `check_whole`.
        if !resumes_well && follows > last {
            let what = format!("{last} is seen, {follows} follows, and it says {}", seen.resume);
            return Err(fault(Fault::Resume, what));
        }
        let is_event = seen.kind == BatchKind::Events;
        if is_event == seen.changes.is_empty() || (is_event && seen.revision < last) {
            return Err(fault(Fault::Invented, format!("a batch like this: {seen:?}")));
        }
        Ok(())
    }

    /// What was seen ends with a revision.
    fn check_whole(&self, next: usize) -> Result<(), Verdict> {
        let (seen, rest) = self.expected.split_at(next);
        match (seen.last(), rest.first()) {
            (Some(last), Some(rest)) if last.revision() == rest.revision() => {
                Err(fault(Fault::Split, format!("{last:?} came, and {rest:?} not")))
            }
            _ => Ok(()),
        }
    }

    fn check_end(&self, next: usize) -> Result<(), Verdict> {
        match (self.life.ended, self.expected.get(next)) {
            (Ended::Complete, Some(lost)) => Err(fault(Fault::Lost, format!("{lost:?} never came"))),
            (Ended::Compacted(revision), _) => {
                let was_compacted = self.history.compactions.contains(&revision);
                let needed = self.life.resume().is_some_and(|resume| resume < revision);
                match was_compacted && needed {
                    true => Ok(()),
                    false => Err(fault(
                        Fault::End,
                        format!("compacted at {revision}, seen up to {next}"),
                    )),
                }
            }
            _ => Ok(()),
        }
    }
}

fn fault(fault: Fault, what: String) -> Verdict {
    Verdict { fault, what }
}
