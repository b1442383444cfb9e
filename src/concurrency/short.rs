//! The short way to a lock: one call, in the session that the client's locks share.

use std::future::{Future, IntoFuture};
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;

use super::guard::Guard;
use super::in_time::in_time;
use super::session::{Session, SessionBuilder};
use crate::client::{Client, LeaseEnd};
use crate::error::{Code, Error};
use crate::net::clock;

impl Client {
    /// Waits until the lock of this name is ours, in the [`Session`] that all locks of
    /// the client share: one lease, however many they are.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
    /// let guard = client.lock("jobs/nightly").await?;
    /// println!("holding it with token {}", guard.token());
    /// guard.release().await
    /// # }
    /// ```
    ///
    /// It is [`SessionBuilder::shared`] and [`Mutex::lock`](super::Mutex::lock), and all that is said there holds
    /// here: two tasks that lock the same name pass it on to one another. The session is opened with the first lock,
    /// and kept for a while when nobody has one. Where it is lost, so are all its locks; the next one is had in another,
    /// and so is one that is still waited for, behind whoever waits already.
    ///
    /// Whoever wants a lock that is lost with no other opens a session for it, with [`Client::session`].
    pub fn lock(&self, name: impl Into<String>) -> LockBuilder<'_> {
        LockBuilder {
            session: self.session(),
            name: name.into(),
            value: None,
            timeout: None,
            owner: None,
            hold_max: None,
        }
    }
}

/// The options of a [`Client::lock`], to be awaited.
///
/// # Errors
///
/// As [`SessionBuilder::shared`] and [`Mutex::lock`](super::Mutex::lock); but a loss of the session ends it only where the
/// server refuses to renew leases ([`LeaseEnd::Refused`]).
///
/// # Cancel safety
///
/// As [`Mutex::lock`](super::Mutex::lock), and at most a lease is left that runs out.
#[derive(Clone, Debug)]
#[must_use = "a lock is asked for only once it is awaited"]
pub struct LockBuilder<'a> {
    session: SessionBuilder<'a>,
    name: String,
    value: Option<Bytes>,
    timeout: Option<Duration>,
    owner: Option<String>,
    hold_max: Option<Duration>,
}

impl LockBuilder<'_> {
    /// As [`SessionBuilder::ttl`]. Locks with the same time to live share a session.
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

    /// As [`Mutex::owner`](super::Mutex::owner).
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// As [`Mutex::hold_at_most`](super::Mutex::hold_at_most).
    pub fn hold_at_most(mut self, time: Duration) -> Self {
        self.hold_max = Some(time);
        self
    }

    /// As [`SessionBuilder::lock_delay`]. Locks with the same delay share a session.
    pub fn lock_delay(mut self, delay: Duration) -> Self {
        self.session = self.session.lock_delay(delay);
        self
    }

    async fn lock(&self) -> Result<Guard, Error> {
        let mut backoff = None;
        loop {
            let session = self.session.clone().shared().await?;
            let mut mutex = session.mutex(&self.name);
            if let Some(value) = &self.value {
                mutex = mutex.value(value.clone());
            }
            if let Some(owner) = &self.owner {
                mutex = mutex.owner(owner);
            }
            if let Some(time) = self.hold_max {
                mutex = mutex.hold_at_most(time);
            }
            let error = match mutex.lock().await {
                Err(error) if error.is_lost() || error.code() == Code::Aborted => error,
                locked => return locked,
            };
            match end(&session).await {
                None | Some(LeaseEnd::Refused(_)) => return Err(error),
                Some(_) => {}
            }
            // That a session was lost is found out by the first who uses it. Leases that are lost as soon as they
            // are granted are not asked for in a loop.
            match &mut backoff {
                None => backoff = Some(session.shared().backoff()),
                Some(backoff) => clock::sleep_until(clock::now() + backoff.next_wait()).await,
            }
        }
    }
}

impl<'a> IntoFuture for LockBuilder<'a> {
    type Output = Result<Guard, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Guard, Error>> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let locking = pin!(self.lock());
            in_time(&self.name, self.timeout, locking).await
        })
    }
}

/// Why the session has ended. A waiter that sees its key go may be the first to learn of it, so the
/// server is asked.
async fn end(session: &Session) -> Option<LeaseEnd> {
    let lease = session.shared().lease();
    if lease.is_valid() {
        let asked = session.client().lease_time_to_live(lease.id()).await;
        if asked.is_ok_and(|answer| answer.ttl < 0) {
            session.shared().gone();
        }
    }
    lease.end()
}
