//! The short way to a lock: one call, and a session that belongs to this one lock.

use std::future::{Future, IntoFuture};
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;

use super::guard::Guard;
use super::mutex::in_time;
use super::session::SessionBuilder;
use crate::client::Client;
use crate::error::Error;

impl Client {
    /// Waits until the lock of this name is ours, in a [`Session`](super::Session) of its
    /// own, which ends with the guard.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
    /// let guard = client.lock("jobs/nightly").await?;
    /// println!("holding it with token {}", guard.token());
    /// guard.release().await
    /// # }
    /// ```
    ///
    /// That is a lease granted and revoked for each lock. Whoever locks often opens one
    /// session and takes [`Mutex`](super::Mutex)es from it. All that is said there holds
    /// here, but that two tasks which lock the same name queue in etcd.
    pub fn lock(&self, name: impl Into<String>) -> LockBuilder<'_> {
        LockBuilder {
            session: self.session(),
            name: name.into(),
            value: None,
            timeout: None,
        }
    }
}

/// The options of a [`Client::lock`], to be awaited.
///
/// # Errors
///
/// As [`Client::lease`] and [`Mutex::lock`](super::Mutex::lock).
///
/// # Cancel safety
///
/// Dropped at any point, it leaves no key behind, and at most a lease that runs out.
#[derive(Clone, Debug)]
#[must_use = "a lock is asked for only once it is awaited"]
pub struct LockBuilder<'a> {
    session: SessionBuilder<'a>,
    name: String,
    value: Option<Bytes>,
    timeout: Option<Duration>,
}

impl LockBuilder<'_> {
    /// As [`SessionBuilder::ttl`].
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.session = self.session.ttl(ttl);
        self
    }

    /// As [`Mutex::value`](super::Mutex::value).
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// As [`Mutex::timeout`](super::Mutex::timeout), opening the session included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<'a> IntoFuture for LockBuilder<'a> {
    type Output = Result<Guard, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Guard, Error>> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let locking = pin!(async {
                let mut mutex = self.session.await?.mutex(&self.name);
                if let Some(value) = self.value {
                    mutex = mutex.value(value);
                }
                mutex.lock().await
            });
            in_time(&self.name, self.timeout, locking).await
        })
    }
}
