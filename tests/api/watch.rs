//! Watches against a real server: what is seen, once and whole, by how many, and
//! how a watch ends.

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::time::Duration;

use tenure::{Client, Code, Event, KeyRange, Op, Revision, Watch, WatchEnd};

use crate::support::{OwnServer, client, counted_client, patiently, run};

/// The next so many events.
async fn events(watch: &mut Watch, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let batch = patiently("an event", watch.next()).await.unwrap();
        events.extend(batch.events);
    }
    assert_eq!(events.len(), count);
    events
}

async fn end(watch: &mut Watch) -> WatchEnd {
    loop {
        if let Err(end) = patiently("the end", watch.next()).await {
            return end;
        }
    }
}

async fn watches(client: &Client, prefix: &'static str, count: usize) -> Vec<Watch> {
    let creating = (0..count).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.watch(KeyRange::prefix(prefix)).await })
    });
    let mut watches = Vec::new();
    for creating in creating.collect::<Vec<_>>() {
        watches.push(patiently("created", creating).await.unwrap().unwrap());
    }
    watches
}

fn key(event: &Event) -> &str {
    std::str::from_utf8(&event.kv().key).unwrap()
}

#[test]
fn one_put_is_seen_by_300_watches_of_one_stream() {
    run(async {
        let (client, sent) = counted_client().await;
        let before = sent.requests();
        let mut watches = watches(&client, "watch/300/", 300).await;
        assert_eq!(sent.requests(), before + 1, "one stream for all");
        let put = client.put("watch/300/key", "value").await.unwrap().revision();
        for watch in &mut watches {
            let events = events(watch, 1).await;
            assert_eq!(events[0].revision(), put);
            assert!(watch.created_revision() < put);
        }
    });
}

#[test]
fn a_thousand_watches_are_created_at_once_and_each_is_its_own() {
    run(async {
        let client = client().await;
        let creating = (0..1000).map(|index| {
            let client = client.clone();
            tokio::spawn(async move { client.watch(format!("watch/1000/{index}")).await })
        });
        let mut watches = Vec::new();
        for creating in creating.collect::<Vec<_>>() {
            watches.push(patiently("created", creating).await.unwrap().unwrap());
        }
        let mut ids: Vec<_> = watches.iter().map(Watch::id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 1000);
        for (index, watch) in watches.iter_mut().enumerate().step_by(97) {
            let name = format!("watch/1000/{index}");
            client.put(name.clone(), "value").await.unwrap();
            assert_eq!(key(&events(watch, 1).await[0]), name);
        }
    });
}

/// More would slow down the writer that they are to keep up with, on a busy machine without end.
const READERS_MAX: usize = 100;

#[test]
fn a_watch_from_now_on_a_busy_store_misses_nothing_after_its_creation() {
    // Its own server: a compaction by another test ends whoever is behind.
    let server = OwnServer::start();
    run(async {
        let client = Client::connect(server.endpoints()).await.unwrap();
        let writing = {
            let client = client.clone();
            tokio::spawn(async move {
                let mut written = Vec::new();
                for number in 0..600 {
                    let answer = client.put("watch/busy", number.to_string()).await.unwrap();
                    written.push(answer.revision());
                }
                written
            })
        };
        let mut readers = Vec::new();
        while !writing.is_finished() && readers.len() < READERS_MAX {
            let watch = client.watch("watch/busy").await.unwrap();
            readers.push(tokio::spawn(puts_until_deleted(watch)));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let written = writing.await.unwrap();
        client.delete("watch/busy").await.unwrap();
        for reader in readers {
            let (created, seen) = patiently("the deletion", reader).await.unwrap();
            let after = written.iter().copied().filter(|revision| *revision > created);
            assert_eq!(seen, after.collect::<Vec<_>>(), "created at {created}");
        }
    });
}

/// The revision at which the watch was created, and those of the puts that it saw.
async fn puts_until_deleted(mut watch: Watch) -> (Revision, Vec<Revision>) {
    let mut seen = Vec::new();
    loop {
        for event in watch.next().await.unwrap().events {
            match event {
                Event::Put { kv, .. } => seen.push(Revision(kv.mod_revision)),
                Event::Delete { .. } => return (watch.created_revision(), seen),
            }
        }
    }
}

#[test]
fn a_prefix_is_watched_and_nothing_beside_it() {
    run(async {
        let client = client().await;
        let mut watch = client.watch(KeyRange::prefix("watch/prefix/")).await.unwrap();
        for key in [
            "watch/prefix",
            "watch/prefix/a",
            "watch/prefix0",
            "watch/prefix/b",
        ] {
            client.put(key, "value").await.unwrap();
        }
        let events = events(&mut watch, 2).await;
        assert_eq!(
            (key(&events[0]), key(&events[1])),
            ("watch/prefix/a", "watch/prefix/b")
        );
    });
}

#[test]
fn filters_hide_puts_or_deletes() {
    run(async {
        let client = client().await;
        let mut deletes = client.watch("watch/filter").no_put().await.unwrap();
        let mut puts = client.watch("watch/filter").no_delete().await.unwrap();
        for _ in 0..2 {
            client.put("watch/filter", "value").await.unwrap();
            client.delete("watch/filter").await.unwrap();
        }
        let (deletes, puts) = (events(&mut deletes, 2).await, events(&mut puts, 2).await);
        assert!(deletes.iter().all(|event| matches!(event, Event::Delete { .. })));
        assert!(puts.iter().all(|event| matches!(event, Event::Put { .. })));
    });
}

#[test]
fn the_previous_value_comes_where_it_is_asked_for() {
    run(async {
        let client = client().await;
        client.delete("watch/prev").await.unwrap();
        let mut with = client.watch("watch/prev").prev_kv().await.unwrap();
        let mut without = client.watch("watch/prev").await.unwrap();
        client.put("watch/prev", "one").await.unwrap();
        client.put("watch/prev", "two").await.unwrap();
        client.delete("watch/prev").await.unwrap();
        let events_with = events(&mut with, 3).await;
        let values: Vec<_> =
            events_with.iter().map(|event| event.prev_kv().map(|kv| &kv.value[..])).collect();
        assert_eq!(values, [None, Some(&b"one"[..]), Some(&b"two"[..])]);
        assert!(events(&mut without, 3).await.iter().all(|event| event.prev_kv().is_none()));
    });
}

#[test]
fn a_transaction_is_one_batch_also_where_the_server_sends_it_in_pieces() {
    run(async {
        let client = client().await;
        let mut watch = client.watch(KeyRange::prefix("watch/pieces/")).prev_kv().await.unwrap();
        let value = vec![b'x'; 400 << 10];
        for index in 0..6 {
            client.put(format!("watch/pieces/{index}"), value.clone()).await.unwrap();
        }
        assert_eq!(events(&mut watch, 6).await.len(), 6);
        // 2.4 MB of previous values; the server cuts at 1.5 MiB.
        let deleted = client.delete(KeyRange::prefix("watch/pieces/")).await.unwrap().revision();
        let batch = patiently("the deletion", watch.next()).await.unwrap();
        assert_eq!(batch.events.len(), 6);
        assert!(batch.events.iter().all(|event| event.revision() == deleted));
        assert_eq!(batch.resume_revision, deleted.next());

        let txn = client.txn().then(Op::put("watch/pieces/a", "value"));
        txn.then(Op::put("watch/pieces/b", "value")).await.unwrap();
        assert_eq!(patiently("the puts", watch.next()).await.unwrap().events.len(), 2);
    });
}

#[test]
fn compaction_ends_a_watch_of_the_past_and_says_so_again_and_again() {
    let server = OwnServer::start();
    run(async {
        let client = Client::connect(server.endpoints()).await.unwrap();
        client.put("watch/compact", "one").await.unwrap();
        let now = client.put("watch/compact", "two").await.unwrap().revision();
        client.compact(now).await.unwrap();
        let mut watch = client.watch("watch/compact").start_revision(Revision(1)).await.unwrap();
        for _ in 0..3 {
            match end(&mut watch).await {
                WatchEnd::Compacted { compact_revision } => assert!(compact_revision >= now),
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_watch_that_a_compaction_ended_leaves_nothing_on_the_server_and_holds_up_no_progress() {
    let server = OwnServer::start();
    run(async {
        let client = Client::connect(server.endpoints()).await.unwrap();
        let mut beside = client.watch("compacted/beside").await.unwrap();
        client.put("compacted", "one").await.unwrap();
        let now = client.put("compacted", "two").await.unwrap().revision();
        client.compact(now).await.unwrap();
        let mut past = client.watch("compacted").start_revision(Revision(1)).await.unwrap();
        let end = end(&mut past).await;
        assert!(matches!(end, WatchEnd::Compacted { .. }), "{end:?}");
        until_server_has(&server, 1).await;
        beside.request_progress();
        assert!(patiently("progress", beside.next()).await.unwrap().is_progress());
    });
}

#[test]
fn a_watch_that_is_refused_disturbs_no_other() {
    run(async {
        let client = client().await;
        let mut watch = client.watch("watch/refused").await.unwrap();
        let refused = client.watch(KeyRange::range("watch/z", "watch/a")).await;
        let Err(WatchEnd::Canceled { reason, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert!(!reason.is_empty());
        let empty = client.watch("").await;
        assert!(matches!(empty, Err(WatchEnd::Refused { .. })), "{empty:?}");
        let huge = client.watch(vec![b'x'; 4 << 20]).await;
        assert!(matches!(huge, Err(WatchEnd::Refused { .. })), "{huge:?}");
        client.put("watch/refused", "value").await.unwrap();
        assert_eq!(events(&mut watch, 1).await.len(), 1);
    });
}

#[test]
fn a_canceled_watch_sees_nothing_of_what_follows() {
    run(async {
        let client = client().await;
        let mut watch = client.watch("watch/cancel").await.unwrap();
        let mut other = client.watch("watch/cancel").await.unwrap();
        client.put("watch/cancel", "before").await.unwrap();
        events(&mut other, 1).await;
        watch.cancel();
        // When a watch that was asked for later exists, the cancel has been obeyed.
        drop(client.watch("watch/cancel").await.unwrap());
        client.put("watch/cancel", "after").await.unwrap();
        events(&mut other, 1).await;
        let mut seen = Vec::new();
        let end = loop {
            match patiently("the end", watch.next()).await {
                Ok(batch) => seen.extend(batch.events),
                Err(end) => break end,
            }
        };
        assert!(seen.iter().all(|event| event.kv().value == "before"));
        assert!(matches!(end, WatchEnd::Closed));
        assert!(matches!(watch.next().await, Err(WatchEnd::Closed)));
    });
}

#[test]
fn watches_that_are_dropped_and_creations_too_leave_nothing_on_the_server() {
    let server = OwnServer::start();
    run(async {
        let client = Client::connect(server.endpoints()).await.unwrap();
        let mut watch = client.watch("dropped").await.unwrap();
        let dropped = watches(&client, "dropped", 50).await;
        until_server_has(&server, 51).await;
        drop(dropped);
        for round in 0..50 {
            let mut creating = pin!(client.watch("dropped").into_future());
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(creating.as_mut().poll(cx)));
            assert!(polled.await.is_pending());
            // So that some are not sent yet, some are, and some are answered.
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
        }
        until_server_has(&server, 1).await;
        client.put("dropped", "value").await.unwrap();
        assert_eq!(events(&mut watch, 1).await.len(), 1);
        drop((watch, client));
        until_server_has(&server, 0).await;
    });
}

/// Waits until the server counts so many watches.
async fn until_server_has(server: &OwnServer, watches: usize) {
    patiently(&format!("{watches} watches"), async {
        while server.watch_count().await != watches {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[test]
fn each_progress_request_is_answered_by_a_batch_without_events() {
    run(async {
        let client = client().await;
        let mut watch = client.watch("watch/progress").await.unwrap();
        let put = client.put("watch/progress/beside", "value").await.unwrap().revision();
        for _ in 0..2 {
            watch.request_progress();
            let batch = patiently("progress", watch.next()).await.unwrap();
            assert!(batch.is_progress());
            assert!(batch.revision >= put, "{batch:?}");
            assert_eq!(batch.resume_revision, watch.created_revision().next());
        }
    });
}

#[test]
fn a_watch_outlives_the_handle_it_was_made_with() {
    run(async {
        let writer = client().await;
        let mut watch = client().await.watch("watch/outlives").await.unwrap();
        writer.put("watch/outlives", "value").await.unwrap();
        assert_eq!(events(&mut watch, 1).await.len(), 1);
        let answer = writer.get("watch/outlives").await.unwrap();
        assert!(answer.revision() > watch.created_revision());
    });
}

#[test]
fn a_reader_that_stalls_lags_alone_and_can_go_on_where_it_was() {
    let server = OwnServer::start();
    run(async {
        let client = Client::connect(server.endpoints()).await.unwrap();
        let mut stalled = client.watch("lag").buffer_bytes(64 << 10).catch_up(false).await.unwrap();
        let mut quick = client.watch("lag").await.unwrap();
        let mut written = Vec::new();
        for _ in 0..200 {
            written.push(client.put("lag", vec![b'x'; 1 << 10]).await.unwrap().revision());
            events(&mut quick, 1).await;
        }
        let mut seen = Vec::new();
        let resume_revision = loop {
            match patiently("an event", stalled.next()).await {
                Ok(batch) => seen.extend(batch.events.iter().map(Event::revision)),
                Err(WatchEnd::Lagged { resume_revision }) => break resume_revision,
                Err(other) => panic!("{other:?}"),
            }
        };
        assert!(!seen.is_empty() && seen.len() < written.len());
        let watches = client.telemetry().watches;
        let counted = (watches.opened, watches.lagged, watches.ended);
        assert_eq!(counted, (2, 1, 0), "{watches:?}");
        let mut resumed = client.watch("lag").start_revision(resume_revision).await.unwrap();
        let rest = events(&mut resumed, written.len() - seen.len()).await;
        seen.extend(rest.iter().map(Event::revision));
        assert_eq!(seen, written);
    });
}

#[test]
fn a_server_that_dies_ends_its_watches_with_the_place_to_go_on() {
    let server = OwnServer::start();
    run(async {
        let client = Client::connect(server.endpoints()).await.unwrap();
        let mut silent = client.watch("dies/silent").resume(false).await.unwrap();
        let mut watch = client.watch("dies").resume(false).await.unwrap();
        let put = client.put("dies", "one").await.unwrap().revision();
        events(&mut watch, 1).await;
        server.kill();
        for (watch, expected) in [(&mut watch, put.next()), (&mut silent, put)] {
            match end(watch).await {
                WatchEnd::Disconnected {
                    error,
                    resume_revision,
                } => {
                    assert_eq!(resume_revision, expected);
                    assert_eq!(error.code(), Code::Unavailable, "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(client.telemetry().watches.ended, 2);
        server.start_again();
        let next = patiently("a put", async {
            loop {
                match client.put("dies", "two").await {
                    Ok(answer) => return answer.revision(),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        let next = next.await;
        let mut resumed = client.watch("dies").start_revision(put.next()).await.unwrap();
        let seen = events(&mut resumed, 1).await;
        assert!(seen[0].revision() > put && seen[0].revision() <= next);
    });
}
