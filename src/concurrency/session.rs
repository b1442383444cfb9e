//! A session: a lease that is kept alive, and the locks that hang on it.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use super::collector::{self, Caller};
use super::releaser::{self, Watchman};
use super::shared::Shared;
use crate::client::{Client, Lease, LeaseEnd};
use crate::error::Error;
use crate::net::race::both;
use crate::types::LeaseId;

/// What a crashed holder costs the others, against how often a healthy one renews.
const TTL_DEFAULT: Duration = Duration::from_secs(10);

/// A lease that is kept alive, shared by every lock that is made from it: a cheap
/// clone.
///
/// When the last clone and the last guard are gone, the session is closed in the
/// background: its locks are given back and its lease is revoked. A process that
/// dies leaves them to the lease, which runs out.
///
/// [`SessionBuilder::shared`] is the one that the locks of a client share, [`SessionBuilder::managed`] one that
/// comes back after a loss.
///
/// # Guarantees
///
/// The lease is believed in until its *deadline*: the time at which the last
/// renewal that was answered had been **sent**, plus the TTL, less a margin. That
/// is sound as long as this machine's boot clock and the etcd leader's clock run
/// at the same rate to within that margin.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
    handle: Arc<Handle>,
}

/// Counts the users: the releaser's task is none.
struct Handle(Arc<Shared>);

impl Client {
    /// Opens a [`Session`]: grants a lease and keeps it alive.
    pub fn session(&self) -> SessionBuilder<'_> {
        SessionBuilder {
            client: self,
            ttl: TTL_DEFAULT,
            lock_delay: Duration::ZERO,
            lease: None,
            gate_prefix: String::new(),
        }
    }
}

/// The options of a [`Session`], to be awaited.
#[derive(Clone, Debug)]
#[must_use = "a session is opened only once it is awaited"]
pub struct SessionBuilder<'a> {
    pub(super) client: &'a Client,
    pub(super) ttl: Duration,
    pub(super) lock_delay: Duration,
    pub(super) lease: Option<LeaseId>,
    pub(super) gate_prefix: String,
}

impl SessionBuilder<'_> {
    /// How long a holder that crashed blocks the others: the TTL of the lease, in
    /// whole seconds, rounded up. A server raises it to its minimum, 2 seconds by
    /// default. Default: 10 seconds.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// For how long a lock stays closed after a holder that did not give it back: so much time lies at
    /// least between the moment at which its guard says that it is lost and the next
    /// one's grant, in whole seconds, rounded up. For resources that cannot tell a holder that is late by
    /// its [`Token`](super::Token): what it has sent comes to rest meanwhile. Default: none.
    ///
    /// The lease lives for that much longer on the server than it is believed in here. So everybody who
    /// waits waits for it, whatever client it is, and nothing is paid where locks are given back.
    /// Whoever crashes, also while it waits, blocks the others for the
    /// [time to live](SessionBuilder::ttl) and the delay. A guard that is lost frees nothing any
    /// sooner by being dropped or released, also where it is lost to
    /// [`Mutex::hold_at_most`](super::Mutex::hold_at_most).
    ///
    /// What is given back by hand is free at once: by [`Session::close`], or by somebody who
    /// revokes the lease or deletes the key. And whoever [takes over](super::Mutex::owner) its
    /// own lock does not wait.
    pub fn lock_delay(mut self, delay: Duration) -> Self {
        self.lock_delay = delay;
        self
    }

    /// Goes on with a lease that exists, as that of a session that was
    /// [orphaned](Session::orphan), or whose process ended, and has not run out yet: with
    /// its TTL, less the [delay](SessionBuilder::lock_delay), and with all keys that hang on it.
    /// Whoever had it before must be gone, for the two would be one to etcd.
    ///
    /// A [`Mutex`](super::Mutex) whose key the earlier session has left is held by nobody here: its first lock
    /// deletes that key, which costs a request or two more, and queues anew, so that tokens rise and earlier fences
    /// fail. For a lock that is to be had again in place there is [`Mutex::owner`](super::Mutex::owner), and a
    /// session of its own; for a leadership [`Election::resume`](super::Election::resume).
    ///
    /// Awaiting it fails with [`EtcdError::LeaseNotFound`](crate::EtcdError::LeaseNotFound)
    /// where it has run out, and with `InvalidArgument` where its time to live is not above the delay.
    pub fn lease(mut self, id: LeaseId) -> Self {
        self.lease = Some(id);
        self
    }

    /// Where the gate keys of the session's locks lie: `<prefix><name>#gate/<lease>`, and
    /// up to 16 keys `<prefix><name>#gate/<lease>-<n>` where it is not a mutex.
    ///
    /// A lock has a gate key once the answer to one of its requests was lost, or it was given up while one was under
    /// way, for as long as the session lives: who gives up ever new names opens a new session now and then. And
    /// each of its transactions compares it, so the session's user needs permission
    /// for it. Default: no prefix, so that a permission for all keys that begin with
    /// the name is enough. A Go client that locks a name *above* this one, as `jobs`
    /// is above `jobs/nightly`, takes every key down there for an entry in its queue,
    /// the gate as well; a prefix keeps at least that out of its way.
    pub fn gate_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.gate_prefix = prefix.into();
        self
    }
}

impl<'a> IntoFuture for SessionBuilder<'a> {
    type Output = Result<Session, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Session, Error>> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let client = self.client.forgetful();
            let Some(id) = self.lease else {
                let lease = self.client.lease(self.ttl).reserve(self.lock_delay).await?;
                return Ok(Session::new(client, lease, self.gate_prefix));
            };
            let lease = self.client.keep_alive_reserving(id, self.lock_delay).await?;
            let session = Session::new(client, lease, self.gate_prefix);
            session.shared.inherit();
            Ok(session)
        })
    }
}

impl Session {
    fn new(client: Client, lease: Lease, gate_prefix: String) -> Session {
        let shared = Arc::new(Shared::new(client, lease, gate_prefix));
        let (releasing, collecting) = (
            releaser::run(Watchman(shared.clone())),
            collector::run(Caller(shared.clone())),
        );
        shared.client().channel().runtime().spawn(async move {
            both(pin!(releasing), pin!(collecting)).await;
        });
        Session {
            handle: Arc::new(Handle(shared.clone())),
            shared,
        }
    }

    /// The lease that everything of this session hangs on.
    #[must_use]
    pub fn lease_id(&self) -> LeaseId {
        self.shared.lease().id()
    }

    /// The client that the session was opened on, though not [monotonic](Client::monotonic).
    #[must_use]
    pub fn client(&self) -> &Client {
        self.shared.client()
    }

    /// Whether the lease is proven to be alive at this moment.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.shared.lease().is_valid()
    }

    /// For how long from now the lease is proven, without any further renewal.
    #[must_use]
    pub fn valid_for(&self) -> Duration {
        self.shared.lease().valid_for()
    }

    /// Completes when the session is over, at the deadline at the latest and with
    /// no help from the network.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ended(&self) -> LeaseEnd {
        self.shared.lease().ended().await
    }

    /// Revokes the lease: every lock of this session is free at once, and every guard is told that it is
    /// lost, with [`LeaseEnd::Revoked`].
    ///
    /// # Errors
    ///
    /// The lease could not be revoked; it is renewed no more, and runs out.
    pub async fn close(self) -> Result<(), Error> {
        let revoked = self.shared.lease().revoke().await;
        // The session's task does it too, where its runtime is driven.
        self.shared.end_waiting();
        revoked
    }

    /// Stops renewing the lease and leaves it to run out, as a crash would. Every guard is told that it is lost,
    /// with [`LeaseEnd::Closed`].
    ///
    /// What hangs on the lease stays until then, also where its guard is dropped: only a
    /// [release](super::Guard::release) still takes it back. Another process can go on with it, with
    /// [`SessionBuilder::lease`].
    pub fn orphan(self) {
        self.shared.end_waiting();
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether somebody has another clone, or a guard, or what else keeps it open.
    pub(super) fn is_used_by_others(&self) -> bool {
        Arc::strong_count(&self.handle) > 1
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.backlog().close();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("lease", self.shared.lease()).finish_non_exhaustive()
    }
}
