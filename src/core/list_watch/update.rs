//! What a reader of a list and its watch is told.

use crate::core::watch::{Batch, Event};
use crate::types::Revision;

/// What a list and its watch tell, one after another:
///
/// ```text
///   Listed* Synced (Changed | Progress)* { Relisting Listed* Synced (Changed | Progress)* }*
/// ```
///
/// Only `Relisting` may come before its time: between two pages of a list too.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Update {
    /// Where a list differs from what was told before, in the order of the keys: a put for each key
    /// that is new or another one, a deletion for each that is gone. Of a key that has
    /// not changed nothing is told. In the first list all are puts.
    ///
    /// A put has the key as the list has it; what became of it in between is not told, and
    /// neither is a `prev_kv`. Of a deletion only its key is known: its `mod_revision` is the
    /// revision of the list, at which the key was gone.
    Listed(Vec<Event>),
    /// The list is complete: with all that was told so far, the reader has the range as it
    /// was at this revision. What follows is later.
    Synced {
        /// The revision of the list.
        revision: Revision,
    },
    /// What happened next: whole revisions, each once and in order.
    Changed(Batch),
    /// All that happened up to this revision has been told, although nothing did.
    Progress {
        /// The revision of the member's store.
        revision: Revision,
    },
    /// The history was compacted before it was read. The range is listed again; until
    /// that is [`Synced`](Update::Synced), the reader has some keys as they were and
    /// some as they are.
    Relisting,
}
