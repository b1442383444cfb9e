//! The lock: who wants it waits for the local turn, and then for the queue in etcd.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::coop::consume_budget;

use super::attempt::Attempt;
use super::guard::Guard;
use super::in_time::{InTime, in_time};
use super::recall;
use super::refusal::refused;
use super::seat::{Found, Seat};
use super::session::Session;
use super::slot::Slot;
use super::token::Token;
use super::word::Terms;
use crate::core::lock::Failure;
use crate::error::Error;
use crate::net::race::{Either, race};

/// A name that one holder at a time can lock, among all processes that use the
/// same etcd cluster and the same name.
///
/// It queues fairly, and together with the Go client's `concurrency.Mutex`, with
/// `etcdctl lock`, and with the server's own lock service: the order is that of
/// the keys' creation under `<name>/`. Two tasks of one session take turns in the
/// order in which they asked.
///
/// A session has one key in the queue, and its tasks pass it on to one another without
/// a request, for a bounded time ([`Mutex::hand_off`]), so that other processes get their
/// turn. With [`Mutex::linger`] it keeps the key for a while after that.
///
/// # Guarantees
///
/// No two guards of a name are valid at the same time, as long as the clocks keep
/// their rate (see [`Session`]), nobody deletes the keys by hand, and code stops
/// when it learns of the loss. A process that is paused between a check and its
/// effect cannot be stopped by any lock: for that there is the [`Token`], and
/// [`Guard::fence`] for writes into etcd itself.
///
/// Until the session's deadline the server does not expire the key. Where somebody revokes the lease
/// or deletes the key by hand, the session learns of it late: until then its tasks
/// may still be granted the lock after another owner was. There the token and the fence
/// alone tell them apart.
#[derive(Clone)]
pub struct Mutex {
    session: Session,
    name: Arc<str>,
    /// `None` where the name cannot be that of a lock.
    slot: Option<Arc<Slot>>,
    value: Bytes,
    timeout: Option<Duration>,
    terms: Terms,
    hold_max: Option<Duration>,
}

/// Another process waits so much longer at most: some round trips on a network, while the
/// two that a release and a register cost stay small beside it.
const HAND_OFF_TIME: Duration = Duration::from_millis(20);

/// Who only tries elsewhere calls nothing back: it is shut out for no longer than by a
/// holder that crashed, with the default time to live.
const LINGER_AT_MOST: Duration = Duration::from_secs(10);

/// So many hand-offs take about as long where the lock is held for half a microsecond.
const HAND_OFFS: u32 = 32_768;

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
            slot: self.shared().slot(name),
            value: self.shared().holder(),
            timeout: None,
            terms: Terms {
                handed_max: HAND_OFFS,
                handed_time_max: nanos(HAND_OFF_TIME),
                linger: 0,
                kept_time_max: nanos(LINGER_AT_MOST),
                one_token_per_key: false,
            },
            hold_max: None,
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

    /// How often the tasks of the session pass the lock on to one another, and for how
    /// long: at most `grants` times, and not once `time` has passed since it became the
    /// session's. Then the key is given back, and the next of them queues behind whoever waits
    /// elsewhere. So another process waits for at most `time` and one holder's work more than
    /// if each task queued for itself. What counts is said by the holder's handle, not by that of
    /// who waits. Default: 32,768 times and 20 ms; 0 times: never.
    #[must_use]
    pub fn hand_off(mut self, grants: u32, time: Duration) -> Mutex {
        (self.terms.handed_max, self.terms.handed_time_max) = (grants, nanos(time));
        self
    }

    /// Keeps the session's key for this time after the last of its tasks has released the lock, or
    /// dropped its guard: if one of them locks it again meanwhile, that needs no request. Good where one
    /// process mostly has the lock for itself. Default: zero, not at all.
    ///
    /// - Whoever waits elsewhere is heard, by a watch, and the key is given back at once, or
    ///   when the guard that holds it ends. It lingers only while that watch is there: not
    ///   yet when the first guard of a name ends at once.
    /// - Whoever only *tries* elsewhere, with [`Mutex::try_lock`], is not heard: a lock that
    ///   lingers is held. [`Mutex::linger_at_most`] bounds that.
    /// - A process that crashes while a lock lingers blocks the others for up to the session's
    ///   time to live, as one that crashes with a guard does.
    /// - Where it is called back before it has saved anything, it rests, 1 second to begin with,
    ///   up to a minute. No more than 64 names of a session linger at a time.
    #[must_use]
    pub fn linger(mut self, time: Duration) -> Mutex {
        self.terms.linger = nanos(time);
        self
    }

    /// For how long the session may have the key of a lock that [lingers](Mutex::linger)
    /// while nobody waits elsewhere: the first guard that ends after this time gives it back. Default: 10 seconds.
    #[must_use]
    pub fn linger_at_most(mut self, time: Duration) -> Mutex {
        self.terms.kept_time_max = nanos(time);
        self
    }

    /// Each grant has a key of its own, for resources that store one number of 64 bits: the
    /// token's create_revision is different for each, and its sequence is 0. The session's
    /// tasks do not pass the lock on, and it does not linger.
    #[must_use]
    pub fn one_token_per_key(mut self) -> Mutex {
        self.terms.one_token_per_key = true;
        self
    }

    /// Who wants the lock, by a name that outlives the process: whoever comes back under it has its place in
    /// the queue again, and the lock itself, at once and in place, where the session that had it is
    /// gone but its lease has not run out yet. Default: nobody; what a session that ended has left is waited for.
    ///
    /// The key is `<name>/@<owner>` then. It keeps its create_revision when it is taken over;
    /// [`Token::takeovers`] rises, and what the earlier session does with its [`Guard::fence`]
    /// fails. A guard watches its key, which costs a watch and a read: one that is taken
    /// over is lost, and [`Guard::lost`] says [`Lost::TakenOver`](super::Lost::TakenOver).
    ///
    /// One session at a time is to use an owner's name. Two that live take the lock from one
    /// another each time they lock it, whether it is held or not: the token and the fence tell them
    /// apart, [`Guard::is_valid`] only once the news has come. Where two come back at the same time one of
    /// them gets it, and the other may end in
    /// [`Code::Aborted`](crate::Code::Aborted).
    ///
    /// A lock fails with [`Code::InvalidArgument`](crate::Code::InvalidArgument) where the owner is empty or has a `/` in it, or with
    /// [`Mutex::one_token_per_key`].
    #[must_use]
    pub fn owner(mut self, owner: &str) -> Mutex {
        self.slot = self.session.shared().slot_of_owner(&self.name, owner);
        self
    }

    /// For how long one guard has the lock at most, from its grant on: for holders that hang. Then it is
    /// lost to the guard, [`Guard::lost`] says [`Lost::HeldTooLong`](super::Lost::HeldTooLong), and the lock
    /// is given back in the background, by deleting its key. Default: as long as the session lives.
    ///
    /// The holder's code is not stopped. What it does afterwards is told from the next holder's by
    /// [`Guard::fence`] and the [`Token`] alone, as after any loss; [`Guard::run`] drops it at its
    /// next await. Each guard costs a task that waits with it.
    #[must_use]
    pub fn hold_at_most(mut self, time: Duration) -> Mutex {
        self.hold_max = Some(time);
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until the lock is ours.
    ///
    /// A free lock costs one round trip; one that another task of the session passes on,
    /// or that lingers in the session, none. A contended one is ours as soon as the
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
    /// Dropped at any point, it leaves nobody's way blocked: what may be on the server is
    /// taken back in the background. Its place in the queue is lost. A [gate
    /// key](super::SessionBuilder::gate_prefix) may stay until the session ends.
    pub async fn lock(&self) -> Result<Guard, Error> {
        // Who locks again and again what lingers never waits, and would keep the renewal of the
        // lease from its thread.
        consume_budget().await;
        let slot = self.slot()?;
        if let Some((seat, found)) = Seat::try_take(&self.session, slot, &self.terms) {
            if let Found::Granted(token) = found {
                return Ok(self.guard(seat, token));
            }
            return self.in_time(pin!(self.acquire(seat, found))).await;
        }
        let mut waiting = pin!(self.wait(slot));
        match self.timeout {
            None => waiting.as_mut().await,
            Some(_) => self.in_time(waiting).await,
        }
    }

    /// Takes the lock if it is free, and does not wait for it: `None` where somebody
    /// else has it or waits for it.
    ///
    /// It costs one round trip, whether it takes the lock or not, and leaves nothing
    /// behind where it does not. A lock that lingers in another session counts as held, one that lingers
    /// in this session is taken without a request. Where another task of this session has the lock, waits
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
        let taken = Seat::try_take(&self.session, self.slot()?, &self.terms);
        if let Some((seat, Found::Granted(token))) = taken {
            return Ok(Some(self.guard(seat, token)));
        }
        self.in_time(pin!(self.try_acquire(taken))).await
    }

    /// Gives up what takes longer than [`Mutex::timeout`].
    pub(super) fn in_time<'a, T, F>(&'a self, locking: Pin<&'a mut F>) -> InTime<'a, F>
    where
        F: Future<Output = Result<T, Error>>,
    {
        in_time(&self.name, self.timeout, locking)
    }

    async fn acquire(&self, seat: Seat, found: Found) -> Result<Guard, Error> {
        match self.begin(seat, found).await? {
            Some(guard) => Ok(guard),
            None => self.wait(self.slot()?).await,
        }
    }

    /// Waits for the local turn. Its future is small, with nothing kept beside it: where thousands wait,
    /// each hand-off pays for the memory that a waiter touches.
    async fn wait(&self, slot: &Arc<Slot>) -> Result<Guard, Error> {
        loop {
            let taken = Seat::take(&self.session, slot, &self.terms).await;
            let (seat, found) = taken.ok_or_else(|| self.refused(Failure::SessionEnded))?;
            if let Found::Granted(token) = found {
                return Ok(self.guard(seat, token));
            }
            if let Some(guard) = self.begin(seat, found).await? {
                return Ok(guard);
            }
        }
    }

    /// Queues in etcd with the local turn. `None`: another key has to be registered, and that failed.
    async fn begin(&self, seat: Seat, found: Found) -> Result<Option<Guard>, Error> {
        if matches!(found, Found::Stale) && !self.renew(&seat).await? {
            return Ok(None);
        }
        seat.slot().handle(|lock, now| lock.handle_acquire(now));
        self.queue(seat).await?.map(Some).map_err(|failure| self.refused(failure))
    }

    async fn try_acquire(&self, taken: Option<(Seat, Found)>) -> Result<Option<Guard>, Error> {
        let Some((seat, found)) = taken else {
            return match self.session.is_valid() {
                true => Ok(None),
                false => Err(self.refused(Failure::SessionEnded)),
            };
        };
        match found {
            Found::Granted(token) => return Ok(Some(self.guard(seat, token))),
            Found::Stale if !self.renew(&seat).await? => return Ok(None),
            Found::Stale | Found::Nothing => {}
        }
        seat.slot().handle(|lock, now| lock.handle_try_acquire(now));
        match self.queue(seat).await? {
            Ok(guard) => Ok(Some(guard)),
            Err(Failure::Busy) => Ok(None),
            Err(failure) => Err(self.refused(failure)),
        }
    }

    /// Drives the machine until it has decided.
    async fn queue(&self, seat: Seat) -> Result<Result<Guard, Failure>, Error> {
        let granted = Attempt::new(&self.session, &**seat.slot(), &self.value).run().await?;
        Ok(granted.map(|created| {
            let token = seat.granted(created);
            if self.terms.linger > 0 && !self.terms.one_token_per_key {
                recall::begin(&self.session, seat.slot(), self.terms.linger);
            }
            self.guard(seat, token)
        }))
    }

    fn guard(&self, seat: Seat, token: Token) -> Guard {
        Guard::new(seat, token, self.hold_max)
    }

    /// Makes way for a key of its own. Where that fails the releaser goes on with it, once
    /// the seat is dropped.
    async fn renew(&self, seat: &Seat) -> Result<bool, Error> {
        match race(self.session.ended(), seat.renew()).await {
            Either::Left(_) => Err(self.refused(Failure::SessionEnded)),
            Either::Right(renewed) => Ok(renewed.is_ok()),
        }
    }

    fn slot(&self) -> Result<&Arc<Slot>, Error> {
        let Some(slot) = &self.slot else {
            let message = format!("{:?}, or its owner, cannot be the name of a lock", self.name);
            return Err(Error::invalid(message));
        };
        if slot.place().is_owned() && self.terms.one_token_per_key {
            let message =
                "a lock with an owner keeps its key when it is taken over: one token for each key is too few";
            return Err(Error::invalid(message));
        }
        Ok(slot)
    }

    fn refused(&self, failure: Failure) -> Error {
        refused(&self.session, &self.name, failure)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Mutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("name", &self.name).finish_non_exhaustive()
    }
}
