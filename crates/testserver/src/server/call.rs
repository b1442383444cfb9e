//! One call: a unary one with the fault that is planned for it, or a stream.

use std::future::{pending, poll_fn};
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;

use super::message::{Answers, Requests, refuse};
use super::{Shared, stream};
use crate::faults::Fault;
use crate::service::{self, LEASE_KEEP_ALIVE, Status, WATCH};

pub(super) async fn serve(shared: Arc<Shared>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let (head, body) = request.into_parts();
    let requests = Requests::new(body);
    // An error is a client that is gone: there is nobody to tell.
    let _gone = match head.uri.path() {
        WATCH => stream::watch(&shared, requests, respond).await,
        LEASE_KEEP_ALIVE => stream::lease_keep_alive(&shared, requests, respond).await,
        path => unary(&shared, path, requests, respond).await,
    };
}

async fn unary(
    shared: &Arc<Shared>,
    path: &str,
    mut requests: Requests,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let body = match requests.only().await {
        Ok(body) => body,
        Err(status) => return refuse(respond, status),
    };
    let fault = shared.faults.take(path);
    if fault == Some(Fault::Drop) {
        return until_reset(&mut respond).await;
    }
    let answer = apply(shared, path, body.clone());
    match fault {
        Some(Fault::DropAnswer) => return until_reset(&mut respond).await,
        Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Again(delay)) => {
            // On its own: the connection may be gone by then.
            let (shared, path) = (shared.clone(), path.to_owned());
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                drop(apply(&shared, &path, body));
            });
        }
        Some(Fault::Drop) | None => {}
    }
    match answer {
        Ok(message) => {
            let mut answers = Answers::open(respond)?;
            answers.send_bytes(message).await?;
            answers.finish(Ok(()))
        }
        Err(status) => refuse(respond, status),
    }
}

fn apply(shared: &Shared, path: &str, body: Bytes) -> Result<Bytes, Status> {
    shared.with(|etcd, now| service::answer(etcd, now, &shared.endpoint, path, body))
}

/// Keeps a call open without an answer until the client gives it up.
async fn until_reset(respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    match poll_fn(|cx| respond.poll_reset(cx)).await {
        Ok(_) => Ok(()),
        Err(_) => pending().await,
    }
}
