//! The read-write lock: many readers, or one writer. Each attempt has a key of its own
//! in the queue, but readers of one handle share one for a short while.

use std::fmt;
use std::ops::Deref;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;

use super::attempt::Kept;
use super::entry::Entry;
use super::held::Held;
use super::in_time::in_time;
use super::refusal::refused;
use super::session::Session;
use crate::client::{Compare, Op};
use crate::core::lock::{Claim, Failure};
use crate::core::time::Instant;
use crate::error::Error;
use crate::net::clock;

/// For so long a reader's key is shared with others of the same handle. A writer in another process may
/// wait so much longer for the last of them to begin.
const JOIN_MAX: Duration = Duration::from_millis(100);

/// A name that many can lock to read, or one to write, among all processes that use
/// the same etcd cluster and the same name.
///
/// It is fair: whoever asked first comes first, but that readers are beside each other. A
/// writer that waits holds up the readers that come after it. Clones of one `RwLock` are
/// one handle: a reader that comes within 100 ms after another one was granted, and while
/// that one still reads, joins it without asking the server, unless a writer of this
/// handle waits. A writer of another handle is not heard by then: it may wait for readers that
/// came after it, by up to 100 ms, and for as long as they read.
///
/// A [`Mutex`](super::Mutex) on the same name, the Go client's and `etcdctl lock`
/// included, is one more writer.
///
/// There is no upgrade: a task that writes while it still reads waits for itself.
///
/// # Guarantees
///
/// No [`WriteGuard`] of a name is valid at the same time as another guard of it, as long as
/// the clocks keep their rate (see [`Session`]), nobody deletes the keys by hand, and code
/// stops when it learns of the loss. A process that is paused between a check and
/// its effect cannot be stopped by any lock: for that there is [`Held::fence`].
#[derive(Clone)]
pub struct RwLock {
    session: Session,
    name: Arc<str>,
    value: Bytes,
    timeout: Option<Duration>,
    crowd: Arc<Mutex<Crowd>>,
}

/// The readers of one handle.
#[derive(Default)]
struct Crowd {
    /// The last one that was granted by the server.
    newest: Weak<Held>,
    /// Until then others may join it.
    open_until: Instant,
    /// How many writers wait.
    writers: usize,
}

impl Session {
    /// The read-write lock of this name. Nothing is sent until it is locked.
    #[must_use]
    pub fn rw_lock(&self, name: &str) -> RwLock {
        RwLock {
            session: self.clone(),
            name: name.into(),
            value: self.shared().holder(),
            timeout: None,
            crowd: Arc::default(),
        }
    }
}

impl RwLock {
    /// As [`Mutex::value`](super::Mutex::value).
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> RwLock {
        self.value = value.into();
        self
    }

    /// As [`Mutex::timeout`](super::Mutex::timeout).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> RwLock {
        self.timeout = Some(timeout);
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until the lock is ours to read: until no older writer is left.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`](super::Mutex::lock).
    ///
    /// # Cancel safety
    ///
    /// As [`Mutex::lock`](super::Mutex::lock).
    pub async fn read(&self) -> Result<ReadGuard, Error> {
        if let Some(guard) = self.join() {
            return Ok(guard);
        }
        in_time(
            &self.name,
            self.timeout,
            pin!(async {
                let held = self.acquire(Claim::Reader).await?;
                Ok(self.open(held))
            }),
        )
        .await
    }

    /// Waits until the lock is ours to write: until nobody older is left.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`](super::Mutex::lock).
    ///
    /// # Cancel safety
    ///
    /// As [`Mutex::lock`](super::Mutex::lock).
    pub async fn write(&self) -> Result<WriteGuard, Error> {
        let _waiting = Waiting::new(&self.crowd);
        in_time(
            &self.name,
            self.timeout,
            pin!(async { Ok(self.guard(self.acquire(Claim::Writer).await?)) }),
        )
        .await
    }

    /// Takes the lock to read if no writer has it or waits for it: `None` otherwise.
    ///
    /// Nothing is left behind where it does not take it. It costs one round trip; two beside
    /// readers that it cannot join, for then it queues to be sure.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`](super::Mutex::lock).
    ///
    /// # Cancel safety
    ///
    /// As [`Mutex::lock`](super::Mutex::lock).
    pub async fn try_read(&self) -> Result<Option<ReadGuard>, Error> {
        if let Some(guard) = self.join() {
            return Ok(Some(guard));
        }
        in_time(
            &self.name,
            self.timeout,
            pin!(async {
                let held = self.try_acquire(Claim::Reader).await?;
                Ok(held.map(|held| self.open(held)))
            }),
        )
        .await
    }

    /// Takes the lock to write if nobody has it or waits for it: `None` otherwise.
    ///
    /// It costs one round trip, and leaves nothing behind where it does not take it.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`](super::Mutex::lock).
    ///
    /// # Cancel safety
    ///
    /// As [`Mutex::lock`](super::Mutex::lock).
    pub async fn try_write(&self) -> Result<Option<WriteGuard>, Error> {
        in_time(
            &self.name,
            self.timeout,
            pin!(async {
                let held = self.try_acquire(Claim::Writer).await?;
                Ok(held.map(|held| self.guard(held)))
            }),
        )
        .await
    }

    async fn acquire(&self, claim: Claim) -> Result<Held, Error> {
        let entry = Entry::new(&self.session, &[&self.name], claim)?;
        let granted = entry.acquire(&self.value).await?;
        let created = granted.map_err(|failure| refused(&self.session, &self.name, failure))?;
        Ok(Held::new(entry, created))
    }

    async fn try_acquire(&self, claim: Claim) -> Result<Option<Held>, Error> {
        let entry = Entry::new(&self.session, &[&self.name], claim)?;
        match entry.try_acquire(&self.value).await? {
            Ok(created) => Ok(Some(Held::new(entry, created))),
            Err(Failure::Busy) => Ok(None),
            Err(failure) => Err(refused(&self.session, &self.name, failure)),
        }
    }

    /// Joins a reader of this handle.
    fn join(&self) -> Option<ReadGuard> {
        let crowd = lock(&self.crowd);
        if crowd.writers > 0 || clock::now() >= crowd.open_until || !self.session.is_valid() {
            return None;
        }
        let held = crowd.newest.upgrade()?;
        Some(ReadGuard { held })
    }

    /// Others may join this reader from now on.
    fn open(&self, held: Held) -> ReadGuard {
        open(&self.crowd, held)
    }

    fn guard(&self, held: Held) -> WriteGuard {
        WriteGuard {
            held,
            crowd: self.crowd.clone(),
        }
    }
}

impl fmt::Debug for RwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The proof that a lock is held to read. What can be asked of it is in [`Held`].
///
/// Dropping it gives the lock back in the background, if no other reader of the same
/// handle shares it; the drop itself neither allocates nor starts a task.
#[derive(Debug)]
#[must_use = "a lock is given back when its guard is dropped"]
pub struct ReadGuard {
    held: Arc<Held>,
}

impl ReadGuard {
    /// Gives the lock back, and waits until that is committed. While other readers of the
    /// same handle share it, that is left to the last of them.
    ///
    /// # Errors
    ///
    /// As [`Guard::release`](super::Guard::release).
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on in the background.
    pub async fn release(self) -> Result<(), Error> {
        match Arc::into_inner(self.held) {
            Some(held) => held.release().await,
            None => Ok(()),
        }
    }
}

impl Deref for ReadGuard {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

/// The proof that a lock is held to write. What can be asked of it is in [`Held`].
///
/// Dropping it gives the lock back in the background; the drop itself neither
/// allocates nor starts a task.
#[derive(Debug)]
#[must_use = "a lock is given back when its guard is dropped"]
pub struct WriteGuard {
    held: Held,
    crowd: Arc<Mutex<Crowd>>,
}

impl WriteGuard {
    /// Becomes a reader, without letting a writer in between. The token stays the same; the
    /// writer's [`Held::fence`] holds no more.
    ///
    /// A server that cannot be reached is not an error until the session's deadline: it
    /// is tried again.
    ///
    /// # Errors
    ///
    /// The lock was lost, or the server refuses. The lock is given back then.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it gives the lock back in the background.
    pub async fn downgrade(self) -> Result<ReadGuard, Error> {
        let WriteGuard { mut held, crowd } = self;
        give_up_writing(&held).await?;
        held.reads();
        Ok(open(&crowd, held))
    }

    /// Gives the lock back, and waits until that is committed.
    ///
    /// # Errors
    ///
    /// As [`Guard::release`](super::Guard::release).
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on in the background.
    pub async fn release(self) -> Result<(), Error> {
        self.held.release().await
    }
}

impl Deref for WriteGuard {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

/// Deletes the writer's key beside the reader's. Once more does no harm: neither is ever
/// put again.
async fn give_up_writing(held: &Held) -> Result<(), Error> {
    let place = held.entry().place();
    let writers = place.writers_key().cloned().unwrap_or_default();
    let stays = || Compare::create_revision(place.key.clone()).equal(held.token().create_revision());
    let answer = held.certainly(|txn| txn.when(stays()).then(Op::delete(writers.clone()))).await?;
    match answer.succeeded {
        true => Ok(()),
        false => Err(held.lost_before("the lock was lost before it became a reader's")),
    }
}

fn open(crowd: &Mutex<Crowd>, held: Held) -> ReadGuard {
    let held = Arc::new(held);
    let mut crowd = lock(crowd);
    (crowd.newest, crowd.open_until) = (Arc::downgrade(&held), clock::now() + JOIN_MAX);
    ReadGuard { held }
}

/// A writer of the handle that waits.
struct Waiting<'a>(&'a Mutex<Crowd>);

impl Waiting<'_> {
    fn new(crowd: &Mutex<Crowd>) -> Waiting<'_> {
        lock(crowd).writers += 1;
        Waiting(crowd)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(self.0).writers -= 1;
    }
}

fn lock(crowd: &Mutex<Crowd>) -> MutexGuard<'_, Crowd> {
    crowd.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crowd").field("writers", &self.writers).finish_non_exhaustive()
    }
}
