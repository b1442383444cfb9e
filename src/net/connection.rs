//! One HTTP/2 connection: how it is set up, what a call needs of it, and the
//! task that keeps it alive.
//!
//! ```text
//!            connect fails
//!          .---------------.
//!          v               |
//!   --> Connecting --> backing off <--.
//!          |                          |
//!          '--> up (h2 runs) ---------'
//!                        connection ends
//! ```
//!
//! The task is h2's own connection task with a loop around it: there is no other
//! between a call and the socket.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use tokio::sync::Notify;

use super::clock;
use super::dial::{Dial, Endpoint, Io};
use super::race::{Either, race};
use crate::config::Config;
use crate::core::backoff::Backoff;
use crate::error::{Code, Delivery, Error, Origin};

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

/// A connection that lived this long was a good one: the next dial is at once.
const GOOD_LIFE: Duration = Duration::from_secs(1);

/// A live connection to an endpoint: calls and streams that are given the same
/// route share it, and so see one member's view of the store.
#[derive(Clone)]
pub struct Route {
    pub(crate) generation: u64,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) sender: SendRequest<Bytes>,
}

impl Route {
    /// The address of the endpoint that the connection goes to.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.endpoint.name()
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("endpoint", &self.endpoint)
            .field("generation", &self.generation)
            .finish()
    }
}

/// What the task tells of its connection. It ends when nobody listens any more.
pub(crate) trait Report: Send + 'static {
    /// Calls can be sent. What it returns is notified when they no longer can,
    /// although the connection lives; `None` ends the task.
    fn up(&self, sender: SendRequest<Bytes>) -> Option<Arc<Notify>>;
    /// Calls can no longer be sent, or not yet; `false` ends the task.
    fn down(&self, error: Error) -> bool;
}

/// Dials, runs the connection, reports its end, and dials again after a pause.
pub(crate) async fn keep(
    endpoint: Arc<Endpoint>,
    dial: Arc<dyn Dial>,
    config: Config,
    mut backoff: Backoff,
    report: impl Report,
) {
    loop {
        let error = match connect(&endpoint, &*dial, &config).await {
            Ok((sender, connection)) => {
                let born = clock::now();
                let Some(retired) = report.up(sender) else { return };
                let end = run(connection, &retired).await;
                if clock::now().saturating_since(born) >= GOOD_LIFE {
                    backoff.reset();
                }
                end
            }
            Err(error) => error,
        };
        if !report.down(error.with_call("connect", Some(endpoint.shared_name())).with_attempts(1)) {
            return;
        }
        clock::sleep_until(clock::now() + backoff.next_wait()).await;
    }
}

/// Runs the connection until it ends, or takes no more calls. In the latter case
/// it goes on for what is open on it, and ends with the last of that.
async fn run(connection: Connection, retired: &Notify) -> Error {
    let mut connection = Box::pin(connection);
    let end = race(connection.as_mut(), retired.notified()).await;
    let (message, source) = match end {
        Either::Left(end) => ("connection lost", end.err()),
        Either::Right(()) => {
            tokio::spawn(connection);
            ("the connection takes no more calls", None)
        }
    };
    let error = Error::new(Code::Unavailable, Origin::Transport, Delivery::Unknown, message);
    match source {
        Some(source) => error.with_source(source),
        None => error,
    }
}

type Connection = client::Connection<Box<dyn Io>, Bytes>;

async fn connect(
    endpoint: &Endpoint,
    dial: &dyn Dial,
    config: &Config,
) -> Result<(SendRequest<Bytes>, Connection), Error> {
    let connecting = async {
        let io = dial.dial(endpoint).await.map_err(|error| {
            Error::new(
                Code::Unavailable,
                Origin::Transport,
                Delivery::NotSent,
                "cannot connect",
            )
            .with_source(error)
        })?;
        handshake(config).handshake(io).await.map_err(|error| {
            Error::new(
                Code::Unavailable,
                Origin::Transport,
                Delivery::NotSent,
                "HTTP/2 handshake failed",
            )
            .with_source(error)
        })
    };
    tokio::time::timeout(config.connect_timeout, connecting).await.unwrap_or_else(|_| {
        let message = "no connection within the connect timeout";
        Err(Error::new(
            Code::DeadlineExceeded,
            Origin::Library,
            Delivery::NotSent,
            message,
        ))
    })
}

fn handshake(config: &Config) -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(config.stream_window_bytes)
        .initial_connection_window_size(config.connection_window_bytes)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_concurrent_reset_streams(RESET_STREAMS_MAX)
        .reset_stream_duration(RESET_STREAMS_LIFE)
        .max_local_error_reset_streams(Some(LATE_ANSWERS_MAX));
    builder
}
