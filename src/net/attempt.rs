//! The attempts of one call: where it stands, what a failed one leads to, and the
//! second question that a silent member brings. `net/call` polls it.

use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;

use super::call_options::CallOptions;
use super::channel::{Channel, Target};
use super::clock;
use super::in_flight::Admission;
use super::named::named;
use super::pool::{Seat, Waiter};
use super::pulse::Kind;
use super::response::Response;
use super::route::Route;
use super::tokens::{self, Pass};
use super::trace;
use crate::core::auth::Refusal;
use crate::core::namespace::Answer;
use crate::core::pool::{EndpointId, Want};
use crate::core::retry::{ATTEMPTS_MAX, Failure, Retry};
use crate::core::time::Instant;
use crate::error::{Code, Delivery, Error, Origin, Stale};
use crate::wire::{self, Body, Method, Status};

/// After a second question that failed, before there is another one.
const DETOUR_WAIT: Duration = Duration::from_millis(20);

/// What stays the same over all attempts, and what they came to.
pub(super) struct Plan {
    pub(super) channel: Channel,
    pub(super) method: &'static Method,
    /// None where it cannot be sent.
    pub(super) request: Option<Body>,
    pub(super) options: CallOptions,
    /// Its place among the calls in flight, as long as it has not ended.
    pub(super) admission: Option<Admission>,
    /// When the call was made.
    pub(super) begun: Instant,
    pub(super) deadline: Instant,
    /// How often the request was handed to a connection.
    pub(super) attempts: u32,
    pub(super) failed: Option<Box<Failed>>,
    pub(super) token: TokenUse,
    /// How it ended is counted.
    pub(super) is_counted: bool,
}

/// How a call stands with its token.
#[derive(Default)]
pub(super) struct TokenUse {
    /// The place among those who wait for one.
    waiter: Option<tokens::Waiter>,
    /// It was sent again for a new one.
    is_renewed: bool,
    /// How often a member did not know it yet.
    young: u32,
}

/// The attempts that failed.
pub(super) struct Failed {
    retry: Retry,
    last: Error,
    at: Option<EndpointId>,
    /// One of them may have been processed.
    is_unknown: bool,
}

#[allow(
    clippy::large_enum_variant,
    reason = "a box would cost every call an allocation"
)]
pub(super) enum State {
    Refused(Error),
    Waiting(Option<Waiter>),
    /// Until this instant.
    Paused(Instant),
    Sent(Sent),
    Done,
}

pub(super) struct Sent {
    route: Route,
    at: Instant,
    /// Of the token that it went with.
    generation: u64,
    response: Response,
    answer: Option<Bytes>,
    /// When to ask whether the member is worth the wait; never where it is `None`, as
    /// while another one is asked, whose time counts again once either has failed.
    doubt_at: Option<Instant>,
    /// The same question to another member.
    detour: Option<Box<Sent>>,
}

impl State {
    /// When there is something to do before the deadline.
    pub(super) fn timeout(&self) -> Option<Instant> {
        match self {
            State::Paused(until) => Some(*until),
            State::Sent(sent) => sent.doubt_at,
            _ => None,
        }
    }

    /// What carries it, where it was sent.
    fn route(&self) -> Option<&Route> {
        match self {
            State::Sent(sent) => Some(&sent.route),
            _ => None,
        }
    }
}

impl Plan {
    pub(super) fn poll(
        &mut self,
        state: &mut State,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Bytes, Error>> {
        loop {
            match state {
                State::Sent(sent) => return sent.poll_either(cx, now),
                State::Waiting(_) => ready!(self.poll_send(state, cx, now))?,
                State::Paused(until) if now < *until => return Poll::Pending,
                State::Paused(_) => *state = State::Waiting(None),
                State::Refused(_) => {
                    if let State::Refused(error) = std::mem::replace(state, State::Done) {
                        return Poll::Ready(Err(error));
                    }
                }
                State::Done => {
                    return Poll::Ready(Err(Error::invalid("the call was awaited again after its end")));
                }
            }
        }
    }

    /// What an answer says to whoever sent the call.
    pub(super) fn read<R: wire::Response + Answer>(&self, message: Bytes) -> Result<R, Error> {
        let mut answer: R = wire::decode(message).map_err(Error::status)?;
        let feed = &self.channel.figures().feed;
        let of_store = answer.header().map(|header| (header.raft_term, 0));
        if let Some((term, leader)) = answer.leader().or(of_store) {
            feed.term_seen(term, leader);
        }
        if let Some(view) = &self.options.view {
            view.show(&mut answer, self.options.is_local)?;
        }
        Ok(answer)
    }

    /// What comes after a failed attempt.
    ///
    /// # Errors
    ///
    /// The failure, where nothing does.
    pub(super) fn fail(&mut self, state: &State, error: Error) -> Result<State, Error> {
        // Such a refusal proves that it was not applied, so that also a write goes again.
        if let Some(next) = self.handle_token_refusal(state, &error) {
            self.channel.figures().calls.retries.add();
            trace::retried(state.route(), &error);
            return Ok(next);
        }
        if self.options.route.is_some() {
            return Err(error);
        }
        let is_stale = matches!(error.stale(), Some(Stale::Behind { .. }));
        let repeatable = self.method.safe_to_retry || self.options.idempotent || is_stale;
        let (mut retry, was_unknown) = match self.failed.take() {
            Some(failed) => (failed.retry, failed.is_unknown),
            None => (Retry::new(self.deadline.0), false),
        };
        let is_unknown = was_unknown || error.delivery() == Delivery::Unknown;
        let wait = retry.handle_failure(repeatable, &Failure::of(&error));
        let now = clock::now();
        let Some(until) = wait.map(|wait| now + wait).filter(|until| *until < self.deadline) else {
            return Err(with_fate(error, was_unknown));
        };
        trace::retried(state.route(), &error);
        self.channel.figures().calls.retries.add();
        self.failed = Some(Box::new(Failed {
            retry,
            last: error,
            at: state.route().map(|route| route.endpoint_id),
            is_unknown,
        }));
        Ok(State::Paused(until))
    }

    /// Asks another member in addition, where this one seems not worth the wait.
    pub(super) fn handle_timeout(&mut self, state: &mut State) {
        let State::Sent(sent) = state else { return };
        let now = clock::now();
        if sent.doubt_at.is_none_or(|at| now < at) {
            return;
        }
        let config = self.channel.config();
        let silence = config.silence;
        let is_wished = config.hedge_after.is_some_and(|after| sent.at + after <= now);
        let is_silent = sent.at + silence <= now && sent.route.pulse.is_quiet_since(sent.at);
        let may_ask = sent.detour.is_none() && self.attempts < ATTEMPTS_MAX;
        if may_ask && (is_wished || self.channel.is_outranked(now, &sent.route, is_silent)) {
            let detour = self.channel.detour(now, &sent.route, self.want());
            let detour = detour.zip(self.request.clone().zip(self.channel.tokens().now()));
            let detour = detour.map(|((route, seat), (body, pass))| self.send(now, route, seat, &pass, body));
            if let Some(Ok(detour)) = detour {
                self.channel.figures().calls.detours.add();
                trace::detoured(detour.route.endpoint.name());
                sent.detour = Some(Box::new(detour));
                sent.doubt_at = None;
                return;
            }
        }
        sent.doubt_at = Some(now + silence / 2);
    }

    pub(super) fn timed_out(&mut self, state: &mut State) -> Error {
        let failed = self.failed.take();
        let was_unknown = failed.as_ref().is_some_and(|failed| failed.is_unknown);
        let failed = match (failed, &*state) {
            // Its time ended in the pause behind an attempt, which ends it as that attempt did.
            (Some(failed), State::Paused(_) | State::Waiting(None)) if self.token.waiter.is_none() => {
                return with_fate(failed.last, was_unknown);
            }
            (failed, _) => failed,
        };
        let error = match state {
            State::Sent(sent) => {
                let message = "no answer before the deadline";
                Error::new(Code::DeadlineExceeded, Origin::Library, sent.give_up(), message)
            }
            _ if self.token.waiter.is_some() => self.channel.no_token_in_time(),
            State::Waiting(_) => self.channel.unreachable_in_time(self.options.only()),
            // A pause for a token that is too young.
            _ => Error::unsent_in_time("no time for another attempt before the deadline"),
        };
        let error = match failed {
            Some(failed) => error.with_source(failed.last),
            None => error,
        };
        with_fate(error, was_unknown)
    }

    /// Counts how it ended.
    pub(super) fn count(&mut self, error: Option<&Error>, state: &State) {
        self.is_counted = true;
        if error.is_some_and(Error::is_shed) {
            return self.channel.figures().calls.shed.add();
        }
        let read_at = match state {
            State::Sent(sent) => sent.response.ended_at(),
            _ => None,
        };
        // Whoever was answered has the time already.
        let ended = read_at.unwrap_or_else(clock::now);
        self.channel.figures().calls.ended(error, ended.saturating_since(self.begun));
    }

    /// Says which call failed, where, and how often it was sent.
    pub(super) fn name(&self, error: Error, state: &State) -> Error {
        named(error, self.method, self.endpoint(state)).with_attempts(self.attempts)
    }

    /// Where it went last, or is to go.
    pub(super) fn endpoint(&self, state: &State) -> Option<Arc<str>> {
        let route = state.route().or(self.options.route.as_ref());
        let addressee = self.options.addressee.as_ref().map(|addressee| &addressee.endpoint);
        let endpoint = route.map(|route| &route.endpoint).or(addressee);
        endpoint.map(|endpoint| endpoint.shared_name())
    }

    /// What comes next where it was refused for its token and another one can be had:
    /// once, or any number of times where others have one already.
    fn handle_token_refusal(&mut self, state: &State, error: &Error) -> Option<State> {
        // What was not sent was refused for its name or its password.
        let State::Sent(Sent { generation, .. }) = state else {
            return None;
        };
        if self.options.is_anonymous {
            return None;
        }
        match self.channel.tokens().handle_failure(*generation, error)? {
            Refusal::Stale => Some(State::Waiting(None)),
            Refusal::Renewed => {
                let is_first = !std::mem::replace(&mut self.token.is_renewed, true);
                is_first.then_some(State::Waiting(None))
            }
            Refusal::Young => {
                let wait = tokens::young_wait(self.token.young);
                self.token.young += 1;
                let until = clock::now() + wait;
                (until < self.deadline).then_some(State::Paused(until))
            }
        }
    }

    fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<Result<Pass, Error>> {
        if self.options.is_anonymous {
            return Poll::Ready(Ok(Pass::nobody()));
        }
        self.channel.poll_pass(&mut self.token.waiter, cx)
    }

    fn want(&self) -> Want {
        Want {
            avoid: self.failed.as_ref().and_then(|failed| failed.at),
            only: self.options.only(),
            waits: self.method.waits,
            ..Want::call(self.options.class)
        }
    }

    /// Sends it once there is a connection for it.
    fn poll_send(
        &mut self,
        state: &mut State,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<(), Error>> {
        let State::Waiting(waiter) = state else {
            return Poll::Ready(Ok(()));
        };
        if self.deadline <= now {
            // Too late to be sent: the caller's timer says so.
            return Poll::Pending;
        }
        loop {
            let Poll::Ready(pass) = self.poll_pass(cx) else {
                // Whoever needs no token may use the stream that this one was woken for.
                *waiter = None;
                return Poll::Pending;
            };
            let pass = pass?;
            let target = match &self.options.route {
                Some(route) => Target::Only(route),
                None => Target::Any(self.want()),
            };
            let (route, seat) = ready!(self.channel.poll_route(now, target, Kind::Call, cx, waiter))?;
            let is_pinned = self.options.route.is_some();
            let (endpoint, failed_at) = (
                route.endpoint_id,
                self.failed.as_ref().and_then(|failed| failed.at),
            );
            let Some(request) = self.request.clone() else {
                return Poll::Ready(Err(Error::invalid("there is nothing to send")));
            };
            match self.send(now, route, seat, &pass, request) {
                Ok(sent) => {
                    if failed_at.is_some_and(|at| at != endpoint) {
                        self.failed_over(&sent);
                    }
                    *state = State::Sent(sent);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if is_pinned => return Poll::Ready(Err(error)),
                // The connection ended and its task has not said so yet: take another.
                Err(_) => {}
            }
        }
    }

    #[cold]
    fn failed_over(&self, sent: &Sent) {
        self.channel.figures().calls.failovers.add();
        trace::failed_over(sent.route.endpoint.name());
    }

    /// # Errors
    ///
    /// The connection takes nothing any more, and the pool knows.
    fn send(
        &mut self,
        now: Instant,
        mut route: Route,
        seat: Seat,
        pass: &Pass,
        request: Body,
    ) -> Result<Sent, Error> {
        let config = self.channel.config();
        let timeout = config.send_timeout_header.then(|| self.deadline.saturating_since(now));
        let is_local = self.method.is_local || self.options.is_local;
        let headers = self.channel.calls(is_local).headers(timeout, pass.token.as_ref());
        let opened = self.channel.open(&mut route, self.method, headers);
        let opened = opened.and_then(|(response, mut stream)| {
            // Beyond the server's window h2 keeps the request too.
            stream.send_data(request, true).map_err(Error::transport)?;
            Ok(response)
        });
        let response = match opened {
            Ok(response) => response,
            Err(error) => {
                self.channel.lost(&route);
                return Err(error);
            }
        };
        self.attempts += 1;
        let doubt_after = config.hedge_after.map_or(config.silence, |after| after.min(config.silence));
        let is_free = self.options.route.is_none() && self.options.addressee.is_none();
        let may_detour = self.method.safe_to_retry && is_free;
        Ok(Sent {
            route,
            at: now,
            generation: pass.generation,
            response: Response::new(response, config.response_bytes_max, seat),
            answer: None,
            doubt_at: may_detour.then(|| now + doubt_after),
            detour: None,
        })
    }
}

/// Its caller gives up on what was sent.
impl Drop for Plan {
    fn drop(&mut self) {
        if !self.is_counted && self.attempts > 0 {
            self.channel.figures().calls.dropped.add();
        }
    }
}

impl Sent {
    /// The first good answer or verdict, or the last failure.
    fn poll_either(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Bytes, Error>> {
        let answer = self.poll_answer(cx, now);
        match self.detour {
            None => answer,
            Some(_) => self.poll_detour(answer, cx, now),
        }
    }

    /// The same, where this member has said so much and another one is asked too.
    #[cold]
    fn poll_detour(
        &mut self,
        answer: Poll<Result<Bytes, Error>>,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Bytes, Error>> {
        let Some(detour) = &mut self.detour else {
            return answer;
        };
        match answer {
            Poll::Ready(answer) if is_settled(&answer) => Poll::Ready(answer),
            Poll::Ready(_) => {
                if let Some(detour) = self.detour.take() {
                    *self = *detour;
                }
                self.poll_answer(cx, now)
            }
            Poll::Pending => match ready!(detour.poll_answer(cx, now)) {
                answer if is_settled(&answer) => {
                    self.response.late();
                    // Whoever answered is who an error, also one in the answer, is of.
                    self.route = detour.route.clone();
                    Poll::Ready(answer)
                }
                _ => {
                    self.doubt_at = detour.doubt_at.map(|at| at.max(now + DETOUR_WAIT));
                    self.detour = None;
                    Poll::Pending
                }
            },
        }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Bytes, Error>> {
        loop {
            match ready!(self.response.poll_message(cx, now)) {
                Ok(Some(message)) if self.answer.is_none() => self.answer = Some(message),
                Ok(Some(_)) => {
                    return Poll::Ready(Err(Error::status(Status::broken(
                        "a unary call was answered twice",
                    ))));
                }
                Ok(None) => {
                    let answer = self.answer.take();
                    let none = || Error::status(Status::broken("a unary call succeeded without an answer"));
                    return Poll::Ready(answer.ok_or_else(none));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// The deadline is over. Whether the request went out, which it did not where
    /// the server's limit of streams holds it back.
    fn give_up(&mut self) -> Delivery {
        self.response.suspect_if_quiet(self.at);
        let is_held = self.route.sender.poll_ready(&mut Context::from_waker(Waker::noop())).is_pending();
        if !is_held {
            self.response.late();
        }
        match is_held && self.detour.is_none() {
            true => Delivery::NotSent,
            false => Delivery::Unknown,
        }
    }
}

/// Whether nothing that the other member may say counts any more.
fn is_settled(answer: &Result<Bytes, Error>) -> bool {
    answer.as_ref().err().is_none_or(|error| Failure::of(error).is_verdict())
}

/// An earlier attempt may have been applied, whatever this one came to.
fn with_fate(error: Error, was_unknown: bool) -> Error {
    match was_unknown {
        true => error.with_delivery(Delivery::Unknown),
        false => error,
    }
}

impl Failure {
    /// What decides of an error.
    pub(super) fn of(error: &Error) -> Failure {
        Failure {
            delivery: error.delivery(),
            code: error.code(),
            origin: error.origin(),
            etcd: error.etcd(),
        }
    }
}
