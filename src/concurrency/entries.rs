//! What the attempts of a session have in common: their numbers, what is known of
//! their gates, and the task that gives back what was dropped. It tries until it is
//! certain, or until the session's lease has ended and took the keys.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use super::entry::Ticket;
use super::requests;
use super::shared::Shared;
use crate::core::lock::Action;
use crate::error::{Error, EtcdError};
use crate::net::clock;
use crate::net::race::{Either, race};
use crate::types::Revision;

/// How many transactions of one session give back at a time. What waits for its next
/// try is none of them: however many fail, the others go on.
const RELEASES_MAX: usize = 64;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Entries {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// How many there were ever. A number is used once, so a key is.
    attempts: u64,
    /// How many there are.
    live: usize,
    /// What was dropped, with room for all there are: drops do not allocate.
    dropped: VecDeque<Arc<Ticket>>,
    /// The gates that were put, with their mod_revisions. A key each on the server.
    gates: HashMap<Bytes, Revision>,
}

impl Entries {
    /// Those before this number may have been used by others of the same lease.
    pub(super) fn number_from(&self, attempts: u64) {
        self.state().attempts = attempts;
    }

    /// The next attempt; `make` is told its number, and finds its place.
    pub(super) fn ticket(
        &self,
        names: &[&str],
        make: impl FnOnce(u64) -> Option<Ticket>,
    ) -> Result<Ticket, Error> {
        let mut state = self.state();
        state.attempts += 1;
        let Some(ticket) = make(state.attempts) else {
            let message = format!("one of {names:?} cannot be the name of a lock");
            return Err(Error::invalid(message));
        };
        if let Some(gate) = state.gates.get(&ticket.place().gate) {
            ticket.begin_at(*gate);
        }
        state.live += 1;
        let room = state.live - state.dropped.len().min(state.live);
        state.dropped.reserve(room);
        Ok(ticket)
    }

    /// Nothing of the attempt is left.
    pub(super) fn settled(&self, ticket: &Ticket) {
        let mut state = self.state();
        state.live = state.live.saturating_sub(1);
        let seen = ticket.gate();
        if seen == Revision::ZERO {
            return;
        }
        match state.gates.get_mut(&ticket.place().gate) {
            Some(gate) => *gate = seen.max(*gate),
            None => drop(state.gates.insert(ticket.place().gate.clone(), seen)),
        }
    }

    /// The attempt is to be undone in the background.
    pub(super) fn push(&self, ticket: Arc<Ticket>) {
        self.state().dropped.push_back(ticket);
        self.wake.notify_one();
    }

    async fn next(&self) -> Arc<Ticket> {
        loop {
            if let Some(ticket) = self.pop() {
                return ticket;
            }
            self.wake.notified().await;
        }
    }

    fn pop(&self) -> Option<Arc<Ticket>> {
        self.state().dropped.pop_front()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of the session's task that is for attempts. It ends with the lease, which
/// takes whatever is left.
pub(super) async fn run(shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(RELEASES_MAX));
    let mut releases = JoinSet::new();
    while let Either::Right(ticket) = race(shared.lease().ended(), shared.entries().next()).await {
        releases.spawn(settle(shared.clone(), ticket, places.clone()));
        while let Some(ended) = releases.try_join_next() {
            debug_assert!(!ended.is_err_and(|error| error.is_panic()), "a release panicked");
        }
    }
}

/// Tries until nothing of the attempt is left on the server.
async fn settle(shared: Arc<Shared>, ticket: Arc<Ticket>, places: Arc<Semaphore>) {
    let mut backoff = shared.backoff();
    loop {
        let place = places.acquire().await;
        if undo(&shared, &ticket).await.is_ok() {
            return shared.entries().settled(&ticket);
        }
        drop(place);
        clock::sleep_until(clock::now() + backoff.next_wait()).await;
    }
}

/// Sends the transactions that the machine asks for until nothing is left on the
/// server. Says how many keys they deleted.
///
/// # Errors
///
/// A transaction failed. The machine has been told: call again.
///
/// # Cancel safety
///
/// Dropped, it leaves the machine to be told by [`Lock::handle_release`].
///
/// [`Lock::handle_release`]: crate::core::lock::Lock::handle_release
pub(super) async fn undo(shared: &Shared, ticket: &Ticket) -> Result<i64, Error> {
    let (client, place, lease) = (shared.client(), ticket.place(), shared.lease());
    let mut deleted = 0;
    while let Some(action) = ticket.poll_action() {
        let close_gate = match action {
            Action::Release { close_gate, .. } => close_gate,
            Action::Withdraw { .. } => true,
            _ => continue,
        };
        let txn = match action {
            // A key that was found is deleted only if it is still the one that was found.
            Action::Release { created, .. } if !place.is_once() => {
                requests::release(client, place, created, close_gate)
            }
            _ => requests::give_up(client, place, close_gate),
        };
        match txn.await {
            Ok(answer) => {
                deleted += requests::given_up(&answer);
                ticket.handle(lease, |lock, _| match action {
                    Action::Release { .. } => lock.handle_released(answer.revision(), close_gate, None),
                    _ => lock.handle_withdrawn(answer.revision()),
                });
            }
            // The keys went with it, and not by us.
            Err(error) if error.etcd() == Some(EtcdError::LeaseNotFound) => {
                lease.gone();
                ticket.handle(lease, |lock, _| lock.handle_session_ended());
            }
            Err(error) => {
                ticket.handle(lease, |lock, _| lock.handle_undo_failed());
                return Err(error);
            }
        }
    }
    Ok(deleted)
}
