//! A session that goes on with the lease of another: nothing that was granted before is granted
//! again, and no word of the other is used twice.

use std::time::Duration;

use tenure::{Guard, LeaseId, Op, Session, Token};

use crate::lock::{TTL, session, until_queue_is};
use crate::support::{client, patiently, run};

/// Its lease, with all that hangs on it.
fn leave(session: Session) -> LeaseId {
    let lease = session.lease_id();
    session.orphan();
    lease
}

async fn inherit(lease: LeaseId) -> Session {
    client().await.session().lease(lease).await.unwrap()
}

async fn locked(session: &Session, name: &str) -> Guard {
    patiently("the lock", session.mutex(name).lock()).await.unwrap()
}

/// Held by a session that is gone, after it was passed on: the session that goes on, and the token and
/// the fence of the last guard.
async fn left_behind(name: &str, owner: Option<&str>) -> (Session, Token, tenure::Compare) {
    let one = session().await;
    let mutex = match owner {
        Some(owner) => one.mutex(name).owner(owner),
        None => one.mutex(name),
    };
    let first = mutex.lock().await.unwrap();
    let waits = tokio::spawn({
        let mutex = mutex.clone();
        async move { mutex.lock().await.unwrap() }
    });
    // Time to wait in: whether it does makes no difference to what is asserted.
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(first);
    let last = waits.await.unwrap();
    let (token, fence) = (last.token(), last.fence());
    let lease = leave(one);
    drop(last);
    (inherit(lease).await, token, fence)
}

#[test]
fn tokens_rise_and_earlier_fences_fail() {
    run(async {
        for (name, owner) in [("inherited/session", None), ("inherited/owner", Some("o"))] {
            let (mut session, mut earlier, mut fence) = left_behind(name, owner).await;
            // The second finds the gate that the first has put.
            for _ in 0..2 {
                let mutex = match owner {
                    Some(owner) => session.mutex(name).owner(owner),
                    None => session.mutex(name),
                };
                let guard = patiently("the lock", mutex.lock()).await.unwrap();
                assert!(earlier < guard.token(), "{earlier}, then {}", guard.token());
                let late = session.client().txn().when(fence).then(Op::put("inherited-late", name));
                assert!(!late.await.unwrap().succeeded, "an earlier fence holds");
                (earlier, fence) = (guard.token(), guard.fence());
                let lease = leave(session);
                drop(guard);
                session = inherit(lease).await;
            }
            session.close().await.unwrap();
        }
    });
}

#[test]
fn a_key_that_is_left_is_not_in_the_way_of_a_try_nor_in_front_of_who_waits_elsewhere() {
    run(async {
        let (two, _, _) = left_behind("inherited/try", None).await;
        let guard = two.mutex("inherited/try").try_lock().await.unwrap().expect("nobody else wants it");
        guard.release().await.unwrap();
        let (three, _, _) = left_behind("inherited/queue", None).await;
        let other = session().await;
        let waits = tokio::spawn(async move {
            let guard = locked(&other, "inherited/queue").await;
            guard.release().await.unwrap();
        });
        until_queue_is(three.client(), "inherited/queue", 2).await;
        locked(&three, "inherited/queue").await.release().await.unwrap();
        patiently("the turn of who waited", waits).await.unwrap();
        two.close().await.unwrap();
        three.close().await.unwrap();
    });
}

#[test]
fn every_grant_of_one_token_per_key_is_another_key() {
    run(async {
        let one = session().await;
        let guard = one.mutex("inherited/one").one_token_per_key().lock().await.unwrap();
        let earlier = guard.token();
        let two = inherit(leave(one)).await;
        drop(guard);
        let guard = patiently("the lock", two.mutex("inherited/one").one_token_per_key().lock())
            .await
            .unwrap();
        assert!(earlier.create_revision() < guard.token().create_revision());
        drop(guard);
        two.close().await.unwrap();
    });
}

#[test]
fn whatever_is_put_into_a_queue_is_in_it() {
    run(async {
        let first = client().await.session().ttl(TTL).await.unwrap();
        let queue = first.queue("inherited-queue");
        queue.put("one").await.unwrap();
        let second = inherit(leave(first)).await;
        second.queue("inherited-queue").put("two").await.unwrap();
        let third = inherit(leave(second)).await;
        third.queue("inherited-queue").put("three").await.unwrap();
        let mut consumer = third.queue("inherited-queue").consumer();
        for value in ["one", "two", "three"] {
            let job = patiently("an item", consumer.take()).await.unwrap();
            assert_eq!(job.value(), value.as_bytes());
            job.done().await.unwrap();
        }
        third.close().await.unwrap();
    });
}
