//! The semaphore: a number of permits, of which each holder takes some.

use std::fmt;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::entry::Entry;
use super::held::Held;
use super::in_time::in_time;
use super::refusal::refused;
use super::session::Session;
use crate::core::lock::{Claim, Failure};
use crate::error::Error;

/// A name with a number of permits, shared by all processes that use the same etcd
/// cluster and the same name.
///
/// It is fair: whoever asked first comes first. One that wants many permits is not
/// overtaken by one that wants few, and those behind it wait with it.
///
/// How many permits there are is what each user says, and is written on his place in the
/// queue. Where users differ, each claim is granted by the smallest number that it and
/// those before it say. So the number can be changed by starting processes that say
/// another one: it counts once nobody who says a smaller one is there any more.
///
/// A [`Mutex`](super::Mutex) or an [`RwLock`](super::RwLock) on the same name takes all of
/// it.
///
/// # Guarantees
///
/// The permits that are held at a moment are never more than any of their holders was told
/// that there are, under the conditions of a [`Mutex`](super::Mutex): clocks that keep
/// their rate (see [`Session`]), no keys deleted by hand, and code that stops when it
/// learns of the loss.
#[derive(Clone)]
pub struct Semaphore {
    session: Session,
    name: Arc<str>,
    permits: u32,
    value: Bytes,
    timeout: Option<Duration>,
}

impl Session {
    /// The semaphore of this name, with so many permits. Nothing is sent until some of
    /// them are asked for.
    #[must_use]
    pub fn semaphore(&self, name: &str, permits: u32) -> Semaphore {
        Semaphore {
            session: self.clone(),
            name: name.into(),
            permits,
            value: self.shared().holder(),
            timeout: None,
        }
    }
}

impl Semaphore {
    /// As [`Mutex::value`](super::Mutex::value).
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Semaphore {
        self.value = value.into();
        self
    }

    /// As [`Mutex::timeout`](super::Mutex::timeout).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Semaphore {
        self.timeout = Some(timeout);
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many permits there are, as this handle says.
    #[must_use]
    pub fn permits(&self) -> u32 {
        self.permits
    }

    /// Waits until so many permits are ours.
    ///
    /// Each call has a place of its own in the queue, also in one session. Whoever waits
    /// reads and watches all who came before: a semaphore is for hundreds of holders, not
    /// for tens of thousands.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`](super::Mutex::lock), and `InvalidArgument` for none, or for
    /// more than there are.
    ///
    /// # Cancel safety
    ///
    /// As [`Mutex::lock`](super::Mutex::lock).
    pub async fn acquire(&self, count: u32) -> Result<Permits, Error> {
        in_time(
            &self.name,
            self.timeout,
            pin!(async {
                let entry = self.entry(count)?;
                let granted = entry.acquire(&self.value).await?;
                let created = granted.map_err(|failure| refused(&self.session, &self.name, failure))?;
                let held = Held::new(entry, created);
                Ok(Permits { held, count })
            }),
        )
        .await
    }

    /// Takes so many permits if they are there, and nobody waits whom they would be taken
    /// from: `None` otherwise.
    ///
    /// Nothing is left behind where it does not take them. It costs one round trip; two
    /// beside other holders, for then it queues to be sure.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::acquire`].
    ///
    /// # Cancel safety
    ///
    /// As [`Semaphore::acquire`].
    pub async fn try_acquire(&self, count: u32) -> Result<Option<Permits>, Error> {
        in_time(
            &self.name,
            self.timeout,
            pin!(async {
                let entry = self.entry(count)?;
                match entry.try_acquire(&self.value).await? {
                    Ok(created) => {
                        let held = Held::new(entry, created);
                        Ok(Some(Permits { held, count }))
                    }
                    Err(Failure::Busy) => Ok(None),
                    Err(failure) => Err(refused(&self.session, &self.name, failure)),
                }
            }),
        )
        .await
    }

    fn entry(&self, count: u32) -> Result<Entry, Error> {
        let of = self.permits;
        if count == 0 || count > of {
            let message = format!("semaphore {:?}: {count} of {of} permits", self.name);
            return Err(Error::invalid(message));
        }
        Entry::new(&self.session, &[&self.name], Claim::Permits { count, of })
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("name", &self.name)
            .field("permits", &self.permits)
            .finish_non_exhaustive()
    }
}

/// The proof that permits of a [`Semaphore`] are ours. What can be asked of it is in
/// [`Held`].
///
/// Dropping it gives them back in the background; the drop itself neither allocates nor
/// starts a task.
#[derive(Debug)]
#[must_use = "permits are given back when their guard is dropped"]
pub struct Permits {
    held: Held,
    count: u32,
}

impl Permits {
    /// How many they are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Gives them back, and waits until that is committed.
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

impl Deref for Permits {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}
