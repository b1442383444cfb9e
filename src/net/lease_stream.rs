//! One of the streams that leases are renewed on: opened, written to and read as
//! `net/lease_driver` says.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::channel::Channel;
use super::clock;
use super::route::Route;
use super::stream::Duplex;
use crate::error::{Code, Error, Origin};
use crate::pb::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use crate::types::LeaseId;
use crate::wire::method::lease as method;

/// The wait for a connection. The machine gives up long before, at a third of
/// the shortest TTL; this bounds leases that live for days.
const OPEN_WAIT_MAX: Duration = Duration::from_secs(60);

type KeepAlive = Duplex<LeaseKeepAliveRequest, LeaseKeepAliveResponse>;
type Opening = Pin<Box<dyn Future<Output = Result<KeepAlive, Error>> + Send>>;

pub(super) enum LeaseStream {
    Down,
    Opening(Opening),
    Open {
        duplex: Box<KeepAlive>,
        /// What waits for room on the stream. Replies are read meanwhile.
        renewal: Option<LeaseKeepAliveRequest>,
    },
}

pub(super) enum StreamEvent {
    Opened,
    /// With the code of a server that refuses it for good, as far as it knows.
    Closed(Option<Code>),
    Sent,
    Reply(LeaseKeepAliveResponse),
}

impl LeaseStream {
    /// Opens one on another member than this route's, where there is one.
    pub(super) fn open(channel: Channel, beside: Option<&Route>) -> LeaseStream {
        let avoid = beside.map(|route| route.endpoint_id);
        LeaseStream::Opening(Box::pin(async move {
            let deadline = clock::now() + OPEN_WAIT_MAX;
            channel.duplex_beside(&method::LEASE_KEEP_ALIVE, deadline, avoid).await
        }))
    }

    /// The way that an open stream takes.
    pub(super) fn route(&self) -> Option<&Route> {
        match self {
            LeaseStream::Open { duplex, .. } => Some(&duplex.route),
            LeaseStream::Down | LeaseStream::Opening(_) => None,
        }
    }

    pub(super) fn renew(&mut self, id: LeaseId) {
        if let LeaseStream::Open { renewal, .. } = self {
            *renewal = Some(LeaseKeepAliveRequest { id: id.0 });
        }
    }

    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<StreamEvent> {
        match self {
            LeaseStream::Down => Poll::Pending,
            LeaseStream::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                Ok(duplex) => {
                    let duplex = Box::new(duplex);
                    *self = LeaseStream::Open {
                        duplex,
                        renewal: None,
                    };
                    Poll::Ready(StreamEvent::Opened)
                }
                Err(error) => Poll::Ready(self.close(Some(&error))),
            },
            LeaseStream::Open { duplex, renewal } => {
                if let Poll::Ready(reply) = duplex.receiver.poll_recv(cx) {
                    return Poll::Ready(match reply {
                        Ok(Some(reply)) => StreamEvent::Reply(reply),
                        Ok(None) => self.close(None),
                        Err(error) => self.close(Some(&error)),
                    });
                }
                let Some(request) = renewal else {
                    return Poll::Pending;
                };
                if ready!(duplex.sender.poll_send(request, cx)).is_ok() {
                    *renewal = None;
                    return Poll::Ready(StreamEvent::Sent);
                }
                // The receiver tells why.
                *renewal = None;
                Poll::Pending
            }
        }
    }

    fn close(&mut self, error: Option<&Error>) -> StreamEvent {
        *self = LeaseStream::Down;
        StreamEvent::Closed(error.and_then(refusal))
    }
}

/// What will be refused again until somebody changes the server or the configuration.
fn refusal(error: &Error) -> Option<Code> {
    let is_refusal = matches!(
        error.code(),
        Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::InvalidArgument
            | Code::FailedPrecondition
    );
    let is_servers = error.origin() == Origin::Server || error.code() == Code::Unimplemented;
    (is_refusal && is_servers).then(|| error.code())
}
