//! One unary call: a future by name, so that it needs no box, no task and no
//! queue. It waits for a connection, sends, and reads the one answer, all under
//! one deadline.
//!
//! ```text
//!   Refused ---------------------------.
//!   Waiting --route--> Sent --answer--> Done
//!      '-----deadline----+--------------^
//! ```
//!
//! Dropped in `Sent`, it resets its stream: the last handle to an h2 stream does.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use http::{HeaderMap, Method as Verb, Request, Version};
use pin_project_lite::pin_project;

use super::channel::{Channel, Waiter};
use super::clock::{self, Timer};
use super::connection::Route;
use super::endpoint::Endpoint;
use super::response::Response;
use crate::core::time::Instant;
use crate::error::{Code, Delivery, Error, Origin};
use crate::wire::{self, Method, Status};

/// What one call asks for beyond the client's configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) route: Option<Route>,
}

pin_project! {
    /// An etcd call under way. Await it for the answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping it resets its stream. A write may have been applied by then.
    #[must_use = "a call is sent only once it is awaited"]
    pub struct Call<R> {
        channel: Channel,
        method: &'static Method,
        state: State,
        #[pin]
        timer: Timer,
        answer: PhantomData<fn() -> R>,
    }
}

enum State {
    Refused(Error),
    Waiting(Waiting),
    Sent(Sent),
    Done,
}

struct Waiting {
    request: Bytes,
    /// The connection that the caller wants; any where it is `None`.
    route: Option<Route>,
    waiter: Option<Waiter>,
}

struct Sent {
    generation: u64,
    endpoint: Arc<Endpoint>,
    response: Response,
    answer: Option<Bytes>,
}

impl Channel {
    /// A call of `method`. It is sent when it is polled; its time runs from now.
    pub(crate) fn unary<M, R>(&self, method: &'static Method, request: &M, options: CallOptions) -> Call<R>
    where
        M: prost::Message,
    {
        let timeout = options.timeout.unwrap_or(self.config().call_timeout);
        let state = match wire::encode(request, self.config().request_bytes_max) {
            Ok(request) => State::Waiting(Waiting {
                request,
                route: options.route,
                waiter: None,
            }),
            Err(status) => State::Refused(Error::new(
                status.code,
                Origin::Caller,
                Delivery::NotSent,
                status.message,
            )),
        };
        let timer = Timer::new(clock::now() + timeout);
        Call {
            channel: self.clone(),
            method,
            state,
            timer,
            answer: PhantomData,
        }
    }

    /// Opens a stream of `method` on a connection.
    pub(crate) fn open(
        &self,
        route: &mut Route,
        method: &'static Method,
        headers: HeaderMap,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Error> {
        let uri = route.endpoint.uri(method.path_and_query()).map_err(|error| {
            let message = "the call has no valid URI";
            Error::new(Code::Internal, Origin::Library, Delivery::NotSent, message).with_source(error)
        })?;
        let mut request = Request::new(());
        *request.method_mut() = Verb::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        route.sender.send_request(request, false).map_err(|error| {
            let message = "the connection takes no more calls";
            Error::new(Code::Unavailable, Origin::Transport, Delivery::NotSent, message).with_source(error)
        })
    }
}

impl<R> Call<R> {
    /// Fails with this error instead, and sends nothing.
    pub(crate) fn refuse(mut self, error: Error) -> Call<R> {
        self.state = State::Refused(error);
        self
    }
}

impl<R: wire::Response> Future for Call<R> {
    type Output = Result<R, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<R, Error>> {
        let mut this = self.project();
        let deadline = this.timer.deadline();
        let answer = match this.state.poll_answer(this.channel, this.method, deadline, cx) {
            // A server that knows the deadline cancels the stream just when it is over.
            Poll::Ready(Err(error)) if is_cancel(&error) && this.timer.is_over() => {
                Err(this.state.timed_out(this.channel).with_source(error))
            }
            Poll::Ready(answer) => answer,
            Poll::Pending => {
                ready!(this.timer.as_mut().poll(cx));
                Err(this.state.timed_out(this.channel))
            }
        };
        let answer = answer.and_then(|message| wire::decode(message).map_err(Error::status));
        let endpoint = this.state.endpoint();
        let attempts = matches!(this.state, State::Sent(_)).into();
        // What is left of the call goes now, so that its stream is reset now.
        *this.state = State::Done;
        Poll::Ready(answer.map_err(|error| named(error, this.method, endpoint).with_attempts(attempts)))
    }
}

impl State {
    fn poll_answer(
        &mut self,
        channel: &Channel,
        method: &'static Method,
        deadline: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Bytes, Error>> {
        loop {
            match self {
                State::Sent(sent) => return sent.poll_answer(cx),
                State::Waiting(waiting) => {
                    let sent = ready!(waiting.poll_send(channel, method, deadline, cx))?;
                    *self = State::Sent(sent);
                }
                State::Refused(_) => {
                    let State::Refused(error) = std::mem::replace(self, State::Done) else {
                        continue;
                    };
                    return Poll::Ready(Err(error));
                }
                State::Done => {
                    return Poll::Ready(Err(Error::invalid("the call was awaited again after its end")));
                }
            }
        }
    }

    fn timed_out(&self, channel: &Channel) -> Error {
        let (delivery, message) = match self {
            State::Sent(sent) => {
                channel.suspect(sent.generation);
                (Delivery::Unknown, "no answer before the deadline")
            }
            _ => (Delivery::NotSent, "no connection before the deadline"),
        };
        let error = Error::new(Code::DeadlineExceeded, Origin::Library, delivery, message);
        match self {
            State::Waiting(_) => error.with_source(channel.unreachable()),
            _ => error,
        }
    }

    fn endpoint(&self) -> Option<Arc<str>> {
        match self {
            State::Sent(sent) => Some(sent.endpoint.shared_name()),
            State::Waiting(Waiting {
                route: Some(route), ..
            }) => Some(route.endpoint.shared_name()),
            _ => None,
        }
    }
}

impl Waiting {
    fn poll_send(
        &mut self,
        channel: &Channel,
        method: &'static Method,
        deadline: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Sent, Error>> {
        let config = channel.config();
        loop {
            let mut route = match &self.route {
                Some(route) => route.clone(),
                None => ready!(channel.poll_route(cx, &mut self.waiter))?,
            };
            let left = deadline.saturating_since(clock::now());
            if left.is_zero() {
                // Too late to be sent: the caller's timer says so.
                return Poll::Pending;
            }
            let headers = channel.calls().headers(config.send_timeout_header.then_some(left));
            match channel.open(&mut route, method, headers) {
                Ok((response, mut stream)) => {
                    // Beyond the server's window h2 keeps the request, which the caller kept until now.
                    let sent = stream.send_data(std::mem::take(&mut self.request), true);
                    let response = Response::new(response, config.response_bytes_max);
                    let sent = sent.map(|()| Sent {
                        generation: route.generation,
                        endpoint: route.endpoint,
                        response,
                        answer: None,
                    });
                    return Poll::Ready(sent.map_err(Error::transport));
                }
                Err(error) if self.route.is_some() => return Poll::Ready(Err(error)),
                // The connection ended and its task has not said so yet: take another.
                Err(error) => channel.lost(&route, error),
            }
        }
    }
}

impl Sent {
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Error>> {
        loop {
            match ready!(self.response.poll_message(cx)) {
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
}

fn is_cancel(error: &Error) -> bool {
    error.code() == Code::Cancelled && error.origin() == Origin::Transport
}

/// Says which call failed, and where.
pub(crate) fn named(error: Error, method: &'static Method, endpoint: Option<Arc<str>>) -> Error {
    let error = if method.safe_to_retry {
        error.repeatable()
    } else {
        error
    };
    error.with_call(method.path, endpoint)
}

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.method.path).finish_non_exhaustive()
    }
}
