//! The multi-lock: several names at once, or none of them.

use std::fmt;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::entry::Entry;
use super::fenced::FencedWrites;
use super::held::Held;
use super::in_time::in_time;
use super::refusal::refused;
use super::session::Session;
use crate::client::Compare;
use crate::core::lock::{Claim, Failure};
use crate::error::Error;

/// A put and a range for each name are to fit into one transaction, of which a server
/// takes 128 operations by default.
const NAMES_MAX: usize = 60;

/// Several names that are locked together, among all processes that use the same etcd
/// cluster.
///
/// Each of the names is locked as a [`Mutex`](super::Mutex) locks it: the two, and whoever else
/// takes part in the queue of a name, keep each other out. The places in all queues are
/// taken in one transaction, so whoever is before somebody else in one queue is so in all:
/// two multi-locks never wait for each other, in whatever order their names are given.
/// Somebody who holds a lock of another kind while it waits for a multi-lock can still
/// wait for himself.
///
/// # Guarantees
///
/// What is said of [`Mutex`](super::Mutex) holds for each of the names.
#[derive(Clone)]
pub struct MultiLock {
    session: Session,
    /// Sorted, and each once.
    names: Arc<[String]>,
    value: Bytes,
    timeout: Option<Duration>,
}

impl Session {
    /// The lock of all these names, at most 60 of them. A name that is given twice counts
    /// once. Nothing is sent until it is locked.
    #[must_use]
    pub fn multi_lock(&self, names: impl IntoIterator<Item = impl Into<String>>) -> MultiLock {
        let mut names: Vec<String> = names.into_iter().map(Into::into).collect();
        names.sort();
        names.dedup();
        MultiLock {
            session: self.clone(),
            names: names.into(),
            value: self.shared().holder(),
            timeout: None,
        }
    }
}

impl MultiLock {
    /// As [`Mutex::value`](super::Mutex::value).
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> MultiLock {
        self.value = value.into();
        self
    }

    /// As [`Mutex::timeout`](super::Mutex::timeout).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> MultiLock {
        self.timeout = Some(timeout);
        self
    }

    /// The names, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Waits until all of them are ours.
    ///
    /// Where all are free, that costs one round trip. Else it has its place in all queues at
    /// once, waits for one holder after the other, and reads all queues whenever one is
    /// gone.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`](super::Mutex::lock), and `InvalidArgument` for no names and for
    /// more than 60.
    ///
    /// # Cancel safety
    ///
    /// As [`Mutex::lock`](super::Mutex::lock), for all the names.
    pub async fn lock(&self) -> Result<MultiGuard, Error> {
        let label = self.label();
        in_time(
            &label,
            self.timeout,
            pin!(async {
                let entry = self.entry()?;
                let granted = entry.acquire(&self.value).await?;
                let created = granted.map_err(|failure| refused(&self.session, &label, failure))?;
                let held = Held::new(entry, created);
                Ok(MultiGuard { held })
            }),
        )
        .await
    }

    /// Takes all of them if all are free, and does not wait: `None` otherwise.
    ///
    /// # Errors
    ///
    /// As [`MultiLock::lock`].
    ///
    /// # Cancel safety
    ///
    /// As [`MultiLock::lock`].
    pub async fn try_lock(&self) -> Result<Option<MultiGuard>, Error> {
        let label = self.label();
        in_time(
            &label,
            self.timeout,
            pin!(async {
                let entry = self.entry()?;
                match entry.try_acquire(&self.value).await? {
                    Ok(created) => {
                        let held = Held::new(entry, created);
                        Ok(Some(MultiGuard { held }))
                    }
                    Err(Failure::Busy) => Ok(None),
                    Err(failure) => Err(refused(&self.session, &label, failure)),
                }
            }),
        )
        .await
    }

    fn entry(&self) -> Result<Entry, Error> {
        if self.names.is_empty() || self.names.len() > NAMES_MAX {
            let message = format!("a lock of {} names; it takes 1 to {NAMES_MAX}", self.names.len());
            return Err(Error::invalid(message));
        }
        let names: Vec<&str> = self.names().collect();
        Entry::new(&self.session, &names, Claim::Exclusive)
    }

    /// What its errors call it.
    fn label(&self) -> String {
        self.names.join(", ")
    }
}

impl fmt::Debug for MultiLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultiLock").field("names", &self.names).finish_non_exhaustive()
    }
}

/// The proof that all names of a [`MultiLock`] are ours. What can be asked of it is in
/// [`Held`]; its token is the same for all names.
///
/// Dropping it gives all of them back in the background, in one transaction; the drop
/// itself neither allocates nor starts a task.
#[derive(Debug)]
#[must_use = "a lock is given back when its guard is dropped"]
pub struct MultiGuard {
    held: Held,
}

impl MultiGuard {
    /// Comparisons that hold only while each of the names is ours in etcd itself. That of
    /// [`Held::fence`] is the first name's alone; it says the same as long as nobody deletes
    /// a key by hand.
    #[must_use]
    pub fn fences(&self) -> Vec<Compare> {
        self.held.fences()
    }

    /// As [`Held::fenced`], with the fences of all the names.
    pub fn fenced(&self) -> FencedWrites<'_> {
        FencedWrites::new(self.held.session(), self.held.fences())
    }

    /// Gives all of them back at once, and waits until that is committed.
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

impl Deref for MultiGuard {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}
