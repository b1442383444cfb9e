//! The lock: who wants it waits for the local turn, and then for the queue in etcd.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::attempt::Attempt;
use super::guard::Guard;
use super::seat::Seat;
use super::session::Session;
use super::token::Token;
use crate::core::lock::Failure;
use crate::error::{Code, Delivery, Error, Origin};
use crate::net::clock;
use crate::net::race::{Either, race};

/// A name that one holder at a time can lock, among all processes that use the
/// same etcd cluster and the same name.
///
/// It queues fairly, and together with the Go client's `concurrency.Mutex`, with
/// `etcdctl lock`, and with the server's own lock service: the order is that of
/// the keys' creation under `<name>/`. Two tasks of one session take turns in the
/// order in which they asked.
///
/// # Guarantees
///
/// No two guards of a name are valid at the same time, as long as the clocks keep
/// their rate (see [`Session`]), nobody deletes the keys by hand, and code stops
/// when it learns of the loss. A process that is paused between a check and its
/// effect cannot be stopped by any lock: for that there is the [`Token`], and
/// [`Guard::fence`] for writes into etcd itself.
#[derive(Clone)]
pub struct Mutex {
    session: Session,
    name: Arc<str>,
    value: Bytes,
    timeout: Option<Duration>,
}

impl Session {
    /// The lock of this name. Nothing is sent until it is locked.
    ///
    /// Names nest: `jobs` and `jobs/nightly` are two locks. That holds among users
    /// of this crate; to the Go client a lock under `jobs/` is an entry in the
    /// queue of `jobs`.
    #[must_use]
    pub fn mutex(&self, name: &str) -> Mutex {
        Mutex {
            session: self.clone(),
            name: name.into(),
            value: self.shared().holder(),
            timeout: None,
        }
    }
}

impl Mutex {
    /// What the holder's key says about the holder, for people who look at it.
    /// Default: the name of the machine and the number of the process.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Mutex {
        self.value = value.into();
        self
    }

    /// How long [`Mutex::lock`] and [`Mutex::try_lock`] take at most, on the boot clock.
    /// Then they end in [`Code::DeadlineExceeded`](crate::Code::DeadlineExceeded), and the
    /// place in the queue is given up. Default: as long as the session lives.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Mutex {
        self.timeout = Some(timeout);
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until the lock is ours.
    ///
    /// A free lock costs one round trip. A contended one is ours as soon as the
    /// release is committed and one message has come from the server; where many
    /// processes wait, after one read more.
    ///
    /// # Errors
    ///
    /// The session ended, somebody deleted our key, [`Mutex::timeout`] has passed, or
    /// the server refuses the lock (no permission, say). A server that cannot be reached is
    /// not an error until the session's deadline: the lock is tried again.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, it leaves no key behind: what may be on the server is
    /// taken back in the background. Its place in the queue is lost.
    pub async fn lock(&self) -> Result<Guard, Error> {
        in_time(&self.name, self.timeout, self.acquire()).await
    }

    /// Takes the lock if it is free, and does not wait for it: `None` where somebody
    /// else has it or waits for it.
    ///
    /// It costs one round trip, whether it takes the lock or not, and leaves nothing
    /// behind where it does not. Where another task of this session has the lock, waits
    /// for it, or has just dropped it so that it is still being given back, nothing
    /// is sent. One case costs more: a free lock with keys of nested names below it, as `jobs`
    /// has while `jobs/nightly` is held, is taken by queueing for it.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`].
    ///
    /// # Cancel safety
    ///
    /// As [`Mutex::lock`].
    pub async fn try_lock(&self) -> Result<Option<Guard>, Error> {
        in_time(&self.name, self.timeout, self.try_acquire()).await
    }

    async fn acquire(&self) -> Result<Guard, Error> {
        let slot = self.session.shared().slot(&self.name)?;
        let turn = Seat::take(self.session.clone(), slot);
        let seat = match race(turn, self.session.ended()).await {
            Either::Left(seat) => seat,
            Either::Right(_) => return Err(self.refused(Failure::SessionEnded)),
        };
        seat.slot().handle(|lock, now| lock.handle_acquire(now));
        let granted = Attempt::new(&self.session, seat.slot(), &self.value).run().await?;
        let created = granted.map_err(|failure| self.refused(failure))?;
        Ok(Guard::new(seat, Token::new(created)))
    }

    async fn try_acquire(&self) -> Result<Option<Guard>, Error> {
        let slot = self.session.shared().slot(&self.name)?;
        let Some(seat) = Seat::try_take(self.session.clone(), slot) else {
            return match self.session.is_valid() {
                true => Ok(None),
                false => Err(self.refused(Failure::SessionEnded)),
            };
        };
        seat.slot().handle(|lock, now| lock.handle_try_acquire(now));
        match Attempt::new(&self.session, seat.slot(), &self.value).run().await? {
            Ok(created) => Ok(Some(Guard::new(seat, Token::new(created)))),
            Err(Failure::Busy) => Ok(None),
            Err(failure) => Err(self.refused(failure)),
        }
    }

    fn refused(&self, failure: Failure) -> Error {
        let not_locked = |code, message| Error::new(code, Origin::Library, Delivery::Answered, message);
        let name = &self.name;
        match failure {
            Failure::SessionEnded => {
                let error = not_locked(
                    Code::FailedPrecondition,
                    format!("lock {name:?}: the session has ended"),
                );
                match self.session.shared().lease().end() {
                    Some(end) => error.with_source(end),
                    None => error,
                }
            }
            Failure::KeyDeleted => not_locked(
                Code::Aborted,
                format!("lock {name:?}: somebody deleted our place in the queue"),
            ),
            Failure::KeyTaken => not_locked(
                Code::Aborted,
                format!("lock {name:?}: our key hangs on somebody else's lease"),
            ),
            Failure::Busy => not_locked(Code::Aborted, format!("lock {name:?}: somebody else has it")),
        }
    }
}

/// Gives up what takes longer. It has to be cancel safe.
pub(super) async fn in_time<T>(
    name: &str,
    timeout: Option<Duration>,
    locking: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let Some(timeout) = timeout else {
        return locking.await;
    };
    match race(locking, clock::sleep_until(clock::now() + timeout)).await {
        Either::Left(locked) => locked,
        Either::Right(()) => Err(Error::new(
            Code::DeadlineExceeded,
            Origin::Library,
            Delivery::Answered,
            format!("lock {name:?}: not ours within {timeout:?}"),
        )),
    }
}

impl fmt::Debug for Mutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("name", &self.name).finish_non_exhaustive()
    }
}
