//! A compaction that takes what a watch still had to see: while it is disconnected, while
//! it is behind, before it begins. Each ends once, typed, with the revision, and nobody is
//! asked again and again.

use std::time::Duration;

use tenure::{Client, KeyRange, Revision, Watch, WatchEnd};
use tenure_testserver::Link;
use tokio::time::sleep;

use crate::chance::Chance;
use crate::embedded::{Embedded, simulate};

/// So long nothing more is to happen.
const LATER: Duration = Duration::from_secs(600);
const WATCHES: usize = 20;
/// What a client sends in that time: pings, and what little they cost.
const BYTES_MAX: u64 = 8 << 10;

#[test]
fn a_compaction_during_a_disconnect_ends_each_watch_once_after_one_create() {
    simulate(1, async {
        let embedded = Embedded::start(0, Chance::of(1, 1));
        let (client, direct) = (embedded.client(0).await, embedded.direct().await);
        let mut watches = Vec::new();
        for _ in 0..WATCHES {
            watches.push(client.watch(KeyRange::prefix("k")).prev_kv().await.unwrap());
        }
        let mut calm = client.watch("calm").await.unwrap();
        embedded.ways.set_open(false);
        embedded.ways.cut();
        let compacted = put(&direct, 10).await;
        direct.compact(compacted).await.unwrap();
        sleep(Duration::from_secs(5)).await;
        let before = embedded.ways.requests();
        embedded.ways.set_open(true);
        for watch in &mut watches {
            ends_compacted(watch, compacted).await;
        }
        // It resumes where nothing has happened to it: not behind the compaction.
        ends_compacted(&mut calm, compacted).await;
        quiet_after(&embedded, before + 2 * (WATCHES as u64 + 1)).await;
    });
}

#[test]
fn a_compaction_while_a_reader_is_behind_ends_its_watch_once() {
    simulate(2, async {
        let embedded = Embedded::start(0, Chance::of(2, 1));
        let (client, direct) = (embedded.client(0).await, embedded.direct().await);
        let slow = client.watch(KeyRange::prefix("k")).buffer_bytes(4 << 10).catch_up(true);
        let mut slow = slow.await.unwrap();
        let mut other = client.watch(KeyRange::prefix("k")).await.unwrap();
        let compacted = put(&direct, 200).await;
        direct.compact(compacted).await.unwrap();
        let before = embedded.ways.requests();
        let mut last = 0;
        let end = loop {
            match slow.next().await {
                Ok(batch) => last = batch.resume_revision.0,
                Err(end) => break end,
            }
        };
        assert!(last > 2 && last < compacted.0, "it was not behind: {last}");
        assert!(
            matches!(end, WatchEnd::Compacted { compact_revision } if compact_revision == compacted),
            "{end:?}"
        );
        ends_compacted(&mut slow, compacted).await;
        let mut seen = 0;
        while seen < 200 {
            seen += other.next().await.unwrap().events.len();
        }
        quiet_after(&embedded, before + 6).await;
    });
}

#[test]
fn a_watch_that_begins_below_a_compaction_ends_once() {
    simulate(3, async {
        let embedded = Embedded::start(0, Chance::of(3, 1));
        let (client, direct) = (embedded.client(0).await, embedded.direct().await);
        let compacted = put(&direct, 10).await;
        direct.compact(compacted).await.unwrap();
        let before = embedded.ways.requests();
        let mut below = client.watch("k1").start_revision(Revision(3)).await.unwrap();
        ends_compacted(&mut below, compacted).await;
        let mut at = client.watch(KeyRange::prefix("k")).start_revision(compacted).await.unwrap();
        assert_eq!(at.next().await.unwrap().events[0].revision(), compacted);
        quiet_after(&embedded, before + 6).await;
    });
}

#[test]
fn a_compaction_while_the_server_is_gone_and_back_ends_a_watch_once() {
    simulate(4, async {
        let embedded = Embedded::start(1, Chance::of(4, 1));
        let client = embedded.client(1).await;
        let mut watch = client.watch(KeyRange::prefix("k")).await.unwrap();
        let direct = embedded.direct().await;
        embedded.ways.set_open(false);
        embedded.faults(1).set_link(Link::Down);
        let compacted = put(&direct, 10).await;
        direct.compact(compacted).await.unwrap();
        embedded.faults(1).set_link(Link::Up);
        let before = embedded.ways.requests();
        embedded.ways.set_open(true);
        ends_compacted(&mut watch, compacted).await;
        quiet_after(&embedded, before + 6).await;
    });
}

/// So many puts; the revision of the last.
async fn put(client: &Client, count: usize) -> Revision {
    let mut last = Revision::ZERO;
    for number in 0..count {
        let value = vec![b'x'; 100];
        last = client.put(format!("k{}", number % 3), value).await.unwrap().revision();
    }
    last
}

/// The end, again and again the same.
async fn ends_compacted(watch: &mut Watch, compacted: Revision) {
    for _ in 0..3 {
        match watch.next().await {
            Err(WatchEnd::Compacted { compact_revision }) => assert_eq!(compact_revision, compacted),
            other => panic!("{other:?}"),
        }
    }
}

/// No more than so many messages were sent, and none is for a long time.
async fn quiet_after(embedded: &Embedded, requests_max: u64) {
    sleep(Duration::from_secs(1)).await;
    let requests = embedded.ways.requests();
    assert!(
        requests <= requests_max,
        "{requests} messages, at most {requests_max}"
    );
    let bytes = embedded.ways.sent();
    sleep(LATER).await;
    assert_eq!(
        embedded.ways.requests(),
        requests,
        "a request, though nobody asked"
    );
    assert!(embedded.ways.sent() - bytes < BYTES_MAX);
}
