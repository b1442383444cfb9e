//! Range, put, delete, compaction: every option against a real server.

use tenure::pb::etcdserverpb::RangeResponse;
use tenure::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use tenure::{Client, Code, Delivery, EtcdError, KeyRange, LeaseId, Origin, Revision};

use crate::support::{OwnServer, client, run};

fn keys(answer: &RangeResponse) -> Vec<String> {
    answer.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
}

#[test]
fn a_put_is_read_back_with_its_revisions() {
    run(async {
        let client = client().await;
        let first = client.put("kv/put", "one").await.unwrap();
        let second = client.put("kv/put", "two").prev_kv().await.unwrap();
        assert_eq!(second.prev_kv.as_ref().unwrap().value, "one");
        let answer = client.get("kv/put").await.unwrap();
        let kv = &answer.kvs[0];
        assert_eq!((&kv.key[..], &kv.value[..]), (&b"kv/put"[..], &b"two"[..]));
        assert_eq!(Revision(kv.create_revision), first.revision());
        assert_eq!(Revision(kv.mod_revision), second.revision());
        assert_eq!(
            (kv.version, kv.lease, answer.count, answer.more),
            (2, 0, 1, false)
        );
        assert!(answer.revision() >= second.revision());
    });
}

#[test]
fn an_old_revision_shows_the_old_value_until_it_is_compacted() {
    let server = OwnServer::start();
    run(async {
        let client = Client::connect(server.endpoints()).await.unwrap();
        let old = client.put("kv/old", "old").await.unwrap().revision();
        let new = client.put("kv/old", "new").await.unwrap().revision();
        assert_eq!(
            client.get("kv/old").revision(old).await.unwrap().kvs[0].value,
            "old"
        );

        client.compact(new).physical().await.unwrap();
        let error = client.get("kv/old").revision(old).await.unwrap_err();
        assert_eq!(
            (error.etcd(), error.code()),
            (Some(EtcdError::Compacted), Code::OutOfRange)
        );
        assert_eq!(
            (error.origin(), error.delivery()),
            (Origin::Server, Delivery::Answered)
        );
        assert!(
            server.endpoints().iter().any(|endpoint| Some(&**endpoint) == error.endpoint()),
            "{error}"
        );
        let error = client.compact(new).await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::Compacted));
        let error = client.get("kv/old").revision(Revision(1 << 40)).await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::FutureRevision));
    });
}

#[test]
fn a_range_is_limited_sorted_and_filtered() {
    run(async {
        let client = client().await;
        let mut revisions = Vec::new();
        for (key, value) in [("kv/range/b", "2"), ("kv/range/a", "3"), ("kv/range/c", "1")] {
            revisions.push(client.put(key, value).await.unwrap().revision());
        }
        let all = || client.get(KeyRange::prefix("kv/range/"));
        assert_eq!(
            keys(&all().await.unwrap()),
            ["kv/range/a", "kv/range/b", "kv/range/c"]
        );
        let limited = all().limit(2).await.unwrap();
        assert_eq!((keys(&limited).len(), limited.more, limited.count), (2, true, 3));
        let by_value = all().sort(SortTarget::Value, SortOrder::Descend).await.unwrap();
        assert_eq!(keys(&by_value), ["kv/range/a", "kv/range/b", "kv/range/c"]);
        let by_creation = all().sort(SortTarget::Create, SortOrder::Ascend).await.unwrap();
        assert_eq!(keys(&by_creation), ["kv/range/b", "kv/range/a", "kv/range/c"]);
        let count = all().count_only().await.unwrap();
        assert_eq!((count.count, count.kvs.len()), (3, 0));
        assert!(all().keys_only().await.unwrap().kvs.iter().all(|kv| kv.value.is_empty()));
        assert_eq!(keys(&all().serializable().await.unwrap()).len(), 3);

        let middle = revisions[1];
        assert_eq!(
            keys(&all().min_mod_revision(middle).await.unwrap()),
            ["kv/range/a", "kv/range/c"]
        );
        assert_eq!(
            keys(&all().max_mod_revision(middle).await.unwrap()),
            ["kv/range/a", "kv/range/b"]
        );
        assert_eq!(
            keys(&all().min_create_revision(middle).await.unwrap()),
            ["kv/range/a", "kv/range/c"]
        );
        assert_eq!(
            keys(&all().max_create_revision(middle).await.unwrap()),
            ["kv/range/a", "kv/range/b"]
        );

        let half_open = client.get(KeyRange::range("kv/range/a", "kv/range/c")).await.unwrap();
        assert_eq!(keys(&half_open), ["kv/range/a", "kv/range/b"]);
        let rest = client.get(KeyRange::from_key("kv/range/b")).limit(2).await.unwrap();
        assert_eq!(keys(&rest), ["kv/range/b", "kv/range/c"]);
        assert!(client.get(KeyRange::all()).count_only().await.unwrap().count >= 3);
    });
}

#[test]
fn a_delete_tells_what_it_deleted() {
    run(async {
        let client = client().await;
        for key in ["kv/delete/a", "kv/delete/b"] {
            client.put(key, "x").await.unwrap();
        }
        let one = client.delete("kv/delete/a").prev_kv().await.unwrap();
        assert_eq!((one.deleted, &one.prev_kvs[0].key[..]), (1, &b"kv/delete/a"[..]));
        assert_eq!(client.delete("kv/delete/a").await.unwrap().deleted, 0);
        assert_eq!(
            client.delete(KeyRange::prefix("kv/delete/")).await.unwrap().deleted,
            1
        );
    });
}

#[test]
fn a_put_keeps_the_value_or_the_lease_when_told_to() {
    run(async {
        let client = client().await;
        let lease = LeaseId(0x5eed_0001);
        client.lease_grant(std::time::Duration::from_secs(60)).id(lease).await.unwrap();
        client.put("kv/keep", "value").lease(lease).await.unwrap();
        client.put("kv/keep", "other").ignore_lease().await.unwrap();
        client.put("kv/keep", "").ignore_value().await.unwrap();
        let kv = client.get("kv/keep").await.unwrap().kvs.remove(0);
        assert_eq!(
            (&kv.value[..], kv.lease),
            (&b"other"[..], 0),
            "a put without a lease takes it away"
        );

        let error = client.put("kv/keep", "x").ignore_value().await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::ValueProvided));
        let error = client.put("kv/keep", "x").lease(lease).ignore_lease().await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::LeaseProvided));
        let error = client.put("kv/keep/absent", "").ignore_value().await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::KeyNotFound));
        let error = client.put("kv/keep", "x").lease(LeaseId(0x5eed_0002)).await.unwrap_err();
        assert_eq!(
            (error.etcd(), error.code()),
            (Some(EtcdError::LeaseNotFound), Code::NotFound)
        );
    });
}

#[test]
fn what_is_wrong_with_a_request_is_told() {
    run(async {
        let client = client().await;
        let error = client.put("", "x").await.unwrap_err();
        assert_eq!(
            (error.etcd(), error.code()),
            (Some(EtcdError::EmptyKey), Code::InvalidArgument)
        );
        assert!(
            error.to_string().contains("etcdserverpb.KV/Put at http://"),
            "{error}"
        );
        // Too large for the server, and then too large to be sent at all.
        let error = client.put("kv/large", vec![0; 1_800_000]).await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::RequestTooLarge));
        let error = client.put("kv/large", vec![0; 3_000_000]).await.unwrap_err();
        assert_eq!(
            (error.delivery(), error.origin()),
            (Delivery::NotSent, Origin::Caller)
        );
    });
}

#[test]
fn an_answer_of_a_megabyte_comes_whole() {
    run(async {
        let client = client().await;
        let value: Vec<u8> =
            (0..1_000_000u32).map(|byte| byte.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        client.put("kv/megabyte", value.clone()).await.unwrap();
        assert_eq!(client.get("kv/megabyte").await.unwrap().kvs[0].value, value);
    });
}

#[test]
fn calls_of_one_client_run_side_by_side() {
    run(async {
        let client = client().await;
        let puts: Vec<_> = (0..500)
            .map(|index| {
                let client = client.clone();
                tokio::spawn(async move { client.put(format!("kv/many/{index}"), "x").await })
            })
            .collect();
        for put in puts {
            put.await.unwrap().unwrap();
        }
        assert_eq!(
            client.get(KeyRange::prefix("kv/many/")).count_only().await.unwrap().count,
            500
        );
    });
}
