//! How far a mirror has come.

use crate::core::mirror::Change;
use crate::types::Revision;

/// How far a [`Mirror`](super::Mirror) has come, and what it has done for it since it was begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MirrorProgress {
    /// Whether the copy is as the source was at `revision`, maybe with a part of the next one.
    /// While it compares it is not.
    pub is_following: bool,
    /// The revision of the source that the copy has come to.
    pub revision: Revision,
    /// The latest revision of the source that it has heard of.
    pub source_revision: Revision,
    /// How many times it has compared both sides.
    pub comparisons: u64,
    /// How many transactions it has written.
    pub transactions: u64,
    /// How many keys they have put.
    pub puts: u64,
    /// How many keys they have deleted.
    pub deletes: u64,
}

impl MirrorProgress {
    /// By how many revisions the copy is behind what was heard of the source. Revisions count the
    /// whole cluster's changes, those of other prefixes as well: where only these happen, it
    /// is told from time to time that there was nothing to copy.
    #[must_use]
    pub fn lag(&self) -> u64 {
        u64::try_from(self.source_revision.0 - self.revision.0).unwrap_or(0)
    }

    pub(super) fn hear_of(&mut self, revision: Revision) {
        self.source_revision = self.source_revision.max(revision);
    }

    /// One transaction.
    pub(super) fn count(&mut self, changes: &[Change], revision: Revision) {
        self.revision = revision;
        self.source_revision = self.source_revision.max(revision);
        self.transactions += 1;
        let puts = changes.iter().filter(|change| change.value.is_some()).count();
        self.puts += puts as u64;
        self.deletes += (changes.len() - puts) as u64;
    }
}
