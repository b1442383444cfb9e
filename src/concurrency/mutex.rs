//! The lock: a future that drives the machine of `core::lock` until it grants.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::sync::Arc;

use bytes::Bytes;

use super::guard::Guard;
use super::requests;
use super::seat::Seat;
use super::session::Session;
use super::slot::Slot;
use super::token::Token;
use crate::client::{Client, Event, Watch, WatchEnd};
use crate::core::backoff::Backoff;
use crate::core::lock::{Action, Failure, Lock};
use crate::core::time::Instant;
use crate::error::{Code, Delivery, Error, EtcdError, Origin};
use crate::net::clock;
use crate::net::race::{Either, race};
use crate::types::{KeyRange, Revision};

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

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until the lock is ours.
    ///
    /// A free lock costs one round trip. A contended one is ours as soon as the
    /// release is committed and one message has come from the server.
    ///
    /// # Errors
    ///
    /// The session ended, somebody deleted our key, or the server refuses the lock
    /// (no permission, say). A server that cannot be reached is not an error until
    /// the session's deadline: the lock is tried again.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, it leaves no key behind: what may be on the server is
    /// taken back in the background. Its place in the queue is lost.
    pub async fn lock(&self) -> Result<Guard, Error> {
        let slot = self.session.shared().slot(&self.name)?;
        let turn = Seat::take(self.session.clone(), slot);
        let seat = match race(turn, self.session.ended()).await {
            Either::Left(seat) => seat,
            Either::Right(_) => return Err(self.refused(Failure::SessionEnded)),
        };
        seat.slot().handle(|lock, now| lock.handle_acquire(now));
        let attempt = Attempt {
            mutex: self,
            slot: seat.slot(),
            watch: None,
            backoff: self.session.shared().backoff(),
        };
        let created = attempt.run().await?;
        Ok(Guard::new(seat, Token::new(created)))
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
        }
    }
}

impl fmt::Debug for Mutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("name", &self.name).finish_non_exhaustive()
    }
}

/// One try for the lock: events in, actions out.
struct Attempt<'a> {
    mutex: &'a Mutex,
    slot: &'a Slot,
    watch: Option<Watch>,
    backoff: Backoff,
}

impl Attempt<'_> {
    async fn run(mut self) -> Result<Revision, Error> {
        loop {
            match self.slot.poll_action() {
                Some(Action::Register { gate }) => self.register(gate).await?,
                Some(Action::Watch) => self.watch().await?,
                Some(Action::Range { linearizable }) => self.range(linearizable).await?,
                Some(Action::Grant(created)) => return Ok(created),
                Some(Action::Fail(failure)) => return Err(self.mutex.refused(failure)),
                // What is left to undo is the releaser's, once the seat is dropped.
                Some(Action::Release { .. } | Action::Withdraw { .. } | Action::Freed) => {}
                None => self.wait().await?,
            }
        }
    }

    async fn register(&mut self, gate: Revision) -> Result<(), Error> {
        let txn = requests::register(self.client(), self.slot.place(), gate, &self.mutex.value);
        let Some(answer) = self.unless_ended(txn.into_future()).await else {
            return Ok(());
        };
        let answer = answer.and_then(|answer| {
            let registered = requests::registered(&answer)?;
            self.handle(|lock, now| lock.handle_registered(now, &registered));
            Ok(())
        });
        let Err(error) = answer else { return Ok(()) };
        if error.etcd() == Some(EtcdError::LeaseNotFound) {
            self.mutex.session.shared().lease().gone();
            self.handle(|lock, _| lock.handle_session_ended());
            return Ok(());
        }
        let unknown = error.delivery() == Delivery::Unknown;
        if !unknown && !is_passing(&error) {
            self.handle(|lock, _| lock.handle_register_refused());
            return Err(error);
        }
        self.handle(|lock, now| lock.handle_register_failed(now, unknown));
        self.pause().await;
        Ok(())
    }

    async fn watch(&mut self) -> Result<(), Error> {
        // One at a time: the old one goes first.
        self.watch = None;
        let watch = self.client().watch(self.queue()).no_put().resume(false);
        let Some(watch) = self.unless_ended(watch.into_future()).await else {
            return Ok(());
        };
        match watch {
            Ok(watch) => {
                let created = watch.created_revision();
                self.watch = Some(watch);
                self.backoff.reset();
                self.handle(|lock, _| lock.handle_watching(created));
            }
            Err(end) => self.watch_ended(end).await?,
        }
        Ok(())
    }

    async fn watch_ended(&mut self, end: WatchEnd) -> Result<(), Error> {
        self.watch = None;
        let refused = match &end {
            WatchEnd::Canceled { etcd, .. } => *etcd == Some(EtcdError::PermissionDenied),
            WatchEnd::Refused { .. } => true,
            _ => false,
        };
        if refused {
            return Err(end.into());
        }
        self.handle(|lock, _| lock.handle_watch_lost());
        self.pause().await;
        Ok(())
    }

    async fn range(&mut self, linearizable: bool) -> Result<(), Error> {
        let range = self.client().get(self.queue()).keys_only();
        let range = match &self.watch {
            // What the watch's own member has is what the watch goes on from.
            Some(watch) if !linearizable => range.serializable().via(watch.route()),
            _ => range,
        };
        let Some(answer) = self.unless_ended(range.into_future()).await else {
            return Ok(());
        };
        match answer {
            Ok(answer) => {
                self.handle(|lock, now| lock.handle_ranged(now, answer.revision(), &answer.kvs));
                Ok(())
            }
            Err(error) if error.delivery() == Delivery::Answered && !is_passing(&error) => Err(error),
            Err(_) => {
                self.handle(|lock, _| lock.handle_range_failed());
                self.pause().await;
                Ok(())
            }
        }
    }

    /// Waits for what the watch tells.
    async fn wait(&mut self) -> Result<(), Error> {
        let Some(watch) = &mut self.watch else {
            self.mutex.session.ended().await;
            self.handle(|lock, _| lock.handle_session_ended());
            return Ok(());
        };
        match race(watch.next(), self.mutex.session.ended()).await {
            Either::Left(Ok(batch)) => {
                let deleted = batch.events.iter().filter_map(deletion);
                self.handle(|lock, now| lock.handle_deleted(now, deleted));
            }
            Either::Left(Err(end)) => self.watch_ended(end).await?,
            Either::Right(_) => self.handle(|lock, _| lock.handle_session_ended()),
        }
        Ok(())
    }

    async fn unless_ended<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        match race(call, self.mutex.session.ended()).await {
            Either::Left(answer) => Some(answer),
            Either::Right(_) => {
                self.handle(|lock, _| lock.handle_session_ended());
                None
            }
        }
    }

    async fn pause(&mut self) {
        let delay = self.backoff.next_wait();
        race(
            clock::sleep_until(clock::now() + delay),
            self.mutex.session.ended(),
        )
        .await;
    }

    fn handle<T>(&self, input: impl FnOnce(&mut Lock, Instant) -> T) -> T {
        self.slot.handle(input)
    }

    fn client(&self) -> &Client {
        self.mutex.session.client()
    }

    fn queue(&self) -> KeyRange {
        KeyRange::prefix(self.slot.place().prefix.clone())
    }
}

fn deletion(event: &Event) -> Option<(&Bytes, Revision)> {
    match event {
        Event::Delete { kv, .. } => Some((&kv.key, Revision(kv.mod_revision))),
        Event::Put { .. } => None,
    }
}

/// The server cannot do it now, and may soon.
fn is_passing(error: &Error) -> bool {
    let may_pass = error.delivery() == Delivery::NotSent
        || matches!(error.code(), Code::Unavailable | Code::ResourceExhausted);
    // Space comes back when somebody makes some, which is not soon.
    may_pass && error.origin() != Origin::Caller && error.etcd() != Some(EtcdError::NoSpace)
}
