//! HTTP/2 pings: when they are sent, and what becomes of a peer that answers none.

use std::time::Duration;

use bytes::Bytes;
use tenure::pb::etcdserverpb::PutResponse;
use tenure::{Config, Delivery};

use crate::fleet::{Fate, Fleet};
use crate::peer::{frame, patiently, pipe};
use crate::raw::{HEADERS, PING, Raw};

const SILENCE: Duration = Duration::from_millis(200);
const ACK: u8 = 1;

#[tokio::test]
async fn a_peer_that_answers_no_ping_loses_its_connection_long_before_the_deadline() {
    let config = Config::new().silence(SILENCE).ping_timeout(SILENCE * 4);
    let config = config.call_timeout(Duration::from_secs(3600));
    let (client, theirs) = pipe(config).await;
    let mut raw = Raw::accept(theirs).await;
    let put = tokio::spawn(async move { client.put("key", "value").await });
    raw.next(HEADERS).await;
    raw.next(PING).await;
    let error = patiently("the end", put).await.unwrap().unwrap_err();
    assert_eq!(error.delivery(), Delivery::Unknown, "{error}");
    assert!(!error.is_timeout(), "{error}");
}

/// One write each, and more of them than tokio lets a task do in one turn: then no timer is set before the next.
#[tokio::test]
async fn a_burst_that_nobody_answers_brings_a_ping_as_one_call_does() {
    let config = Config::new().silence(SILENCE).ping_timeout(SILENCE * 4);
    let config = config.call_timeout(Duration::from_secs(3600));
    let (client, theirs) = pipe(config).await;
    let mut raw = Raw::accept(theirs).await;
    let mut puts = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let client = client.clone();
        puts.spawn(async move { client.put("key", vec![b'x'; 280]).await });
    }
    raw.next(PING).await;
    while let Some(put) = patiently("the end", puts.join_next()).await {
        let error = put.unwrap().unwrap_err();
        assert!(!error.is_timeout(), "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_is_slow_and_answers_pings_keeps_its_connection() {
    let config = Config::new().silence(SILENCE).ping_timeout(SILENCE * 4);
    let (client, theirs) = pipe(config).await;
    let mut raw = Raw::accept(theirs).await;
    let put = tokio::spawn(async move { client.put("key", "value").await });
    let stream = raw.next(HEADERS).await.stream;
    let ping = raw.next(PING).await;
    raw.send(PING, ACK, 0, &ping.payload).await;
    // By now it would be lost, had the answer not counted; and nothing more was sent.
    let more = tokio::time::timeout(SILENCE * 20, raw.frame()).await;
    assert!(more.is_err(), "{more:?}");
    raw.answer(stream, &frame(&PutResponse::default())).await;
    patiently("the answer", put).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_peer_without_a_stream_is_not_pinged() {
    let config = Config::new().silence(SILENCE).ping_interval(SILENCE);
    let (client, theirs) = pipe(config).await;
    let mut raw = Raw::accept(theirs).await;
    let put = tokio::spawn(async move { client.put("key", "value").await.map(|_| client) });
    let stream = raw.next(HEADERS).await.stream;
    raw.answer(stream, &frame(&PutResponse::default())).await;
    let _client = patiently("the answer", put).await.unwrap().unwrap();
    let pinged = tokio::time::timeout(SILENCE * 10, async {
        while let Some(frame) = raw.frame().await {
            assert_ne!(frame.kind, PING, "{frame:?}");
        }
    });
    assert!(pinged.await.is_err(), "the connection is gone");
}

#[tokio::test]
async fn a_stream_is_pinged_at_the_interval() {
    let (client, theirs) = pipe(Config::new().ping_interval(SILENCE)).await;
    let mut raw = Raw::accept(theirs).await;
    let watch = tokio::spawn(async move { client.watch("key").await.map(drop) });
    raw.next(HEADERS).await;
    let ping = raw.next(PING).await;
    assert_eq!(Bytes::from(ping.payload).len(), 8);
    watch.abort();
}

#[tokio::test]
async fn a_watch_that_waits_for_its_creation_finds_out_a_frozen_member_before_any_ping_is_due() {
    let fleet = Fleet::new(&[("a", Fate::Lives)]);
    let config = Config::new()
        .silence(SILENCE)
        .ping_timeout(SILENCE * 2)
        .ping_interval(Duration::from_secs(3600));
    let client = fleet.client(&["a"], config).await;
    fleet.turn("a", Fate::Frozen);
    let watch = client.watch("key").timeout(Duration::from_secs(3600)).into_future();
    let watch = tokio::spawn(watch);
    patiently("another dial", async {
        while fleet.dials_of("a") < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    watch.abort();
}
