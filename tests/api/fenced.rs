//! Writes under a fence: one request each, done while the lock is ours and refused for certain
//! afterwards, and not passed on to the next holder where nobody knows what became of them.

use std::future::IntoFuture;
use std::task::{Context, Waker};
use std::time::Duration;

use tenure::pb::etcdserverpb::response_op::Response;
use tenure::{Client, Compare, Config, Error, FencedWrites, KeyRange, Op, Revision};
use tenure_testserver::{Fault, Link, Server};

use crate::hand_off::waiting;
use crate::lock::{TTL, session, until_queue_is};
use crate::support::{client, counted_client, patiently, run};

async fn value(client: &Client, key: &'static str) -> Option<String> {
    let answer = client.get(key).await.unwrap();
    answer.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
}

fn assert_lost(error: &Error) {
    assert!(error.is_lost() && !error.may_be_applied(), "{error:?}");
}

#[test]
fn a_put_a_deletion_and_a_transaction_are_one_request_each() {
    run(async {
        let (client, sent) = counted_client().await;
        let session = client.session().ttl(TTL).await.unwrap();
        let guard = session.mutex("fenced/one").lock().await.unwrap();
        let fenced = guard.fenced();
        let before = sent.requests();
        let put = fenced.put("fenced-one", "a").lease(session.lease_id()).await.unwrap();
        assert!(put.revision() > guard.token().create_revision());
        assert!(put.header.is_some_and(|header| header.cluster_id != 0));
        let put = fenced.put("fenced-one", "b").prev_kv().await.unwrap();
        assert_eq!(put.prev_kv.unwrap().value, "a");
        let txn = fenced.txn().when(Compare::value("fenced-one").equal("b")).then(Op::get("fenced-one"));
        let answer = txn.await.unwrap();
        assert!(answer.succeeded);
        let Some(Response::ResponseRange(range)) = &answer.responses[0].response else {
            panic!("{answer:?}");
        };
        assert_eq!(range.kvs[0].lease, 0);
        let absent = Compare::create_revision("fenced-one").equal(Revision::ZERO);
        let refused = fenced.txn().when(absent).then(Op::put("fenced-one", "c")).await.unwrap();
        assert!(!refused.succeeded, "its own comparison is not the fence's");
        let deleted = fenced.delete(KeyRange::prefix("fenced-one")).prev_kv().await.unwrap();
        assert_eq!((deleted.deleted, deleted.prev_kvs.len()), (1, 1));
        assert_eq!(sent.requests(), before + 5);
        guard.release().await.unwrap();
    });
}

#[test]
fn who_is_late_writes_nothing_and_is_told_for_certain() {
    run(async {
        let (one, two) = (session().await, session().await);
        let client = client().await;
        let guard = one.mutex("fenced/late").lock().await.unwrap();
        guard.fenced().put("fenced-late", "one").await.unwrap();
        client.delete(guard.key().to_vec()).await.unwrap();
        let next = patiently("the lock", two.mutex("fenced/late").lock()).await.unwrap();
        assert_lost(&guard.fenced().put("fenced-late", "late").await.unwrap_err());
        assert_lost(&guard.fenced().delete("fenced-late").await.unwrap_err());
        assert_lost(&guard.fenced().txn().then(Op::delete("fenced-late")).await.unwrap_err());
        next.fenced().put("fenced-late", "two").await.unwrap();
        assert_eq!(value(&client, "fenced-late").await.as_deref(), Some("two"));
        assert_lost(&guard.release().await.unwrap_err());
    });
}

#[test]
fn once_the_session_is_over_nothing_is_sent() {
    run(async {
        let (client, sent) = counted_client().await;
        let session = client.session().ttl(TTL).await.unwrap();
        let guard = session.mutex("fenced/over").lock().await.unwrap();
        session.orphan();
        let before = sent.requests();
        let error = guard.fenced().put("fenced-over", "late").await.unwrap_err();
        assert_lost(&error);
        assert!(std::error::Error::source(&error).is_some(), "why it ended");
        assert_eq!(sent.requests(), before);
        guard.release().await.unwrap();
    });
}

#[test]
fn whatever_is_held_can_fence_its_writes() {
    run(async {
        let (session, client) = (session().await, client().await);
        let writer = session.rw_lock("fenced/rw").write().await.unwrap();
        let permits = session.semaphore("fenced/semaphore", 3).acquire(2).await.unwrap();
        let all = session.multi_lock(["fenced/multi/a", "fenced/multi/b"]).lock().await.unwrap();
        let leadership = session.election("fenced/election").campaign("me").await.unwrap();
        let queue = session.queue("fenced");
        queue.put("work").await.unwrap();
        let job = queue.consumer().take().await.unwrap();
        let all_keys = all.fences().len();
        assert_eq!(all_keys, 2);
        let fenced: [(&str, FencedWrites<'_>); 5] = [
            ("rw", writer.fenced()),
            ("semaphore", permits.fenced()),
            ("multi", all.fenced()),
            ("election", leadership.fenced()),
            ("queue", job.fenced()),
        ];
        for (what, fenced) in &fenced {
            fenced.put("fenced-held", *what).await.unwrap();
            assert_eq!(value(&client, "fenced-held").await.as_deref(), Some(*what));
        }
        // Of the multi-lock the second name only.
        client.delete(KeyRange::prefix("fenced/multi/b/")).await.unwrap();
        for prefix in [
            "fenced/rw/",
            "fenced/semaphore/",
            "fenced/election/",
            "fenced#queue/claim/",
        ] {
            let answer = client.delete(KeyRange::prefix(prefix)).await.unwrap();
            assert!(answer.deleted > 0, "{prefix}");
        }
        for (what, fenced) in &fenced {
            let error = fenced.put("fenced-held", "late").await.unwrap_err();
            assert!(error.is_lost(), "{what}: {error:?}");
        }
        assert_eq!(value(&client, "fenced-held").await.as_deref(), Some("queue"));
    });
}

#[test]
fn a_key_is_passed_on_unless_a_write_with_it_may_be_under_way() {
    run(async {
        let session = session().await;
        let mutex = session.mutex("fenced/pass").hand_off(u32::MAX, Duration::from_secs(3600));
        let first = mutex.lock().await.unwrap();
        let token = first.token();
        first.fenced().put("fenced-pass", "known").await.unwrap();
        // One that was not sent is none.
        drop(first.fenced().put("fenced-pass", "not sent").into_future());
        let next = waiting(&mutex);
        drop(first);
        let second = patiently("the lock", next).await.unwrap();
        assert_eq!(second.token().create_revision(), token.create_revision());
        let mut dropped = second.fenced().put("fenced-pass", "unknown").into_future();
        assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(dropped);
        let next = waiting(&mutex);
        second.release().await.unwrap();
        let third = patiently("the lock", next).await.unwrap();
        assert!(third.token().create_revision() > token.create_revision());
        third.release().await.unwrap();
        until_queue_is(session.client(), "fenced/pass", 0).await;
    });
}

#[test]
fn a_write_without_an_answer_is_told_apart_from_one_that_was_refused() {
    run(async {
        let server = Server::start().await.unwrap();
        let client = Client::connect([server.endpoint()]).await.unwrap();
        let session = client.session().ttl(TTL).await.unwrap();
        let mutex = session.mutex("fenced").hand_off(u32::MAX, Duration::from_secs(3600));
        let guard = mutex.lock().await.unwrap();
        let token = guard.token();
        server.faults().on_answer("/etcdserverpb.KV/Txn", Fault::Drop);
        // Long enough to be sent on a machine that stands still for a while.
        let fenced = guard.fenced().timeout(Duration::from_secs(2));
        let error = fenced.put("written", "perhaps").await.unwrap_err();
        assert!(error.may_be_applied() && !error.is_lost(), "{error:?}");
        let next = waiting(&mutex);
        guard.release().await.unwrap();
        let next = patiently("the lock", next).await.unwrap();
        assert!(next.token().create_revision() > token.create_revision());
        let timed_out = Fault::End {
            code: 14,
            message: "etcdserver: request timed out".to_owned(),
        };
        server.faults().on_answer("/etcdserverpb.KV/Txn", timed_out);
        next.fenced().idempotent().timeout(TTL).put("written", "for certain").await.unwrap();
    });
}

#[test]
fn of_a_write_that_may_be_sent_again_a_loss_does_not_say_that_nothing_was_written() {
    run(async {
        let server = Server::start().await.unwrap();
        let connect = || Client::connect_with([server.endpoint()], Config::new().call_timeout(TTL));
        let (one, two) = (connect().await.unwrap(), connect().await.unwrap());
        let session = one.session().ttl(TTL).await.unwrap();
        let guard = session.mutex("fenced/again").lock().await.unwrap();
        server.faults().on_answer("/etcdserverpb.KV/Txn", Fault::Drop);
        let writing = tokio::spawn(async move { guard.fenced().idempotent().put("fenced-again", "a").await });
        patiently("the first copy", async {
            while value(&two, "fenced-again").await.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert!(two.force_unlock("fenced/again").await.unwrap().is_some());
        server.faults().set_link(Link::Down);
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.faults().set_link(Link::Up);
        let error = patiently("the second copy", writing).await.unwrap().unwrap_err();
        assert!(error.is_lost() && error.may_be_applied(), "{error:?}");
    });
}
