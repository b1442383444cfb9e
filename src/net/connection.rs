//! One HTTP/2 connection, from its dial to its end: how it is set up, what a call
//! needs of it, and the task that runs it.
//!
//! ```text
//!   dial ──▶ opened ──the peer's settings──▶ up ──goaway, retired──▶ draining ──▶ end
//!     └─────────┴───── connect timeout ──▶ end ◀── lost, or a ping unanswered ──┘
//! ```
//!
//! The task is h2's own connection task with the pings beside it: there is no other
//! between a call and the socket. It ends with the connection; whether there is
//! another is decided in `core::pool`.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::clock::{self, NEVER, Timer};
use super::dial::Dial;
use super::endpoint::Endpoint;
use super::heard::{Heard, Hearing};
use super::pulse::Pulse;
use super::race::{Either, race};
use super::wishes::Wishes;
use crate::config::Config;
use crate::core::ping::{Action, Patience, Ping};
use crate::core::time::Instant;
use crate::error::{Error, Origin};
use crate::wire::Body;
use h2::client::{self, SendRequest};
use h2::{Ping as Payload, PingPong};

/// Bounds what HPACK and CONTINUATION floods can cost; etcd's trailers are tiny.
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;

/// How many streams that were reset here h2 remembers, so that what the server
/// still sends on them is no breach of protocol. Calls that time out together
/// must not cost the connection.
const RESET_STREAMS_MAX: usize = 4096;

/// As long as a server may take to answer a call, and longer than a stall.
const RESET_STREAMS_LIFE: Duration = Duration::from_secs(60);

/// How many answers to streams that h2 has forgotten a connection survives in its
/// life. h2's own 1,024 end a busy one after some bad days; without a bound, a
/// server that does not read could have the resets pile up (RUSTSEC-2024-0003).
const LATE_ANSWERS_MAX: usize = 16 << 10;

/// Until the peer has said how many it takes. What is frozen takes connections, too.
const STREAMS_BEFORE_HELLO: usize = 0;

/// What becomes of a connection, told as it happens.
pub(super) trait Report {
    /// There is a byte stream, if nothing more.
    fn opened(&self);
    /// The peer has spoken, and takes so many streams.
    fn up(&self, sender: SendRequest<Body>, pulse: Arc<Pulse>, streams_max: usize);
    /// The peer takes another number of streams.
    fn streams_max(&self, streams_max: usize);
    /// The peer takes no new streams.
    fn goaway(&self, error: h2::Error);
    /// Work is pending, and nothing is heard.
    fn suspect(&self);
    /// A ping is not answered yet, or something was heard again.
    fn mute(&self, mute: bool);
    /// It is over.
    fn end(&self, error: Error);
}

/// Dials, runs the connection, and reports what becomes of it.
pub(super) async fn run(
    endpoint: Arc<Endpoint>,
    dial: Arc<dyn Dial>,
    config: Config,
    wishes: Arc<Wishes>,
    report: impl Report,
) {
    // In a box, as the connection is: what runs it for long is to have a small frame, so that
    // its stack is the one that the calls beside it have warmed.
    let connecting = Box::pin(async {
        let mut opened = connect(&endpoint, &*dial, &config).await?;
        report.opened();
        hello(&mut opened).await?;
        dial.reached(&endpoint);
        Ok(opened)
    });
    let connected = match race(
        connecting,
        clock::sleep_until(clock::now() + config.connect_timeout),
    )
    .await
    {
        Either::Left(connected) => connected,
        Either::Right(()) => Err(Error::unsent_in_time("no connection within the connect timeout")),
    };
    let end = match connected {
        Ok(opened) => live(opened, &config, &wishes, &report).await,
        Err(error) => error,
    };
    report.end(end.with_call("connect", Some(endpoint.shared_name())).with_attempts(1));
}

type Connection = client::Connection<Heard, Body>;

/// A connection whose handshake is written.
struct Opened {
    sender: SendRequest<Body>,
    connection: Pin<Box<Connection>>,
    hearing: Arc<Hearing>,
}

async fn connect(endpoint: &Endpoint, dial: &dyn Dial, config: &Config) -> Result<Opened, Error> {
    let failed = |message| Error::unsent(Origin::Transport, message);
    let io = dial.dial(endpoint).await;
    let io = io.map_err(|error| failed("cannot connect").with_source(error))?;
    let (io, hearing) = Heard::new(io);
    match handshake(config).handshake(io).await {
        Ok((sender, connection)) => Ok(Opened {
            sender,
            connection: Box::pin(connection),
            hearing,
        }),
        Err(error) => Err(failed("HTTP/2 handshake failed").with_source(hearing.cause(error))),
    }
}

fn handshake(config: &Config) -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(STREAMS_BEFORE_HELLO)
        .initial_window_size(config.stream_window_bytes)
        .initial_connection_window_size(config.connection_window_bytes)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_concurrent_reset_streams(RESET_STREAMS_MAX)
        .reset_stream_duration(RESET_STREAMS_LIFE)
        .max_local_error_reset_streams(Some(LATE_ANSWERS_MAX));
    builder
}

/// Waits for the peer's settings: only a process that runs sends them.
async fn hello(opened: &mut Opened) -> Result<(), Error> {
    let connection = &mut opened.connection;
    poll_fn(|cx| match connection.as_mut().poll(cx) {
        Poll::Ready(end) => Poll::Ready(Err(lost(end, &opened.hearing))),
        Poll::Pending if connection.max_concurrent_send_streams() == STREAMS_BEFORE_HELLO => Poll::Pending,
        Poll::Pending => Poll::Ready(Ok(())),
    })
    .await
}

/// Runs the connection until it ends, or is dead. Retired, it goes on for what is
/// open on it, and ends with the last of that.
async fn live(opened: Opened, config: &Config, wishes: &Wishes, report: &impl Report) -> Error {
    let Opened {
        sender,
        mut connection,
        hearing,
    } = opened;
    let pulse = Arc::new(Pulse::default());
    let streams_max = connection.max_concurrent_send_streams();
    let mut live = Live {
        pings: connection.ping_pong(),
        connection,
        hearing,
        streams_max,
        pulse: pulse.clone(),
        ping: Ping::new(clock::now(), patience(config)),
        timer: Box::pin(Timer::new(NEVER)),
        armed: NEVER,
        is_timed: false,
        sender: Some(sender.clone()),
        report,
    };
    report.up(sender, pulse, streams_max);
    // One task runs it from its dial to its end.
    poll_fn(|cx| {
        wishes.watch(cx);
        Poll::Ready(())
    })
    .await;
    poll_fn(|cx| live.poll(cx, wishes)).await
}

fn patience(config: &Config) -> Patience {
    Patience {
        silence: config.silence,
        interval: config.ping_interval,
        timeout: config.ping_timeout,
    }
}

/// The end of the connection, as a cause for those who have none. Of the fate of what
/// was open on it each stream tells.
fn lost(end: Result<(), h2::Error>, hearing: &Hearing) -> Error {
    let error = Error::unsent(Origin::Transport, "connection lost");
    match end {
        Ok(()) => error,
        Err(end) => error.with_source(hearing.cause(end)),
    }
}

/// A connection that is up, and its health.
struct Live<'a, R> {
    connection: Pin<Box<Connection>>,
    hearing: Arc<Hearing>,
    pings: Option<PingPong>,
    streams_max: usize,
    pulse: Arc<Pulse>,
    ping: Ping,
    timer: Pin<Box<Timer>>,
    /// When the timer fires: at the time the machine named, or before it.
    armed: Instant,
    /// It fires before anything is due that may come meanwhile, so that there is no need to look: how it
    /// mostly is where there are calls.
    is_timed: bool,
    /// Tells of a GOAWAY, and of nothing else.
    sender: Option<SendRequest<Body>>,
    report: &'a R,
}

impl<R: Report> Live<'_, R> {
    fn poll(&mut self, cx: &mut Context<'_>, wishes: &Wishes) -> Poll<Error> {
        if wishes.is_retired() {
            // h2 closes a connection that nobody can send on once its last stream is over.
            self.sender = None;
        }
        // Before the health: what lies in the socket unread is no silence.
        if let Poll::Ready(end) = self.connection.as_mut().poll(cx) {
            return Poll::Ready(lost(end, &self.hearing));
        }
        // Settings and a GOAWAY come with what was read, or once there is room to acknowledge that.
        if self.hearing.take_moved() {
            self.note_settings(cx);
        }
        let is_doubted = wishes.take_doubt();
        if self.is_timed && !is_doubted && !self.timer.has_fired() {
            return Poll::Pending;
        }
        self.examine(cx, is_doubted)
    }

    /// Looks at the health of the connection. Apart from what comes at every turn, so that this lies close together.
    #[inline(never)]
    fn examine(&mut self, cx: &mut Context<'_>, is_doubted: bool) -> Poll<Error> {
        let mut now = clock::now();
        self.ping.handle_traffic(now, self.pulse.traffic());
        // Before the doubt: it may bring a ping, which an answer to an earlier one is none to.
        if let Some(pings) = &mut self.pings {
            if let Poll::Ready(Ok(_)) = pings.poll_pong(cx) {
                self.ping.handle_pong(now);
            }
        }
        if is_doubted {
            self.ping.handle_doubt(now);
        }
        loop {
            if let Some(dead) = self.act() {
                return Poll::Ready(dead);
            }
            let at = self.ping.poll_timeout().unwrap_or(NEVER);
            if at < self.armed {
                self.armed = at;
                self.timer.as_mut().reset(at);
            }
            if self.timer.as_mut().poll_at(now, cx).is_pending() {
                self.is_timed = self.ping.lead().is_some_and(|lead| self.armed <= now + lead);
                return Poll::Pending;
            }
            // A timer that fires too early is cheaper than one that is moved at every call.
            self.armed = NEVER;
            self.timer.as_mut().reset(NEVER);
            now = clock::now();
            self.ping.handle_traffic(now, self.pulse.traffic());
        }
    }

    fn note_settings(&mut self, cx: &mut Context<'_>) {
        let streams_max = self.connection.max_concurrent_send_streams();
        if streams_max != self.streams_max {
            self.resize(streams_max);
        }
        if let Some(sender) = &mut self.sender {
            if let Poll::Ready(Err(error)) = sender.poll_ready(cx) {
                self.goaway(error);
            }
        }
    }

    #[cold]
    fn resize(&mut self, streams_max: usize) {
        self.streams_max = streams_max;
        self.report.streams_max(streams_max);
    }

    #[cold]
    fn goaway(&mut self, error: h2::Error) {
        self.sender = None;
        self.report.goaway(error);
    }

    /// Does what the machine says; the end where it says that this is one.
    fn act(&mut self) -> Option<Error> {
        while let Some(action) = self.ping.poll_action() {
            match action {
                Action::Ping => {
                    if let Some(pings) = &mut self.pings {
                        // It fails only where the connection has, and that says so itself.
                        let _ = pings.send_ping(Payload::opaque());
                    }
                }
                Action::Silent => self.report.suspect(),
                Action::Mute => self.report.mute(true),
                Action::Heard => self.report.mute(false),
                Action::Dead => {
                    return Some(Error::unsent(Origin::Transport, "the peer answered no ping"));
                }
            }
        }
        None
    }
}
