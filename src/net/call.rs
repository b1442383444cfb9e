//! One unary call: a future by name, so that it needs no box, no task and no
//! queue. It waits for a connection, sends, and reads the one answer, all under
//! one deadline. What fails is sent again where `core::retry` says so.
//!
//! ```text
//!   Refused ------------------------------------.
//!   Waiting --route--> Sent ----answer---------> Done
//!      ^ '-----deadline--+-----------------------^
//!      '----- Paused <---'  failed, to be sent again
//! ```
//!
//! A read that its member does not answer is asked elsewhere in addition, when that
//! member falls silent or after a time of the caller's choice.
//!
//! Dropped in `Sent`, it resets its stream: the last handle to an h2 stream does.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method as Verb, Request, Version};
use pin_project_lite::pin_project;

use super::attempt::{Plan, State, TokenUse};
use super::call_options::CallOptions;
use super::channel::Channel;
use super::clock::{self, Timer};
use super::in_flight::Admission;
use super::route::Route;
use super::trace::CallSpan;
use crate::core::namespace::Answer;
use crate::error::{Code, Delivery, Error, Origin};
use crate::wire::{self, Body, Method, Status};

pin_project! {
    /// An etcd call under way. Await it for the answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping it resets its stream. A write may have been applied by then.
    #[must_use = "a call is sent only once it is awaited"]
    pub struct Call<R> {
        span: CallSpan,
        #[pin]
        exchange: Exchange,
        answer: PhantomData<fn() -> R>,
    }
}

pin_project! {
    /// A call but for the type of its answer, so that one piece of code does for all of them: it is
    /// shorter, and what one call has had loaded the next one finds.
    struct Exchange {
        plan: Plan,
        state: State,
        #[pin]
        timer: Timer,
    }
}

impl Channel {
    /// A call of `method`. It is sent when it is polled; its time runs from now.
    pub(crate) fn unary<M, R>(&self, method: &'static Method, request: &M, options: CallOptions) -> Call<R>
    where
        M: prost::Message,
    {
        let admitted = self.admit(&options).and_then(|admission| {
            let encoded = wire::encode(request, self.config().request_bytes_max);
            Ok((admission, encoded.map_err(unsendable)?))
        });
        Call {
            span: CallSpan::new(method),
            exchange: self.exchange(method, admitted, options),
            answer: PhantomData,
        }
    }

    #[inline(never)]
    fn exchange(
        &self,
        method: &'static Method,
        admitted: Result<(Option<Admission>, Body), Error>,
        options: CallOptions,
    ) -> Exchange {
        let (admission, request, refusal) = match admitted {
            Ok((admission, request)) => (admission, Some(request), None),
            Err(error) => (None, None, Some(error)),
        };
        let begun = clock::now();
        let deadline = begun + options.timeout.unwrap_or(self.config().call_timeout);
        let plan = Plan {
            channel: self.clone(),
            method,
            request,
            options,
            admission,
            begun,
            deadline,
            attempts: 0,
            failed: None,
            token: TokenUse::default(),
            is_counted: false,
        };
        Exchange {
            plan,
            state: refusal.map_or(State::Waiting(None), State::Refused),
            timer: Timer::new(deadline),
        }
    }

    /// Opens a stream of `method` on a connection.
    pub(super) fn open(
        &self,
        route: &mut Route,
        method: &'static Method,
        headers: HeaderMap,
    ) -> Result<(ResponseFuture, SendStream<Body>), Error> {
        self.open_path(route, method.path_and_query(), headers)
    }

    /// Opens a stream of the method at `path` on a connection.
    pub(super) fn open_path(
        &self,
        route: &mut Route,
        path: PathAndQuery,
        headers: HeaderMap,
    ) -> Result<(ResponseFuture, SendStream<Body>), Error> {
        let uri = route.endpoint.uri(path).map_err(|error| {
            let message = "the call has no valid URI";
            Error::new(Code::Internal, Origin::Library, Delivery::NotSent, message).with_source(error)
        })?;
        let mut request = Request::new(());
        *request.method_mut() = Verb::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        route.sender.send_request(request, false).map_err(|error| {
            Error::unsent(Origin::Transport, "the connection takes no more calls").with_source(error)
        })
    }
}

impl<R> Call<R> {
    /// Fails with this error instead, and sends nothing.
    pub(crate) fn refuse(mut self, error: Error) -> Call<R> {
        self.exchange.state = State::Refused(error);
        self.exchange.plan.admission = None;
        self
    }

    /// Whether it has left, and is not to be sent again for all that is known.
    pub(crate) fn is_sent(&self) -> bool {
        matches!(self.exchange.state, State::Sent(_))
    }
}

impl<R: wire::Response + Answer> Future for Call<R> {
    type Output = Result<R, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<R, Error>> {
        let this = self.project();
        let mut exchange = this.exchange;
        let _entered = this.span.enter();
        let answer = loop {
            match ready!(exchange.as_mut().poll_message(cx)) {
                Ok(message) => match exchange.plan.read(message) {
                    Ok(answer) => break Ok(answer),
                    Err(error) => {
                        if let Some(error) = exchange.as_mut().unread(error) {
                            break Err(error);
                        }
                    }
                },
                Err(error) => break Err(error),
            }
        };
        let error = answer.as_ref().err();
        this.span.ended(
            || exchange.plan.endpoint(&exchange.state),
            exchange.plan.attempts,
            error,
        );
        exchange.end(error);
        Poll::Ready(answer)
    }
}

impl Exchange {
    /// The message of the answer, or what the call ends with. Not inlined, or each type of answer had its own.
    #[inline(never)]
    fn poll_message(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Bytes, Error>> {
        let mut this = self.project();
        let (plan, state) = (this.plan, this.state);
        loop {
            let now = clock::now();
            let error = match plan.poll(state, cx, now) {
                Poll::Ready(Ok(message)) => return Poll::Ready(Ok(message)),
                Poll::Ready(Err(failure)) => plan.failed(state, failure),
                Poll::Pending => {
                    let at = state.timeout().map_or(plan.deadline, |at| at.min(plan.deadline));
                    if at != this.timer.deadline() {
                        this.timer.as_mut().reset(at);
                    }
                    ready!(plan.channel.runtime().within(|| this.timer.as_mut().poll_at(now, cx)));
                    plan.waited(state)
                }
            };
            if let Some(error) = error {
                return Poll::Ready(Err(error));
            }
        }
    }

    /// The message cannot be taken for an answer: what the call ends with, where it does.
    #[cold]
    fn unread(self: Pin<&mut Self>, error: Error) -> Option<Error> {
        let this = self.project();
        match error.stale() {
            // Another member may know more.
            Some(_) => this.plan.failed(this.state, error),
            None => Some(this.plan.name(error, this.state)),
        }
    }

    #[inline(never)]
    fn end(self: Pin<&mut Self>, error: Option<&Error>) {
        let this = self.project();
        this.plan.count(error, this.state);
        // What is left of the call goes now, so that its stream is reset and its place free.
        *this.state = State::Done;
        this.plan.admission = None;
    }
}

/// A message that is too large.
#[cold]
fn unsendable(status: Status) -> Error {
    Error::new(status.code, Origin::Caller, Delivery::NotSent, status.message)
}

impl Plan {
    /// The timer has fired: what the call ends with, where it does.
    #[cold]
    fn waited(&mut self, state: &mut State) -> Option<Error> {
        if clock::now() < self.deadline {
            self.handle_timeout(state);
            return None;
        }
        let error = self.timed_out(state);
        Some(self.name(error, state))
    }

    /// An attempt has failed: what the call ends with, where it does.
    #[cold]
    fn failed(&mut self, state: &mut State, failure: Error) -> Option<Error> {
        // A server that knows the deadline cancels the stream just when it is over.
        let error = if is_cancel(&failure) && clock::now() >= self.deadline {
            self.timed_out(state).with_source(failure)
        } else {
            match self.fail(state, failure) {
                Ok(next) => {
                    *state = next;
                    return None;
                }
                Err(error) => error,
            }
        };
        Some(self.name(error, state))
    }
}

fn is_cancel(error: &Error) -> bool {
    error.code() == Code::Cancelled && error.origin() == Origin::Transport
}

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.exchange.plan.method.path)
            .finish_non_exhaustive()
    }
}
