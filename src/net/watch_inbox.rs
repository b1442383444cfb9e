//! From a client's readers to the task that runs their watches: at most one wish
//! of each kind for each watch, and the start of the task with the first of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::watch_mailbox::{Mailbox, register};
use crate::core::watch::{Create, WATCHES_MAX, WatchEnd, WatchKey};

/// What a reader wants of the task.
#[derive(Debug)]
pub(super) enum Command {
    Create {
        key: WatchKey,
        create: Create,
        mailbox: Arc<Mailbox>,
    },
    Cancel(WatchKey),
    Progress(WatchKey, Arc<Mailbox>),
    Drained(WatchKey),
}

/// From the readers to the task.
#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<InboxState>);

#[derive(Debug, Default)]
struct InboxState {
    commands: VecDeque<Command>,
    /// How many of them are creates: bounded, and with them everything else is.
    creates: usize,
    key_last: u64,
    driver_runs: bool,
    closed: bool,
    waker: Option<Waker>,
}

/// The client and all its readers are gone.
pub(super) struct Gone;

impl Inbox {
    /// Queues a create; says whether the caller has to start the task.
    pub(super) fn create(&self, create: Create, mailbox: &Arc<Mailbox>) -> (WatchKey, bool) {
        let mut state = self.lock();
        state.key_last += 1;
        let key = WatchKey(state.key_last);
        if state.creates >= WATCHES_MAX {
            drop(state);
            mailbox.finish(WatchEnd::too_many());
            return (key, false);
        }
        state.creates += 1;
        state.commands.push_back(Command::Create {
            key,
            create,
            mailbox: Arc::clone(mailbox),
        });
        let starts = !std::mem::replace(&mut state.driver_runs, true);
        wake(state);
        (key, starts)
    }

    pub(super) fn push(&self, command: Command) {
        let mut state = self.lock();
        // Without a task there is no watch that the command could mean.
        if state.driver_runs {
            state.commands.push_back(command);
            wake(state);
        }
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        wake(state);
    }

    /// Moves what is queued into the empty `commands`, whose storage takes its place.
    pub(super) fn poll(
        &self,
        cx: &mut Context<'_>,
        commands: &mut VecDeque<Command>,
    ) -> Poll<Result<(), Gone>> {
        let mut state = self.lock();
        if state.closed {
            return Poll::Ready(Err(Gone));
        }
        if state.commands.is_empty() {
            register(&mut state.waker, cx);
            return Poll::Pending;
        }
        std::mem::swap(&mut state.commands, commands);
        state.creates = 0;
        Poll::Ready(Ok(()))
    }

    /// The task is over, whatever the reason: who is still in the queue must not wait for it.
    pub(super) fn driver_ended(&self) -> VecDeque<Command> {
        let mut state = self.lock();
        state.driver_runs = false;
        state.creates = 0;
        state.waker = None;
        std::mem::take(&mut state.commands)
    }

    fn lock(&self) -> MutexGuard<'_, InboxState> {
        // Nothing that runs under the lock leaves the state half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, InboxState>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}
