//! What comes back on a stream: the head, the messages, the status. It is polled
//! from the first moment on, so that informational heads pile up no longer than a
//! turn of the connection's task.

use std::error::Error as _;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::StatusCode;

use super::clock;
use super::pool::{Outcome, Seat};
use crate::core::retry::Failure;
use crate::core::time::Instant;
use crate::error::{Code, Delivery, Error, Origin};
use crate::wire::{Decoder, Foreign, Head, Status};

/// An answer that does not come.
const LATE: Failure = Failure {
    delivery: Delivery::Unknown,
    code: Code::DeadlineExceeded,
    origin: Origin::Library,
    etcd: None,
};

/// The receiving half of a stream.
pub(crate) struct Response {
    message_bytes_max: usize,
    // Before the seat, so that the stream is closed when its place is given back.
    state: State,
    seat: Option<Seat>,
    ended_at: Option<Instant>,
}

enum State {
    Head(ResponseFuture),
    Body {
        http: StatusCode,
        body: RecvStream,
        decoder: Decoder,
    },
    /// A peer that does not speak gRPC: the start of what it says is evidence.
    Foreign(RecvStream, Foreign),
    Over,
}

impl Response {
    pub(crate) fn new(head: ResponseFuture, message_bytes_max: usize, seat: Seat) -> Response {
        Response {
            message_bytes_max,
            state: State::Head(head),
            seat: Some(seat),
            ended_at: None,
        }
    }

    /// When the end was read.
    pub(super) fn ended_at(&self) -> Option<Instant> {
        self.ended_at
    }

    /// The reader gives up. Where the member said nothing at all since then, it is in doubt.
    pub(crate) fn suspect_if_quiet(&self, since: Instant) {
        if let Some(seat) = &self.seat {
            seat.suspect_if_quiet(since);
        }
    }

    /// The answer is not waited for any more, although the member had the request.
    pub(super) fn late(&mut self) {
        if let Some(seat) = &mut self.seat {
            seat.judge(Some(&LATE), clock::now());
        }
    }

    /// Whether the member owes a message, so that its silence counts.
    pub(crate) fn set_asked(&mut self, is_asked: bool) {
        if let Some(seat) = &mut self.seat {
            seat.set_asked(is_asked);
        }
    }

    /// The next message; `None` once the server has ended the stream with success.
    pub(crate) fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        let message = ready!(self.poll_next(cx, now));
        if !matches!(message, Ok(Some(_))) {
            // Lets go of the stream: what the server still sends is not waited for.
            self.state = State::Over;
            if let Some(seat) = &mut self.seat {
                match &message {
                    Ok(_) => {
                        seat.judge(None, now);
                        seat.end(Outcome::Answered, now);
                    }
                    Err(error) => failed(seat, error, now),
                }
                self.seat = None;
                self.ended_at = Some(now);
            }
        }
        Poll::Ready(message)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            match &mut self.state {
                State::Head(head) => {
                    let head = ready!(Pin::new(head).poll(cx)).map_err(Error::transport)?;
                    heard(&self.seat, now);
                    self.state = match Head::read(head.status(), head.headers(), head.body().is_end_stream())
                    {
                        Head::Messages(encoding) => State::Body {
                            http: head.status(),
                            body: head.into_body(),
                            decoder: Decoder::with_encoding(self.message_bytes_max, encoding),
                        },
                        Head::End(status) => return Poll::Ready(ended(status)),
                        Head::Foreign(foreign) => State::Foreign(head.into_body(), foreign),
                    };
                }
                State::Body { http, body, decoder } => {
                    if let Some(message) = decoder.next().map_err(Error::status)? {
                        return Poll::Ready(Ok(Some(message)));
                    }
                    let Some(chunk) = ready!(poll_chunk(body, cx))? else {
                        return poll_end(body, *http, decoder, cx);
                    };
                    heard(&self.seat, now);
                    decoder.push(chunk);
                }
                State::Foreign(body, foreign) => {
                    ready!(poll_foreign(body, foreign, cx))?;
                    let State::Foreign(_, foreign) = std::mem::replace(&mut self.state, State::Over) else {
                        continue;
                    };
                    return Poll::Ready(Err(Error::status(foreign.into_status())));
                }
                State::Over => return Poll::Ready(Err(Error::invalid("the stream was read after its end"))),
            }
        }
    }
}

fn heard(seat: &Option<Seat>, now: Instant) {
    if let Some(seat) = seat {
        seat.pulse.heard(now);
    }
}

/// What the failure of a stream tells of the member.
#[cold]
fn failed(seat: &mut Seat, error: &Error, now: Instant) {
    let failure = Failure::of(error);
    // The pool hears of itself that a connection is gone, once, and not of each call.
    if !is_of_connection(error) {
        seat.judge(Some(&failure), now);
    }
    let outcome = if failure.is_unable() {
        Outcome::Unable
    } else if error.origin() == Origin::Server {
        Outcome::Answered
    } else {
        Outcome::Nothing
    };
    seat.end(outcome, now);
}

/// Whether the stream ended with its connection.
fn is_of_connection(error: &Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| !cause.is_reset())
}

fn ended(status: Status) -> Result<Option<Bytes>, Error> {
    if status.is_ok() {
        Ok(None)
    } else {
        Err(Error::status(status))
    }
}

/// Reads as much as is evidence of what the peer is.
#[cold]
fn poll_foreign(
    body: &mut RecvStream,
    foreign: &mut Foreign,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Error>> {
    while let Some(chunk) = ready!(poll_chunk(body, cx))? {
        if !foreign.push(&chunk) {
            break;
        }
    }
    Poll::Ready(Ok(()))
}

/// What stands behind the last piece of the body.
fn poll_end(
    body: &mut RecvStream,
    http: StatusCode,
    decoder: &Decoder,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Bytes>, Error>> {
    let trailers = ready!(body.poll_trailers(cx)).map_err(Error::transport)?;
    ended(Status::from_trailers(http, trailers.as_ref()))?;
    decoder.finish().map_err(Error::status)?;
    Poll::Ready(Ok(None))
}

/// The next piece of the body. Its room in the window is given back at once: what
/// bounds a message is the decoder's limit, not the window.
fn poll_chunk(body: &mut RecvStream, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
    let Some(chunk) = ready!(body.poll_data(cx)) else {
        return Poll::Ready(Ok(None));
    };
    let chunk = chunk.map_err(Error::transport)?;
    let _ = body.flow_control().release_capacity(chunk.len());
    Poll::Ready(Ok(Some(chunk)))
}

impl Error {
    /// A call that ended with this status: the server's, or the one that stands
    /// for what came instead.
    #[cold]
    pub(crate) fn status(status: Status) -> Error {
        match status.origin {
            Origin::Server => Error::answered(status.code, status.message),
            origin => Error::new(status.code, origin, Delivery::Unknown, status.message),
        }
    }

    /// A stream that HTTP/2 ended. Two ends prove that the server has not processed
    /// it: a GOAWAY that names an earlier stream as the last, and REFUSED_STREAM
    /// (RFC 9113, sections 6.8 and 8.7).
    #[cold]
    pub(crate) fn transport(error: h2::Error) -> Error {
        let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        let unprocessed = error.is_remote() && (error.is_go_away() || refused);
        let delivery = if unprocessed {
            Delivery::NotSent
        } else {
            Delivery::Unknown
        };
        let status = match error.reason() {
            Some(reason) if error.is_reset() => Status::from_reset(reason.into()),
            _ => Status::new(Code::Unavailable, Origin::Transport, "connection lost"),
        };
        Error::new(status.code, Origin::Transport, delivery, status.message).with_source(error)
    }
}
