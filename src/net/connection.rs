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
use h2::client::SendRequest;
use tokio::sync::Notify;

use super::clock;
use super::dial::Dial;
use super::endpoint::Endpoint;
use super::handshake::{Connection, open};
use super::race::{Either, race};
use crate::config::Config;
use crate::core::backoff::Backoff;
use crate::error::{Code, Delivery, Error, Origin};

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
        let error = match open(&endpoint, &*dial, &config).await {
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
async fn run(mut connection: Connection, retired: &Notify) -> Error {
    let end = race(connection.run(), retired.notified()).await;
    let (message, cause) = match end {
        Either::Left(cause) => ("connection lost", cause),
        Either::Right(()) => {
            tokio::spawn(async move { connection.run().await });
            ("the connection takes no more calls", None)
        }
    };
    let error = Error::new(Code::Unavailable, Origin::Transport, Delivery::Unknown, message);
    match cause {
        Some(cause) => error.with_source(cause),
        None => error,
    }
}
