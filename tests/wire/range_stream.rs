//! A range that is read in pieces from servers that break off, know no such call, or lie.

use std::future::IntoFuture;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::Builder;
use tenure::pb::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader};
use tenure::pb::mvccpb::KeyValue;
use tenure::{Client, Code, Config, KeyRange};

use crate::peer::{Asked, Requests, answer, frame, head, patiently, serve, server, trailers};

const REVISION: i64 = 7;

/// How a server ends a stream after one piece of two keys, or before it.
#[derive(Clone, Copy)]
enum Ends {
    Unknown,
    BreaksOff,
    WellButEarly,
    Backwards,
    Empty,
    Whole,
}

/// The keys that the server has, and how often it was asked for what.
#[derive(Default)]
struct Store {
    pages: AtomicUsize,
    streams: AtomicUsize,
    revisions: Mutex<Vec<i64>>,
}

fn key(number: usize) -> Bytes {
    format!("k{number:02}").into()
}

fn piece(request: &RangeRequest, keys: usize, limit: usize) -> RangeResponse {
    let rest: Vec<KeyValue> = (0..keys)
        .map(|number| KeyValue {
            key: key(number),
            ..KeyValue::default()
        })
        .filter(|kv| request.key <= kv.key)
        .collect();
    RangeResponse {
        header: Some(ResponseHeader {
            revision: REVISION,
            ..ResponseHeader::default()
        }),
        more: rest.len() > limit,
        kvs: rest.into_iter().take(limit).collect(),
        ..RangeResponse::default()
    }
}

async fn serves(store: Arc<Store>, ends: Ends, (request, mut respond): Asked) {
    const KEYS: usize = 10;
    let is_stream = request.uri().path().ends_with("RangeStream");
    let mut requests = Requests::new(request.into_body());
    let request: RangeRequest = requests.next().await.expect("a request");
    store.revisions.lock().unwrap().push(request.revision);
    if !is_stream {
        store.pages.fetch_add(1, Ordering::SeqCst);
        return answer(&mut respond, &piece(&request, KEYS, request.limit as usize));
    }
    store.streams.fetch_add(1, Ordering::SeqCst);
    let mut stream = respond.send_response(head(), false).unwrap();
    let limit = if matches!(ends, Ends::Whole) { KEYS } else { 2 };
    let mut range = piece(&request, KEYS, limit);
    range.header = range.header.filter(|_| !range.more);
    range.more = false;
    match ends {
        Ends::Backwards => range.kvs.insert(
            0,
            KeyValue {
                key: key(0),
                ..KeyValue::default()
            },
        ),
        Ends::Empty => range = RangeResponse::default(),
        _ => {}
    }
    if !matches!(ends, Ends::Unknown) {
        let range_response = Some(range);
        stream.send_data(frame(&RangeStreamResponse { range_response }), false).unwrap();
    }
    let status = match ends {
        Ends::Unknown => "12",
        Ends::BreaksOff => "14",
        _ => "0",
    };
    stream.send_trailers(trailers(status)).unwrap();
}

/// All keys, as they were read, and what the server was asked for.
async fn read(ends: Ends) -> (Vec<Bytes>, Arc<Store>) {
    let (client, server): (Client, _) = server(Config::default(), &Builder::new()).await;
    let store = Arc::new(Store::default());
    let served = store.clone();
    serve(server, move |asked| serves(served.clone(), ends, asked));
    let mut stream = client.range_stream(KeyRange::prefix("k")).page_size(3);
    let mut keys = Vec::new();
    while let Some(kvs) = patiently("a piece", stream.next()).await.expect("a piece") {
        keys.extend(kvs.into_iter().map(|kv| kv.key));
    }
    assert_eq!(stream.revision().0, REVISION);
    (keys, store)
}

#[tokio::test]
async fn every_key_comes_once_however_the_stream_ends() {
    let all: Vec<Bytes> = (0..10).map(key).collect();
    // Pages of 3, and streams behind them that bring 2, none, or the rest.
    for (ends, pages, streams) in [
        (Ends::Whole, 1, 1),
        (Ends::Unknown, 4, 1),
        (Ends::BreaksOff, 2, 2),
        (Ends::WellButEarly, 2, 2),
        (Ends::Backwards, 4, 3),
        (Ends::Empty, 4, 3),
    ] {
        let (keys, store) = read(ends).await;
        assert_eq!(keys, all);
        let asked = (
            store.pages.load(Ordering::SeqCst),
            store.streams.load(Ordering::SeqCst),
        );
        assert_eq!(asked, (pages, streams));
        let revisions = store.revisions.lock().unwrap();
        assert_eq!(revisions[0], 0);
        assert!(
            revisions[1..].iter().all(|revision| *revision == REVISION),
            "{revisions:?}"
        );
    }
}

#[tokio::test]
async fn a_page_from_which_nobody_can_go_on_is_an_error() {
    let (client, server) = server(Config::default(), &Builder::new()).await;
    serve(server, |(_request, mut respond)| async move {
        let more = RangeResponse {
            more: true,
            ..RangeResponse::default()
        };
        answer(&mut respond, &more);
    });
    let mut stream = client.range_stream(KeyRange::all());
    let error = patiently("an end", stream.next()).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
}

#[tokio::test]
async fn a_stream_that_is_open_is_among_the_calls_in_flight() {
    let (client, server) = server(Config::new().calls_max(1), &Builder::new()).await;
    let store = Arc::new(Store::default());
    serve(server, move |asked| serves(store.clone(), Ends::Whole, asked));
    let mut stream = client.range_stream(KeyRange::prefix("k")).page_size(3);
    patiently("a page", stream.next()).await.expect("a page");
    client.get("k00").await.expect("between the two nothing is in flight");
    let held = client.get("k00").into_future();
    let error = patiently("a page instead", stream.next()).await.unwrap_err();
    assert!(error.is_shed(), "{error}");
    drop(held);
    while patiently("the rest", stream.next()).await.expect("it goes on").is_some() {}
    client.get("k00").await.expect("it is over");

    let store = Arc::new(Store::default());
    let (client, server) = self::server(Config::new().calls_max(1), &Builder::new()).await;
    serve(server, move |asked| serves(store.clone(), Ends::BreaksOff, asked));
    let mut stream = client.range_stream(KeyRange::prefix("k")).page_size(3);
    for _ in 0..2 {
        patiently("a piece", stream.next()).await.expect("a piece");
    }
    assert!(client.get("k00").await.unwrap_err().is_shed(), "it is not over");
    drop(stream);
    client.get("k00").await.expect("it is dropped");
}
