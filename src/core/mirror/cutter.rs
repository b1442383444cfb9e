//! Changes cut into transactions: whole revisions of the source, as many as fit into one where the
//! copy is behind, and one revision in several only where it does not fit into any.

use std::collections::{HashSet, VecDeque};

use super::Change;
use crate::types::Revision;

/// What a transaction of the destination takes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// So many changes. A server counts the operations of a branch.
    pub changes: usize,
    /// So many bytes of keys and values; one change may be more.
    pub bytes: usize,
}

/// One transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Its changes, of different keys each.
    pub changes: Vec<Change>,
    /// The last revision of the source that is complete with it; `None` where it completes none.
    pub completes: Option<Revision>,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Cutter {
    limits: Limits,
    revisions: VecDeque<Whole>,
}

/// What is left of one revision.
#[derive(Debug)]
struct Whole {
    revision: Revision,
    changes: VecDeque<Change>,
    bytes: usize,
}

impl Cutter {
    /// Nothing to cut yet.
    #[must_use]
    pub fn new(limits: Limits) -> Cutter {
        let limits = Limits {
            changes: limits.changes.max(1),
            ..limits
        };
        Cutter {
            limits,
            revisions: VecDeque::new(),
        }
    }

    /// All changes of one revision, which is above all before it.
    pub fn handle_revision(&mut self, revision: Revision, changes: impl IntoIterator<Item = Change>) {
        let changes: VecDeque<_> = changes.into_iter().collect();
        self.revisions.push_back(Whole {
            revision,
            bytes: changes.iter().map(Change::bytes).sum(),
            changes,
        });
    }

    /// Whether all has been cut.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.revisions.is_empty()
    }

    /// The next transaction. Between two of them the copy is as the source was at some
    /// revision, unless the first of them completes none.
    pub fn poll_cut(&mut self) -> Option<Cut> {
        let first = self.revisions.front()?;
        if self.fits(first.changes.len(), first.bytes) {
            return Some(self.whole_revisions());
        }
        self.part()
    }

    fn fits(&self, changes: usize, bytes: usize) -> bool {
        changes <= self.limits.changes && (bytes <= self.limits.bytes || changes <= 1)
    }

    /// As many whole revisions as fit. Of a key that changes in several only the last change counts, for a
    /// transaction may not touch a key twice.
    fn whole_revisions(&mut self) -> Cut {
        let (mut count, mut bytes, mut taken) = (0, 0, 0);
        for whole in &self.revisions {
            count += whole.changes.len();
            bytes += whole.bytes;
            if taken > 0 && !self.fits(count, bytes) {
                break;
            }
            taken += 1;
        }
        let wholes: Vec<Whole> = self.revisions.drain(..taken).collect();
        let completes = wholes.last().map(|whole| whole.revision);
        let mut seen = HashSet::new();
        let changes = wholes.into_iter().rev().flat_map(|whole| whole.changes.into_iter().rev());
        let mut changes: Vec<Change> = changes.filter(|change| seen.insert(change.key.clone())).collect();
        changes.reverse();
        Cut { changes, completes }
    }

    /// As much of the first revision as fits.
    fn part(&mut self) -> Option<Cut> {
        let limits = self.limits;
        let first = self.revisions.front_mut()?;
        let mut cut = Cut::default();
        let mut bytes = 0;
        while let Some(change) = first.changes.front() {
            bytes += change.bytes();
            let is_full = cut.changes.len() >= limits.changes || bytes > limits.bytes;
            if is_full && !cut.changes.is_empty() {
                break;
            }
            first.bytes -= change.bytes();
            cut.changes.extend(first.changes.pop_front());
        }
        if first.changes.is_empty() {
            cut.completes = self.revisions.pop_front().map(|whole| whole.revision);
        }
        Some(cut)
    }
}
