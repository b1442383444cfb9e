//! One attempt at a lock with keys of its own, from before its register until nothing
//! of it is left. Dropped in any state, it leaves the rest to the session's task in
//! `collector`, with neither an allocation nor a task.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::attempt::{Attempt, Kept};
use super::collector;
use super::session::Session;
use super::ticket::Ticket;
use crate::core::lock::{Action, Claim, Failure, Lock, Place};
use crate::core::time::Instant;
use crate::error::Error;
use crate::types::Revision;

/// See the head of this file.
pub(super) struct Entry {
    session: Session,
    ticket: Arc<Ticket>,
}

impl Entry {
    /// An attempt that nothing is sent for yet.
    pub(super) fn new(session: &Session, names: &[&str], claim: Claim) -> Result<Entry, Error> {
        let (lease, gate_prefix) = (session.lease_id(), session.shared().gate_prefix());
        let place = |attempt| Place::once(names, claim, attempt, lease, gate_prefix);
        Entry::at(session, names, place)
    }

    /// One that goes on with a key that hangs on the session's lease already.
    pub(super) fn of_key(session: &Session, name: &str, key: Bytes) -> Result<Entry, Error> {
        let (lease, gate_prefix) = (session.lease_id(), session.shared().gate_prefix());
        let place = |_| Place::of_key(name, key, lease, gate_prefix);
        Entry::at(session, &[name], place)
    }

    fn at(
        session: &Session,
        names: &[&str],
        place: impl FnOnce(u64) -> Option<Place>,
    ) -> Result<Entry, Error> {
        let deadline = session.shared().lease().deadline();
        let ticket = session
            .shared()
            .entries()
            .ticket(names, |attempt| Some(Ticket::new(place(attempt)?, deadline)))?;
        Ok(Entry {
            session: session.clone(),
            ticket: Arc::new(ticket),
        })
    }

    /// Waits for the grant. To be called once.
    pub(super) async fn acquire(&self, value: &Bytes) -> Result<Result<Revision, Failure>, Error> {
        self.handle(|lock, now| lock.handle_acquire(now));
        Attempt::new(&self.session, self, value).run().await
    }

    /// Waits for the grant of a key that was created at this revision. To be called once.
    pub(super) async fn resume(&self, created: Revision) -> Result<Result<Revision, Failure>, Error> {
        self.handle(|lock, now| lock.handle_resume(now, created));
        // Nothing is put, so there is nothing to say.
        Attempt::new(&self.session, self, &Bytes::new()).run().await
    }

    /// Takes what is free, and does not wait. To be called once.
    pub(super) async fn try_acquire(&self, value: &Bytes) -> Result<Result<Revision, Failure>, Error> {
        self.handle(|lock, now| lock.handle_try_acquire(now));
        Attempt::new(&self.session, self, value).run().await
    }

    /// Deletes the keys, and says how many of them there were.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on in the background.
    pub(super) async fn release(self) -> Result<i64, Error> {
        self.handle(|lock, _| lock.handle_release());
        collector::undo(self.session.shared(), &self.ticket).await
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }
}

impl Kept for Entry {
    fn place(&self) -> &Place {
        self.ticket.place()
    }

    fn handle<T>(&self, input: impl FnOnce(&mut Lock, Instant) -> T) -> T {
        self.ticket.handle(self.session.shared().lease(), input)
    }

    fn poll_action(&self) -> Option<Action> {
        self.ticket.poll_action()
    }

    fn has_action(&self) -> bool {
        self.ticket.has_action()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.ticket.poll_timeout()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let free = self.handle(|lock, _| {
            lock.handle_release();
            lock.is_free()
        });
        let entries = self.session.shared().entries();
        match free {
            true => entries.settled(&self.ticket),
            false => entries.push(self.ticket.clone()),
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Entry").field(&self.ticket).finish()
    }
}
