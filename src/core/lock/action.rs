//! What the lock's machine asks of its driver, and what it is told in return.

use bytes::Bytes;

use crate::pb::mvccpb::KeyValue;
use crate::types::Revision;

/// What the driver is to do. All reads are without values. A place may have several own
/// keys and queues; each transaction is about all of them, and a reading is of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// If the own key is absent and the gate's mod_revision is `gate`, put the own
    /// key and read the queue, else read the own key, the gate and the queue.
    Register {
        /// The gate's mod_revision.
        gate: Revision,
    },
    /// The same, if nothing at all is below the prefix: nothing is left behind where
    /// the lock is held.
    RegisterIfEmpty {
        /// The gate's mod_revision.
        gate: Revision,
    },
    /// If the own key's mod_revision is `seen` and that of the gate `gate`, put the own key on
    /// our lease and read the queue, else as [`Action::Register`].
    TakeOver {
        /// The gate's mod_revision.
        gate: Revision,
        /// The own key's mod_revision.
        seen: Revision,
    },
    /// Watch for deletions, from now on, instead of what was watched before.
    Watch(Watched),
    /// Read the queue, serializable on the watch's connection, or linearizable.
    Range {
        /// Only what was created up to this revision: the own key and what is older.
        upto: Revision,
        /// All of it, not only the newest [`READING_KEYS_MAX`](super::READING_KEYS_MAX).
        whole: bool,
        /// Whether the member that serves the watch is not to be trusted with it.
        linearizable: bool,
    },
    /// If the own key has this create_revision, or where it is an owner's this mod_revision, delete
    /// it. The keys of one attempt are deleted whatever they are, for they are never put again.
    Release {
        /// The revision, which tells the key from what it was before and may be after.
        created: Revision,
        /// Whether to put the gate as well, in either case, and to read the own key
        /// where it has another revision.
        close_gate: bool,
    },
    /// If the gate's mod_revision is `gate`, delete the own key and put the gate,
    /// else read the gate and the own key. An owner's key is deleted only if it hangs on our
    /// lease: it may be another session's. For one attempt, do the former in any case: a
    /// late copy deletes nothing that was put since.
    Withdraw {
        /// The gate's mod_revision.
        gate: Revision,
    },
    /// The lock is ours; this is the create_revision of its keys, the fencing token.
    Grant(Revision),
    /// The lock cannot be had.
    Fail(Failure),
    /// Nothing is left on the server that could hold the lock: the next may try.
    Freed,
}

/// What is watched for deletions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// The whole queue.
    Queue,
    /// This key and the own one.
    Predecessor(Bytes),
}

/// Why a lock cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The session's lease has ended, or its deadline has passed.
    SessionEnded,
    /// Somebody deleted the own key while it queued.
    KeyDeleted,
    /// The own key hangs on a lease that is not ours, and is not to be taken over.
    KeyTaken,
    /// Somebody else holds it or waits for it, and the task did not want to wait.
    Busy,
}

/// The answer to [`Action::Register`], [`Action::RegisterIfEmpty`] or [`Action::TakeOver`].
#[derive(Debug)]
pub struct Registered<'a> {
    /// Whether this very register put the key.
    pub put: bool,
    /// The answer's revision.
    pub revision: Revision,
    /// The gate's mod_revision, where the register did not put the key.
    pub gate: Revision,
    /// The own key, where the register did not put it and it exists.
    pub own: Option<&'a KeyValue>,
    /// The newest keys below the prefix, the own one among them; none where a
    /// register put the key because there are none.
    pub queue: &'a [KeyValue],
    /// Whether there are more below the prefix.
    pub more: bool,
}
