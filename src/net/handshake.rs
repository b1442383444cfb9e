//! How a connection comes about: the dial and the HTTP/2 handshake, within one
//! timeout.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};

use super::dial::Dial;
use super::endpoint::Endpoint;
use super::heard::{Heard, Hearing};
use crate::config::Config;
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

/// What h2 does of a connection: reading, writing, and noticing its end.
pub(super) struct Connection {
    h2: Pin<Box<client::Connection<Heard, Bytes>>>,
    hearing: Arc<Hearing>,
}

/// Why a connection ended, where that is known.
pub(super) type Cause = Box<dyn StdError + Send + Sync>;

impl Connection {
    /// Runs until the connection ends. Cancel safe: what is left runs on when this is
    /// called again.
    pub(super) async fn run(&mut self) -> Option<Cause> {
        let end = self.h2.as_mut().await;
        self.cause(end.err())
    }

    /// Of an error of the byte stream h2 keeps the kind alone.
    fn cause(&self, end: Option<h2::Error>) -> Option<Cause> {
        match self.hearing.error() {
            Some(error) => Some(error.into()),
            None => Some(end?.into()),
        }
    }
}

/// Opens a connection. Whatever goes wrong does so within the connect timeout.
pub(super) async fn open(
    endpoint: &Endpoint,
    dial: &dyn Dial,
    config: &Config,
) -> Result<(SendRequest<Bytes>, Connection), Error> {
    let opening = async {
        let io = dial.dial(endpoint).await.map_err(|error| failed("cannot connect", Some(error.into())))?;
        let (io, hearing) = Heard::new(io);
        let handshake = handshake(config).handshake(io).await;
        let (sender, h2) = handshake.map_err(|error| {
            let cause = hearing.error().map_or_else(|| error.into(), Cause::from);
            failed("HTTP/2 handshake failed", Some(cause))
        })?;
        let connection = Connection {
            h2: Box::pin(h2),
            hearing,
        };
        Ok((sender, connection))
    };
    tokio::time::timeout(config.connect_timeout, opening).await.unwrap_or_else(|_| {
        let message = "no connection within the connect timeout";
        Err(Error::new(
            Code::DeadlineExceeded,
            Origin::Library,
            Delivery::NotSent,
            message,
        ))
    })
}

fn failed(message: &'static str, cause: Option<Cause>) -> Error {
    let error = Error::new(Code::Unavailable, Origin::Transport, Delivery::NotSent, message);
    match cause {
        Some(cause) => error.with_source(cause),
        None => error,
    }
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
