//! The server's history, as the historian read it, and whether it can be true by itself:
//! no revision is missing, and each change follows from those before it.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::change::{Change, Version};

/// The first revision of a store that is not the empty store's.
pub(crate) const REVISION_FIRST: i64 = 2;

#[derive(Debug, Default)]
pub(crate) struct History {
    /// By revision, and within one as the server tells them; all with what was before.
    pub(crate) changes: Vec<Change>,
    /// Where it was compacted, or may have been.
    pub(crate) compactions: Vec<i64>,
}

impl History {
    /// The first revision that it does not have yet.
    pub(crate) fn next(&self) -> i64 {
        self.changes.last().map_or(REVISION_FIRST, |change| change.revision() + 1)
    }

    /// Before this revision nobody can read any more.
    pub(crate) fn compacted(&self) -> i64 {
        self.compactions.iter().copied().max().unwrap_or(0)
    }

    /// What changed at a revision.
    pub(crate) fn at(&self, revision: i64) -> &[Change] {
        let start = self.changes.partition_point(|change| change.revision() < revision);
        let end = self.changes.partition_point(|change| change.revision() <= revision);
        &self.changes[start..end]
    }

    /// Whether every revision is there and every change follows from the ones before.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut store: BTreeMap<&str, &Version> = BTreeMap::new();
        let mut last = REVISION_FIRST - 1;
        let mut keys = HashSet::new();
        for change in &self.changes {
            if change.revision() != last {
                keys.clear();
            }
            let is_next = change.revision() == last || change.revision() == last + 1;
            if !is_next || !keys.insert(change.key()) {
                return Err(format!("behind revision {last} comes {change:?}"));
            }
            last = change.revision();
            let before = match change.is_put {
                true => store.insert(change.key(), &change.kv),
                false => store.remove(change.key()),
            };
            if change.prev.as_ref() != before || !follows(change, before) {
                return Err(format!("behind {before:?} comes {change:?}"));
            }
        }
        self.check_values()
    }

    /// Each value is written once: a second one is a write that was sent twice.
    fn check_values(&self) -> Result<(), String> {
        let mut written = HashMap::new();
        for change in self.changes.iter().filter(|change| change.is_put) {
            if let Some(first) = written.insert(&change.kv.value, change) {
                return Err(format!("written twice: {first:?}, {change:?}"));
            }
        }
        Ok(())
    }
}

/// Whether the server's own numbers fit.
fn follows(change: &Change, before: Option<&Version>) -> bool {
    let (created, version) = match (change.is_put, before) {
        (false, _) => (0, 0),
        (true, None) => (change.revision(), 1),
        (true, Some(before)) => (before.created, before.version + 1),
    };
    (change.kv.created, change.kv.version) == (created, version) && (change.is_put || before.is_some())
}
