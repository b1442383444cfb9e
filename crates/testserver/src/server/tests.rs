//! The server over HTTP/2 as a client sees it, and its faults.

use h2::client::SendRequest;
use http::Request;
use prost::Message;
use tokio::io::DuplexStream;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::*;
use crate::faults::{Fault, Late, Link};
use crate::pb::{DeleteRequest, LeaseGrantRequest, PutRequest, PutResponse, RangeRequest, RangeResponse};
use crate::service::{DELETE_RANGE, LEASE_GRANT, PUT, RANGE};

mod followers;
mod streams;

async fn client(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn piped(server: &Server) -> SendRequest<Bytes> {
    let io: DuplexStream = server.connect();
    client(io).await
}

/// The answer's message, or its status as text.
async fn ask(
    client: &SendRequest<Bytes>,
    path: &str,
    request: &impl Message,
) -> Result<Result<Bytes, String>, h2::Error> {
    let mut client = client.clone().ready().await?;
    let uri = format!("http://embedded{path}");
    let head = Request::post(uri).header("content-type", "application/grpc").body(()).unwrap();
    let (response, mut stream) = client.send_request(head, false)?;
    let message = request.encode_to_vec();
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&message);
    stream.send_data(frame.into(), true)?;
    let (head, mut body) = response.await?.into_parts();
    if let Some(message) = head.headers.get("grpc-message") {
        return Ok(Err(message.to_str().unwrap().to_owned()));
    }
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        bytes.extend_from_slice(&data?);
        body.flow_control().release_capacity(bytes.len()).ok();
    }
    assert_eq!(body.trailers().await?.unwrap()["grpc-status"], "0");
    Ok(Ok(Bytes::from(bytes).slice(5..)))
}

fn put() -> PutRequest {
    PutRequest {
        key: "key".into(),
        value: "value".into(),
        ..PutRequest::default()
    }
}

/// How many times the key was put.
async fn version(client: &SendRequest<Bytes>) -> i64 {
    let request = RangeRequest {
        key: "key".into(),
        ..RangeRequest::default()
    };
    let answer = ask(client, RANGE, &request).await.unwrap().unwrap();
    RangeResponse::decode(answer).unwrap().kvs.first().map_or(0, |kv| kv.version)
}

#[tokio::test]
async fn it_answers_on_its_port_and_on_a_pipe() {
    let server = Server::start().await.unwrap();
    let address = server.endpoint().strip_prefix("http://").unwrap().to_owned();
    let client = client(tokio::net::TcpStream::connect(&address).await.unwrap()).await;
    let answer = ask(&client, PUT, &put()).await.unwrap().unwrap();
    assert_eq!(PutResponse::decode(answer).unwrap().header.unwrap().revision, 2);
    assert_eq!(version(&piped(&server).await).await, 1);
    drop(server);
    assert!(
        ask(&client, PUT, &put()).await.is_err(),
        "it is gone with its handle"
    );
}

#[tokio::test]
async fn a_refusal_is_a_status_without_a_message() {
    let server = Server::in_memory(Options::default());
    let client = piped(&server).await;
    let refused = ask(&client, PUT, &PutRequest::default()).await.unwrap();
    assert_eq!(refused.unwrap_err(), "etcdserver: key is not provided");
    let unknown = ask(&client, "/etcdserverpb.KV/RangeStream", &put()).await.unwrap();
    assert!(unknown.unwrap_err().contains("unknown method RangeStream"));
    let large = PutRequest {
        value: vec![0; 3 << 20].into(),
        ..put()
    };
    let refused = ask(&client, PUT, &large).await.unwrap().unwrap_err();
    assert!(refused.contains("larger than max"), "{refused}");
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_lost_request_is_not_carried_out_and_a_lost_answer_is() {
    let server = Server::in_memory(Options::default());
    let client = piped(&server).await;
    server.faults().on_request(PUT, Fault::Drop);
    server.faults().on_answer(PUT, Fault::Drop);
    for expected in [0, 1] {
        let request = put();
        let unanswered = tokio::time::timeout(MINUTE, ask(&client, PUT, &request));
        assert!(unanswered.await.is_err());
        assert_eq!(version(&client).await, expected);
    }
    tokio::task::yield_now().await;
    assert_eq!(
        server.stream_count(),
        0,
        "a call that was given up is not served on"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_delayed_and_a_request_carried_out_again() {
    let server = Server::in_memory(Options::default());
    let client = piped(&server).await;
    server.faults().on_answer(PUT, Fault::Delay(Late::By(MINUTE)));
    let (start, request) = (Instant::now(), put());
    let (answer, seen) = tokio::join!(ask(&client, PUT, &request), async {
        tokio::time::sleep(MINUTE / 2).await;
        version(&client).await
    });
    answer.unwrap().unwrap();
    assert_eq!(seen, 1, "it is done before it is answered");
    assert!(start.elapsed() >= MINUTE);
    server.faults().on_request(PUT, Fault::Again(Late::By(MINUTE)));
    ask(&client, PUT, &put()).await.unwrap().unwrap();
    assert_eq!(version(&client).await, 2);
    tokio::time::sleep(MINUTE * 2).await;
    assert_eq!(version(&client).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_late_request_gets_there_after_another_though_its_client_is_gone() {
    let server = Server::in_memory(Options::default());
    for fault in [
        Fault::Delay(Late::After(DELETE_RANGE.to_owned())),
        Fault::Again(Late::After(DELETE_RANGE.to_owned())),
    ] {
        let (gone, client) = (piped(&server).await, piped(&server).await);
        server.faults().on_request(PUT, fault);
        assert_eq!(server.late_request_count(), 0);
        let _ = tokio::time::timeout(MINUTE, ask(&gone, PUT, &put())).await;
        drop(gone);
        tokio::time::sleep(MINUTE).await;
        assert_eq!(server.late_request_count(), 1);
        let deletion = DeleteRequest {
            key: "key".into(),
            ..DeleteRequest::default()
        };
        ask(&client, DELETE_RANGE, &deletion).await.unwrap().unwrap();
        tokio::time::sleep(MINUTE).await;
        assert_eq!(version(&client).await, 1, "it came behind the deletion");
        assert_eq!(server.late_request_count(), 0);
    }
}

#[tokio::test]
async fn a_call_ends_with_a_status_before_or_after_it_is_carried_out() {
    let server = Server::in_memory(Options::default());
    let client = piped(&server).await;
    let timed_out = Fault::End {
        code: 14,
        message: "etcdserver: request timed out".to_owned(),
    };
    server.faults().on_request(PUT, timed_out.clone());
    server.faults().on_answer(PUT, timed_out);
    for expected in [0, 1] {
        let refused = ask(&client, PUT, &put()).await.unwrap();
        assert_eq!(refused.unwrap_err(), "etcdserver: request timed out");
        assert_eq!(version(&client).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_member_takes_bytes_and_answers_nothing_until_it_is_thawed() {
    let server = Server::in_memory(Options::default());
    let old = piped(&server).await;
    assert_eq!(version(&old).await, 0);
    server.faults().set_link(Link::Frozen);
    let new = piped(&server).await;
    let request = put();
    let mut asked: Vec<_> = [&old, &new].map(|client| Box::pin(ask(client, PUT, &request))).into();
    for asking in &mut asked {
        assert!(tokio::time::timeout(MINUTE, asking).await.is_err());
    }
    server.faults().set_link(Link::Up);
    for asking in asked {
        asking.await.unwrap().unwrap();
    }
    assert_eq!(version(&old).await, 2);
}

#[tokio::test]
async fn a_member_that_is_down_cuts_its_connections_and_comes_back_with_what_it_had() {
    let server = Server::in_memory(Options::default());
    let client = piped(&server).await;
    ask(&client, PUT, &put()).await.unwrap().unwrap();
    server.faults().set_link(Link::Down);
    assert!(ask(&client, PUT, &put()).await.is_err());
    if let Ok((_requests, connection)) = h2::client::handshake(server.connect()).await {
        let _it_ends = connection.await;
    }
    server.faults().set_link(Link::Up);
    assert_eq!(version(&piped(&server).await).await, 1);
    drop(client);
    while server.connection_count() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_clock_that_is_moved_by_hand_stands_still_between() {
    let server = Server::in_memory(Options {
        clock: Clock::ByHand,
        ..Options::default()
    });
    let client = piped(&server).await;
    let grant = LeaseGrantRequest { ttl: 5, id: 1 };
    ask(&client, LEASE_GRANT, &grant).await.unwrap().unwrap();
    let leased = PutRequest { lease: 1, ..put() };
    ask(&client, PUT, &leased).await.unwrap().unwrap();
    server.advance(Duration::from_millis(4_900));
    assert_eq!((server.lease_count(), version(&client).await), (1, 1));
    server.advance(Duration::from_millis(700));
    assert_eq!((server.lease_count(), version(&client).await), (0, 0));

    server.faults().on_answer(PUT, Fault::Delay(Late::By(MINUTE)));
    let request = put();
    let mut asking = Box::pin(ask(&client, PUT, &request));
    for _ in 0..2 {
        let brief = Duration::from_millis(20);
        assert!(tokio::time::timeout(brief, &mut asking).await.is_err());
        server.advance(MINUTE / 2);
    }
    asking.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_is_cut_at_a_byte_and_the_next_one_is_whole() {
    let server = Server::in_memory(Options::default());
    for bytes in [0, 1, 9, 40] {
        let client = piped(&server).await;
        let before = version(&client).await;
        server.faults().cut_after(bytes);
        assert!(ask(&client, PUT, &put()).await.is_err(), "cut after {bytes}");
        assert!(!server.faults().is_cut_pending());
        let after = version(&piped(&server).await).await;
        assert!(after == before || after == before + 1);
    }
}

#[tokio::test]
async fn a_stream_whose_requests_have_ended_still_watches() {
    let server = Server::in_memory(Options::default());
    let client = piped(&server).await;
    let request = Request::post(format!("http://embedded{}", crate::service::WATCH)).body(()).unwrap();
    let (response, mut stream) = client.clone().ready().await.unwrap().send_request(request, false).unwrap();
    // A creation of a watch of `key` from now on, in bytes.
    let create = b"\0\0\0\0\x07\x0a\x05\x0a\x03key";
    stream.send_data(Bytes::from_static(create), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert!(body.data().await.is_some(), "it is created");
    ask(&client, PUT, &put()).await.unwrap().unwrap();
    assert!(body.data().await.unwrap().is_ok(), "an event comes");
    assert_eq!(server.watch_count(), 1);
    drop((body, stream));
    while server.watch_count() > 0 {
        tokio::task::yield_now().await;
    }
}
