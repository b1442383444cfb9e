//! What gives locks back when nobody waits for it: guards that were dropped, and
//! attempts that were given up in any state. One task for each session; it tries
//! until it is certain, or until the session's lease has ended and took the keys.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::requests;
use super::shared::Shared;
use super::slot::{Slot, Turn};
use crate::core::lock::Action;
use crate::error::{Error, EtcdError};
use crate::net::clock;
use crate::net::race::{Either, race};
use crate::pb::etcdserverpb::TxnResponse;
use crate::types::Revision;

/// How many locks one session gives back at a time. One that waits for its next try
/// is none of them: however many fail, the others go on.
const RELEASES_MAX: usize = 64;

/// The task of a session's releaser.
pub(super) async fn run(watchman: Watchman) {
    let shared = &watchman.0;
    let places = Arc::new(Semaphore::new(RELEASES_MAX));
    let mut releases = JoinSet::new();
    while !shared.backlog().is_closed() {
        while let Ok(place) = places.clone().try_acquire_owned() {
            let Some(turn) = shared.backlog().pop() else {
                break;
            };
            releases.spawn(settle(shared.clone(), turn, place));
        }
        let changed = shared.backlog().changed();
        if releases.is_empty() {
            changed.await;
        } else if let Either::Left(Some(Err(error))) = race(releases.join_next(), changed).await {
            debug_assert!(!error.is_panic(), "a release panicked");
        }
    }
    // One revocation gives back whatever is left; where it fails, the lease runs
    // out. One that was orphaned is to run out.
    if shared.lease().end().is_none() {
        let _ = shared.lease().revoke().await;
    }
}

/// Stops the renewals when the task is gone, also with its runtime or in a panic:
/// nobody would give back what is dropped then, but the lease runs out. Made before the task is, which may
/// go before it was ever polled.
pub(super) struct Watchman(pub(super) Arc<Shared>);

impl Drop for Watchman {
    fn drop(&mut self) {
        self.0.lease().forget();
    }
}

/// Tries until nothing of the lock is left on the server.
async fn settle(shared: Arc<Shared>, turn: Turn, place: OwnedSemaphorePermit) {
    let slot = turn.slot().clone();
    let mut unsettled = Unsettled {
        shared,
        turn: Some(turn),
    };
    let (shared, slot) = (&*unsettled.shared, &*slot);
    let places = place.semaphore().clone();
    let mut place = Some(place);
    let mut backoff = shared.backoff();
    while undo(shared, slot).await.is_err() {
        drop(place.take());
        shared.backlog().stir();
        let again = async {
            clock::sleep_until(clock::now() + backoff.next_wait()).await;
            places.clone().acquire_owned().await
        };
        match race(shared.lease().ended(), again).await {
            Either::Left(_) => slot.handle(|lock, _| lock.handle_session_ended()),
            Either::Right(taken) => place = taken.ok(),
        }
    }
    slot.word().freed();
    drop(unsettled.turn.take());
}

/// A turn that is passed on only when the lock was given back. With a runtime that
/// is shut down, or in a panic, it goes for good: a transaction of its holder may be
/// under way. So that nobody waits for it, or starts over beside it, the session
/// goes first.
struct Unsettled {
    shared: Arc<Shared>,
    turn: Option<Turn>,
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.shared.lease().forget();
            turn.forget();
        }
    }
}

/// Sends the transactions that the machine asks for until nothing is left on the
/// server. Says whether the key was there to be deleted.
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
pub(super) async fn undo(shared: &Shared, slot: &Slot) -> Result<bool, Error> {
    let (client, place) = (shared.client(), slot.place());
    let mut deleted = None;
    if shared.is_delayed() {
        slot.handle(|lock, _| lock.handle_session_ended());
    }
    while let Some(action) = slot.poll_action() {
        let answered = match action {
            Action::Release {
                created,
                close_gate: false,
            } => slot.templates().release(client, place, created).await.map(|verdict| {
                deleted.get_or_insert(verdict.succeeded);
                slot.handle(|lock, _| lock.handle_released(verdict.revision(), false, None));
            }),
            Action::Release { created, close_gate } => {
                let answer = requests::release(client, place, created, close_gate).await;
                answer.and_then(|answer| {
                    let own = requests::unreleased(&answer, close_gate)?;
                    deleted.get_or_insert(answer.succeeded);
                    slot.handle(|lock, _| lock.handle_released(answer.revision(), close_gate, own));
                    Ok(())
                })
            }
            Action::Withdraw { gate } => {
                let answer = requests::withdraw(client, place, gate).await;
                answer.and_then(|answer| withdrawn(slot, gate, &answer))
            }
            _ => continue,
        };
        match answered {
            Ok(()) => {}
            // The key went with it, and not by us.
            Err(error) if error.etcd() == Some(EtcdError::LeaseNotFound) => {
                shared.gone();
                deleted.get_or_insert(false);
                slot.handle(|lock, _| lock.handle_session_ended());
            }
            Err(error) => {
                slot.handle(|lock, _| lock.handle_undo_failed());
                return Err(error);
            }
        }
    }
    Ok(deleted.unwrap_or(false))
}

fn withdrawn(slot: &Slot, gate: Revision, answer: &TxnResponse) -> Result<(), Error> {
    if answer.succeeded {
        slot.handle(|lock, _| lock.handle_withdrawn(answer.revision()));
        return Ok(());
    }
    let (moved, own) = requests::passed(answer)?;
    if moved == gate {
        return Err(requests::misfit(
            "a withdrawal was refused although its gate has not moved",
        ));
    }
    slot.handle(|lock, _| lock.handle_withdraw_passed(moved, own));
    Ok(())
}
