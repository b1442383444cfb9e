//! What a client tells a server beside its messages: HTTP/2 settings and headers;
//! and what the ends of connections and streams prove.

use std::error::Error as _;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::Builder;
use http::HeaderMap;
use tenure::core::lease::valid_until;
use tenure::core::time::Instant;
use tenure::pb::etcdserverpb::{LeaseGrantResponse, PutResponse, RangeResponse, TxnResponse};
use tenure::{Client, Code, Config, Delivery, Dialing, Endpoint, Error, LeaseId, Op, Origin};
use tokio::sync::mpsc;

use crate::fleet::{Fate, Fleet, Reply};
use crate::peer::{answer, patiently, pipe, serve, server};
use crate::raw::{GOAWAY, HEADERS, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE};

const DEFAULT_WINDOW_BYTES: u32 = 65_535;

#[tokio::test]
async fn the_settings_are_no_push_short_headers_and_the_configured_windows() {
    let config = Config::default().stream_window_bytes(777_777).connection_window_bytes(3_333_333);
    let (_client, theirs) = pipe(config).await;
    let mut raw = Raw::accept(theirs).await;
    let settings = raw.next(SETTINGS).await.payload;
    let value = |identifier: u16| {
        let setting = settings.chunks(6).find(|setting| setting[..2] == identifier.to_be_bytes());
        setting.map(|setting| u32::from_be_bytes(setting[2..].try_into().unwrap()))
    };
    assert_eq!(value(0x2), Some(0), "ENABLE_PUSH");
    assert_eq!(value(0x4), Some(777_777), "INITIAL_WINDOW_SIZE");
    assert_eq!(value(0x6), Some(16_384), "MAX_HEADER_LIST_SIZE");
    let update = raw.next(WINDOW_UPDATE).await;
    assert_eq!(update.stream, 0);
    assert_eq!(update.payload, (3_333_333 - DEFAULT_WINDOW_BYTES).to_be_bytes());
}

/// With no look at the connection's health that would find them sooner or later.
#[tokio::test]
async fn streams_that_the_peer_allows_later_are_used_at_once() {
    let never = Duration::from_secs(3600);
    let (client, theirs) = pipe(Config::default().silence(never).ping_interval(never)).await;
    let mut raw = Raw::accept(theirs).await;
    raw.allow_streams(1).await;
    let puts = [put(&client), put(&client)];
    let first = raw.next(HEADERS).await.stream;
    assert_eq!(raw.until_pong().await, [], "a stream more than is allowed");
    raw.allow_streams(2).await;
    assert_eq!(raw.next(HEADERS).await.stream, first + 2);
    puts.iter().for_each(|put| assert!(!put.is_finished()));
}

/// h2 remembers 50 of them by itself.
#[tokio::test]
async fn late_answers_on_streams_that_were_reset_do_not_cost_the_connection() {
    const CALLS: usize = 1000;
    // Together more than a connection survives on streams that are forgotten.
    const LATE_FRAMES: usize = 20;
    let (client, theirs) = pipe(Config::default()).await;
    let mut raw = Raw::accept(theirs).await;
    let calls: Vec<_> = (0..CALLS).map(|_| put(&client)).collect();
    let mut streams = Vec::new();
    for _ in 0..CALLS {
        streams.push(raw.next(HEADERS).await.stream);
    }
    calls.iter().for_each(|call| call.abort());
    for _ in 0..CALLS {
        raw.next(RST_STREAM).await;
    }
    for _ in 0..LATE_FRAMES {
        for stream in &streams {
            raw.end(*stream, "0").await;
        }
    }
    answered(&mut raw, &client).await;
}

/// h2 by itself hangs up at the 1024th such stream.
#[tokio::test]
async fn late_answers_on_many_streams_that_are_forgotten_are_survived() {
    const CALLS: usize = 2000;
    let (client, theirs) = pipe(Config::default()).await;
    let mut raw = Raw::accept(theirs).await;
    let mut ended = Vec::new();
    for _ in 0..CALLS {
        ended.push(answered(&mut raw, &client).await);
    }
    for stream in ended {
        raw.end(stream, "0").await;
        assert_eq!(raw.next(RST_STREAM).await.stream, stream);
    }
    answered(&mut raw, &client).await;
}

/// The connection lives: a put is answered on it. Its stream.
async fn answered(raw: &mut Raw, client: &Client) -> u32 {
    let put = put(client);
    let stream = raw.next(HEADERS).await.stream;
    raw.end(stream, "5").await;
    let error = patiently("an answer", put).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error}");
    stream
}

fn put(client: &Client) -> tokio::task::JoinHandle<Result<PutResponse, Error>> {
    let client = client.clone();
    tokio::spawn(async move { client.put("key", "value").await })
}

/// The end of a put on stream 1 when the server goes away, naming `last`.
async fn put_ended_by_a_goaway(last: u32, reason: Reason) -> Error {
    // There is no other way to send it again: it waits for one in vain.
    let config = Config::default().call_timeout(Duration::from_secs(2));
    let (client, theirs) = pipe(config).await;
    let mut raw = Raw::accept(theirs).await;
    let put = put(&client);
    assert_eq!(raw.next(HEADERS).await.stream, 1);
    raw.go_away(last, reason.into()).await;
    drop(raw);
    patiently("the end", put).await.unwrap().unwrap_err()
}

#[tokio::test]
async fn a_goaway_that_names_an_earlier_stream_proves_that_the_call_was_not_processed() {
    for reason in [Reason::NO_ERROR, Reason::ENHANCE_YOUR_CALM] {
        let error = put_ended_by_a_goaway(0, reason).await;
        let cause = error.source().and_then(|cause| cause.downcast_ref::<Error>());
        assert_eq!(
            cause.map(|cause| (cause.code(), cause.origin())),
            Some((Code::Unavailable, Origin::Transport)),
            "{error}"
        );
        assert_eq!(error.delivery(), Delivery::NotSent, "{error}");
        assert!(!error.may_be_applied());
    }
}

#[tokio::test]
async fn a_goaway_that_names_the_calls_own_stream_proves_nothing() {
    for reason in [Reason::NO_ERROR, Reason::ENHANCE_YOUR_CALM] {
        let error = put_ended_by_a_goaway(1, reason).await;
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        assert_eq!(error.delivery(), Delivery::Unknown, "{error}");
    }
}

#[tokio::test]
async fn a_goaway_of_our_own_making_proves_nothing() {
    let (client, theirs) = pipe(Config::default()).await;
    let mut raw = Raw::accept(theirs).await;
    let put = put(&client);
    raw.next(HEADERS).await;
    // A WINDOW_UPDATE of nothing, on the connection, is a breach (RFC 9113, 6.9).
    raw.send(WINDOW_UPDATE, 0, 0, &0_u32.to_be_bytes()).await;
    raw.next(GOAWAY).await;
    let error = patiently("the end", put).await.unwrap().unwrap_err();
    assert_eq!(error.delivery(), Delivery::Unknown, "{error}");
}

#[tokio::test]
async fn a_server_that_cancels_at_the_deadline_has_met_the_deadline() {
    const TIMEOUT: Duration = Duration::from_millis(200);
    let (client, server) = server(Config::default(), &Builder::new()).await;
    let (cancel, mut canceled) = mpsc::channel(1);
    serve(server, move |(_request, mut respond)| {
        let cancel = cancel.clone();
        async move {
            respond.send_reset(Reason::CANCEL);
            cancel.send(()).await.unwrap();
        }
    });
    // The settings have to arrive before the call for it to be sent at once: as a call before it says.
    let _ = client.put("first", "value").await;
    patiently("the first request", canceled.recv()).await.unwrap();
    let mut call = pin!(client.put("key", "value").timeout(TIMEOUT).into_future());
    let sent = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await;
    assert!(sent, "there is no answer yet");
    patiently("the request", canceled.recv()).await.unwrap();
    // Nobody looks at the call until both have come: the reset, and the deadline.
    tokio::time::sleep(TIMEOUT * 2).await;
    let error = call.await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    assert!(error.is_timeout() && error.may_be_applied());
    assert!(error.source().is_some(), "the reset is the cause");
}

/// The headers of one put and of one keepalive stream.
async fn headers(config: Config) -> (HeaderMap, HeaderMap) {
    let (client, server) = server(config, &Builder::new()).await;
    let (saw, mut seen) = mpsc::unbounded_channel();
    serve(server, move |(request, mut respond)| {
        saw.send(request.headers().clone()).unwrap();
        async move { answer(&mut respond, &PutResponse::default()) }
    });
    client.put("key", "value").await.unwrap();
    let put = patiently("a put", seen.recv()).await.unwrap();
    // Only what was asked matters: the answer is that of a lease that is not there.
    let _ = client.lease_keep_alive_once(LeaseId(7)).await;
    let renewal = patiently("a stream", seen.recv()).await.unwrap();
    let _ = client.watch("key").resume(false).await;
    let watch = patiently("a stream", seen.recv()).await.unwrap();
    assert_eq!(renewal.get("hasleader"), watch.get("hasleader"));
    (put, watch)
}

#[tokio::test]
async fn streams_and_calls_demand_a_leader() {
    let (call, stream) = headers(Config::default()).await;
    assert_eq!(call.get("hasleader").unwrap(), "true");
    assert_eq!(stream.get("hasleader").unwrap(), "true");
}

/// What a member answers from what it has, it answers without a leader.
#[tokio::test]
async fn serializable_reads_demand_no_leader() {
    let (client, server) = server(Config::default(), &Builder::new()).await;
    let (saw, mut seen) = mpsc::unbounded_channel();
    serve(server, move |(request, mut respond)| {
        saw.send(request.headers().contains_key("hasleader")).unwrap();
        let is_txn = request.uri().path().ends_with("/Txn");
        async move {
            match is_txn {
                true => answer(&mut respond, &TxnResponse::default()),
                false => answer(&mut respond, &RangeResponse::default()),
            }
        }
    });
    let local = || Op::get("key").serializable();
    client.get("key").serializable().await.unwrap();
    client.get("key").await.unwrap();
    client.txn().then(local()).or_else(local()).await.unwrap();
    client.txn().then(local()).or_else(Op::get("key")).await.unwrap();
    client.txn().then(local()).then(Op::put("key", "")).await.unwrap();
    for demands in [false, true, false, true, true] {
        assert_eq!(seen.recv().await, Some(demands));
    }
}

#[tokio::test]
async fn streams_and_calls_do_without_a_leader_where_the_user_says_so() {
    let (call, stream) = headers(Config::default().require_leader(false)).await;
    assert_eq!((call.get("hasleader"), stream.get("hasleader")), (None, None));
}

#[tokio::test]
async fn the_timeout_is_told_on_request_only() {
    let (call, stream) = headers(Config::default()).await;
    assert_eq!(
        (call.get("grpc-timeout"), stream.get("grpc-timeout")),
        (None, None)
    );
    let config = Config::default().call_timeout(Duration::from_secs(7)).send_timeout_header(true);
    let (call, stream) = headers(config).await;
    let timeout = call.get("grpc-timeout").unwrap().to_str().unwrap();
    let micros: u64 = timeout.strip_suffix('u').expect("microseconds").parse().unwrap();
    assert!((1..=7_000_000).contains(&micros), "{timeout}");
    assert_eq!(stream.get("grpc-timeout"), None);
}

/// Every number and every time that an option takes, at its least and at its most.
fn ends_of_options() -> Vec<(&'static str, Config)> {
    const NEVER: Duration = Duration::MAX;
    let zero = Duration::ZERO;
    let new = Config::new;
    vec![
        ("connect_timeout", new().connect_timeout(NEVER)),
        ("call_timeout", new().call_timeout(NEVER)),
        (
            "timeout header",
            new().call_timeout(NEVER).send_timeout_header(true),
        ),
        ("request_bytes_max", new().request_bytes_max(usize::MAX)),
        ("response_bytes_max 0", new().response_bytes_max(0)),
        ("response_bytes_max", new().response_bytes_max(usize::MAX)),
        ("stream_window_bytes 0", new().stream_window_bytes(0)),
        ("stream_window_bytes", new().stream_window_bytes(u32::MAX)),
        ("connection_window_bytes 0", new().connection_window_bytes(0)),
        ("connection_window_bytes", new().connection_window_bytes(u32::MAX)),
        ("connections_max 0", new().connections_max(0).streams_full(0)),
        (
            "connections_max",
            new().connections_max(usize::MAX).streams_full(1),
        ),
        ("streams_full", new().streams_full(usize::MAX)),
        ("silence 0", new().silence(zero)),
        ("silence", new().silence(NEVER)),
        ("ping_interval 0", new().ping_interval(zero)),
        ("ping_interval", new().ping_interval(NEVER)),
        ("ping_timeout 0", new().ping_timeout(zero).ping_interval(zero)),
        ("ping_timeout", new().ping_timeout(NEVER)),
        ("hedge_after 0", new().hedge_after(zero)),
        ("hedge_after", new().hedge_after(NEVER)),
        ("sync_interval 0", new().sync_interval(zero)),
        ("sync_interval", new().sync_interval(NEVER)),
    ]
}

#[tokio::test]
async fn options_at_their_ends_neither_panic_nor_spin_nor_overflow() {
    for (name, config) in ends_of_options() {
        let begun = std::time::Instant::now();
        let fleet = Fleet::scripted(&[("a", Fate::Lives), ("b", Fate::Lives)], None, |_| {
            Reply::After(Duration::from_millis(5))
        });
        let client = fleet.client(&["a", "b"], config).await;
        for _ in 0..4 {
            let calls = async { (client.put("key", "").await, client.get("key").await) };
            let (put, get) = patiently(name, calls).await;
            put.unwrap_or_else(|error| panic!("{name}: {error}"));
            get.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        // Twice is the most that a read is asked here, and the list is not asked for in a loop.
        let asked_max = 16 + begun.elapsed().as_millis() / 100;
        assert!(
            fleet.asked().len() as u128 <= asked_max,
            "{name}: {:?}",
            fleet.asked()
        );
    }
}

#[tokio::test]
async fn options_that_leave_no_room_end_in_a_typed_error() {
    let fleet = Fleet::new(&[("a", Fate::Lives)]);
    let client = fleet.client(&["a"], Config::new().call_timeout(Duration::ZERO)).await;
    let error = patiently("no time", client.put("key", "").into_future()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.attempts()),
        (Code::DeadlineExceeded, 0),
        "{error}"
    );
    let client = fleet.client(&["a"], Config::new().request_bytes_max(0)).await;
    let error = patiently("no bytes", client.put("key", "").into_future()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.origin()),
        (Code::ResourceExhausted, Origin::Caller),
        "{error}"
    );
    let hole = |_: &Endpoint| -> Dialing { Box::pin(std::future::pending()) };
    let config = Config::new().connect_timeout(Duration::ZERO);
    let error = patiently("no connection", Client::connect_over(hole, ["a"], config)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.delivery()),
        (Code::Unavailable, Delivery::NotSent),
        "{error}"
    );
    assert!(
        error.to_string().contains("no connection within the connect timeout"),
        "{error}"
    );
}

#[tokio::test]
async fn a_lease_counts_from_the_sending_of_its_grant() {
    const TTL: Duration = Duration::from_secs(5);
    const DELAY: Duration = Duration::from_millis(300);
    let (client, server) = server(Config::default(), &Builder::new()).await;
    serve(server, |(_request, mut respond)| async move {
        tokio::time::sleep(DELAY).await;
        let granted = LeaseGrantResponse {
            id: 7,
            ttl: 5,
            ..LeaseGrantResponse::default()
        };
        answer(&mut respond, &granted);
    });
    let lease = client.lease(TTL).await.unwrap();
    let whole = valid_until(Instant::default(), TTL).saturating_since(Instant::default());
    assert!(lease.valid_for() <= whole - DELAY, "{lease:?} of {whole:?}");
}

/// Each costs two bytes on the wire and a hundred in memory.
#[tokio::test]
async fn an_answer_of_very_many_empty_entries_is_refused() {
    let body = Bytes::from([0x12, 0x00].repeat(100_000));
    let status = tenure::wire::decode::<RangeResponse>(body).unwrap_err();
    assert_eq!(status.code, Code::ResourceExhausted);
}
