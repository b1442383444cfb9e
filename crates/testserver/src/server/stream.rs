//! The two calls that stream: lease renewals, answered one by one, and watches,
//! which are asked for and answered independently.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::server::SendResponse;
use tokio::sync::Notify;

use super::message::{Answers, Requests};
use super::{Shared, lock};
use crate::pb::{LeaseId, WatchRequest};
use crate::service::{Status, decode};
use crate::watch::StreamId;

pub(super) async fn lease_keep_alive(
    shared: &Shared,
    mut requests: Requests,
    respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let mut answers = Answers::open(respond)?;
    loop {
        let lease = match requests.next().await.map(|message| message.map(decode::<LeaseId>)) {
            Ok(Some(Ok(lease))) => lease,
            Ok(None) => return answers.finish(Ok(())),
            Ok(Some(Err(status))) | Err(status) => return answers.finish(Err(status)),
        };
        let answer = shared.with(|etcd, now| etcd.lease_keep_alive(now, &lease));
        answers.send(&answer).await?;
    }
}

pub(super) async fn watch(
    shared: &Arc<Shared>,
    mut requests: Requests,
    respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let mut answers = Answers::open(respond)?;
    let stream = WatchStream::open(shared.clone());
    loop {
        // What waits is sent before more is read: a client that does not read is not served.
        while let Some(answer) = shared.with(|etcd, _| etcd.watches().pop(stream.id)) {
            answers.send(&answer).await?;
        }
        match stream.next_request(&mut requests).await {
            None => {}
            Some(Ok(Some(request))) => {
                if let Some(command) = request.command {
                    shared.with(|etcd, _| etcd.handle_watch_command(stream.id, &command));
                }
            }
            Some(Ok(None)) => return answers.finish(Ok(())),
            Some(Err(status)) => return answers.finish(Err(status)),
        }
    }
}

/// A stream of watches, which all end with it.
struct WatchStream {
    shared: Arc<Shared>,
    id: StreamId,
    ready: Arc<Notify>,
}

impl WatchStream {
    fn open(shared: Arc<Shared>) -> WatchStream {
        let ready = Arc::new(Notify::new());
        let id = shared.with(|etcd, _| etcd.watches().open());
        lock(&shared.streams).insert(id, ready.clone());
        WatchStream { shared, id, ready }
    }

    /// The next request, the end of the requests, or nothing where there is
    /// something to send first.
    async fn next_request(&self, requests: &mut Requests) -> Option<Result<Option<WatchRequest>, Status>> {
        let mut next = pin!(requests.next());
        let mut ready = pin!(self.ready.notified());
        poll_fn(|cx| {
            if let Poll::Ready(next) = next.as_mut().poll(cx) {
                let decoded = next.and_then(|message| message.map(decode).transpose());
                return Poll::Ready(Some(decoded));
            }
            ready.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        lock(&self.shared.streams).remove(&self.id);
        self.shared.with(|etcd, _| etcd.watches().close(self.id));
    }
}
