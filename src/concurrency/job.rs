//! An item of a queue that somebody works on.

use std::fmt;

use bytes::Bytes;

use super::definite::definite;
use super::fenced::FencedWrites;
use super::presence::Presence;
use super::refusal::lost;
use super::requests::range;
use crate::client::{Compare, LeaseEnd, Op};
use crate::core::queue::Item;
use crate::error::Error;
use crate::types::Revision;

/// An item that was taken out of a [`Queue`](super::Queue), and that nobody else gets for as long as
/// this and the session live.
///
/// Dropping it gives it back in the background, by a task of its own.
#[must_use = "an item is given back when its job is dropped"]
pub struct Job {
    presence: Presence,
    item: Item,
    value: Bytes,
}

impl Job {
    pub(super) fn new(presence: Presence, item: Item, value: Bytes) -> Job {
        Job {
            presence,
            item,
            value,
        }
    }

    /// What was put.
    #[must_use]
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// The item's priority.
    #[must_use]
    pub fn priority(&self) -> u16 {
        self.item.priority
    }

    /// When the item was put: a number that no other item of the queue has, the same whoever takes it.
    #[must_use]
    pub fn put_revision(&self) -> Revision {
        self.item.created
    }

    /// Whether the session is proven to be alive, so that nobody else has the item.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.presence.session().is_valid()
    }

    /// Completes when the session is over, at the deadline at the latest: somebody else gets the item.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn lost(&self) -> LeaseEnd {
        self.presence.session().ended().await
    }

    /// A comparison that holds only while the item is ours in etcd itself, for the transactions that
    /// the work consists of.
    #[must_use]
    pub fn fence(&self) -> Compare {
        self.presence.is_ours()
    }

    /// Writes that take effect only while the item is ours in etcd itself: [`Job::fence`] in one line.
    pub fn fenced(&self) -> FencedWrites<'_> {
        FencedWrites::new(self.presence.session(), [self.fence()])
    }

    /// The work is done: the item leaves the queue.
    ///
    /// # Errors
    ///
    /// `FailedPrecondition`: it was not ours any more, and somebody else has done it, does it or will. The session
    /// has ended, or the server refuses it. A server that cannot be reached is not an error until the
    /// session's deadline; where an answer was lost, an item that is gone is taken to be gone by this.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the item is out of the queue, or given back in the background.
    pub async fn done(mut self) -> Result<(), Error> {
        let session = self.presence.session().clone();
        let mut loose = false;
        let answer = definite(&session, &mut loose, || {
            let txn = session.client().txn().control().when(self.presence.is_ours());
            txn.then(Op::delete(self.item.key.clone()))
                .then(Op::delete(self.presence.key().clone()))
                .or_else(Op::get(self.item.key.clone()).keys_only())
        })
        .await?;
        // Without the item, no copy of the claim is carried out any more. Where an answer was lost, a copy of
        // this has ended it, for all that can be known.
        let is_done = answer.succeeded
            || loose && {
                let there = range(&answer, 0)?.kvs.first();
                there.is_none_or(|kv| kv.create_revision != self.item.created.0)
            };
        if !is_done {
            return Err(lost(&session, "somebody else has the item, or has done it"));
        }
        self.presence.forget();
        Ok(())
    }

    /// Gives the item back, and waits until that is committed. It keeps its place.
    ///
    /// # Errors
    ///
    /// It is not known to be given back; it is tried again in the background until the session ends.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on in the background.
    pub async fn give_back(mut self) -> Result<(), Error> {
        self.presence.leave().await.map(drop)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("item", &self.item)
            .field("presence", &self.presence)
            .finish_non_exhaustive()
    }
}
