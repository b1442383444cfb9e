//! The way to the cluster: which connection a call goes to, and which endpoints
//! there are. What is behind it is in `net/pool`.
//!
//! A call that finds no connection waits here until there is one, or until its
//! deadline.

use std::fmt;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use super::call_options::{Addressee, CallOptions};
use super::clock;
use super::dial::Dial;
use super::endpoint::Endpoint;
use super::figures::Figures;
use super::in_flight::Admission;
use super::named::named;
use super::pool::{Listed, Seat, Shared, State, Trial, Waiter};
use super::pulse::Kind;
use super::race::{Either, race};
use super::route::Route;
use super::runtime::Runtime;
use super::tokens::Tokens;
use super::why::{self, Standing};
use crate::config::Config;
use crate::core::breaker::Sign;
use crate::core::pool::{EndpointId, Want};
use crate::core::time::Instant;
use crate::error::{Error, Origin};
use crate::wire::Metadata;
use crate::wire::method::auth as method;

/// A cheap clone; the connections end with the last one, and with the last call.
#[derive(Clone)]
pub(crate) struct Channel {
    pub(super) shared: Arc<Shared>,
    /// None for the client's own questions, which are nobody's once the others are gone.
    _handle: Option<Arc<Handle>>,
}

/// That somebody may still ask something.
struct Handle(Weak<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.abandon();
        }
    }
}

/// Where a call is to go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    /// Wherever the pool says.
    Any(Want),
    /// Over this connection.
    Only(&'a Route),
}

impl Channel {
    /// Begins to connect to every endpoint. Must be called on a tokio runtime, if not
    /// the client has one of its own.
    pub(crate) fn new(
        endpoints: Vec<Endpoint>,
        dial: Arc<dyn Dial>,
        config: Config,
        tokens: Tokens,
        runtime: Runtime,
        seed: u64,
    ) -> Channel {
        let shared = Shared::new(dial, config, tokens, runtime, seed);
        shared.change(|state| endpoints.into_iter().for_each(|endpoint| state.add(endpoint)));
        let handle = Arc::new(Handle(Arc::downgrade(&shared)));
        Channel {
            shared,
            _handle: Some(handle),
        }
    }

    /// For a task of the client itself: it keeps nothing alive, and is aborted with the
    /// last of the others.
    pub(super) fn of_task(shared: Arc<Shared>) -> Channel {
        Channel {
            shared,
            _handle: None,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    /// What is counted.
    pub(crate) fn figures(&self) -> &Arc<Figures> {
        &self.shared.figures
    }

    /// A place among the calls in flight, for what needs one.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(crate) fn admit(&self, options: &CallOptions) -> Result<Option<Admission>, Error> {
        match &self.shared.in_flight {
            Some(in_flight) if options.is_counted() => in_flight.admit().map(Some),
            _ => Ok(None),
        }
    }

    /// How many connections are up at this moment, and take calls.
    pub(crate) fn connections(&self) -> usize {
        self.shared.lock().connections()
    }

    /// How many endpoints are left alone at this moment, since they fail at what they answer.
    pub(crate) fn open_breakers(&self) -> usize {
        self.shared.lock().pool.open_breakers()
    }

    /// Where the client's tasks run.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.shared.runtime
    }

    /// What unary calls send beside their message: those that one member answers from
    /// what it has, and those that need a leader.
    pub(crate) fn calls(&self, is_local: bool) -> &Metadata {
        match is_local {
            true => &self.shared.local_calls,
            false => &self.shared.calls,
        }
    }

    /// What streams send beside their messages.
    pub(crate) fn streams(&self) -> &Metadata {
        &self.shared.streams
    }

    /// What calls and streams go with to say who they are.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.shared.tokens
    }

    /// Fetches a token, where there is to be one. Where nobody can give one in
    /// time, that is left to the first call.
    ///
    /// # Errors
    ///
    /// The server refuses the name or the password.
    pub(crate) async fn authenticated(&self) -> Result<(), Error> {
        let mut waiter = None;
        let pass = std::future::poll_fn(|cx| self.poll_pass(&mut waiter, cx));
        let until = clock::now() + self.config().connect_timeout;
        match race(pass, clock::sleep_until(until)).await {
            Either::Left(Err(error)) => Err(named(error, &method::AUTHENTICATE, None)),
            Either::Left(Ok(_)) | Either::Right(()) => Ok(()),
        }
    }

    /// The addresses of the endpoints.
    pub(crate) fn endpoints(&self) -> Vec<Arc<str>> {
        self.shared.lock().listed.iter().map(|listed| listed.endpoint.shared_name()).collect()
    }

    /// The endpoint at this address, for calls that are for it alone.
    ///
    /// # Errors
    ///
    /// It is none of the client's.
    pub(crate) fn addressee(&self, endpoint: &Endpoint) -> Result<Addressee, Error> {
        let state = self.shared.lock();
        let listed = state.listed.iter().find(|listed| *listed.endpoint == *endpoint);
        let addressee = listed.map(|listed| Addressee {
            id: listed.id,
            endpoint: listed.endpoint.clone(),
        });
        addressee.ok_or_else(|| Error::invalid(format!("{} is no endpoint of this client", endpoint.name())))
    }

    /// Every endpoint, each for calls that are for it alone.
    pub(crate) fn addressees(&self) -> Vec<Addressee> {
        let state = self.shared.lock();
        let addressees = state.listed.iter().map(|listed| Addressee {
            id: listed.id,
            endpoint: listed.endpoint.clone(),
        });
        addressees.collect()
    }

    /// Adds an endpoint, unless it is there.
    pub(crate) fn add_endpoint(&self, endpoint: Endpoint) {
        self.shared.change(|state| state.add(endpoint));
    }

    /// Removes an endpoint; whether it was there. What is open on it has some seconds.
    ///
    /// # Errors
    ///
    /// It is the last one.
    pub(crate) fn remove_endpoint(&self, endpoint: &Endpoint) -> Result<bool, Error> {
        self.shared.change(|state| {
            let is_this = |listed: &Listed| *listed.endpoint == *endpoint;
            match state.listed.iter().any(is_this) {
                true if state.listed.len() == 1 => Err(Error::invalid("the last endpoint cannot be removed")),
                true => {
                    state.retain(|listed| !is_this(listed));
                    Ok(true)
                }
                false => Ok(false),
            }
        })
    }

    /// Has these endpoints from now on. Those that stay keep their connections.
    ///
    /// # Errors
    ///
    /// No endpoint was given; then nothing has changed.
    pub(crate) fn set_endpoints(&self, endpoints: Vec<Endpoint>) -> Result<(), Error> {
        if endpoints.is_empty() {
            return Err(Error::invalid("no endpoint was given"));
        }
        self.shared.change(|state| {
            state.retain(|listed| endpoints.contains(&listed.endpoint));
            endpoints.into_iter().for_each(|endpoint| state.add(endpoint));
        });
        Ok(())
    }

    /// Waits until a member has answered, or none can be reached for the moment.
    ///
    /// # Errors
    ///
    /// The last failure to connect, once every endpoint has failed.
    pub(crate) async fn connected(&self) -> Result<(), Error> {
        self.until(State::is_up).await
    }

    /// Waits until there is a byte stream to a member, whether it answers or not.
    ///
    /// # Errors
    ///
    /// As [`Channel::connected`].
    pub(crate) async fn opened(&self) -> Result<(), Error> {
        self.until(State::is_open).await
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) -> Result<(), Error> {
        let mut waiter = None;
        std::future::poll_fn(|cx| {
            let mut state = self.shared.lock();
            if is_so(&state) {
                return Poll::Ready(Ok(()));
            }
            if state.is_gone || state.listed.iter().all(|listed| listed.error.is_some()) {
                drop(state);
                return Poll::Ready(Err(self.unreachable()));
            }
            Waiter::wait(&mut waiter, &self.shared, &mut state, None, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// A live connection with a free stream; the task is woken when there may be
    /// one. `waiter` is the caller's place among those who wait: it is given up when
    /// it is dropped.
    ///
    /// # Errors
    ///
    /// There will be none: the runtime that the client was made on is gone, or the
    /// one connection or endpoint that is asked for is.
    pub(super) fn poll_route(
        &self,
        now: Instant,
        target: Target<'_>,
        kind: Kind,
        cx: &mut Context<'_>,
        waiter: &mut Option<Waiter>,
    ) -> Poll<Result<(Route, Seat), Error>> {
        let mut state = self.shared.lock();
        match self.take_route(now, &mut state, target, kind) {
            Ok(Some(taken)) => {
                self.shared.settle(state);
                *waiter = None;
                return Poll::Ready(Ok(taken));
            }
            Ok(None) if state.is_gone => {
                drop(state);
                return Poll::Ready(Err(self.unreachable()));
            }
            Ok(None) => {}
            Err(error) => {
                drop(state);
                return Poll::Ready(Err(error));
            }
        }
        let class = match target {
            Target::Any(want) if want.only.is_none() => Some(want.class),
            // What is free elsewhere is for others.
            Target::Any(_) | Target::Only(_) => None,
        };
        Waiter::wait(waiter, &self.shared, &mut state, class, cx.waker());
        self.shared.settle(state);
        Poll::Pending
    }

    /// Another way for a call that waits on `route` for too long, if there is one.
    pub(super) fn detour(&self, now: Instant, route: &Route, want: Want) -> Option<(Route, Seat)> {
        let want = Want {
            avoid: Some(route.endpoint_id),
            ..want
        };
        let mut state = self.shared.lock();
        // A pick that came back to the same member would cost that its trial.
        let taken = match state.pool.has_other(want) {
            true => self.take_route(now, &mut state, Target::Any(want), Kind::Call),
            false => Ok(None),
        };
        self.shared.settle(state);
        taken.ok()?
    }

    /// Whether the member behind this connection is in doubt, as it is to whoever finds it silent, and
    /// another is not more so.
    pub(super) fn is_outranked(&self, now: Instant, route: &Route, is_silent: bool) -> bool {
        self.shared.lock().pool.is_outranked(now, route.id, is_silent)
    }

    /// A call found that this connection takes no more requests: it went away
    /// gracefully, has no stream numbers left, or its task has yet to say that it
    /// is lost. The endpoint is dialled anew.
    pub(super) fn lost(&self, route: &Route) {
        self.shared.change(|state| state.pool.handle_goaway(clock::now(), route.id));
    }

    /// The member behind this connection was silent for too long. Others are asked
    /// first for a while, where there are any.
    pub(crate) fn suspect(&self, route: &Route) {
        self.shared.change(|state| state.doubt(route.id));
    }

    /// Why no connection can be had: what keeps each endpoint from being one.
    #[cold]
    pub(crate) fn unreachable(&self) -> Error {
        self.unreachable_among(None)
    }

    /// The same, of one endpoint alone where that is asked for.
    fn unreachable_among(&self, only: Option<EndpointId>) -> Error {
        let state = self.shared.lock();
        if state.is_gone {
            let message = "the runtime that the client was made on is gone";
            return Error::unsent(Origin::Library, message);
        }
        let what = match only {
            None => "no endpoint is connected",
            Some(_) => "the endpoint is not connected",
        };
        let error = Error::unsent(Origin::Transport, state.why(what, only));
        let cause = state.listed_among(only).find_map(|listed| Some((listed, listed.error.clone()?)));
        match cause {
            Some((listed, cause)) => {
                error.with_source(cause).with_call("connect", Some(listed.endpoint.shared_name()))
            }
            None => error,
        }
    }

    /// The time of a call, or of a stream to be opened, is over and no connection was to
    /// be had: to any endpoint, or to the one that it is for.
    pub(super) fn unreachable_in_time(&self, only: Option<EndpointId>) -> Error {
        {
            let state = self.shared.lock();
            let is_up = state.listed_among(only).any(|listed| state.is_connected(listed.id));
            if is_up && !state.is_gone {
                return Error::unsent_in_time(state.why("no free stream before the deadline", only));
            }
        }
        let cause = self.unreachable_among(only);
        let message = format!("no connection before the deadline: {}", cause.message());
        Error::unsent_in_time(message).with_source(cause)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.shared.lock().is_up()
    }

    fn take_route(
        &self,
        now: Instant,
        state: &mut State,
        target: Target<'_>,
        kind: Kind,
    ) -> Result<Option<(Route, Seat)>, Error> {
        let route = match target {
            Target::Any(want) => {
                let Some((_, connection)) = state.pool.pick(now, want) else {
                    return match want.only.is_some() && state.listed_among(want.only).next().is_none() {
                        true => Err(Error::invalid("the endpoint was removed from this client")),
                        false => Ok(None),
                    };
                };
                let route = state.route(connection);
                if route.is_none() {
                    // Its task is gone and says so in a moment.
                    match want.stream {
                        true => state.pool.handle_stream_closed(now, connection),
                        false => state.pool.handle_closed(now, connection),
                    }
                }
                route
            }
            Target::Only(route) => match state.pool.has_room(route.id) {
                Some(true) => {
                    state.pool.handle_opened(now, route.id);
                    Some(route.clone())
                }
                Some(false) => None,
                None => {
                    let message = "the connection takes no more calls";
                    return Err(Error::unsent(Origin::Transport, message));
                }
            },
        };
        Ok(route.map(|route| {
            let trial = self.trial(now, target, route.endpoint_id);
            let seat = Seat::new(&self.shared, now, &route, kind, trial);
            (route, seat)
        }))
    }

    /// Whether the end of what goes there says something of the member: not where it was to be that one.
    fn trial(&self, now: Instant, target: Target<'_>, endpoint_id: EndpointId) -> Option<Trial> {
        let config = self.config();
        let want = match target {
            Target::Any(want) if config.breaker_failures.is_some() && want.only.is_none() => want,
            Target::Any(_) | Target::Only(_) => return None,
        };
        let patience = match want.waits {
            true => Duration::MAX,
            false => config.silence,
        };
        Some(Trial {
            endpoint_id,
            begun: now,
            patience,
            sign: Sign::Nothing,
        })
    }
}

impl State {
    pub(super) fn add(&mut self, endpoint: Endpoint) {
        if self.listed.iter().all(|listed| *listed.endpoint != endpoint) {
            let id = self.pool.handle_added(clock::now());
            self.listed.push(Listed {
                id,
                endpoint: Arc::new(endpoint),
                was_connected: false,
                error: None,
            });
        }
    }

    fn listed_among(&self, only: Option<EndpointId>) -> impl Iterator<Item = &Listed> {
        self.listed.iter().filter(move |listed| only.is_none_or(|only| listed.id == only))
    }

    /// `what`, and how each endpoint stands, or the one.
    fn why(&self, what: &str, only: Option<EndpointId>) -> String {
        let endpoints = self.listed_among(only).map(|listed| {
            let standing = match &listed.error {
                _ if self.is_connected(listed.id) => Standing::Connected,
                Some(error) => Standing::Lost(error),
                None => Standing::Dialled,
            };
            (listed.endpoint.name(), standing)
        });
        why::message(what, endpoints.collect::<Vec<_>>().into_iter())
    }

    fn retain(&mut self, keep: impl Fn(&Listed) -> bool) {
        let pool = &mut self.pool;
        self.listed.retain(|listed| {
            let stays = keep(listed);
            if !stays {
                pool.handle_removed(clock::now(), listed.id);
            }
            stays
        });
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.endpoints()).finish()
    }
}
