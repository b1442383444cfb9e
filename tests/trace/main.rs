//! What a client tells the `tracing` facade: a span for each call, events for what becomes of it, and no secrets.
//!
//! Each test has a runtime of one thread, on which the client runs, and keeps all that is traced there.

mod capture;
mod secrets;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use capture::{Capture, Told};
use tenure::{Client, LeaseId};
use tenure_proxy::{Ending, Proxy};
use tenure_testserver::{Fault, Server};
use tracing::{Instrument, Level};

const PUT: &str = "etcdserverpb.KV/Put";
/// A third of it is the wait for the renewal that tells of a loss.
const TTL_SHORT: Duration = Duration::from_secs(6);
/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(50);

async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    let bounded = tokio::time::timeout(PATIENCE, future).await;
    bounded.unwrap_or_else(|_| panic!("{what} has not happened"))
}

/// Waits until so many events have this message.
async fn told(capture: &Capture, message: &str, count: usize) -> Vec<Told> {
    patiently(message, async {
        loop {
            let told = capture.told(message);
            if told.len() >= count {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

async fn embedded() -> (Server, Client) {
    let server = Server::start().await.expect("a server in memory");
    let client = Client::connect([server.endpoint()]).await.expect("a client");
    (server, client)
}

#[tokio::test]
async fn a_call_is_a_span_below_its_callers_and_says_how_it_ended() {
    let (capture, _guard) = Capture::start();
    let (server, client) = embedded().await;
    let request = tracing::info_span!("request");
    let calls = async {
        client.put("key", "value").await.expect("a put");
        client
            .put("key", "value")
            .lease(LeaseId(0x0d0))
            .await
            .expect_err("there is no such lease");
        client.put("key", vec![0; 64 << 20]).await.expect_err("it is too large");
    };
    calls.instrument(request.clone()).await;
    let kept = capture.kept();
    let is_request = |number: Option<usize>| number.map(|number| kept.spans[number].name) == Some("request");
    let puts: Vec<_> = kept.calls(PUT).map(|(_, span)| span).collect();
    let ends: Vec<_> = puts
        .iter()
        .map(|span| {
            let [code, attempts] = ["code", "attempts"].map(|name| span.fields.get(name).unwrap_or("none"));
            (code, attempts, span.fields.get("endpoint"))
        })
        .collect();
    let endpoint = Some(server.endpoint());
    assert_eq!(
        ends,
        [
            ("Ok", "1", endpoint),
            ("NotFound", "1", endpoint),
            ("ResourceExhausted", "0", None)
        ]
    );
    assert!(puts.iter().all(|span| span.is_closed && is_request(span.parent)));
}

#[tokio::test]
async fn calls_side_by_side_are_not_within_one_another_and_one_that_is_dropped_has_no_end() {
    let (capture, _guard) = Capture::start();
    let (_server, client) = embedded().await;
    {
        let mut dropped = pin!(client.put("dropped", "").into_future());
        poll_fn(|cx| {
            assert!(dropped.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let (one, two) = tokio::join!(client.put("one", ""), client.put("two", ""));
        one.and(two).expect("two puts");
    }
    let kept = capture.kept();
    let codes: Vec<_> = kept.calls(PUT).map(|(_, span)| span.fields.get("code")).collect();
    assert_eq!(codes, [None, Some("Ok"), Some("Ok")]);
    assert!(kept.calls(PUT).all(|(_, span)| span.is_closed && span.parent.is_none()));
}

#[tokio::test]
async fn what_becomes_of_attempts_is_told_within_their_call() {
    let (capture, _guard) = Capture::start();
    let servers =
        [Server::start().await, Server::start().await].map(|server| server.expect("a server in memory"));
    let endpoints = servers.each_ref().map(|server| server.endpoint().to_owned());
    let client = Client::connect(&endpoints).await.expect("a client");
    told(&capture, "connected", 2).await;
    // Whichever is asked, once.
    let refused = Fault::End {
        code: 14,
        message: "etcdserver: not capable".to_owned(),
    };
    for server in &servers {
        server.faults().on_request("/etcdserverpb.KV/Range", refused.clone());
    }
    client.get("key").await.expect("a member answers");
    let failed = capture.told("to be sent again");
    assert!(!failed.is_empty(), "{}", capture.text());
    let kept = capture.kept();
    let (number, call) = kept.calls("etcdserverpb.KV/Range").next().expect("a call");
    for told in &failed {
        assert_eq!(
            (told.level, told.span),
            (Level::DEBUG, Some(number)),
            "{:?}",
            told.fields
        );
        assert_eq!(told.fields.get("code"), Some("Unavailable"));
    }
    // More, where one was slow and another one was asked too.
    let attempts: usize = call.fields.get("attempts").expect("it has ended").parse().expect("a number");
    assert!(attempts > failed.len(), "{attempts} for {failed:?}");
    let elsewhere = kept
        .events
        .iter()
        .filter(|told| told.fields.get("message") == Some("sent to another member"));
    assert_eq!(elsewhere.count() as u64, client.telemetry().calls.failovers);
}

#[tokio::test]
async fn connections_watches_and_elections_are_told() {
    let (capture, _guard) = Capture::start();
    let proxy = Proxy::start(&tenure_etcd::shared().endpoints()[0]).expect("a proxy");
    let client = Client::connect([proxy.endpoint()]).await.expect("a client");
    let mut watch = client.watch("trace/watched").await.expect("a watch");
    let connected = told(&capture, "connected", 1).await;
    assert_eq!(connected[0].fields.get("endpoint"), Some(proxy.endpoint()));
    proxy.cut(Ending::Reset);
    let lost = told(&capture, "connection lost", 1).await;
    assert_eq!((lost.len(), lost[0].level), (1, Level::WARN));
    assert_eq!(lost[0].fields.get("endpoint"), Some(proxy.endpoint()));
    assert!(
        lost[0].fields.get("why").is_some_and(|why| why.len() > 10),
        "{:?}",
        lost[0].fields
    );
    told(&capture, "connected", 2).await;
    told(&capture, "watch resumed", 1).await;
    client.put("trace/watched", "").await.expect("a put");
    patiently("the event", watch.next()).await.expect("the watch goes on");
    let opened = told(&capture, "stream opened", 2).await;
    let is_watch = |told: &Told| told.fields.get("method") == Some("etcdserverpb.Watch/Watch");
    assert!(opened.iter().all(is_watch), "{}", capture.text());
    // One election, however many answers say so.
    assert_eq!(capture.told("there was an election").len(), 1);
    assert_eq!(capture.told("watch created").len(), 1);
    let nobody = Client::connect(["127.0.0.1:1"]).await.expect_err("nobody listens there");
    assert!(!capture.told("cannot connect").is_empty(), "{nobody}");
}

#[tokio::test]
async fn leases_and_locks_are_told_by_their_lease() {
    let (capture, _guard) = Capture::start();
    let endpoints = tenure_etcd::shared().endpoints();
    let client = Client::connect(&endpoints).await.expect("a client");
    let managed = client.session().ttl(TTL_SHORT).managed().await.expect("a session");
    let session = managed.session().await.expect("a session");
    let guard = session.mutex("trace/lock").lock().await.expect("the lock");
    let lease = session.lease_id().to_string();
    let renewed = told(&capture, "lease renewed", 1).await;
    assert_eq!(
        (renewed[0].level, renewed[0].fields.get("lease")),
        (Level::DEBUG, Some(&*lease))
    );
    client.lease_revoke(session.lease_id()).await.expect("there is such a lease");
    let lost = told(&capture, "lease lost", 1).await;
    assert_eq!(
        (lost[0].level, lost[0].fields.get("lease")),
        (Level::WARN, Some(&*lease))
    );
    assert_eq!(
        lost[0].fields.get("end"),
        Some("the server no longer has the lease")
    );
    guard.release().await.expect_err("it is lost");
    let lost = told(&capture, "lock lost", 1).await;
    assert_eq!(
        (lost[0].level, lost[0].fields.get("lease")),
        (Level::WARN, Some(&*lease))
    );
    let replaced = told(&capture, "session replaced", 1).await;
    assert_eq!(replaced[0].fields.get("generation"), Some("1"));
    managed.close().await.expect("the end of the session");
    assert_eq!(
        capture.told("lease lost").len(),
        1,
        "one that is closed is not lost"
    );
}
