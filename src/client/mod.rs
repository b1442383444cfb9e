//! The typed calls of etcd's services, on one cheap handle.
//!
//! A file is a service. Each call is a builder that is awaited directly; it holds
//! the request message and a reference to the client, and turns into a
//! [`Call`], which is a future by name.

mod alarms;
mod answers;
mod authentication;
mod beside;
mod cache;
#[cfg(feature = "srv")]
mod discovery;
mod downgrade;
mod election_service;
mod endpoints;
mod health;
mod kv;
mod lease;
mod list_watch;
mod lock_service;
mod maintenance;
mod members;
#[cfg(feature = "metrics")]
mod metrics;
mod mirror;
mod monotonic;
mod namespace;
mod range_stream;
#[cfg(feature = "unstable")]
mod raw;
mod roles;
#[cfg(feature = "snapshot")]
mod snapshot;
mod telemetry;
mod txn;
mod unary;
mod users;
mod views;
mod watch;

use std::any::Any;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

#[cfg(feature = "metrics")]
pub use self::metrics::Metrics;
pub use crate::core::histogram::Latencies;
pub use crate::core::lease::LeaseEnd;
pub use crate::net::call::Call;
pub use crate::net::dial::{Dial, Dialing, Io};
pub use crate::net::endpoint::{Endpoint, Scheme};
pub use crate::net::feed::StateEvents;
pub use crate::net::route::Route;
pub use crate::net::state_event::StateEvent;
pub use crate::pb::etcdserverpb::AlarmType;
pub use alarms::{Alarm, Alarms};
pub use authentication::{AuthDisable, AuthEnable, AuthStatus, Authentication};
pub use cache::{Cache, Entries};
#[cfg(feature = "srv")]
pub use discovery::Discovery;
pub use downgrade::{Downgrade, DowngradeStep};
pub use election_service::{
    ElectionService, LeaderStream, ServiceCampaign, ServiceLeader, ServiceProclaim, ServiceResign,
};
pub use endpoints::Endpoints;
pub use health::{Health, HealthStream};
pub use kv::{Compact, Delete, Get, Put};
pub use lease::{Keeping, Lease, LeaseGrant, LeaseKeep, LeaseLeases, LeaseRevoke, LeaseTimeToLive};
pub use list_watch::{ListWatch, ListWatchEnd, Update};
pub use lock_service::{LockService, ServiceLock, ServiceUnlock};
pub use maintenance::{Defragment, Hash, HashKv, Maintenance, MoveLeader, Status};
pub use members::{MemberAdd, MemberList, MemberPromote, MemberRemove, MemberUpdate, Members};
pub use mirror::{Mirror, MirrorEnd, MirrorProgress};
pub use monotonic::Seen;
pub use range_stream::RangeStream;
#[cfg(feature = "unstable")]
pub use raw::{RawAnswer, RawCall};
pub use roles::{PermissionType, RoleAdd, RoleDelete, RoleGet, RoleGrant, RoleList, RoleRevoke, Roles};
#[cfg(feature = "snapshot")]
pub use snapshot::{Snapshot, SnapshotProgress, SnapshotSummary};
pub use telemetry::{
    BreakerTelemetry, CallTelemetry, ConnectionTelemetry, FailedCalls, LeaseTelemetry, LockTelemetry,
    Telemetry, WatchTelemetry,
};
pub(crate) use txn::Verdict;
pub use txn::{Comparand, Compare, Op, Txn};
pub use unary::Unary;
pub use users::{
    UserAdd, UserChangePassword, UserDelete, UserGet, UserGrantRole, UserList, UserRevokeRole, Users,
};
pub use watch::{Batch, BatchKind, CreateWatch, CreatingWatch, Event, Watch, WatchEnd};

use beside::Beside;
use views::Views;

use crate::config::Config;
use crate::core::namespace::Request;
use crate::error::Error;
use crate::net::call_options::CallOptions;
use crate::net::channel::Channel;
use crate::net::dial::{Once, Socket};
use crate::net::lease_keeper::LeaseKeeper;
use crate::net::runtime::Runtime;
use crate::net::tokens::Tokens;
use crate::net::view::View;
use crate::net::watch_driver::WatchStream;
use crate::wire::Method;

/// A client of one etcd cluster: a cheap clone, every call takes `&self`.
///
/// The connections live as long as the last clone and what was made from it:
/// calls, leases, watches and sessions.
///
/// ```no_run
/// # async fn example() -> Result<(), tenure::Error> {
/// let client = tenure::Client::connect(["http://127.0.0.1:2379"]).await?;
/// client.put("greeting", "hello").await?;
/// let answer = client.get("greeting").await?;
/// assert_eq!(answer.kvs[0].value, "hello");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    beside: Beside,
    view: Option<Arc<View>>,
}

struct Inner {
    channel: Channel,
    leases_kept: LeaseKeeper,
    watches: Arc<WatchStream>,
    views: Views,
}

impl Client {
    /// Connects to a cluster with the default [`Config`].
    ///
    /// Calls go round over the endpoints that are well. One that lives is enough.
    /// Must be called on a tokio runtime with IO and time enabled, or with
    /// [`Config::own_thread`].
    ///
    /// # Errors
    ///
    /// An endpoint does not parse, or every one failed to connect; the source of
    /// the error is the last failure. Or the server refuses the name or the password
    /// of [`Config::auth`].
    pub async fn connect<E>(endpoints: impl IntoIterator<Item = E>) -> Result<Client, Error>
    where
        E: AsRef<str>,
    {
        Client::connect_with(endpoints, Config::default()).await
    }

    /// Connects with options of your own.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub async fn connect_with<E>(
        endpoints: impl IntoIterator<Item = E>,
        config: Config,
    ) -> Result<Client, Error>
    where
        E: AsRef<str>,
    {
        Client::connect_over(Socket::default(), endpoints, config).await
    }

    /// Connects over byte streams that the caller opens: a tunnel, a simulation,
    /// a fuzzer. TLS, where an endpoint asks for it, runs inside them.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub async fn connect_over<E>(
        dial: impl Dial,
        endpoints: impl IntoIterator<Item = E>,
        config: Config,
    ) -> Result<Client, Error>
    where
        E: AsRef<str>,
    {
        let endpoints = endpoints.into_iter().map(|text| Endpoint::parse(text.as_ref()));
        let endpoints: Vec<_> = endpoints.collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(Error::invalid("no endpoint was given"));
        }
        let client = Client::new(dial, endpoints, config)?;
        client.channel().connected().await?;
        let channel = client.channel();
        channel.runtime().run(channel.authenticated()).await?;
        Ok(client)
    }

    /// Runs on one byte stream that is open already. When it is lost, so is the
    /// client's way to the server. It does not wait for the server's first word; a token
    /// is fetched with the first call.
    ///
    /// # Errors
    ///
    /// The HTTP/2 preface could not be written, or the token of [`Config::auth`] cannot
    /// be sent.
    pub async fn over(io: impl Io, config: Config) -> Result<Client, Error> {
        let client = Client::new(Once::new(io), vec![Endpoint::parse("http://handed.in")?], config)?;
        client.channel().opened().await?;
        Ok(client)
    }

    fn new(dial: impl Dial, endpoints: Vec<Endpoint>, config: Config) -> Result<Client, Error> {
        let tokens = Tokens::new(config.auth.as_ref(), chance())?;
        #[cfg(feature = "tls")]
        let dial = crate::net::tls::Secured::new(dial, config.tls.clone());
        let runtime = Runtime::new(config.own_thread)?;
        let channel = Channel::new(endpoints, Arc::new(dial), config, tokens, runtime, chance());
        if let Some(interval) = channel.config().sync_interval {
            channel.sync_at(interval, chance());
        }
        let inner = Inner {
            leases_kept: LeaseKeeper::new(channel.clone(), chance()),
            watches: WatchStream::new(channel.clone(), chance()),
            views: Views::default(),
            channel,
        };
        Ok(Client {
            inner: Arc::new(inner),
            beside: Beside::new(),
            view: None,
        })
    }

    /// A clone that does not count as a user's: for what is kept beside the client.
    pub(crate) fn uncounted(&self) -> Client {
        Client {
            inner: self.inner.clone(),
            beside: self.beside.uncounted(),
            view: self.view.clone(),
        }
    }

    /// What the layer above keeps once for all of a client's clones, always of one type, made with the
    /// first call. It goes with the last clone that a user has: `None` from then on.
    pub(crate) fn beside<T: Any + Default + Send + Sync>(&self) -> Option<Arc<T>> {
        self.beside.get()
    }

    /// A call of `method`, seen as this client sees.
    pub(crate) fn unary<M: Request, R>(
        &self,
        method: &'static Method,
        request: &M,
        options: CallOptions,
    ) -> Call<R> {
        match &self.view {
            None => self.channel().unary(method, request, options),
            Some(view) => self.unary_through(view, method, request, options),
        }
    }

    #[inline(never)]
    fn unary_through<M: Request, R>(
        &self,
        view: &Arc<View>,
        method: &'static Method,
        request: &M,
        mut options: CallOptions,
    ) -> Call<R> {
        options.view = Some(view.begin());
        let Some(namespace) = &view.namespace else {
            return self.channel().unary(method, request, options);
        };
        let mut request = request.clone();
        request.enter(namespace);
        self.channel().unary(method, &request, options)
    }

    pub(crate) fn view(&self) -> Option<&Arc<View>> {
        self.view.as_ref()
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.inner.channel
    }

    pub(crate) fn leases_kept(&self) -> &LeaseKeeper {
        &self.inner.leases_kept
    }

    pub(crate) fn watch_stream(&self) -> &Arc<WatchStream> {
        &self.inner.watches
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut client = f.debug_struct("Client");
        client.field("endpoints", self.channel());
        if let Some(view) = &self.view {
            client.field("view", view);
        }
        client.finish()
    }
}

/// A number that differs from client to client, for jitter and nothing secret.
pub(crate) fn chance() -> u64 {
    #[cfg(feature = "unstable")]
    if let Some(chance) = crate::net::simulation::chance() {
        return chance;
    }
    RandomState::new().hash_one(0)
}
