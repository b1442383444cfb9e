//! What a server may answer instead of what it should, end to end: the table of
//! statuses itself is tested beside `wire`.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::Response;
use tenure::pb::etcdserverpb::{LeaseGrantResponse, PutResponse};
use tenure::{Client, Code, Config, Delivery, Error, EtcdError, Origin};
use tokio::io::DuplexStream;

use crate::peer::{answer, frame, head, serve, server, trailers};
use crate::raw::{END_HEADERS, HEADERS, Raw};

/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(50);
/// `:status 103`, by the index of `:status` in HPACK's table (RFC 7541).
const HINT: &[u8] = b"\x08\x03103";

/// The error of a put that is answered by `script`.
async fn put_answered_by(script: impl Fn(&mut SendResponse<Bytes>) + Send + Sync + Clone + 'static) -> Error {
    let (client, server) = server(Config::default(), &h2::server::Builder::new()).await;
    serve(server, move |(_request, mut respond)| {
        let script = script.clone();
        async move { script(&mut respond) }
    });
    // What was refused is sent 64 times, which takes most of a call's usual time.
    let put = client.put("key", "value").timeout(PATIENCE);
    put.await.expect_err("this is no good answer")
}

fn send(respond: &mut SendResponse<Bytes>, body: impl Into<Bytes>, status: &'static str) {
    let mut stream = respond.send_response(head(), false).unwrap();
    stream.send_data(body.into(), false).unwrap();
    stream.send_trailers(trailers(status)).unwrap();
}

#[tokio::test]
async fn a_status_in_the_trailers_is_the_servers_own() {
    let error = put_answered_by(|respond| {
        let mut stream = respond.send_response(head(), false).unwrap();
        let mut trailers = trailers("5");
        let message = "etcdserver: requested lease not found";
        trailers.insert("grpc-message", message.parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    })
    .await;
    assert_eq!(
        (error.code(), error.etcd()),
        (Code::NotFound, Some(EtcdError::LeaseNotFound))
    );
    assert_eq!(
        (error.origin(), error.delivery()),
        (Origin::Server, Delivery::Answered)
    );
}

#[tokio::test]
async fn a_status_in_the_head_is_one_too() {
    let error = put_answered_by(|respond| {
        let head = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "14")
            .header("grpc-message", "etcdserver: request timed out")
            .body(())
            .unwrap();
        respond.send_response(head, true).unwrap();
    })
    .await;
    assert_eq!(
        (error.code(), error.etcd()),
        (Code::Unavailable, Some(EtcdError::Timeout))
    );
    assert!(error.may_be_applied(), "the server gave up waiting, no more");
}

#[tokio::test]
async fn a_proxy_that_answers_for_the_server_is_told_apart() {
    let error = put_answered_by(|respond| {
        let head = Response::builder().status(503).header("content-type", "text/html").body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        stream.send_data(Bytes::from_static(b"<h1>no healthy upstream</h1>"), true).unwrap();
    })
    .await;
    assert_eq!(
        (error.code(), error.origin()),
        (Code::Unavailable, Origin::Transport)
    );
    assert!(error.message().contains("no healthy upstream"), "{error}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_comes_twice_or_not_at_all() {
    let good = frame(&PutResponse::default());
    let twice = Bytes::from([&good[..], &good[..]].concat());
    for body in [Bytes::from_static(b"\0\0\0\0\x09half"), twice, Bytes::new()] {
        let error = put_answered_by(move |respond| send(respond, body.clone(), "0")).await;
        assert_eq!(
            (error.code(), error.origin()),
            (Code::Internal, Origin::Transport),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused_by_its_prefix() {
    let error = put_answered_by(|respond| send(respond, &b"\0\xff\xff\xff\xff"[..], "0")).await;
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
}

#[tokio::test]
async fn an_answer_that_is_no_message() {
    let error = put_answered_by(|respond| send(respond, &b"\0\0\0\0\x02\x0a\x09"[..], "0")).await;
    assert_eq!(error.code(), Code::Internal, "{error}");
}

#[tokio::test]
async fn a_reset_says_whether_the_request_was_processed() {
    for (reason, code, delivery) in [
        (Reason::REFUSED_STREAM, Code::Unavailable, Delivery::NotSent),
        (Reason::CANCEL, Code::Cancelled, Delivery::Unknown),
        (
            Reason::ENHANCE_YOUR_CALM,
            Code::ResourceExhausted,
            Delivery::Unknown,
        ),
        (Reason::INTERNAL_ERROR, Code::Internal, Delivery::Unknown),
    ] {
        let error = put_answered_by(move |respond| respond.send_reset(reason)).await;
        assert_eq!((error.code(), error.delivery()), (code, delivery), "{reason:?}");
    }
}

/// Some hundred bytes of memory each, were they kept until the answer.
const HINTS: usize = 100_000;
/// The connection's task reads so much some hundred times before another has a turn.
const HINTS_IN_FLIGHT_BYTES: usize = 256;
const HINTS_BYTES_MAX: u64 = 4 << 20;

#[test]
fn informational_heads_do_not_pile_up_before_the_answer() {
    let (ours, theirs) = tokio::io::duplex(HINTS_IN_FLIGHT_BYTES);
    // On a thread of its own: what it allocates is not the client's.
    let peer = std::thread::spawn(move || block_on(hint(theirs)));
    let counted = allocation_counter::measure(|| {
        block_on(async move {
            // A peer that is busy with its hints answers no ping.
            let config = Config::default().ping_interval(None);
            let client = Client::over(ours, config).await.unwrap();
            client.put("key", "value").timeout(PATIENCE).await.unwrap();
        });
    });
    peer.join().unwrap();
    assert!(counted.bytes_max < HINTS_BYTES_MAX, "{counted:?}");
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

async fn hint(io: DuplexStream) {
    let mut raw = Raw::accept(io).await;
    let stream = raw.next(HEADERS).await.stream;
    for _ in 0..HINTS {
        raw.send(HEADERS, END_HEADERS, stream, HINT).await;
    }
    raw.answer(stream, &frame(&PutResponse::default())).await;
    while raw.frame().await.is_some() {}
}

#[tokio::test]
async fn a_status_of_whoever_lost_the_way_leaves_the_fate_open() {
    for (status, message) in [
        ("14", "error reading from server: EOF"),
        ("14", "transport is closing"),
        ("14", "upstream connect error or disconnect/reset before headers"),
        ("4", "stream timeout"),
        ("1", "context canceled"),
    ] {
        let error = put_answered_by(move |respond| {
            let head = Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", status)
                .header("grpc-message", message)
                .body(())
                .unwrap();
            respond.send_response(head, true).unwrap();
        })
        .await;
        assert!(error.may_be_applied(), "{error}");
    }
}

#[tokio::test]
async fn a_call_that_is_polled_after_its_end_fails_and_does_not_panic() {
    let (client, server) = server(Config::default(), &h2::server::Builder::new()).await;
    serve(server, |(request, mut respond)| async move {
        match request.uri().path() {
            "/etcdserverpb.Lease/LeaseGrant" => {
                let granted = LeaseGrantResponse {
                    id: 7,
                    ttl: 60,
                    ..LeaseGrantResponse::default()
                };
                answer(&mut respond, &granted);
            }
            _ => answer(&mut respond, &PutResponse::default()),
        }
    });
    let mut put = pin!(client.put("key", "value").into_future());
    put.as_mut().await.unwrap();
    put.await.expect_err("it is over");
    let mut lease = pin!(client.lease(Duration::from_secs(60)).into_future());
    let _lease = lease.as_mut().await.unwrap();
    lease.await.expect_err("it is over");
}
