//! The connections of a client: it does what `core::pool` says, with a task for
//! each connection and one that dials. Who waits for a connection waits here.

mod reporter;
mod seat;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::clock::{self, NEVER};
use super::connection;
use super::dial::Dial;
use super::endpoint::Endpoint;
use super::figures::Figures;
use super::in_flight::InFlight;
use super::race::race;
use super::route::Route;
use super::runtime::Runtime;
use super::state_event::StateEvent;
use super::tokens::Tokens;
use super::wishes::Wishes;
use crate::config::Config;
use crate::core::breaker::{Rules, Turn};
use crate::core::pool::{Action, Class, ConnectionId, EndpointId, Limits, Pool};
use crate::core::time::Instant;
use crate::error::Error;
use crate::wire::Metadata;
use reporter::Reporter;
pub(super) use seat::{Outcome, Seat, Trial};

/// How long the dialling task sleeps at most.
const TURN_MAX: Duration = Duration::from_secs(60);

/// What all handles of a channel share. The tasks hold it weakly.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) calls: Metadata,
    pub(super) local_calls: Metadata,
    pub(super) streams: Metadata,
    pub(super) tokens: Tokens,
    pub(super) figures: Arc<Figures>,
    /// Where calls in flight are bounded.
    pub(super) in_flight: Option<Arc<InFlight>>,
    /// Where the client's tasks run.
    pub(super) runtime: Runtime,
    dial: Arc<dyn Dial>,
    /// The dialling task has something to do.
    news: Arc<Notify>,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) pool: Pool,
    pub(super) listed: Vec<Listed>,
    links: BTreeMap<ConnectionId, Link>,
    waiting: Waiting,
    /// These go with the channel.
    pub(super) tasks: Vec<AbortHandle>,
    /// So does the task that asks for a token, the last one of these.
    pub(super) asking: Option<AbortHandle>,
    /// The cluster whose members the endpoints are; 0 where none has said so.
    cluster_id: u64,
    /// Nobody dials any more: the runtime is gone.
    pub(super) is_gone: bool,
}

/// An endpoint by its address.
pub(super) struct Listed {
    pub(super) id: EndpointId,
    pub(super) endpoint: Arc<Endpoint>,
    /// A connection to it was up before.
    pub(super) was_connected: bool,
    /// Why it is not connected: the last cause.
    pub(super) error: Option<Arc<Error>>,
}

struct Link {
    endpoint_id: EndpointId,
    /// There is a byte stream, if nothing more.
    is_open: bool,
    /// It was told that this is up, and not yet that it is not.
    is_told: bool,
    /// It was up once.
    was_up: bool,
    route: Option<Route>,
    wishes: Arc<Wishes>,
    /// The connection's task. It has no business without the link: not to dial, nor
    /// to wait for a peer that reads nothing.
    task: Option<AbortHandle>,
}

impl Shared {
    /// Begins to dial every endpoint. Must be called on a tokio runtime, if not the
    /// client has one of its own.
    pub(super) fn new(
        dial: Arc<dyn Dial>,
        config: Config,
        tokens: Tokens,
        runtime: Runtime,
        seed: u64,
    ) -> Arc<Shared> {
        let limits = Limits {
            connections_max: config.connections_max,
            streams_full: config.streams_full,
            breaker: config.breaker_failures.map(|failures| Rules {
                failures,
                pause: config.breaker_pause,
                // Whatever has not ended by then is as good as lost.
                probe: config.call_timeout,
                silence: config.silence,
            }),
        };
        let mut calls = Metadata::new();
        // Without it a member that has lost its leader keeps a call for 7 seconds.
        calls.set_require_leader(config.require_leader);
        calls.set_introduction(false);
        let mut local_calls = calls.clone();
        local_calls.set_require_leader(false);
        let mut streams = Metadata::new();
        streams.set_require_leader(config.require_leader);
        let state = State {
            pool: Pool::new(limits, seed),
            listed: Vec::new(),
            links: BTreeMap::new(),
            waiting: Waiting::default(),
            tasks: Vec::new(),
            asking: None,
            cluster_id: 0,
            is_gone: false,
        };
        let in_flight = config.calls_max.map(InFlight::new);
        let shared = Arc::new(Shared {
            config,
            calls,
            local_calls,
            streams,
            tokens,
            figures: Arc::default(),
            in_flight,
            runtime,
            dial,
            news: Arc::default(),
            state: Mutex::new(state),
        });
        let dialing = dial_on(Arc::downgrade(&shared), shared.news.clone());
        let dialer = shared.runtime.spawn(dialing);
        shared.lock().tasks.push(dialer.abort_handle());
        shared
    }

    /// A panic while this lock was held cannot leave the state half changed.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody asks anything any more. A question of the client's own that is out would
    /// keep the connections for as long as a call may take.
    pub(super) fn abandon(&self) {
        self.lock().end_tasks();
    }

    /// Changes the pool, has done what follows, and wakes whoever waits.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        let woken = state.waiting.take();
        drop(state);
        // Also the time of what is to be done next may be another.
        self.news.notify_one();
        woken.for_each(Waker::wake);
        result
    }

    /// To be called when a connection was picked: the pool may have something to do.
    pub(super) fn settle(&self, state: MutexGuard<'_, State>) {
        let has_action = state.pool.has_action();
        drop(state);
        if has_action {
            self.news.notify_one();
        }
    }

    /// The same where somebody waits for the stream that is free now.
    #[cold]
    fn settle_and_wake(&self, mut state: MutexGuard<'_, State>) {
        let woken = state.waiting.next();
        self.settle(state);
        woken.for_each(Waker::wake);
    }

    /// Does what the pool says; until when there is nothing more to do.
    fn act(self: &Arc<Self>) -> Instant {
        let (mut dials, mut closed) = (Vec::new(), Vec::new());
        let mut state = self.lock();
        let now = clock::now();
        let is_due = state.pool.poll_timeout().is_some_and(|at| at <= now);
        if is_due {
            state.pool.handle_timeout(now);
        }
        while let Some(action) = state.pool.poll_action() {
            match action {
                Action::Dial(endpoint, id) => dials.extend(self.dial(&mut state, endpoint, id)),
                Action::Retire(id) => {
                    if let Some(link) = state.links.get_mut(&id) {
                        (link.route, link.is_told) = (None, false);
                        link.wishes.retire();
                    }
                }
                Action::Close(id) => closed.extend(state.links.remove(&id)),
            }
        }
        let timeout = state.pool.poll_timeout().unwrap_or(NEVER);
        let woken = is_due.then(|| state.waiting.take());
        drop(state);
        drop(closed);
        dials.into_iter().for_each(|(id, run)| self.begin(id, run));
        woken.into_iter().flatten().for_each(Waker::wake);
        timeout
    }

    /// What is to be spawned.
    fn dial(
        self: &Arc<Self>,
        state: &mut State,
        endpoint_id: EndpointId,
        id: ConnectionId,
    ) -> Option<(ConnectionId, impl Future<Output = ()> + Send + use<>)> {
        let Some(listed) = state.listed.iter().find(|listed| listed.id == endpoint_id) else {
            state.pool.handle_lost(clock::now(), id);
            return None;
        };
        self.figures.connections.dialled.add();
        let wishes = Arc::new(Wishes::default());
        let report = Reporter {
            shared: Arc::downgrade(self),
            id,
        };
        let (endpoint, dial) = (listed.endpoint.clone(), self.dial.clone());
        let run = connection::run(endpoint, dial, self.config.clone(), wishes.clone(), report);
        let link = Link {
            endpoint_id,
            is_open: false,
            is_told: false,
            was_up: false,
            route: None,
            wishes,
            task: None,
        };
        state.links.insert(id, link);
        Some((id, run))
    }

    /// Not under the lock: a runtime that shuts down drops the task here and now, and
    /// its [`Reporter`] says so.
    fn begin(&self, id: ConnectionId, run: impl Future<Output = ()> + Send + 'static) {
        let task = self.runtime.spawn(run).abort_handle();
        match self.lock().links.get_mut(&id) {
            Some(link) => link.task = Some(task),
            None => task.abort(),
        }
    }
}

impl State {
    /// The way over a connection that is up.
    pub(super) fn route(&self, id: ConnectionId) -> Option<Route> {
        self.links.get(&id)?.route.clone()
    }

    /// Somebody waited in vain on this connection.
    pub(super) fn doubt(&mut self, id: ConnectionId) {
        self.pool.handle_suspect(clock::now(), id);
        if let Some(link) = self.links.get(&id) {
            link.wishes.doubt();
        }
    }

    /// Whether there is a byte stream to any endpoint.
    pub(super) fn is_open(&self) -> bool {
        self.links.values().any(|link| link.is_open)
    }

    pub(super) fn is_up(&self) -> bool {
        self.links.values().any(|link| link.route.is_some())
    }

    /// How many connections are up.
    pub(super) fn connections(&self) -> usize {
        self.links.values().filter(|link| link.route.is_some()).count()
    }

    pub(super) fn is_connected(&self, id: EndpointId) -> bool {
        self.links.values().any(|link| link.endpoint_id == id && link.route.is_some())
    }

    /// Whether a list of members is that of the cluster which the last ones were of.
    pub(super) fn meet(&mut self, cluster_id: u64) -> bool {
        if self.cluster_id == 0 {
            self.cluster_id = cluster_id;
        }
        cluster_id == 0 || cluster_id == self.cluster_id
    }

    /// What a call has shown of its endpoint. Counts and tells that it is left alone, or is not any more; what
    /// is to be traced. Without breakers nobody comes here.
    #[cold]
    fn tried(&mut self, now: Instant, trial: &Trial, figures: &Figures) -> Option<StateEvent> {
        let turn = self.pool.handle_sign(now, trial.endpoint_id, trial.begun, trial.sign)?;
        let listed = self.listed.iter().find(|listed| listed.id == trial.endpoint_id)?;
        let endpoint = listed.endpoint.shared_name();
        let event = match turn {
            Turn::Opened => StateEvent::BreakerOpened { endpoint },
            Turn::Closed => StateEvent::BreakerClosed { endpoint },
        };
        figures.feed.tell(|| event.clone());
        if turn == Turn::Opened {
            figures.breakers_opened.add();
        }
        Some(event)
    }

    fn end_tasks(&self) {
        self.tasks.iter().chain(&self.asking).for_each(AbortHandle::abort);
    }

    /// Why this connection is gone, or takes nothing new; what is to be told where it was up.
    fn lost(&mut self, id: ConnectionId, why: &Arc<Error>) -> Option<StateEvent> {
        let listed = self.listed_of(id)?;
        listed.error = Some(why.clone());
        let endpoint = listed.endpoint.shared_name();
        let was_told = std::mem::take(&mut self.links.get_mut(&id)?.is_told);
        let why = why.clone();
        was_told.then_some(StateEvent::Lost { endpoint, why })
    }

    fn listed_of(&mut self, id: ConnectionId) -> Option<&mut Listed> {
        let endpoint = self.links.get(&id)?.endpoint_id;
        self.listed.iter_mut().find(|listed| listed.id == endpoint)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.end_tasks();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// The task that dials, as long as the channel is there.
async fn dial_on(shared: Weak<Shared>, news: Arc<Notify>) {
    let _gone = Gone(shared.clone());
    loop {
        let Some(until) = shared.upgrade().map(|shared| shared.act()) else {
            return;
        };
        // A connection that falls idle does not say so.
        let until = until.min(clock::now() + TURN_MAX);
        race(news.notified(), clock::sleep_until(until)).await;
    }
}

/// The dialling task is gone with its runtime: nobody waits for it in vain.
struct Gone(Weak<Shared>);

impl Drop for Gone {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.change(|state| state.is_gone = true);
            shared.tokens.wake();
        }
    }
}

/// Who waits for a connection: all are woken by its news, one of each class by a free
/// stream, which may be of use to that class alone.
#[derive(Default)]
struct Waiting {
    last: u64,
    bulk: BTreeMap<u64, Waker>,
    control: BTreeMap<u64, Waker>,
    /// These wait for one connection, or for one endpoint, so that each has to look for itself.
    pinned: BTreeMap<u64, Waker>,
}

impl Waiting {
    fn take(&mut self) -> impl Iterator<Item = Waker> + use<> {
        let all = [&mut self.bulk, &mut self.control, &mut self.pinned].map(std::mem::take);
        all.into_iter().flat_map(BTreeMap::into_values)
    }

    /// Whether nobody does, which is how it mostly is.
    fn is_empty(&self) -> bool {
        self.bulk.is_empty() && self.control.is_empty() && self.pinned.is_empty()
    }

    fn next(&mut self) -> impl Iterator<Item = Waker> + use<> {
        let first = [&mut self.bulk, &mut self.control].map(BTreeMap::pop_first);
        let first = first.into_iter().flatten().map(|(_, waker)| waker);
        first.chain(std::mem::take(&mut self.pinned).into_values())
    }

    fn of(&mut self, class: Option<Class>) -> &mut BTreeMap<u64, Waker> {
        match class {
            Some(Class::Bulk) => &mut self.bulk,
            Some(Class::Control) => &mut self.control,
            None => &mut self.pinned,
        }
    }
}

/// A place among those who wait for a connection.
pub(crate) struct Waiter {
    shared: Arc<Shared>,
    id: u64,
    /// None where it waits for one connection, or for one endpoint.
    class: Option<Class>,
}

impl Waiter {
    /// Takes a place, or keeps the one there is.
    #[cold]
    pub(super) fn wait(
        waiter: &mut Option<Waiter>,
        shared: &Arc<Shared>,
        state: &mut State,
        class: Option<Class>,
        waker: &Waker,
    ) {
        let waiter = waiter.get_or_insert_with(|| {
            state.waiting.last += 1;
            Waiter {
                shared: shared.clone(),
                id: state.waiting.last,
                class,
            }
        });
        state.waiting.of(waiter.class).insert(waiter.id, waker.clone());
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.waiting.of(self.class).remove(&self.id).is_none() {
            // It was woken for a stream that it may have left to the next.
            let woken = state.waiting.next();
            drop(state);
            woken.for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::net::dial::Socket;

    #[test]
    fn a_dial_on_a_runtime_that_shuts_down_is_lost_and_locks_nothing_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        let shared = {
            let _entered = handle.enter();
            Shared::new(
                Arc::new(Socket::default()),
                Config::default(),
                Tokens::Nobody,
                Runtime::Callers,
                7,
            )
        };
        drop(runtime);
        let (acted, done) = mpsc::channel();
        std::thread::spawn(move || {
            let _entered = handle.enter();
            shared.change(|state| state.add(Endpoint::parse("http://a:1").unwrap()));
            shared.act();
            acted.send(shared.lock().links.len()).unwrap();
        });
        let links = done.recv_timeout(Duration::from_secs(20));
        assert_eq!(links, Ok(0), "the task that was dropped waits for the lock");
    }
}
