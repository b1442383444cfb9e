//! A session that comes back: where it is lost, a task opens another one in its place, and says so.
//!
//! ```text
//!             the session ended               opened: the next generation
//!   Live(g) --------------------> Opening --------------------------------> Live(g + 1)
//!      |                            |  ^ refused, or no answer: after a pause
//!      |                            |--'
//!      '------- close, orphan, the last handle is gone, no runtime -------> Over
//! ```

use std::fmt;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::definite::may_pass;
use super::refusal::lost;
use super::session::{Session, SessionBuilder};
use super::sessions::{Kind, repeated};
use crate::client::{Client, LeaseEnd};
use crate::core::backoff::Backoff;
use crate::error::Error;
use crate::net::clock;
use crate::net::race::{Either, race};
use crate::net::state_event::StateEvent;
use crate::types::LeaseId;

/// A [`Session`] that is replaced by another one, with another lease, whenever it is lost: a cheap clone.
///
/// What hung on the lost one is lost, and its guards say so ([`Guard::lost`](super::Guard::lost)). Nothing is
/// locked again by itself: whoever held something has to know that others may have had it since. What is
/// asked for from then on is to be asked of the new session, which [`ManagedSession::session`] gives.
///
/// ```no_run
/// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
/// let managed = client.session().managed().await?;
/// loop {
///     // Waits where there is none at the moment.
///     let session = managed.session().await?;
///     client.put("workers/7", "here").lease(session.lease_id()).await?;
///     println!("the session is lost: {}", session.ended().await);
/// }
/// # }
/// ```
///
/// When the last clone is gone, no session is opened any more; the last one is closed as any
/// [`Session`] is, once nobody uses it.
///
/// # Guarantees
///
/// Those of [`Session`]. A session is over before the next one is opened, so two of its generations are never
/// valid at the same time.
#[derive(Clone)]
pub struct ManagedSession {
    managed: Arc<Managed>,
    _handle: Arc<Handle>,
}

/// That a session was lost, and another one is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replaced {
    /// How many there were before: 1 says that the first one was lost.
    pub generation: u64,
    /// What hangs on it, in etcd.
    pub lease: LeaseId,
    /// Why the one before was lost.
    pub lost: LeaseEnd,
}

#[derive(Debug)]
struct Managed {
    state: watch::Sender<State>,
    /// Nothing is to be opened any more.
    stop: Notify,
}

#[derive(Debug)]
struct State {
    /// The latest.
    session: Session,
    generation: u64,
    /// Why the one before it was lost.
    lost: Option<LeaseEnd>,
    /// Why there is no other one yet.
    refused: Option<Arc<Error>>,
    is_over: bool,
}

/// Counts the users: the task is none.
#[derive(Debug)]
struct Handle(Arc<Managed>);

impl SessionBuilder<'_> {
    /// Opens a session that comes back after a loss, with the same options; with
    /// [`SessionBuilder::lease`] that is the lease to begin with.
    ///
    /// # Errors
    ///
    /// As awaiting the builder. After that a failure to open another one is no error: it is tried again.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves at most a lease that runs out.
    pub async fn managed(self) -> Result<ManagedSession, Error> {
        let kind = Kind::of(&self);
        let session = self.await?;
        let managed = Arc::new(Managed {
            state: watch::Sender::new(State {
                session: session.clone(),
                generation: 0,
                lost: None,
                refused: None,
                is_over: false,
            }),
            stop: Notify::new(),
        });
        session.client().channel().runtime().spawn(run(Over(managed.clone()), kind));
        Ok(ManagedSession {
            _handle: Arc::new(Handle(managed.clone())),
            managed,
        })
    }
}

impl ManagedSession {
    /// The session, once there is one that is valid.
    ///
    /// A server that cannot be reached is no error: it is waited for.
    ///
    /// # Errors
    ///
    /// [`Error::is_lost`]: it was closed or orphaned, or the runtime that it was opened on is gone. Any other:
    /// the server refuses to open another one; that is tried again, and may go better later.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn session(&self) -> Result<Session, Error> {
        let known = |state: &State| state.is_over || state.refused.is_some() || state.session.is_valid();
        self.until(known, |state| match &state.refused {
            Some(refused) => Err(repeated(refused)),
            None => Ok(state.session.clone()),
        })
        .await
    }

    /// How many sessions were lost and replaced until now.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.managed.state.borrow().generation
    }

    /// Completes when a session of a later generation than this one is there. Of several the latest is told.
    ///
    /// ```no_run
    /// # async fn example(managed: tenure::ManagedSession) -> Result<(), tenure::Error> {
    /// let mut generation = managed.generation();
    /// loop {
    ///     let replaced = managed.replaced(generation).await?;
    ///     println!("{}: now with lease {}", replaced.lost, replaced.lease);
    ///     generation = replaced.generation;
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::is_lost`]: no other one will come, as for [`ManagedSession::session`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn replaced(&self, generation: u64) -> Result<Replaced, Error> {
        let known = |state: &State| state.is_over || state.generation > generation;
        self.until(known, |state| {
            Ok(Replaced {
                generation: state.generation,
                lease: state.session.lease_id(),
                // There is one but for the first.
                lost: state.lost.unwrap_or(LeaseEnd::Closed),
            })
        })
        .await
    }

    /// Closes the session, as [`Session::close`] does, and opens no other.
    ///
    /// # Errors
    ///
    /// As [`Session::close`].
    ///
    /// # Cancel safety
    ///
    /// Once it was polled no other session is opened; the lease runs out at the latest.
    pub async fn close(self) -> Result<(), Error> {
        self.last().close().await
    }

    /// Leaves the lease to run out, as [`Session::orphan`] does, and opens no other.
    pub fn orphan(self) {
        self.last().orphan();
    }

    /// The latest session; there will be no other.
    fn last(&self) -> Session {
        self.managed.state.send_modify(|state| state.is_over = true);
        self.managed.stop.notify_one();
        self.managed.state.borrow().session.clone()
    }

    async fn until<T>(
        &self,
        known: impl Fn(&State) -> bool,
        tell: impl FnOnce(&State) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut states = self.managed.state.subscribe();
        // It is there as long as this is.
        let state = states.wait_for(|state| known(state)).await;
        match state {
            Ok(state) if !state.is_over => tell(&state),
            Ok(state) => Err(lost(&state.session, "the session was closed")),
            Err(_) => Err(Error::lost("the session was closed")),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.stop.notify_one();
    }
}

impl fmt::Debug for ManagedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.managed.state.borrow();
        f.debug_struct("ManagedSession")
            .field("session", &state.session)
            .field("generation", &state.generation)
            .finish_non_exhaustive()
    }
}

/// The task's part: with it, also where it goes with its runtime, no other session will come.
struct Over(Arc<Managed>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.is_over = true);
    }
}

async fn run(over: Over, kind: Kind) {
    let managed = &*over.0;
    loop {
        let session = managed.state.borrow().session.clone();
        let lost = match race(managed.stop.notified(), session.ended()).await {
            Either::Left(()) => return,
            Either::Right(end) => end,
        };
        let (client, backoff) = (session.client().clone(), session.shared().backoff());
        drop(session);
        let opening = managed.open(&kind, &client, backoff);
        let Either::Right(session) = race(managed.stop.notified(), opening).await else {
            return;
        };
        let lease = session.lease_id();
        let mut generation = 0;
        let is_replaced = managed.state.send_if_modified(|state| {
            if state.is_over {
                return false;
            }
            state.session = session;
            state.generation += 1;
            generation = state.generation;
            (state.lost, state.refused) = (Some(lost), None);
            true
        });
        if is_replaced {
            let replaced = || StateEvent::SessionReplaced {
                lease,
                generation,
                lost,
            };
            client.channel().figures().feed.report(replaced);
        }
    }
}

impl Managed {
    /// Opens another session, however long that takes.
    async fn open(&self, kind: &Kind, client: &Client, mut backoff: Backoff) -> Session {
        loop {
            match kind.builder(client).await {
                Ok(session) => return session,
                Err(error) => {
                    let refused = (!may_pass(&error)).then(|| Arc::new(error));
                    self.state.send_modify(|state| state.refused = refused);
                }
            }
            clock::sleep_until(clock::now() + backoff.next_wait()).await;
        }
    }
}
