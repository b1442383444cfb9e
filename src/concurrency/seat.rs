//! One task's turn at a lock. Dropped in any state, it leaves the rest to the
//! session's releaser, with neither an allocation nor a task.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::session::Session;
use super::slot::Slot;

/// A turn that is being used; see the head of this file.
#[derive(Debug)]
pub(super) struct Seat {
    session: Session,
    slot: Arc<Slot>,
    /// Gone only while the seat is dropped.
    permit: Option<OwnedSemaphorePermit>,
}

impl Seat {
    /// Waits for the local turn. Cancel safe: dropped, it gives its place up.
    pub(super) async fn take(session: Session, slot: Arc<Slot>) -> Seat {
        let permit = slot.turn().await;
        Seat {
            session,
            slot,
            permit,
        }
    }

    /// The local turn, if it is to be had now.
    pub(super) fn try_take(session: Session, slot: Arc<Slot>) -> Option<Seat> {
        let permit = slot.try_turn()?;
        Some(Seat {
            session,
            slot,
            permit: Some(permit),
        })
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let free = self.slot.handle(|lock, _| {
            lock.handle_release();
            lock.is_free()
        });
        if let (false, Some(permit)) = (free, self.permit.take()) {
            self.session.shared().backlog().push(self.slot.clone(), permit);
        }
    }
}
