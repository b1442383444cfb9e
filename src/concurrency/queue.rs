//! A queue of work: what is put into it once is done at least once. The order, and what is free, is
//! decided by `core::queue`.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::definite::{definite, ended};
use super::following::Following;
use super::job::Job;
use super::presence::{Presence, mark};
use super::recipe::prefix;
use super::requests::range;
use super::session::Session;
use crate::client::{Compare, Op};
use crate::core::queue::{Item, Place};
use crate::error::Error;
use crate::net::race::{Either, race};
use crate::types::{KeyRange, Revision};

const RECIPE: &str = "queue";

/// In the middle, so that there is room on both sides.
const PRIORITY_DEFAULT: u16 = 0x8000;

/// A queue of items that wait in etcd until somebody has done them, in the order of their priorities
/// and then of their arrival. A cheap clone: those who put.
///
/// # Guarantees
///
/// *Put exactly once*: where [`Queue::put`] returns, the item is in the queue once, whatever was lost
/// on the way. Where it fails or is dropped, it is there once or not at all.
///
/// *Done at least once, by one at a time*: an item is given to one consumer, and to the next only when
/// that one gave it back or its session has ended. It keeps its place. What is [done](Job::done) is
/// never given out again. Who loses the session while it works is told at the deadline, under the clock
/// assumption of [`Session`]; a consumer that is paused cannot be stopped, so that two may work on an
/// item then, and what they write into etcd is kept apart by [`Job::fence`].
///
/// *In order*: whoever takes gets, of what is free, the least priority and in it the oldest item. Items
/// that were given back are taken behind younger ones that others have taken meanwhile.
///
/// A consumer knows the keys of all items, and is told of each change: it is for thousands of items at
/// a time, not for millions.
#[derive(Clone, Debug)]
pub struct Queue {
    session: Session,
    name: Arc<str>,
    producer: Arc<Mutex<Producer>>,
}

/// The key that orders the puts: each moves it, so that no copy of an earlier one does anything.
#[derive(Debug)]
struct Producer {
    mark: String,
    /// Its mod_revision, as far as is known.
    moved: Revision,
}

impl Session {
    /// The queue of this name, which has no `#`. Nothing is sent until it is used. Names nest.
    ///
    /// Who puts often keeps it, or a clone of it: each one that is made here has a key of its own in
    /// etcd until the session ends.
    ///
    /// ```no_run
    /// # async fn example(session: tenure::Session) -> Result<(), tenure::Error> {
    /// let queue = session.queue("jobs/mail");
    /// queue.put("to ann").await?;
    /// queue.put_with_priority(1, "to bob, now").await?;
    ///
    /// let mut consumer = queue.consumer();
    /// let job = consumer.take().await?;
    /// assert_eq!(job.value(), "to bob, now");
    /// job.done().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn queue(&self, name: &str) -> Queue {
        let producer = Producer {
            mark: mark(self),
            moved: Revision::ZERO,
        };
        Queue {
            session: self.clone(),
            name: name.into(),
            producer: Arc::new(Mutex::new(producer)),
        }
    }
}

impl Queue {
    /// Puts an item behind all others of the middle priority, 0x8000. When it was put.
    ///
    /// # Errors
    ///
    /// The session has ended, or the server refuses it. A server that cannot be reached is not an error
    /// until the session's deadline.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have put the item, or may yet do so until the next put through this queue: once
    /// at most.
    pub async fn put(&self, value: impl Into<Bytes>) -> Result<Revision, Error> {
        self.put_with_priority(PRIORITY_DEFAULT, value).await
    }

    /// Puts an item behind all others of this priority. The least is taken first. When it was put.
    ///
    /// # Errors
    ///
    /// As [`Queue::put`].
    ///
    /// # Cancel safety
    ///
    /// As [`Queue::put`].
    pub async fn put_with_priority(&self, priority: u16, value: impl Into<Bytes>) -> Result<Revision, Error> {
        let (session, client) = (&self.session, self.session.client());
        let prefix = prefix(&self.name, RECIPE)?;
        let (id, value) = (mark(session), value.into());
        let item = Place::new(prefix.clone()).item(priority, &id);
        // One at a time, so that what moved the key is known.
        let mut producer = match race(session.ended(), self.producer.lock()).await {
            Either::Left(_) => return Err(ended(session)),
            Either::Right(producer) => producer,
        };
        let key = Bytes::from(format!("{prefix}producer/{}", producer.mark));
        loop {
            let moved = producer.moved;
            let answer = definite(session, &mut false, || {
                let txn = client.txn().part().when(Compare::mod_revision(key.clone()).equal(moved));
                txn.then(Op::put(item.clone(), value.clone()))
                    .then(Op::put(key.clone(), id.clone()).lease(session.lease_id()))
                    .or_else(Op::get(key.clone()))
            })
            .await?;
            if answer.succeeded {
                producer.moved = answer.revision();
                return Ok(producer.moved);
            }
            let found = range(&answer, 0)?.kvs.first();
            producer.moved = Revision(found.map_or(0, |kv| kv.mod_revision));
            // A copy of this put, whose answer was lost, or else of one that was dropped.
            if found.is_some_and(|kv| kv.value == id) {
                return Ok(producer.moved);
            }
        }
    }

    /// One who takes.
    #[must_use]
    pub fn consumer(&self) -> Consumer {
        Consumer {
            session: self.session.clone(),
            name: self.name.clone(),
            following: None,
            claimed: Revision::ZERO,
        }
    }

    /// How many items there are, those that somebody works on included.
    ///
    /// # Errors
    ///
    /// As [`Client::get`](crate::Client::get).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn count(&self) -> Result<u64, Error> {
        let items = Place::new(prefix(&self.name, RECIPE)?).items();
        let answer = self.session.client().get(items).count_only().control().await?;
        Ok(u64::try_from(answer.count).unwrap_or(0))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// One who takes items out of a [`Queue`], one after the other or several at a time. From its first
/// take on it follows the queue, until it is dropped.
#[derive(Debug)]
pub struct Consumer {
    session: Session,
    name: Arc<str>,
    following: Option<Following>,
    /// The last claim. A view from before does not show it yet.
    claimed: Revision,
}

impl Consumer {
    /// Waits until there is an item that nobody works on, and takes it.
    ///
    /// # Errors
    ///
    /// The session has ended, or the server refuses it; or it could not be reached in the client's time
    /// for a call when the waiting began.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, it has taken nothing: what it may have claimed is given back in the
    /// background.
    pub async fn take(&mut self) -> Result<Job, Error> {
        let session = self.session.clone();
        match race(session.ended(), self.take_next()).await {
            Either::Left(_) => Err(ended(&session)),
            // What has failed is not gone on with.
            Either::Right(job) => job.inspect_err(|_| self.following = None),
        }
    }

    async fn take_next(&mut self) -> Result<Job, Error> {
        let prefix = prefix(&self.name, RECIPE)?;
        let place = Place::new(prefix.clone());
        let following = match self.following.take() {
            Some(following) => following,
            None => Following::start(self.session.client(), place.keys()).await?,
        };
        let following = self.following.insert(following);
        loop {
            let is_old = following.view().revision() < self.claimed;
            if let (false, Some(item)) = (is_old, place.first_free(following.view())) {
                let mark = mark(&self.session);
                let mut presence = Presence::new(&self.session, &prefix, item.claim.clone(), mark);
                let is_there = Compare::create_revision(item.key.clone()).equal(item.created);
                if let Some(claimed) = presence.enter(&[is_there]).await? {
                    self.claimed = claimed;
                    if let Some(value) = read(&self.session, &item).await? {
                        return Ok(Job::new(presence, item, value));
                    }
                }
            }
            // Whatever was refused was decided on a view that is old: what made it so is on its way.
            following.next().await?;
        }
    }
}

/// What was put, unless somebody has deleted it by hand.
async fn read(session: &Session, item: &Item) -> Result<Option<Bytes>, Error> {
    let answer = session.client().get(KeyRange::key(item.key.clone())).control().await?;
    let there = answer.kvs.into_iter().find(|kv| kv.create_revision == item.created.0);
    Ok(there.map(|kv| kv.value))
}
