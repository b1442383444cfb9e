//! One call: a unary one with the faults that are planned for it, or a stream.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;

use super::member::Member;
use super::message::{Answers, Requests, refuse};
use super::stream;
use crate::faults::Fault;
use crate::service::{LEASE_KEEP_ALIVE, Status, WATCH};

pub(super) async fn serve(member: Arc<Member>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let _counted = member.count_stream();
    let (head, body) = request.into_parts();
    let requests = Requests::new(body);
    // An error is a client that is gone: there is nobody to tell.
    let _gone = match head.uri.path() {
        WATCH => stream::watch(&member, requests, respond).await,
        LEASE_KEEP_ALIVE => stream::lease_keep_alive(&member, requests, respond).await,
        path => unary(&member, path, requests, respond).await,
    };
}

async fn unary(
    member: &Arc<Member>,
    path: &str,
    mut requests: Requests,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let body = match requests.only().await {
        Ok(body) => body,
        Err(status) => return refuse(respond, status),
    };
    let answer = match member.faults.take_request(path) {
        Some(Fault::Drop | Fault::Silence) => return until_reset(&mut respond).await,
        Some(Fault::End { code, message }) => return refuse(respond, Status { code, message }),
        // It is on its way, and gets there also where the client does not wait for it.
        Some(Fault::Delay(late)) => match member.apply_late(late, path, body).await {
            Ok(answer) => answer,
            Err(_) => return Ok(()),
        },
        Some(Fault::Again(late)) => {
            let answer = member.apply(path, body.clone()).await;
            drop(member.apply_late(late, path, body));
            answer
        }
        None => member.apply(path, body).await,
    };
    let answer = match member.faults.take_answer(path) {
        Some(Fault::Drop | Fault::Silence) => return until_reset(&mut respond).await,
        Some(Fault::End { code, message }) => Err(Status { code, message }),
        Some(Fault::Delay(late)) => {
            member.late(late).await;
            answer
        }
        Some(Fault::Again(_)) | None => answer,
    };
    match answer {
        Ok(message) => {
            let mut answers = Answers::open(respond)?;
            answers.send(message).await?;
            answers.finish(Ok(()))
        }
        Err(status) => refuse(respond, status),
    }
}

/// Keeps a call open without an answer until the client gives it up.
async fn until_reset(respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    poll_fn(|cx| respond.poll_reset(cx)).await.map(drop)
}
