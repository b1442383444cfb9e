//! Software transactions: a closure that reads and writes keys is run, and what it wrote is committed in
//! one transaction of etcd if what it read is still so. Otherwise it is run again.
//! What is remembered and compared is decided by `core::stm`.

use std::sync::PoisonError;
use std::time::Duration;

use super::transaction::Transaction;
use crate::client::{Client, chance};
use crate::core::backoff::Backoff;
pub use crate::core::stm::Isolation;
use crate::core::time::Instant;
use crate::error::{Code, Delivery, Error, Origin};
use crate::net::clock;
use crate::net::race::{Either, race};
use crate::types::Revision;

/// A conflict means that somebody else's commit went through: soon this one's may. Where many want
/// the same key the waits grow past the time that a commit takes, and they come one by one.
const RETRY_WAIT_FIRST: Duration = Duration::from_millis(2);
const RETRY_WAIT_MAX: Duration = Duration::from_millis(250);

/// What a server takes in a transaction by default (etcd's `--max-txn-ops`).
const OPS_MAX_DEFAULT: usize = 128;

impl Client {
    /// Software transactions: see [`Stm`].
    pub fn stm(&self) -> Stm<'_> {
        Stm {
            client: self,
            isolation: Isolation::default(),
            attempts_max: u32::MAX,
            timeout: None,
            ops_max: OPS_MAX_DEFAULT,
            idempotent: false,
        }
    }
}

/// A transaction that reads, computes and writes, without a lock.
///
/// ```no_run
/// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
/// let done = client
///     .stm()
///     .run(async |t| {
///         let seats = t.get("seats").await?.unwrap_or_default();
///         let left = std::str::from_utf8(&seats).ok().and_then(|text| text.parse::<u32>().ok());
///         let Some(left) = left.and_then(|left| left.checked_sub(1)) else {
///             return Ok(None);
///         };
///         t.put("seats", left.to_string());
///         Ok(Some(left))
///     })
///     .await?;
/// println!("{:?} left, after {} attempts", done.value, done.attempts);
/// # Ok(())
/// # }
/// ```
///
/// # Guarantees
///
/// Those of its [`Isolation`]. At the serializable levels, which begin with the default, whatever is
/// committed could have run alone at the moment of its commit, its ranges included: no key that came,
/// went or changed meanwhile is overlooked. One that writes nothing took place at the revision of its
/// first read and sends no commit. They need no clock and no lease.
///
/// The closure may be run any number of times, and only what it asks of the [`Transaction`] is undone
/// when it is run again. What it returns counts only once it is committed: at the two lower levels it
/// may have seen parts of different moments. What it fails with ends the transaction at once, and
/// nothing is written.
///
/// Somebody's commit always goes through, but not always this one: transactions that are long and want
/// what everybody wants should be bounded by [`Stm::attempts`] or [`Stm::timeout`], or take a lock.
#[derive(Clone, Debug)]
#[must_use = "a transaction begins when it is run"]
pub struct Stm<'a> {
    client: &'a Client,
    isolation: Isolation,
    attempts_max: u32,
    timeout: Option<Duration>,
    ops_max: usize,
    idempotent: bool,
}

/// A transaction that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed<T> {
    /// What the closure returned.
    pub value: T,
    /// The revision of the commit; of one that wrote nothing, that of its first read, and zero
    /// where it read nothing either.
    pub revision: Revision,
    /// How many times the closure was run.
    pub attempts: u32,
}

/// What became of one attempt.
enum Outcome<T> {
    Committed(T, Revision),
    /// To be tried again; if not, this is why not.
    Conflict(Option<Error>),
}

impl Stm<'_> {
    /// How far it is kept apart from others. Default: [`Isolation::SerializableSnapshot`].
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// The closure is run so many times at most, and then it ends in
    /// [`Code::Aborted`](crate::Code::Aborted). Default: no bound.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts_max = attempts.max(1);
        self
    }

    /// How long it takes at most, from when it is run, on the boot clock: all attempts and the waits
    /// between them. Default: no bound but the client's for each call.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many comparisons and how many writes the servers take in one transaction, where they
    /// were started with another `--max-txn-ops` than 128, the default.
    pub fn ops_max(mut self, ops: usize) -> Self {
        self.ops_max = ops;
        self
    }

    /// Says that doing it twice is as good as doing it once: where it is not known whether the commit
    /// was carried out, the closure is run again instead of asking the caller. A first commit may then
    /// be carried out as well, at the lowest level even after the second.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Runs the closure until what it wrote is committed. It may be an `async |t| ..` as long as it
    /// neither owns nor changes what it captures; otherwise it is a `|t| async move { .. }`.
    ///
    /// # Errors
    ///
    /// - What the closure returned, or a read in it: nothing was written.
    /// - An error whose [`may_be_applied`](Error::may_be_applied) is true: the commit was sent, and no answer tells
    ///   what became of it. It is not run again, unless it is [idempotent](Stm::idempotent).
    /// - [`EtcdError::TooManyOps`](crate::EtcdError::TooManyOps): it has read or written more than a
    ///   server compares or writes at once. Nothing was sent.
    /// - [`Code::Aborted`](crate::Code::Aborted) after [`Stm::attempts`] conflicts, [`Code::DeadlineExceeded`](crate::Code::DeadlineExceeded) after
    ///   [`Stm::timeout`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has written all or nothing: nothing if the closure had not returned yet. It leaves
    /// no task behind.
    pub async fn run<T, W>(self, work: impl FnMut(Transaction) -> W) -> Result<Committed<T>, Error>
    where
        W: Future<Output = Result<T, Error>>,
    {
        self.client.channel().runtime().run(self.attempt_all(work)).await
    }

    async fn attempt_all<T, W>(&self, mut work: impl FnMut(Transaction) -> W) -> Result<Committed<T>, Error>
    where
        W: Future<Output = Result<T, Error>>,
    {
        let deadline = self.timeout.map(|timeout| clock::now() + timeout);
        let mut backoff = Backoff::new(RETRY_WAIT_FIRST, RETRY_WAIT_MAX, chance());
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.attempt(&mut work, deadline).await? {
                Outcome::Committed(value, revision) => {
                    return Ok(Committed {
                        value,
                        revision,
                        attempts,
                    });
                }
                Outcome::Conflict(cause) if attempts >= self.attempts_max => {
                    return Err(cause.unwrap_or_else(|| {
                        given_up(Code::Aborted, format!("{attempts} attempts met with a conflict"))
                    }));
                }
                Outcome::Conflict(_) => {
                    let again = clock::now() + backoff.next_wait();
                    in_time(deadline, clock::sleep_until(again)).await?;
                }
            }
        }
    }

    async fn attempt<T, W>(
        &self,
        work: &mut impl FnMut(Transaction) -> W,
        deadline: Option<Instant>,
    ) -> Result<Outcome<T>, Error>
    where
        W: Future<Output = Result<T, Error>>,
    {
        let transaction = Transaction::new(self.client, self.isolation);
        let attempt = transaction.attempt();
        let returned = in_time(deadline, work(transaction)).await?;
        // What the closure has kept of it and does from now on is too late.
        let attempt = attempt.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if attempt.is_outdated() {
            return Ok(Outcome::Conflict(returned.err()));
        }
        let value = returned?;
        let footprint = attempt.footprint();
        let first_read = footprint.first_read().unwrap_or_default();
        if !footprint.needs_commit() {
            return Ok(Outcome::Committed(value, first_read));
        }
        let reads_only = footprint.writes().is_empty();
        let mut commit = attempt.commit(self.client, self.ops_max)?;
        // The call's own bound tells what is known of its fate.
        if let Some(deadline) = deadline {
            let left = deadline.saturating_since(clock::now());
            commit = commit.timeout(left.min(self.client.channel().config().call_timeout));
        }
        let repeats = self.idempotent || reads_only;
        if repeats {
            commit = commit.idempotent();
        }
        match commit.await {
            Ok(answer) if !answer.succeeded => Ok(Outcome::Conflict(None)),
            Ok(_) if reads_only => Ok(Outcome::Committed(value, first_read)),
            Ok(answer) => Ok(Outcome::Committed(value, answer.revision())),
            Err(error) if repeats && error.delivery() == Delivery::Unknown => {
                Ok(Outcome::Conflict(Some(error)))
            }
            Err(error) => Err(error),
        }
    }
}

/// Gives up what takes longer. Nothing of it is on the server.
async fn in_time<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Result<T, Error> {
    let Some(deadline) = deadline else {
        return Ok(work.await);
    };
    match race(work, clock::sleep_until(deadline)).await {
        Either::Left(done) => Ok(done),
        Either::Right(()) => Err(given_up(
            Code::DeadlineExceeded,
            "the transaction was not committed in time",
        )),
    }
}

fn given_up(code: Code, message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(code, Origin::Library, Delivery::Answered, message)
}
