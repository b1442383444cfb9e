//! A stream in both directions, as watches and keepalives use it. Its two halves
//! are used apart: whoever waits to send must go on receiving. And a stream of answers to
//! one request, which is the one half of such.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use h2::SendStream;

use super::call_options::CallOptions;
use super::channel::{Channel, Target};
use super::clock;
use super::endpoint::Endpoint;
use super::named::named;
use super::pool::Waiter;
use super::pulse::Kind;
use super::race::{Either, race};
use super::response::Response;
use super::route::Route;
use super::tokens;
use super::trace;
use crate::core::pool::{Class, EndpointId, Want};
use crate::core::time::Instant;
use crate::error::{Delivery, Error, Origin};
use crate::wire::{self, Body, Method};

/// An open stream. Dropping both halves resets it.
#[derive(Debug)]
pub(crate) struct Duplex<Req, Resp> {
    pub(crate) sender: Sender<Req>,
    pub(crate) receiver: Receiver<Resp>,
    /// The connection that carries the stream.
    pub(crate) route: Route,
    /// The generation of the token that it was opened with.
    pub(super) generation: u64,
}

/// The half that sends. Dropped without [`Sender::send_only`], it leaves the stream
/// open for as long as the receiver lives.
pub(crate) struct Sender<Req> {
    stream: SendStream<Body>,
    endpoint: Arc<Endpoint>,
    method: &'static Method,
    request_bytes_max: usize,
    request: PhantomData<fn(Req)>,
}

/// The half that receives.
pub(crate) struct Receiver<Resp> {
    channel: Channel,
    generation: u64,
    response: Response,
    endpoint: Arc<Endpoint>,
    method: &'static Method,
    message: PhantomData<fn() -> Resp>,
}

impl Channel {
    /// Opens a stream on a live connection, for which it waits until `deadline`.
    ///
    /// # Errors
    ///
    /// `DeadlineExceeded` where no connection or no token was to be had, and what the
    /// server says where it refuses the name or the password.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves no stream behind.
    pub(crate) async fn duplex<Req, Resp>(
        &self,
        method: &'static Method,
        deadline: Instant,
    ) -> Result<Duplex<Req, Resp>, Error> {
        self.duplex_beside(method, deadline, None).await
    }

    /// As [`Channel::duplex`], at another member than `avoid` where there is one.
    pub(crate) async fn duplex_beside<Req, Resp>(
        &self,
        method: &'static Method,
        deadline: Instant,
        avoid: Option<EndpointId>,
    ) -> Result<Duplex<Req, Resp>, Error> {
        let want = Want {
            stream: true,
            avoid,
            ..Want::call(Class::Control)
        };
        self.duplex_for(method, deadline, want).await
    }

    /// Sends one request; what comes back is a stream. Opened once, by `deadline`, and never
    /// again by itself.
    ///
    /// # Errors
    ///
    /// As [`Channel::duplex`], or the request is too large.
    ///
    /// # Cancel safety
    ///
    /// Dropping it, or the receiver, resets the stream.
    pub(crate) async fn answers<Req: prost::Message, Resp>(
        &self,
        method: &'static Method,
        request: &Req,
        options: &CallOptions,
        deadline: Instant,
    ) -> Result<Receiver<Resp>, Error> {
        let want = Want {
            stream: true,
            only: options.only(),
            ..Want::call(options.class)
        };
        let mut opened: Duplex<Req, Resp> = self.duplex_for(method, deadline, want).await?;
        opened.sender.send_only(request)?;
        Ok(opened.receiver)
    }

    async fn duplex_for<Req, Resp>(
        &self,
        method: &'static Method,
        deadline: Instant,
        want: Want,
    ) -> Result<Duplex<Req, Resp>, Error> {
        let want = Want {
            waits: method.waits,
            ..want
        };
        let mut waiters = (None, None);
        let opened = std::future::poll_fn(|cx| self.poll_duplex(method, want, cx, &mut waiters));
        match race(opened, clock::sleep_until(deadline)).await {
            Either::Left(duplex) => duplex,
            Either::Right(()) => {
                let error = match &waiters.1 {
                    Some(_) => self.no_token_in_time(),
                    None => self.unreachable_in_time(want.only),
                };
                Err(named(error, method, None))
            }
        }
    }

    fn poll_duplex<Req, Resp>(
        &self,
        method: &'static Method,
        want: Want,
        cx: &mut Context<'_>,
        (waiter, token_waiter): &mut (Option<Waiter>, Option<tokens::Waiter>),
    ) -> Poll<Result<Duplex<Req, Resp>, Error>> {
        loop {
            let Poll::Ready(pass) = self.poll_pass(token_waiter, cx) else {
                // Whoever needs no token may use the stream that this one was woken for.
                *waiter = None;
                return Poll::Pending;
            };
            let pass = pass.map_err(|error| named(error, method, None))?;
            let (mut route, seat) =
                ready!(self.poll_route(clock::now(), Target::Any(want), Kind::Stream, cx, waiter))
                    .map_err(|error| named(error, method, None))?;
            let metadata = match method.is_local {
                true => self.calls(true),
                false => self.streams(),
            };
            let headers = metadata.headers(None, pass.token.as_ref());
            match self.open(&mut route, method, headers) {
                Ok((response, stream)) => {
                    let endpoint = route.endpoint.clone();
                    trace::stream_opened(method, endpoint.name());
                    let request_bytes_max = self.config().request_bytes_max;
                    let response = Response::new(response, self.config().response_bytes_max, seat);
                    return Poll::Ready(Ok(Duplex {
                        sender: Sender {
                            stream,
                            endpoint: endpoint.clone(),
                            method,
                            request_bytes_max,
                            request: PhantomData,
                        },
                        receiver: Receiver {
                            channel: self.clone(),
                            generation: pass.generation,
                            response,
                            endpoint,
                            method,
                            message: PhantomData,
                        },
                        route,
                        generation: pass.generation,
                    }));
                }
                Err(_) => self.lost(&route),
            }
        }
    }
}

impl<Req: prost::Message> Sender<Req> {
    /// Sends one message, once the server's window is open.
    ///
    /// # Errors
    ///
    /// The message is too large, or the stream is over; the receiver tells why.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it has sent nothing.
    pub(crate) async fn send(&mut self, message: &Req) -> Result<(), Error> {
        let frame = self.encode(message)?;
        std::future::poll_fn(|cx| self.poll_ready(cx, frame.len())).await?;
        self.push(frame, false)
    }

    /// Sends the one message of a stream of answers. What is beyond the server's window h2
    /// keeps, as that of a call.
    ///
    /// # Errors
    ///
    /// The message is too large. Where the stream is over already, the receiver has all that came.
    pub(crate) fn send_only(&mut self, message: &Req) -> Result<(), Error> {
        let frame = self.encode(message)?;
        let _ = self.push(frame, true);
        Ok(())
    }

    /// As [`Sender::send`], for who polls. Pending, it has sent nothing.
    pub(crate) fn poll_send(&mut self, message: &Req, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_ready(cx, message.encoded_len() + wire::HEADER_BYTES))?;
        Poll::Ready(self.encode(message).and_then(|frame| self.push(frame, false)))
    }

    /// Waits until the window is open at all: h2 keeps what exceeds it, which is
    /// less than one message.
    fn poll_ready(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<Result<(), Error>> {
        self.stream.reserve_capacity(bytes);
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(self.name(Error::transport(error)))),
                None => {
                    let error = Error::unsent(Origin::Transport, "the stream is over");
                    return Poll::Ready(Err(self.name(error)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn encode(&self, message: &Req) -> Result<Body, Error> {
        wire::encode(message, self.request_bytes_max).map_err(|status| {
            let error = Error::new(status.code, Origin::Caller, Delivery::NotSent, status.message);
            self.name(error)
        })
    }

    fn push(&mut self, frame: Body, is_last: bool) -> Result<(), Error> {
        let sent = self.stream.send_data(frame, is_last);
        sent.map_err(|error| self.name(Error::transport(error)))
    }

    fn name(&self, error: Error) -> Error {
        named(error, self.method, Some(self.endpoint.shared_name())).with_attempts(1)
    }
}

impl<Resp: wire::Response> Receiver<Resp> {
    /// The next message; `None` once the server has ended the stream well.
    ///
    /// # Errors
    ///
    /// Why the stream is over. It is not to be asked again after that.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it has taken no message.
    pub(crate) async fn recv(&mut self) -> Result<Option<Resp>, Error> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The address of the member that answers.
    pub(crate) fn endpoint(&self) -> Arc<str> {
        self.endpoint.shared_name()
    }

    /// Whether the member owes an answer. A stream may be quiet for long; with this its
    /// silence is noticed as a call's is.
    pub(crate) fn set_asked(&mut self, is_asked: bool) {
        self.response.set_asked(is_asked);
    }

    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Resp>, Error>> {
        let message = ready!(self.response.poll_message(cx, clock::now()));
        let message =
            message.and_then(|message| message.map(wire::decode).transpose().map_err(Error::status));
        Poll::Ready(message.map_err(|error| {
            // The next stream goes with another token, where it was for that.
            self.channel.tokens().handle_failure(self.generation, &error);
            let error = named(error, self.method, Some(self.endpoint.shared_name())).with_attempts(1);
            trace::stream_ended(&error);
            error
        }))
    }
}

impl<Req> fmt::Debug for Sender<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("method", &self.method.path).finish_non_exhaustive()
    }
}

impl<Resp> fmt::Debug for Receiver<Resp> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("method", &self.method.path).finish_non_exhaustive()
    }
}
