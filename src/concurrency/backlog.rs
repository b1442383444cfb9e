//! The locks of a session that are still to be given back. Filled by drops, which
//! can neither wait nor fail; emptied by the session's releaser.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::slot::Turn;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pending: Mutex<Pending>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    /// Each name is here once at most: its turn is.
    locks: VecDeque<Turn>,
    closed: bool,
}

impl Backlog {
    /// Makes room, so that [`Backlog::push`] need not: drops do not allocate.
    pub(super) fn reserve(&self, names: usize) {
        self.pending().locks.reserve(names);
    }

    pub(super) fn push(&self, turn: Turn) {
        self.pending().locks.push_back(turn);
        self.wake.notify_one();
    }

    /// Has the releaser look again: it has room for one more.
    pub(super) fn stir(&self) {
        self.wake.notify_one();
    }

    pub(super) fn pop(&self) -> Option<Turn> {
        self.pending().locks.pop_front()
    }

    /// Nobody holds the session any more: nothing will come after what is there.
    pub(super) fn close(&self) {
        self.pending().closed = true;
        self.wake.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.pending().closed
    }

    /// Waits for the next [`Backlog::push`], [`Backlog::stir`] or [`Backlog::close`];
    /// one that came before is not missed.
    pub(super) async fn changed(&self) {
        self.wake.notified().await;
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
