//! From the task that runs a client's watches to the reader of one of them: what
//! waits to be read, how the watch ended, and whom to wake.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::route::Route;
use crate::core::watch::{Queue, WatchEnd};
use crate::types::{Revision, WatchId};

/// What the server said when it created a watch.
#[derive(Clone, Debug)]
pub(crate) struct Created {
    pub(crate) id: WatchId,
    pub(crate) revision: Revision,
    pub(crate) route: Route,
}

/// From the task to one reader.
#[derive(Debug)]
pub(super) struct Mailbox(Mutex<MailboxState>);

#[derive(Debug)]
pub(super) struct MailboxState {
    pub(super) created: Option<Created>,
    pub(super) resumes: u64,
    pub(super) catch_ups: u64,
    /// A batch was refused, and the task waits to hear that the others are read.
    pub(super) behind: bool,
    /// What the server said when it last refused the watch, to be asked again.
    pub(super) refusal: Option<String>,
    pub(super) queue: Queue,
    pub(super) progress_is_queued: bool,
    waker: Option<Waker>,
}

impl Mailbox {
    pub(super) fn new(buffer_bytes: usize) -> Mailbox {
        Mailbox(Mutex::new(MailboxState {
            created: None,
            resumes: 0,
            catch_ups: 0,
            behind: false,
            refusal: None,
            queue: Queue::new(buffer_bytes),
            progress_is_queued: false,
            waker: None,
        }))
    }

    pub(super) fn finish(&self, end: WatchEnd) {
        self.change(|state| state.queue.finish(end));
    }

    /// Changes the state, then wakes the reader: after the lock, so that it does not wait for it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut MailboxState) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    pub(super) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        read: impl FnOnce(&mut MailboxState) -> Option<T>,
    ) -> Poll<T> {
        let mut state = self.lock();
        match read(&mut state) {
            Some(value) => Poll::Ready(value),
            None => {
                register(&mut state.waker, cx);
                Poll::Pending
            }
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, MailboxState> {
        // Nothing that runs under the lock leaves the state half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the task woken that asks now.
pub(super) fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}
