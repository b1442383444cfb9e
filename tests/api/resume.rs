//! Watches over connections that break, and over a server that goes and comes back.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tenure::{Client, Event, KeyRange, Op, Revision, Watch, WatchEnd};
use tenure_proxy::{Direction, Door, Ending, Proxy};
use tokio::task::JoinHandle;

use crate::support::{OwnServer, run};

/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(180);

const CUTS: usize = 200;

/// As many cuts lie between 64 and 128 bytes, where the handshake ends, as between
/// 8 and 16 KiB. What has gathered during a wait comes in one message, so that a
/// bound below that would never let it through.
const CUT_BYTES_BITS: std::ops::Range<u32> = 6..14;

/// How often somebody looks whether a connection is cut.
const POLL: Duration = Duration::from_millis(1);

/// So far the writer may be ahead of the reader: about 4 KiB of events.
const AHEAD_MAX: usize = 32;

const CONNECTIONS: usize = 64;

/// No reader here is to lag, however late it is served.
const BUFFER_BYTES: usize = 256 << 20;

async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} has not happened"))
}

#[test]
fn a_watch_of_a_busy_prefix_that_is_cut_200_times_sees_the_servers_history() {
    let server = OwnServer::start();
    run(async {
        let writer = Client::connect(server.endpoints()).await.unwrap();
        let proxy = Arc::new(proxy(&server));
        // The member is named many times: each name has a connection of its own, so that
        // the waits before the dials of one overlap.
        let client = Client::connect(vec![proxy.endpoint(); CONNECTIONS]).await.unwrap();
        let mut watch = client.watch(KeyRange::prefix("cut/")).timeout(PATIENCE).await.unwrap();
        let created = watch.created_revision();
        let count = Arc::new(AtomicUsize::new(0));
        let cutting = tokio::spawn(cut(proxy.clone()));
        let writing = tokio::spawn(write_until(writer.clone(), cutting, count.clone()));
        let seen = patiently("the last event", until_last(&mut watch, &count)).await;
        writing.await.unwrap();
        let history = writer.watch(KeyRange::prefix("cut/")).buffer_bytes(BUFFER_BYTES);
        let mut history = history.start_revision(Revision(1)).await.unwrap();
        let history = patiently("the history", until_last(&mut history, &count)).await;
        assert!(history.len() > CUTS);
        assert!(seen == history, "{} events of {}", seen.len(), history.len());
        assert_eq!(watch.created_revision(), created);
        assert!(watch.reconnects() > 100, "{} reconnects", watch.reconnects());
    });
}

fn proxy(server: &OwnServer) -> Proxy {
    Proxy::start(&server.endpoints()[0]).expect("a proxy")
}

/// Breaks a connection once some random number of bytes has come, again and again.
async fn cut(proxy: Arc<Proxy>) {
    let mut chance = fastrand::Rng::with_seed(1);
    for _ in 0..CUTS {
        let bytes = 1_u64 << chance.u32(CUT_BYTES_BITS);
        proxy.cut_after(Direction::Down, bytes + chance.u64(..bytes), Ending::Reset);
        while proxy.is_cut_due() {
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Writes, a transaction of two keys at a time, until all cuts are made. The reader has
/// `seen` so many events.
async fn write_until(client: Client, cutting: JoinHandle<()>, seen: Arc<AtomicUsize>) {
    let mut number = 0_usize;
    while !cutting.is_finished() {
        if number > seen.load(Ordering::SeqCst) / 2 + AHEAD_MAX {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        }
        let key = format!("cut/{}", number % 7);
        let txn = client.txn().then(Op::put(key, number.to_string()));
        txn.then(Op::put("cut/beside", "value")).await.unwrap();
        number += 1;
    }
    client.put("cut/last", "value").await.unwrap();
}

async fn until_last(watch: &mut Watch, seen: &AtomicUsize) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        events.extend(watch.next().await.unwrap().events);
        seen.store(events.len(), Ordering::SeqCst);
        if events.last().is_some_and(|event: &Event| event.kv().key == "cut/last") {
            return events;
        }
    }
}

#[test]
fn a_watch_outlives_its_server_and_one_is_told_of_a_compaction_meanwhile() {
    let server = OwnServer::start();
    run(async {
        let client = Client::connect(server.endpoints()).await.unwrap();
        let proxy = proxy(&server);
        let aside = Client::connect([proxy.endpoint()]).await.unwrap();
        let mut behind = aside.watch("outlives/behind").await.unwrap();
        let mut watch = client.watch("outlives/key").await.unwrap();
        proxy.door(Door::Refusing);
        server.kill();
        server.start_again();
        patiently("a put", async {
            while client.put("outlives/key", "one").await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let batch = patiently("an event", watch.next()).await.unwrap();
        assert_eq!(batch.events[0].kv().value, "one");
        assert!(watch.reconnects() > 0);
        let now = client.put("outlives/key", "two").await.unwrap().revision();
        client.compact(now).await.unwrap();
        proxy.door(Door::Open);
        match patiently("the end", behind.next()).await {
            Err(WatchEnd::Compacted { compact_revision }) => assert_eq!(compact_revision, now),
            other => panic!("{other:?}"),
        }
    });
}
