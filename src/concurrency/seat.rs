//! One task's turn at a lock. Dropped in any state, it leaves the rest to the next
//! task of the session or to the session's releaser, with neither an allocation nor a task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::releaser;
use super::session::Session;
use super::slot::{Slot, Turn};
use super::token::Token;
use super::word::{Taken, Terms};
use crate::error::Error;
use crate::types::Revision;

/// A turn that is being used; see the head of this file.
#[derive(Debug)]
pub(super) struct Seat {
    session: Session,
    turn: Turn,
    terms: Terms,
    /// Writes that compare the key may be under way.
    is_fenced: AtomicBool,
}

/// What a task finds when its turn comes.
#[derive(Debug)]
pub(super) enum Found {
    /// The session's key was passed to it: it holds the lock.
    Granted(Token),
    /// No key; it is to be registered.
    Nothing,
    /// A key that is not to be used; [`Seat::renew`] it.
    Stale,
}

impl Seat {
    /// Waits for the local turn; `None` once the session has ended. Cancel safe: dropped, it gives
    /// its place up.
    pub(super) async fn take(session: &Session, slot: &Arc<Slot>, terms: &Terms) -> Option<(Seat, Found)> {
        let mut waiter = Waiter::new(session, slot);
        let turn = slot.turn().await?;
        let found = slot.take(waiter.left(), terms);
        Some(Seat::new(session, turn, terms, found))
    }

    /// The local turn, if it is to be had now.
    pub(super) fn try_take(session: &Session, slot: &Arc<Slot>, terms: &Terms) -> Option<(Seat, Found)> {
        let turn = slot.try_turn()?;
        let found = slot.take(false, terms);
        Some(Seat::new(session, turn, terms, found))
    }

    fn new(session: &Session, turn: Turn, terms: &Terms, taken: Taken) -> (Seat, Found) {
        let seat = Seat {
            session: session.clone(),
            turn,
            terms: *terms,
            is_fenced: AtomicBool::new(false),
        };
        let found = match taken {
            Taken::Granted(mark, sequence) => {
                let put = seat.slot().put(Revision(mark));
                Found::Granted(Token::new(put.created, put.takeovers, sequence))
            }
            Taken::Fresh => Found::Nothing,
            Taken::Stale => Found::Stale,
        };
        (seat, found)
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        self.turn.slot()
    }

    /// Deletes a key that is not to be used, so that another can be registered.
    ///
    /// # Errors
    ///
    /// That failed. The seat is to be dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves that to the drop of the seat.
    pub(super) async fn renew(&self) -> Result<(), Error> {
        let slot = self.slot();
        slot.handle(|lock, now| {
            slot.ended(now);
            lock.handle_release();
        });
        releaser::undo(self.session.shared(), slot).await?;
        slot.word().freed();
        // With nothing there, that is Registering.
        slot.take(false, &self.terms);
        Ok(())
    }

    /// The key is ours.
    pub(super) fn granted(&self, created: Revision) -> Token {
        let slot = self.slot();
        slot.granted(created);
        let put = slot.put(slot.mark(created));
        Token::new(created, put.takeovers, 0)
    }

    /// A comparison with the key was given out.
    pub(super) fn fence(&self) {
        // Relaxed: only the owner of the seat reads it.
        self.is_fenced.store(true, Ordering::Relaxed);
    }

    /// Passes the key on, or keeps it for a while, where that is to be. Otherwise it is to be
    /// released. Says which.
    pub(super) fn pass(&mut self) -> bool {
        if !self.slot().end(&self.terms) {
            return false;
        }
        self.turn.give_up();
        self.session.shared().settle(self.slot());
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.turn.is_had() {
            return;
        }
        // The work ended in the middle, for all that is known here: nobody is to have the key
        // while a write with it is on its way.
        if *self.is_fenced.get_mut() {
            self.slot().word().taint();
        }
        if !self.pass() {
            self.session.shared().give_back(self.turn.take());
        }
    }
}

/// A task that waits for its turn, counted so that a key is passed on only where
/// somebody is there to take it.
struct Waiter<'a> {
    session: &'a Session,
    slot: &'a Arc<Slot>,
    is_counted: bool,
}

impl Waiter<'_> {
    fn new<'a>(session: &'a Session, slot: &'a Arc<Slot>) -> Waiter<'a> {
        Waiter {
            session,
            slot,
            is_counted: slot.word().enter(),
        }
    }

    /// Whether it is counted; from now on the caller answers for that.
    fn left(&mut self) -> bool {
        std::mem::take(&mut self.is_counted)
    }
}

/// It was dropped while it waited, and after its place in the local queue: what was
/// passed to it may have nobody now.
impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.left() {
            self.slot.word().leave();
            self.session.shared().settle(self.slot);
        }
    }
}
