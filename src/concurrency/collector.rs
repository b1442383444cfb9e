//! What gives back the attempts that were dropped: a part of the session's task. It tries
//! until it is certain, or until the session's lease has ended and took the keys.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::requests;
use super::shared::Shared;
use super::ticket::Ticket;
use crate::core::lock::Action;
use crate::error::{Error, EtcdError};
use crate::net::clock;
use crate::net::race::{Either, race};

/// How many transactions of one session give back at a time. What waits for its next
/// try is none of them: however many fail, the others go on.
const RELEASES_MAX: usize = 64;

/// Ends with the lease, which takes whatever is left; those who wait for a turn end with it.
pub(super) async fn run(caller: Caller) {
    let shared = &caller.0;
    let places = Arc::new(Semaphore::new(RELEASES_MAX));
    let mut releases = JoinSet::new();
    while let Either::Right(ticket) = race(shared.lease().ended(), shared.entries().next()).await {
        releases.spawn(settle(shared.clone(), ticket, places.clone()));
        while let Some(ended) = releases.try_join_next() {
            debug_assert!(!ended.is_err_and(|error| error.is_panic()), "a release panicked");
        }
    }
}

/// Ends the waiting for turns, also where the task goes before the session, with its runtime
/// or in a panic. Made before the task is, which may go before it was ever polled.
pub(super) struct Caller(pub(super) Arc<Shared>);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.end_waiting();
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
    if shared.is_delayed() {
        ticket.handle(lease, |lock, _| lock.handle_session_ended());
    }
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
                shared.gone();
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
