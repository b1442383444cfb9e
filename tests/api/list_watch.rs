//! A list and the watch behind it, against a real server: nothing falls between them,
//! and a compaction costs one more list.

use std::collections::BTreeMap;

use tenure::{Client, Code, Config, Event, KeyRange, ListWatch, ListWatchEnd, Op, Revision, Update};

use crate::support::{OwnServer, client, counted_client, patiently, run, viewed};

/// More would slow down the writer that they are to keep up with, on a busy machine without end.
const READERS_MAX: usize = 20;

async fn next(list_watch: &mut ListWatch) -> Update {
    patiently("an update", list_watch.next()).await.unwrap()
}

/// What whoever applies the updates has: each key with the revision of its last change.
#[derive(Debug, Default, PartialEq)]
struct Contents(BTreeMap<String, i64>);

impl Contents {
    fn apply(&mut self, events: &[Event]) {
        for event in events {
            let key = String::from_utf8(event.kv().key.to_vec()).unwrap();
            let before = self.0.get(&key).copied();
            match event {
                Event::Put { kv, .. } => {
                    assert!(before < Some(kv.mod_revision), "{key} is told twice");
                    self.0.insert(key, kv.mod_revision);
                }
                Event::Delete { .. } => assert!(self.0.remove(&key).is_some(), "{key} is not there"),
            }
        }
    }

    /// Applies a list up to its end; says how many updates it came in.
    async fn list(&mut self, list_watch: &mut ListWatch) -> (Revision, usize) {
        for updates in 0.. {
            match next(list_watch).await {
                Update::Listed(events) => self.apply(&events),
                Update::Synced { revision } => return (revision, updates),
                Update::Relisting => {}
                other => panic!("{other:?}"),
            }
        }
        unreachable!("it lists for ever")
    }

    /// The range as the server has it at a revision.
    async fn of(client: &Client, prefix: &'static str, revision: Revision) -> Contents {
        let answer = client.get(KeyRange::prefix(prefix)).revision(revision).await.unwrap();
        let entries = answer.kvs.into_iter();
        let entries = entries.map(|kv| (String::from_utf8(kv.key.to_vec()).unwrap(), kv.mod_revision));
        Contents(entries.collect())
    }
}

#[test]
fn a_prefix_is_listed_in_pages_and_watched_from_where_the_list_ends() {
    run(async {
        let client = client().await;
        for index in 0..7 {
            client.put(format!("list/pages/{index}"), "value").await.unwrap();
        }
        let mut has = Contents::default();
        let mut list_watch = client.list_watch(KeyRange::prefix("list/pages/")).page_size(3);
        let Update::Listed(first) = next(&mut list_watch).await else {
            panic!("no list");
        };
        has.apply(&first);
        assert_eq!(first.len(), 3);
        // After the first page, whose revision the others are read at: the watch's to tell.
        let late = client.put("list/pages/5", "late").await.unwrap().revision();
        client.put("list/pages/zero", "late").await.unwrap();
        let (revision, updates) = has.list(&mut list_watch).await;
        assert!(revision < late && updates == 2, "{revision}, {updates}");
        assert_eq!(has, Contents::of(&client, "list/pages/", revision).await);
        client.delete("list/pages/0").await.unwrap();
        let txn = client.txn().then(Op::put("list/pages/a", "value"));
        let last = txn.then(Op::delete("list/pages/1")).await.unwrap().revision();
        let mut at = revision;
        while at < last {
            let Update::Changed(batch) = next(&mut list_watch).await else {
                panic!("no change");
            };
            has.apply(&batch.events);
            at = batch.events.last().unwrap().revision();
        }
        assert_eq!(has, Contents::of(&client, "list/pages/", last).await);
    });
}

#[test]
fn under_writes_each_list_and_each_change_add_up_to_the_store() {
    let server = OwnServer::start();
    run(async {
        let client = viewed(Client::connect(server.endpoints()).await.unwrap());
        let writing = {
            let client = client.clone();
            tokio::spawn(async move {
                for number in 0..400 {
                    let key = format!("busy/{}", number % 40);
                    match number % 5 {
                        0 => drop(client.delete(key).await.unwrap()),
                        _ => drop(client.put(key, number.to_string()).await.unwrap()),
                    }
                }
                client.put("busy/last", "value").await.unwrap().revision()
            })
        };
        let mut readers = Vec::new();
        while !writing.is_finished() && readers.len() < READERS_MAX {
            let mut list_watch = client.list_watch(KeyRange::prefix("busy/")).page_size(7);
            readers.push(tokio::spawn(async move {
                let mut has = Contents::default();
                has.list(&mut list_watch).await;
                while !has.0.contains_key("busy/last") {
                    if let Update::Changed(batch) = next(&mut list_watch).await {
                        has.apply(&batch.events);
                    }
                }
                has
            }));
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let last = writing.await.unwrap();
        let store = Contents::of(&client, "busy/", last).await;
        assert!(!readers.is_empty());
        for reader in readers {
            assert_eq!(patiently("the last key", reader).await.unwrap(), store);
        }
    });
}

#[test]
fn a_compaction_between_two_pages_costs_one_more_list_and_repeats_nothing() {
    let server = OwnServer::start();
    run(async {
        let client = viewed(Client::connect(server.endpoints()).await.unwrap());
        for index in 0..6 {
            client.put(format!("between/{index}"), "value").await.unwrap();
        }
        let mut has = Contents::default();
        let mut list_watch = client.list_watch(KeyRange::prefix("between/")).page_size(2);
        let Update::Listed(events) = next(&mut list_watch).await else {
            panic!("no list");
        };
        has.apply(&events);
        client.delete("between/0").await.unwrap();
        client.put("between/1", "changed").await.unwrap();
        let now = client.delete("between/4").await.unwrap().revision();
        client.compact(now).await.unwrap();
        assert_eq!(next(&mut list_watch).await, Update::Relisting);
        let (revision, _) = has.list(&mut list_watch).await;
        assert!(revision >= now);
        assert_eq!(has, Contents::of(&client, "between/", revision).await);
        assert_eq!(has.0.len(), 4);
    });
}

#[test]
fn a_range_that_may_not_be_read_or_watched_ends_typed() {
    run(async {
        let client = client().await;
        let mut empty = client.list_watch("");
        for _ in 0..2 {
            match patiently("the end", empty.next()).await {
                Err(ListWatchEnd::Read { error }) => assert_eq!(error.code(), Code::InvalidArgument),
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_page_that_is_larger_than_a_response_may_be_is_read_in_halves() {
    run(async {
        let writer = client().await;
        for index in 0..8 {
            writer.put(format!("list/large/{index}"), vec![b'x'; 100 << 10]).await.unwrap();
        }
        let config = Config::default().response_bytes_max(256 << 10);
        let client = viewed(Client::connect_with(crate::support::endpoints(), config).await.unwrap());
        let mut list_watch = client.list_watch(KeyRange::prefix("list/large/"));
        let mut has = Contents::default();
        let (revision, updates) = has.list(&mut list_watch).await;
        assert!(updates >= 4, "{updates}");
        assert_eq!(has, Contents::of(&writer, "list/large/", revision).await);
        assert_eq!(has.0.len(), 8);
    });
}

#[test]
fn nothing_is_sent_before_it_is_asked_for_and_then_a_page_at_a_time() {
    run(async {
        let (client, sent) = counted_client().await;
        for index in 0..5 {
            client.put(format!("list/lazy/{index}"), "value").await.unwrap();
        }
        let before = sent.requests();
        let mut list_watch = client.list_watch(KeyRange::prefix("list/lazy/")).page_size(2);
        tokio::task::yield_now().await;
        assert_eq!(sent.requests(), before);
        for pages in 1..=3 {
            assert!(matches!(next(&mut list_watch).await, Update::Listed(_)));
            assert_eq!(sent.requests(), before + pages);
        }
        assert!(matches!(next(&mut list_watch).await, Update::Synced { .. }));
        client.put("list/lazy/0", "changed").await.unwrap();
        assert!(matches!(next(&mut list_watch).await, Update::Changed(_)));
        assert_eq!(sent.requests(), before + 5, "the put, and one stream");
    });
}

#[test]
fn a_quiet_range_is_told_how_far_the_store_has_come() {
    run(async {
        let client = client().await;
        let mut list_watch = client.list_watch(KeyRange::prefix("list/quiet/"));
        assert!(matches!(next(&mut list_watch).await, Update::Synced { .. }));
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(list_watch.poll_next(cx)));
        assert!(polled.await.is_pending());
        let beside = client.put("list/beside", "value").await.unwrap().revision();
        let asking = async {
            loop {
                list_watch.request_progress();
                let waiting = tokio::time::timeout(std::time::Duration::from_millis(100), list_watch.next());
                if let Ok(update) = waiting.await {
                    return update.unwrap();
                }
            }
        };
        match patiently("progress", asking).await {
            Update::Progress { revision } => assert!(revision >= beside),
            other => panic!("{other:?}"),
        }
    });
}
