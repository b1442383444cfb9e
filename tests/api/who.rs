//! Who has a lock and who waits, and what one can do about the holder from outside.

use std::time::Duration;

use tenure::{Code, LeaseId, Op};

use crate::hand_off::waiting;
use crate::lock::{TTL, session, until_queue_is};
use crate::support::{client, patiently, run};

#[test]
fn who_tells_the_holder_and_those_who_wait_in_their_order() {
    run(async {
        let client = client().await;
        assert_eq!(client.who("who/order").await.unwrap(), []);
        let (one, two, three) = (session().await, session().await, session().await);
        let held = one.mutex("who/order").value("the first").lock().await.unwrap();
        let (second, third) = (
            two.mutex("who/order").value("the second"),
            three.mutex("who/order"),
        );
        let waits = tokio::spawn(async move { second.lock().await.unwrap() });
        until_queue_is(&client, "who/order", 2).await;
        let waits_too = tokio::spawn(async move { third.lock().await.unwrap() });
        until_queue_is(&client, "who/order", 3).await;
        let below = three.mutex("who/order/below").lock().await.unwrap();
        let queue = client.who("who/order").await.unwrap();
        let leases: Vec<_> = queue.iter().map(|entry| entry.lease).collect();
        assert_eq!(leases, [one.lease_id(), two.lease_id(), three.lease_id()]);
        assert!(queue.is_sorted_by(|a, b| a.created < b.created), "{queue:?}");
        assert_eq!(
            (&queue[0].value[..], &queue[1].value[..]),
            (&b"the first"[..], &b"the second"[..])
        );
        assert_eq!(queue[0].key, held.key());
        assert_eq!(queue[0].created, held.token().create_revision());
        drop((held, below));
        drop(patiently("the second", waits).await.unwrap());
        drop(patiently("the third", waits_too).await.unwrap());
        until_queue_is(&client, "who/order", 0).await;
    });
}

#[test]
fn a_forced_unlock_lets_the_next_one_in_and_the_fence_keeps_the_holder_out() {
    run(async {
        let client = client().await;
        assert_eq!(client.force_unlock("who/force").await.unwrap(), None);
        let (one, two) = (session().await, session().await);
        let held = one.mutex("who/force").lock().await.unwrap();
        let next = two.mutex("who/force");
        let next = tokio::spawn(async move { next.lock().await.unwrap() });
        until_queue_is(&client, "who/force", 2).await;
        let whom = client.force_unlock("who/force").await.unwrap().expect("somebody had it");
        assert_eq!((whom.lease, &whom.key[..]), (one.lease_id(), held.key()));
        let next = patiently("the next grant", next).await.unwrap();
        assert!(next.token() > held.token());
        let late = client.txn().when(held.fence()).then(Op::put("who-force", "late"));
        assert!(!late.await.unwrap().succeeded);
        assert_eq!(held.release().await.unwrap_err().code(), Code::FailedPrecondition);
        assert_eq!(
            client.who("who/force").await.unwrap().len(),
            1,
            "the next one keeps it"
        );
        next.release().await.unwrap();
    });
}

#[test]
fn a_forced_unlock_ends_lingering_too() {
    run(async {
        let client = client().await;
        let session = session().await;
        let mutex = session.mutex("who/linger").linger(TTL);
        let token = patiently("a key that lingers", async {
            loop {
                let token = mutex.lock().await.unwrap().token();
                if token.sequence() > 0 {
                    return token;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert!(client.force_unlock("who/linger").await.unwrap().is_some());
        patiently("a new key", async {
            while mutex.lock().await.unwrap().token().create_revision() == token.create_revision() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        session.close().await.unwrap();
    });
}

#[test]
fn a_holder_hears_that_somebody_asks_for_the_lock() {
    run(async {
        let client = client().await;
        assert_eq!(client.ask_to_release("who/ask", "please").await.unwrap(), None);
        let session = session().await;
        let held = session.mutex("who/ask").lock().await.unwrap();
        let whom = client.ask_to_release("who/ask", "before").await.unwrap().expect("a holder");
        assert_eq!(whom.lease, session.lease_id());
        // What was asked before one listens is heard, and once more.
        assert_eq!(patiently("a request", held.asked()).await.unwrap(), "before");
        assert_eq!(patiently("it again", held.asked()).await.unwrap(), "before");
        held.release().await.unwrap();
        // It was for that key, and not for the next.
        let held = session.mutex("who/ask").lock().await.unwrap();
        let deaf = tokio::time::timeout(Duration::from_millis(200), held.asked()).await;
        assert!(deaf.is_err(), "{deaf:?}");
        let asks = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            client.ask_to_release("who/ask", "after").await.unwrap()
        };
        let (heard, whom) = tokio::join!(patiently("a request", held.asked()), asks);
        assert_eq!(heard.unwrap(), "after");
        assert!(whom.is_some());
        held.release().await.unwrap();
        session.close().await.unwrap();
        until_queue_is(&client, "who/ask#ask", 0).await;
    });
}

#[test]
fn who_has_no_lease_cannot_be_asked() {
    run(async {
        let client = client().await;
        client.put("who/foreign/by-hand", "no lease").await.unwrap();
        let holder = client.who("who/foreign").await.unwrap().remove(0);
        assert_eq!(holder.lease, LeaseId::NONE);
        let error = client.ask_to_release("who/foreign", "").await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        assert!(client.force_unlock("who/foreign").await.unwrap().is_some());
    });
}

#[test]
fn who_holds_permits_cannot_be_asked() {
    run(async {
        let session = session().await;
        let permits = session.semaphore("who/permits", 2).acquire(1).await.unwrap();
        let asked = session.client().ask_to_release("who/permits", "please").await.unwrap_err();
        assert_eq!(asked.code(), Code::FailedPrecondition);
        permits.release().await.unwrap();
        session.close().await.unwrap();
    });
}

#[test]
fn a_guard_that_gave_out_a_fence_passes_its_key_on_when_released_and_not_when_dropped() {
    run(async {
        let session = session().await;
        let mutex = session.mutex("who/fence").hand_off(u32::MAX, TTL);
        let first = mutex.lock().await.unwrap();
        let (second, third) = (waiting(&mutex), waiting(&mutex));
        let (created, _) = (first.token().create_revision(), first.fence());
        first.release().await.unwrap();
        let second = patiently("the second", second).await.unwrap();
        assert_eq!(second.token().create_revision(), created);
        let fence = second.fence();
        drop(second);
        let third = patiently("the third", third).await.unwrap();
        let last = third.token().create_revision();
        assert!(last > created);
        let late = session.client().txn().when(fence).then(Op::put("who-fence", "late"));
        assert!(!late.await.unwrap().succeeded);
        let (fourth, panics) = (
            waiting(&mutex),
            tokio::spawn(async move {
                let _fence = third.fence();
                std::panic::resume_unwind(Box::new("quietly"));
            }),
        );
        assert!(panics.await.is_err());
        assert!(patiently("the fourth", fourth).await.unwrap().token().create_revision() > last);
    });
}
