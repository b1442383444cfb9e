//! The unstable raw calls: any bytes to any path, and back as they come.

use std::time::Duration;

use prost::Message;
use tenure::pb::etcdserverpb::watch_request::RequestUnion;
use tenure::pb::etcdserverpb::{
    RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tenure::{Client, Code, Config};
use tenure_testserver::{Fault, Server};

const RANGE: &str = "/etcdserverpb.KV/Range";

async fn client() -> (Server, Client) {
    let server = Server::start().await.expect("a server in memory");
    let client = Client::connect([server.endpoint()]).await.expect("a client of it");
    (server, client)
}

#[tokio::test]
async fn a_well_formed_message_is_answered() {
    let (_server, client) = client().await;
    client.put("key", "value").await.unwrap();
    let request = RangeRequest {
        key: "key".into(),
        ..RangeRequest::default()
    };
    let answer = client.raw(RANGE).message(request.encode_to_vec()).send().await;
    answer.end.expect("a range");
    let range = RangeResponse::decode(&answer.messages[0][..]).unwrap();
    assert_eq!(range.kvs[0].value, "value");
}

#[tokio::test]
async fn garbage_is_refused_and_the_connection_lives() {
    let (_server, client) = client().await;
    for call in [
        client.raw(RANGE).message(b"\x0a\xff"),
        client.raw(RANGE).bytes(b"\x00\x00\x00\x00\x09abc"),
        client.raw(RANGE).bytes(b"\xff"),
        client.raw(RANGE).message(b"").message(b""),
        client.raw(RANGE),
        client.raw("/no.Such/Method").message(b""),
    ] {
        let answer = call.send().await;
        answer.end.expect_err("it is garbage");
        client.get("key").await.expect("the next call");
    }
    let answer = client.raw("no path at all\n").send().await;
    assert_eq!(answer.end.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_becomes_of_garbage_opens_no_breaker() {
    let server = Server::start().await.expect("a server in memory");
    let config = Config::new().breaker_failures(1);
    let client = Client::connect_with([server.endpoint()], config).await.expect("a client of it");
    for garbage in [&b"\x0a\xff"[..], b"\x0a\x09abc"] {
        let answer = client.raw(RANGE).message(garbage).send().await;
        assert_eq!(answer.end.expect_err("it is garbage").code(), Code::Internal);
    }
    assert_eq!(client.telemetry().breakers.opened, 0);
    // It was no probe either.
    let fault = Fault::End {
        code: 13,
        message: "panic".to_owned(),
    };
    server.faults().on_request(RANGE, fault);
    client.get("key").await.expect_err("a failure of the member's own");
    client.raw(RANGE).message(b"").send().await.end.expect_err("there is no key");
    assert_eq!(client.telemetry().breakers.now, 1, "which says nothing either");
    client.get("key").await.expect("it is well again");
    assert_eq!(client.telemetry().breakers.now, 0);
}

#[tokio::test]
async fn a_stream_ends_with_the_messages_that_were_asked_for_or_at_the_timeout() {
    let (_server, client) = client().await;
    let create = RequestUnion::CreateRequest(WatchCreateRequest {
        key: "key".into(),
        ..Default::default()
    });
    let create = WatchRequest {
        request_union: Some(create),
    }
    .encode_to_vec();
    let watch = client.raw("/etcdserverpb.Watch/Watch").message(create);
    let answer = watch.clone().messages_max(1).send().await;
    answer.end.expect("one message");
    assert!(WatchResponse::decode(&answer.messages[0][..]).unwrap().created);
    let answer = watch.timeout(Duration::from_millis(200)).send().await;
    assert!(answer.messages.len() <= 1, "{answer:?}");
}
