//! The sessions that the locks of one client share, one for each time to live. One is opened with the
//! first lock that wants it, replaced with the next lock once it is lost, and closed when nobody has used it
//! for a while.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::session::{Session, SessionBuilder};
use crate::client::{Client, LeaseEnd};
use crate::error::Error;
use crate::net::clock;
use crate::net::race::{Either, race};
use crate::types::LeaseId;

/// Of a lease that lives longer than this, a session is not kept for as long.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    commons: Mutex<HashMap<Kind, Arc<Common>>>,
}

/// What two locks have to agree on to share a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    ttl: Duration,
    lock_delay: Duration,
    gate_prefix: String,
}

impl SessionBuilder<'_> {
    /// The session that the client's locks of this time to live share, as [`Client::lock`] does: opened
    /// where there is none, or where the one there was is lost.
    ///
    /// It is closed once nobody has had a clone, a guard or anything else of it for one to two times its time
    /// to live, at most two minutes, or when the client's last clone is gone and all that was made from it.
    /// [`Session::close`] ends it for everybody.
    ///
    /// # Errors
    ///
    /// As awaiting the builder. [`SessionBuilder::lease`] is refused: a lease of one's own is not shared.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves at most a lease that runs out.
    pub async fn shared(self) -> Result<Session, Error> {
        if self.lease.is_some() {
            return Err(Error::invalid(
                "a session that goes on with a lease is not shared",
            ));
        }
        match self.client.beside::<Sessions>() {
            Some(sessions) => sessions.get(&Kind::of(&self), self.client).await,
            // A clone of a session's client, which has outlived all others.
            None => self.await,
        }
    }
}

impl Kind {
    pub(super) fn of(builder: &SessionBuilder<'_>) -> Kind {
        Kind {
            ttl: builder.ttl,
            lock_delay: builder.lock_delay,
            gate_prefix: builder.gate_prefix.clone(),
        }
    }

    /// Such a session, of this client.
    pub(super) fn builder<'a>(&self, client: &'a Client) -> SessionBuilder<'a> {
        client.session().ttl(self.ttl).lock_delay(self.lock_delay).gate_prefix(&*self.gate_prefix)
    }
}

/// The session of one kind.
#[derive(Debug, Default)]
struct Common {
    open: Mutex<Option<Open>>,
    /// One opens it, the others wait for that; how the last try failed.
    opening: tokio::sync::Mutex<Option<Failed>>,
    /// How many tries have begun.
    tries: AtomicU64,
}

#[derive(Debug)]
struct Open {
    session: Session,
    /// Nobody used it at the last look, and nobody has asked for it since.
    is_idle: bool,
}

#[derive(Debug)]
struct Failed {
    try_number: u64,
    error: Arc<Error>,
}

impl Sessions {
    /// The session of this kind. Where it cannot be opened, all who have waited for that try are told so.
    pub(super) async fn get(&self, kind: &Kind, client: &Client) -> Result<Session, Error> {
        let common = self.common(kind);
        if let Some(session) = common.session() {
            return Ok(session);
        }
        // Relaxed: what matters is read under the lock.
        let tries = common.tries.load(Ordering::Relaxed);
        let mut failed = common.opening.lock().await;
        if let Some(session) = common.session() {
            return Ok(session);
        }
        if let Some(failed) = failed.as_ref().filter(|failed| failed.try_number > tries) {
            return Err(repeated(&failed.error));
        }
        let try_number = common.tries.fetch_add(1, Ordering::Relaxed) + 1;
        // A session that lives beside the client must not keep it alive.
        let client = client.uncounted();
        match kind.builder(&client).await {
            Ok(session) => {
                common.put(&session);
                Ok(session)
            }
            Err(error) => {
                let error = Arc::new(error);
                let told = repeated(&error);
                *failed = Some(Failed { try_number, error });
                Err(told)
            }
        }
    }

    fn common(&self, kind: &Kind) -> Arc<Common> {
        let mut commons = self.commons.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(common) = commons.get(kind) {
            return common.clone();
        }
        // Nobody else can come by one while this is locked.
        commons.retain(|_, common| Arc::strong_count(common) > 1 || common.lock().is_some());
        commons.entry(kind.clone()).or_default().clone()
    }
}

impl Common {
    /// The session, where it is believed in.
    fn session(&self) -> Option<Session> {
        let mut open = self.lock();
        let open = open.as_mut().filter(|open| open.session.is_valid())?;
        open.is_idle = false;
        Some(open.session.clone())
    }

    fn put(self: &Arc<Common>, session: &Session) {
        *self.lock() = Some(Open {
            session: session.clone(),
            is_idle: false,
        });
        let lease = session.shared().lease();
        let looking = look(
            Arc::downgrade(self),
            lease.id(),
            lease.ended(),
            lease.ttl().min(IDLE_MAX),
        );
        session.client().channel().runtime().spawn(looking);
    }

    /// Lets the session go if it is `over`, or if it is idle for the second time. Whether it is gone.
    fn let_go(&self, lease: LeaseId, over: bool) -> bool {
        let mut open = self.lock();
        let Some(found) = open.as_mut().filter(|open| open.session.lease_id() == lease) else {
            return true;
        };
        // Used by nobody, it can come to users only by this lock.
        let was_idle = std::mem::replace(&mut found.is_idle, !found.session.is_used_by_others());
        let goes = over || was_idle && found.is_idle;
        if goes {
            *open = None;
        }
        goes
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks from time to time whether anybody uses the session, until it is over.
async fn look(
    common: Weak<Common>,
    lease: LeaseId,
    ended: impl Future<Output = LeaseEnd>,
    interval: Duration,
) {
    let mut ended = pin!(ended);
    loop {
        let pause = clock::sleep_until(clock::now() + interval);
        let over = matches!(race(ended.as_mut(), pause).await, Either::Left(_));
        if common.upgrade().is_none_or(|common| common.let_go(lease, over)) {
            return;
        }
    }
}

/// What several are told of the failure of one.
pub(super) fn repeated(error: &Arc<Error>) -> Error {
    Error::new(
        error.code(),
        error.origin(),
        error.delivery(),
        error.message().to_owned(),
    )
    .with_etcd(error.etcd())
    .of_the_call_of(error)
    .with_source(error.clone())
}
