//! What one reader saw: a record, which decides nothing.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use tenure::{Batch, BatchKind};

use crate::change::Change;
use crate::sight::Sight;

#[derive(Clone, Debug)]
pub(crate) struct Life {
    /// What it was promised to see.
    pub(crate) sight: Sight,
    /// The first revision that it has to see; none before the server has created its watch.
    pub(crate) start: Option<i64>,
    pub(crate) batches: Vec<Seen>,
    pub(crate) ended: Ended,
    pub(crate) counts: Counts,
}

/// A batch.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Since the storm began.
    pub(crate) at: Duration,
    pub(crate) kind: BatchKind,
    pub(crate) revision: i64,
    pub(crate) resume: i64,
    pub(crate) changes: Vec<Change>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ended {
    /// It saw all that there was to see, and for a while nothing more came.
    Complete,
    /// The reader left.
    Left,
    /// In a compaction, of which it was told this revision, and again when it asked again.
    Compacted(i64),
}

/// What happened to it on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Counts {
    /// How often the client went on by itself.
    pub(crate) reconnects: u64,
    pub(crate) catch_ups: u64,
    /// How often the reader made a new watch where the last one ended or was given up.
    pub(crate) again: u64,
}

impl Life {
    /// Behind what it has seen: the last event's revision, or the one before its start.
    pub(crate) fn last(&self) -> i64 {
        let changes = self.changes().last().map(Change::revision);
        changes.unwrap_or(self.start.unwrap_or(0) - 1)
    }

    pub(crate) fn changes(&self) -> impl DoubleEndedIterator<Item = &Change> {
        self.batches.iter().flat_map(|seen| &seen.changes)
    }

    /// Where the last batch said that one goes on.
    pub(crate) fn resume(&self) -> Option<i64> {
        self.batches.last().map(|seen| seen.resume).or(self.start)
    }
}

impl Seen {
    pub(crate) fn of(batch: &Batch, at: Duration) -> Seen {
        Seen {
            at,
            kind: batch.kind,
            revision: batch.revision.0,
            resume: batch.resume_revision.0,
            changes: batch.events.iter().map(Change::of).collect(),
        }
    }
}

/// All of it, times too: two runs of a seed have the same.
impl Hash for Life {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.start, self.ended, self.counts).hash(state);
        for seen in &self.batches {
            let is_event = seen.kind == BatchKind::Events;
            (seen.at, is_event, seen.revision, seen.resume, &seen.changes).hash(state);
        }
    }
}
