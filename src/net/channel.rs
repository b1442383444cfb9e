//! The way to the cluster: one connection for each endpoint, and the choice of
//! the one that a call goes to. It stays with one endpoint while that is up.
//!
//! A call that finds no connection waits here until there is one, or until its
//! deadline.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::connection::{self, Report, Route};
use super::dial::Dial;
use super::endpoint::Endpoint;
use crate::config::Config;
use crate::core::backoff::Backoff;
use crate::error::{Code, Delivery, Error, Origin};
use crate::wire::Metadata;

/// A server that restarts is back soon; one that is gone is asked now and then.
const DIAL_WAIT_FIRST: Duration = Duration::from_millis(20);
const DIAL_WAIT_MAX: Duration = Duration::from_secs(2);

/// A cheap clone; the connections end with the last one, and with the last call.
#[derive(Clone)]
pub(crate) struct Channel {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    calls: Metadata,
    streams: Metadata,
    state: Mutex<State>,
}

struct State {
    links: Vec<Link>,
    /// The link that calls go to while it is up.
    favourite: usize,
    /// Counts connections, so that a late report cannot take down a newer one.
    generations: u64,
    /// Who waits for a connection; woken all at once when one is up or a dial failed.
    waiters: BTreeMap<u64, Waker>,
    /// Numbers the waiters.
    waited: u64,
}

struct Link {
    endpoint: Arc<Endpoint>,
    status: LinkStatus,
    /// The connection's task. It has no business without the link: not to dial, nor
    /// to wait for a peer that reads nothing.
    task: Option<AbortHandle>,
}

enum LinkStatus {
    Connecting,
    Up(Route, Arc<Notify>),
    Down(Arc<Error>),
    /// Nobody dials any more.
    Gone(Arc<Error>),
}

impl Channel {
    /// Begins to connect to every endpoint. Must be called on a tokio runtime.
    pub(crate) fn new(endpoints: Vec<Endpoint>, dial: Arc<dyn Dial>, config: Config, seed: u64) -> Channel {
        let endpoints: Vec<_> = endpoints.into_iter().map(Arc::new).collect();
        let link = |endpoint: &Arc<Endpoint>| Link {
            endpoint: endpoint.clone(),
            status: LinkStatus::Connecting,
            task: None,
        };
        let state = State {
            links: endpoints.iter().map(link).collect(),
            favourite: 0,
            generations: 0,
            waiters: BTreeMap::new(),
            waited: 0,
        };
        let mut calls = Metadata::new();
        // A member without a leader still serves serializable reads, and says
        // itself when it cannot serve others.
        calls.set_require_leader(false);
        calls.set_client_api_version(false);
        let mut streams = Metadata::new();
        streams.set_require_leader(config.require_leader);
        let shared = Arc::new(Shared {
            calls,
            streams,
            state: Mutex::new(state),
            config,
        });
        for (index, endpoint) in endpoints.into_iter().enumerate() {
            let backoff = Backoff::new(DIAL_WAIT_FIRST, DIAL_WAIT_MAX, seed ^ index as u64);
            let report = Reporter {
                shared: Arc::downgrade(&shared),
                index,
            };
            let config = shared.config.clone();
            let task = tokio::spawn(connection::keep(endpoint, dial.clone(), config, backoff, report));
            shared.lock().links[index].task = Some(task.abort_handle());
        }
        Channel { shared }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    /// What unary calls send beside their message.
    pub(crate) fn calls(&self) -> &Metadata {
        &self.shared.calls
    }

    /// What streams send beside their messages.
    pub(crate) fn streams(&self) -> &Metadata {
        &self.shared.streams
    }

    /// Waits until one endpoint is connected, or none can be for the moment.
    ///
    /// # Errors
    ///
    /// The last failure to connect, once every endpoint has failed.
    pub(crate) async fn connected(&self) -> Result<(), Error> {
        let mut waiter = None;
        std::future::poll_fn(|cx| match self.poll_route(cx, &mut waiter) {
            Poll::Ready(route) => Poll::Ready(route.map(drop)),
            Poll::Pending if self.all_down() => Poll::Ready(Err(self.unreachable())),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// A live connection; the task is woken when there may be one. `waiter` is the
    /// caller's place among those who wait: it is given up when it is dropped.
    ///
    /// # Errors
    ///
    /// There will be none: the runtime that the client was made on is gone.
    pub(crate) fn poll_route(
        &self,
        cx: &mut Context<'_>,
        waiter: &mut Option<Waiter>,
    ) -> Poll<Result<Route, Error>> {
        let mut state = self.lock();
        if let Some(route) = state.pick() {
            drop(state);
            *waiter = None;
            return Poll::Ready(Ok(route));
        }
        if state.links.iter().all(|link| matches!(link.status, LinkStatus::Gone(_))) {
            drop(state);
            return Poll::Ready(Err(self.unreachable()));
        }
        let id = match waiter {
            Some(waiter) => waiter.id,
            None => {
                state.waited += 1;
                let shared = self.shared.clone();
                waiter
                    .insert(Waiter {
                        shared,
                        id: state.waited,
                    })
                    .id
            }
        };
        state.waiters.insert(id, cx.waker().clone());
        Poll::Pending
    }

    /// A call found that this connection takes no more requests: it went away
    /// gracefully, has no stream numbers left, or its task has yet to say that it
    /// is lost. The endpoint is dialled anew.
    pub(crate) fn lost(&self, route: &Route, error: Error) {
        let mut state = self.lock();
        let is_this = |link: &&mut Link| link.is_up(route.generation);
        if let Some(link) = state.links.iter_mut().find(is_this) {
            let down = LinkStatus::Down(Arc::new(error));
            if let LinkStatus::Up(_, retired) = std::mem::replace(&mut link.status, down) {
                retired.notify_one();
            }
        }
    }

    /// The member behind this connection was silent for too long. Others are asked
    /// first from now on, where there are any.
    pub(crate) fn suspect(&self, generation: u64) {
        let mut state = self.lock();
        let favourite = state.favourite;
        if state.links[favourite].is_up(generation) {
            state.favourite = (favourite + 1) % state.links.len();
        }
    }

    /// Why no connection can be had, with the last cause.
    pub(crate) fn unreachable(&self) -> Error {
        let error = Error::new(
            Code::Unavailable,
            Origin::Transport,
            Delivery::NotSent,
            "no endpoint is connected",
        );
        let state = self.lock();
        let cause = state.links.iter().find_map(|link| match &link.status {
            LinkStatus::Down(cause) | LinkStatus::Gone(cause) => Some((link, cause)),
            _ => None,
        });
        match cause {
            Some((link, cause)) => {
                error.with_source(cause.clone()).with_call("connect", Some(link.endpoint.shared_name()))
            }
            None => error,
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.lock().links.iter().any(|link| matches!(link.status, LinkStatus::Up(..)))
    }

    fn all_down(&self) -> bool {
        self.lock()
            .links
            .iter()
            .all(|link| matches!(link.status, LinkStatus::Down(_) | LinkStatus::Gone(_)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

/// A place among those who wait for a connection.
pub(crate) struct Waiter {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.shared.lock().waiters.remove(&self.id);
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_list().entries(state.links.iter().map(|link| &link.endpoint)).finish()
    }
}

impl Shared {
    /// A panic while this lock was held cannot leave the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn pick(&mut self) -> Option<Route> {
        let count = self.links.len();
        let (index, route) = (0..count)
            .map(|step| (self.favourite + step) % count)
            .find_map(|index| self.links[index].route().map(|route| (index, route)))?;
        self.favourite = index;
        Some(route)
    }
}

impl Link {
    fn route(&self) -> Option<Route> {
        match &self.status {
            LinkStatus::Up(route, _) => Some(route.clone()),
            _ => None,
        }
    }

    fn is_up(&self, generation: u64) -> bool {
        matches!(&self.status, LinkStatus::Up(route, _) if route.generation == generation)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Carries the news of one connection's task; it does not keep the channel alive.
struct Reporter {
    shared: Weak<Shared>,
    index: usize,
}

impl Reporter {
    fn set(&self, status: impl FnOnce(&mut State) -> LinkStatus) -> Option<()> {
        let shared = self.shared.upgrade()?;
        let mut state = shared.lock();
        let status = status(&mut state);
        state.links[self.index].status = status;
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        waiters.into_values().for_each(Waker::wake);
        Some(())
    }
}

/// The connection's task is gone, with its runtime or in a panic of the caller's
/// [`Dial`]: nobody waits for it in vain.
impl Drop for Reporter {
    fn drop(&mut self) {
        self.set(|_| {
            let message = "the task of the connection is gone";
            let error = Error::new(Code::Unavailable, Origin::Library, Delivery::NotSent, message);
            LinkStatus::Gone(Arc::new(error))
        });
    }
}

impl Report for Reporter {
    fn up(&self, sender: SendRequest<Bytes>) -> Option<Arc<Notify>> {
        let retired = Arc::new(Notify::new());
        self.set(|state| {
            state.generations += 1;
            let route = Route {
                generation: state.generations,
                endpoint: state.links[self.index].endpoint.clone(),
                sender,
            };
            LinkStatus::Up(route, retired.clone())
        })?;
        Some(retired)
    }

    fn down(&self, error: Error) -> bool {
        self.set(|_| LinkStatus::Down(Arc::new(error))).is_some()
    }
}
