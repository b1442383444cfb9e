//! A client that sees a part of the key space. With `TENURE_TEST_VIEW=namespace` all other tests here
//! run on such a client too; these hold it against a client that sees everything.

use std::future::IntoFuture;
use std::time::Duration;

use tenure::pb::etcdserverpb::response_op::Response;
use tenure::pb::mvccpb::KeyValue;
use tenure::{Client, Compare, EtcdError, Event, KeyRange, Op, Revision, Txn};

use crate::support::{client, is_embedded, patiently, run};

const TTL: Duration = Duration::from_secs(30);

fn keys(kvs: &[KeyValue]) -> Vec<&[u8]> {
    kvs.iter().map(|kv| &kv.key[..]).collect()
}

/// Inside a prefix that ends in the greatest byte, with neighbours on both sides: the prefix itself, keys
/// just below and above it, and one above the end that adding one with a carry would give.
async fn neighbours(root: &Client, name: &str) -> (Client, Vec<Vec<u8>>) {
    let at = |suffix: &[u8]| [name.as_bytes(), suffix].concat();
    let outside = [&b"m"[..], b"m\xfe\xff", b"m\xff", b"n", b"n\0", b"n\0\0"].map(at).to_vec();
    for key in &outside {
        root.put(key.clone(), "outside").await.unwrap();
    }
    let inside = root.namespace(at(b"m\xff"));
    for key in [&b"\0"[..], b"a", b"b", b"b\0", b"\xff", b"\xff\xff"] {
        inside.put(key, "inside").await.unwrap();
    }
    (inside, outside)
}

#[test]
fn a_range_in_a_namespace_is_exactly_that_range() {
    run(async {
        let root = client().await;
        let (inside, _) = neighbours(&root, "namespace/ranges/").await;
        let table: [(KeyRange, &[&[u8]]); 8] = [
            (
                KeyRange::all(),
                &[b"\0", b"a", b"b", b"b\0", b"\xff", b"\xff\xff"],
            ),
            (
                KeyRange::prefix(""),
                &[b"\0", b"a", b"b", b"b\0", b"\xff", b"\xff\xff"],
            ),
            (KeyRange::from_key("b"), &[b"b", b"b\0", b"\xff", b"\xff\xff"]),
            (KeyRange::prefix("b"), &[b"b", b"b\0"]),
            (KeyRange::prefix(&b"\xff"[..]), &[b"\xff", b"\xff\xff"]),
            (KeyRange::range("a", "b"), &[b"a"]),
            (KeyRange::range("b", "a"), &[]),
            (KeyRange::key("b"), &[b"b"]),
        ];
        for (range, expected) in table {
            let answer = inside.get(range.clone()).await.unwrap();
            assert_eq!(keys(&answer.kvs), expected, "{range:?}");
            assert_eq!(answer.count, expected.len() as i64, "{range:?}");
            let mut stream = inside.range_stream(range.clone()).page_size(2);
            let mut streamed = Vec::new();
            while let Some(kvs) = stream.next().await.unwrap() {
                streamed.extend(kvs);
            }
            assert_eq!(keys(&streamed), expected, "{range:?}");
        }
    });
}

#[test]
fn to_delete_everything_deletes_what_is_inside_and_nothing_else() {
    run(async {
        let root = client().await;
        let name = "namespace/delete/";
        let (inside, mut outside) = neighbours(&root, name).await;
        let deleted = inside.delete(KeyRange::all()).prev_kv().await.unwrap();
        assert_eq!(
            keys(&deleted.prev_kvs),
            [&b"\0"[..], b"a", b"b", b"b\0", b"\xff", b"\xff\xff"]
        );
        let left = root.get(KeyRange::prefix(name)).await.unwrap().kvs;
        outside.sort();
        assert_eq!(keys(&left), outside);
    });
}

#[test]
fn an_empty_key_is_refused_as_it_is_outside() {
    run(async {
        let root = client().await;
        let inside = root.namespace("namespace/empty/");
        for client in [&root, &inside] {
            for error in [
                client.get("").await.unwrap_err(),
                client.get(KeyRange::range("", "b")).await.unwrap_err(),
                client.put("", "x").await.unwrap_err(),
                client.delete(KeyRange::from_key("")).await.unwrap_err(),
                client.txn().when(Compare::version("").equal(1)).await.unwrap_err(),
                client.txn().then(Op::put("", "x")).await.unwrap_err(),
            ] {
                assert_eq!(error.etcd(), Some(EtcdError::EmptyKey), "{error}");
            }
            assert!(client.watch("").await.is_err());
        }
    });
}

#[test]
fn earlier_values_come_back_without_the_prefix() {
    run(async {
        let root = client().await;
        let inside = root.namespace("namespace/prev/");
        let mut watch = inside.watch(KeyRange::all()).prev_kv().await.unwrap();
        inside.put("k", "1").await.unwrap();
        let before = inside.put("k", "2").prev_kv().await.unwrap().prev_kv.unwrap();
        assert_eq!((&before.key[..], &before.value[..]), (&b"k"[..], &b"1"[..]));
        root.put("namespace/prev0", "the neighbour").await.unwrap();
        inside.delete(KeyRange::from_key("k")).await.unwrap();
        let mut events = Vec::new();
        while events.len() < 3 {
            events.extend(patiently("an event", watch.next()).await.unwrap().events);
        }
        assert!(events.iter().all(|event| event.kv().key == "k"), "{events:?}");
        let earlier = |event: &Event| event.prev_kv().map(|kv| (kv.key.clone(), kv.value.clone()));
        let earlier: Vec<_> = events.iter().map(earlier).collect();
        let kv = |value: &'static str| Some(("k".into(), value.into()));
        assert_eq!(earlier, [None, kv("1"), kv("2")]);
    });
}

#[test]
fn a_transaction_is_mapped_through_and_through() {
    run(async {
        let root = client().await;
        let inside = root.namespace("namespace/txn/");
        root.put("namespace/txn", "below").await.unwrap();
        root.put("namespace/txn0", "above").await.unwrap();
        inside.put("a", "1").await.unwrap();
        inside.put("b", "1").await.unwrap();
        let nested = Txn::new()
            .when(Compare::value("a").equal("1"))
            .then(Op::get(KeyRange::all()))
            .then(Op::delete(KeyRange::from_key("b")).prev_kv());
        let answer = inside
            .txn()
            // The neighbours have other values, and would make it fail.
            .when(Compare::value(KeyRange::all()).equal("1"))
            .then(Op::put("a", "1").prev_kv())
            .then(nested)
            .or_else(Op::get("a"))
            .await
            .unwrap();
        assert!(answer.succeeded);
        let [put, nested] = &answer.responses[..] else {
            panic!("two answers: {answer:?}");
        };
        let Some(Response::ResponsePut(put)) = &put.response else {
            panic!("{put:?}");
        };
        assert_eq!(put.prev_kv.as_ref().unwrap().key, "a");
        let Some(Response::ResponseTxn(nested)) = &nested.response else {
            panic!("{nested:?}");
        };
        let Some(Response::ResponseRange(range)) = &nested.responses[0].response else {
            panic!("{nested:?}");
        };
        assert_eq!(keys(&range.kvs), [b"a", b"b"]);
        let Some(Response::ResponseDeleteRange(deleted)) = &nested.responses[1].response else {
            panic!("{nested:?}");
        };
        assert_eq!(keys(&deleted.prev_kvs), [b"b"]);
        let all = root.get(KeyRange::prefix("namespace/txn")).await.unwrap().kvs;
        assert_eq!(
            keys(&all),
            [&b"namespace/txn"[..], b"namespace/txn/a", b"namespace/txn0"]
        );
    });
}

#[test]
fn namespaces_nest_and_an_empty_one_is_none() {
    run(async {
        let root = client().await;
        let nested = root.namespace("namespace/nest/").namespace("inner/");
        nested.put("k", "x").await.unwrap();
        assert_eq!(
            root.get("namespace/nest/inner/k").await.unwrap().kvs[0].value,
            "x"
        );
        assert!(nested.prefix().ends_with(b"namespace/nest/inner/"));
        assert_eq!(nested.namespace("").prefix(), nested.prefix());
        let joined = root.namespace("namespace/nest/inner/").get(KeyRange::all()).await.unwrap();
        assert_eq!(keys(&joined.kvs), [b"k"]);
    });
}

#[test]
fn a_lease_is_the_clusters_and_tells_the_keys_of_the_namespace() {
    run(async {
        let root = client().await;
        let (one, two) = (
            root.namespace("namespace/lease/1/"),
            root.namespace("namespace/lease/2/"),
        );
        let lease = one.lease_grant(TTL).await.unwrap();
        let id = tenure::LeaseId(lease.id);
        one.put("k", "x").lease(id).await.unwrap();
        two.put("l", "x").lease(id).await.unwrap();
        assert_eq!(one.lease_time_to_live(id).keys().await.unwrap().keys, ["k"]);
        assert_eq!(two.lease_time_to_live(id).keys().await.unwrap().keys, ["l"]);
        assert_eq!(root.lease_time_to_live(id).keys().await.unwrap().keys.len(), 2);
        two.lease_revoke(id).await.unwrap();
        assert_eq!(one.get("k").await.unwrap().count, 0);
    });
}

#[test]
fn locks_of_two_namespaces_do_not_meet_and_their_guards_speak_of_the_inside() {
    run(async {
        let root = client().await;
        let (one, two) = (
            root.namespace("namespace/lock/1/"),
            root.namespace("namespace/lock/2/"),
        );
        let held = patiently("the one lock", one.lock("name").into_future()).await.unwrap();
        let other = patiently("the other lock", two.lock("name").into_future()).await.unwrap();
        assert_ne!(held.session().lease_id(), other.session().lease_id());
        assert!(held.key().starts_with(b"name/"), "{:?}", held.key());
        assert_eq!(one.who("name").await.unwrap()[0].key, held.key());
        assert!(one.txn().when(held.fence()).then(Op::put("w", "1")).await.unwrap().succeeded);
        held.fenced().put("w", "2").await.unwrap();
        assert_eq!(root.get("namespace/lock/1/w").await.unwrap().kvs[0].value, "2");
        // What a fence names is not there for others: it fails, and nothing is written.
        assert!(!two.txn().when(held.fence()).then(Op::put("w", "1")).await.unwrap().succeeded);
        held.release().await.unwrap();
        other.release().await.unwrap();
    });
}

#[test]
fn views_of_one_namespace_share_the_session_of_their_locks() {
    run(async {
        let root = client().await;
        let (one, same) = (
            root.namespace("namespace/shared/"),
            root.namespace("namespace/shared/"),
        );
        let held = one.lock("a").await.unwrap();
        let other = same.namespace("").lock("b").await.unwrap();
        assert_eq!(held.session().lease_id(), other.session().lease_id());
        let outside = root.lock("namespace/shared/c").await.unwrap();
        assert_ne!(held.session().lease_id(), outside.session().lease_id());
        // The same name is the same lock, from inside and from outside.
        assert!(
            root.session()
                .await
                .unwrap()
                .mutex("namespace/shared/a")
                .try_lock()
                .await
                .unwrap()
                .is_none()
        );
    });
}

#[test]
fn a_cache_and_a_list_are_of_the_namespace() {
    run(async {
        let root = client().await;
        let (inside, _) = neighbours(&root, "namespace/cache/").await;
        let cache = inside.list_watch(KeyRange::all()).page_size(2).into_cache();
        patiently("the list", cache.synced()).await.unwrap();
        assert_eq!(cache.len(), 6);
        inside.put("new", "x").await.unwrap();
        // Not by the revision: servers before 3.4.25 are ahead of their events with it.
        patiently("the change", async {
            while cache.get("new").is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(cache.get("new").unwrap().key, "new");
        assert_eq!(cache.len(), 7);
    });
}

#[test]
fn the_servers_own_services_lock_and_elect_inside() {
    run(async {
        if is_embedded() {
            return; // It has none, as `services` shows.
        }
        let root = client().await;
        let inside = root.namespace("namespace/service/");
        let lease = inside.lease(TTL).await.unwrap();
        let held = inside.lock_service().lock("lock", lease.id()).await.unwrap();
        assert_eq!(held.key, format!("lock/{}", lease.id()));
        assert_eq!(inside.who("lock").await.unwrap()[0].key, held.key);
        inside.lock_service().unlock(held.key).await.unwrap();
        assert_eq!(inside.who("lock").await.unwrap(), []);

        let service = inside.election_service();
        let leader = service.campaign("election", lease.id(), "one").await.unwrap().leader.unwrap();
        assert_eq!(leader.name, "election");
        let mut observed = service.observe("election");
        let seen = patiently("a leader", observed.next()).await.unwrap();
        assert_eq!((&seen.key, &seen.value[..]), (&leader.key, &b"one"[..]));
        service.proclaim(leader.clone(), "two").await.unwrap();
        let found = service.leader("election").await.unwrap().kv.unwrap();
        assert_eq!((&found.key, &found.value[..]), (&leader.key, &b"two"[..]));
        service.resign(leader).await.unwrap();
        assert_eq!(inside.get(KeyRange::prefix("election")).await.unwrap().count, 0);
        assert_eq!(root.get("namespace/service/").await.unwrap().count, 0);
    });
}

#[test]
fn a_watch_in_a_namespace_resumes_there() {
    run(async {
        let root = client().await;
        let inside = root.namespace("namespace/resume/");
        let first = inside.put("k", "1").await.unwrap().revision();
        inside.put("k", "2").await.unwrap();
        let mut watch = inside.watch(KeyRange::all()).start_revision(first).await.unwrap();
        let batch = patiently("the history", watch.next()).await.unwrap();
        let at = batch.resume_revision;
        drop(watch);
        let mut watch = inside.watch("k").start_revision(at).await.unwrap();
        inside.delete("k").await.unwrap();
        let mut seen = batch.events;
        while seen.len() < 3 {
            seen.extend(patiently("the rest", watch.next()).await.unwrap().events);
        }
        assert!(
            matches!(&seen[2], Event::Delete { kv, .. } if kv.key == "k"),
            "{seen:?}"
        );
        assert!(seen[0].revision() == first && first > Revision::ZERO);
    });
}
