//! A cache of a range, against a real server.

use std::time::Duration;

use tenure::{Cache, Client, KeyRange, ListWatchEnd, Op, Revision};
use tenure_proxy::{Door, Proxy};

use crate::support::{OwnServer, client, patiently, run, until};

async fn synced(client: &Client, prefix: &'static str) -> Cache {
    let cache = client.list_watch(KeyRange::prefix(prefix)).page_size(50).into_cache();
    patiently("synced", cache.synced()).await.unwrap();
    cache
}

fn keys(cache: &Cache, keys: impl Into<KeyRange>) -> Vec<String> {
    cache.range(keys).map(|kv| String::from_utf8(kv.key.to_vec()).unwrap()).collect()
}

async fn reach(cache: &Cache, revision: Revision) {
    patiently("the revision", cache.wait_for(revision)).await.unwrap();
    assert!(cache.is_synced() && cache.revision() >= revision);
}

/// Servers before 3.4.25 answer how far they have come ahead of the events: of those it is waited for
/// what others show at once.
async fn shows(what: &str, is_so: impl Fn() -> bool) {
    if std::env::var("TENURE_ETCD_LINE").is_ok_and(|line| line == "3.4") {
        until(what, &is_so).await;
    }
    assert!(is_so(), "{what} is not there at its revision");
}

#[test]
fn a_cache_is_read_without_a_call_and_follows_what_is_written() {
    run(async {
        let client = client().await;
        client.put("cache/follows/a", "one").await.unwrap();
        let cache = synced(&client, "cache/follows/").await;
        assert_eq!(cache.get("cache/follows/a").unwrap().value, "one");
        assert!(cache.get("cache/follows/b").is_none());
        let txn = client.txn().then(Op::put("cache/follows/b", "two"));
        let written = txn.then(Op::delete("cache/follows/a")).await.unwrap().revision();
        reach(&cache, written).await;
        shows("the transaction", || cache.get("cache/follows/b").is_some()).await;
        assert_eq!(keys(&cache, KeyRange::all()), ["cache/follows/b"]);
        assert_eq!((cache.len(), cache.is_empty()), (1, false));
        let kv = cache.get("cache/follows/b").unwrap();
        assert_eq!(
            kv,
            client.get("cache/follows/b").await.unwrap().kvs[0],
            "as the server has it"
        );
    });
}

#[test]
fn who_waits_for_a_revision_that_the_range_does_not_see_waits_no_longer_than_the_store_takes() {
    run(async {
        let client = client().await;
        let cache = synced(&client, "cache/quiet/").await;
        for _ in 0..3 {
            let beside = client.put("cache/beside", "value").await.unwrap().revision();
            assert!(cache.revision() < beside);
            reach(&cache, beside).await;
        }
        let ahead = Revision(cache.revision().0 + 1_000_000);
        let waiting = tokio::time::timeout(Duration::from_millis(50), cache.wait_for(ahead));
        assert!(waiting.await.is_err(), "a revision that nobody has written");
    });
}

#[test]
fn ranges_of_every_kind_come_in_order_also_beyond_one_look() {
    run(async {
        let client = client().await;
        let mut last = Revision::ZERO;
        for hundred in 0..3 {
            let puts = (0..100).map(|index| Op::put(format!("cache/ranges/{hundred}{index:02}"), "value"));
            last = puts.fold(client.txn(), |txn, put| txn.then(put)).await.unwrap().revision();
        }
        let cache = synced(&client, "cache/ranges/").await;
        reach(&cache, last).await;
        let all: Vec<_> = (0..300).map(|index| format!("cache/ranges/{index:03}")).collect();
        assert_eq!(keys(&cache, KeyRange::prefix("cache/ranges/")), all);
        assert_eq!(keys(&cache, KeyRange::from_key("cache/ranges/128")), all[128..]);
        let range = KeyRange::range("cache/ranges/010", "cache/ranges/266");
        assert_eq!(keys(&cache, range), all[10..266]);
        assert_eq!(keys(&cache, "cache/ranges/007"), all[7..8]);
        assert!(keys(&cache, KeyRange::range("z", "a")).is_empty());
        assert!(keys(&cache, KeyRange::range("a", "a")).is_empty());
    });
}

#[test]
fn a_cache_outlives_a_compaction_that_it_missed_and_forgets_what_is_gone() {
    let server = OwnServer::start();
    run(async {
        let client = Client::connect(server.endpoints()).await.unwrap();
        for key in ["gone", "kept", "changed"] {
            client.put(format!("missed/{key}"), "value").await.unwrap();
        }
        let proxy = Proxy::start(&server.endpoints()[0]).expect("a proxy");
        let behind = Client::connect([proxy.endpoint()]).await.unwrap();
        let cache = synced(&behind, "missed/").await;
        proxy.door(Door::Refusing);
        server.kill();
        server.start_again();
        let now = patiently("writes", async {
            while client.put("missed/changed", "again").await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            client.put("missed/new", "value").await.unwrap();
            client.delete("missed/gone").await.unwrap().revision()
        });
        let now = now.await;
        client.compact(now).await.unwrap();
        proxy.door(Door::Open);
        reach(&cache, now).await;
        let is_changed = || cache.get("missed/changed").is_some_and(|kv| kv.value == "again");
        shows("what was missed", is_changed).await;
        assert_eq!(
            keys(&cache, KeyRange::all()),
            ["missed/changed", "missed/kept", "missed/new"]
        );
        assert_eq!(cache.get("missed/changed").unwrap().value, "again");
    });
}

#[test]
fn a_cache_says_why_it_ended_and_one_that_is_dropped_leaves_nothing() {
    let server = OwnServer::start();
    run(async {
        let client = Client::connect(server.endpoints()).await.unwrap();
        let refused = client.list_watch("").into_cache();
        let end = patiently("the end", refused.synced()).await;
        assert!(matches!(end, Err(ListWatchEnd::Read { .. })), "{end:?}");
        assert!(matches!(refused.end(), Some(ListWatchEnd::Read { .. })));
        assert!(matches!(refused.ended().await, ListWatchEnd::Read { .. }));
        assert!(!refused.is_synced() && refused.is_empty());

        let cache = synced(&client, "dropped/").await;
        let other = cache.clone();
        drop(cache);
        let put = client.put("dropped/key", "value").await.unwrap().revision();
        reach(&other, put).await;
        assert_eq!(server.watch_count().await, 1);
        drop(other);
        patiently("no watch", async {
            while server.watch_count().await > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    });
}

#[test]
fn a_cache_whose_runtime_is_shut_down_says_that_it_is_closed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cache = runtime.block_on(async { synced(&client().await, "cache/shut/").await });
    drop(runtime);
    assert!(matches!(cache.end(), Some(ListWatchEnd::Closed)));
    assert!(!cache.is_synced());
}
