//! The semaphore against a real server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tenure::Code;

use crate::lock::{TTL, session, until_queue_is};
use crate::support::{client, counted_client, patiently, run};

#[test]
fn never_more_permits_are_held_than_there_are() {
    const PERMITS: u32 = 5;
    run(async {
        let held = Arc::new(AtomicU32::new(0));
        let mut tasks = Vec::new();
        for worker in 0..6_u32 {
            let (semaphore, held) = (session().await.semaphore("sem/bound", PERMITS), held.clone());
            tasks.push(tokio::spawn(async move {
                for round in 0..8 {
                    let count = 1 + (worker + round) % PERMITS;
                    let permits = semaphore.acquire(count).await.unwrap();
                    assert_eq!(permits.count(), count);
                    let before = held.fetch_add(count, Ordering::SeqCst);
                    assert!(before + count <= PERMITS, "{before} and {count}");
                    tokio::task::yield_now().await;
                    held.fetch_sub(count, Ordering::SeqCst);
                    permits.release().await.unwrap();
                }
            }));
        }
        for task in tasks {
            patiently("the end of a worker", task).await.unwrap();
        }
        until_queue_is(&client().await, "sem/bound", 0).await;
    });
}

#[test]
fn tasks_of_one_session_hold_permits_beside_each_other() {
    run(async {
        let (client, sent) = counted_client().await;
        let semaphore = client.session().ttl(TTL).await.unwrap().semaphore("sem/one", 3);
        let before = sent.requests();
        let one = semaphore.acquire(1).await.unwrap();
        let two = semaphore.acquire(2).await.unwrap();
        assert_eq!(sent.requests(), before + 2, "a request each");
        assert!(semaphore.try_acquire(1).await.unwrap().is_none());
        assert_eq!(sent.requests(), before + 3, "and one to lose");
        assert!(two.token() > one.token());
        drop(one);
        let again = patiently("a permit", semaphore.acquire(1)).await.unwrap();
        again.release().await.unwrap();
        two.release().await.unwrap();
        until_queue_is(&client, "sem/one", 0).await;
    });
}

#[test]
fn one_who_wants_few_does_not_overtake_one_who_wants_many() {
    run(async {
        let (one, two) = (session().await, session().await);
        let held = one.semaphore("sem/fair", 3).acquire(1).await.unwrap();
        let semaphore = two.semaphore("sem/fair", 3);
        let many = tokio::spawn(async move { semaphore.acquire(3).await.unwrap() });
        until_queue_is(one.client(), "sem/fair", 2).await;
        assert!(one.semaphore("sem/fair", 3).try_acquire(1).await.unwrap().is_none());
        let semaphore = one.semaphore("sem/fair", 3);
        let few = tokio::spawn(async move { semaphore.acquire(1).await.unwrap() });
        until_queue_is(one.client(), "sem/fair", 3).await;
        held.release().await.unwrap();
        let many = patiently("all of them", many).await.unwrap();
        assert!(!few.is_finished());
        many.release().await.unwrap();
        patiently("one of them", few).await.unwrap().release().await.unwrap();
        until_queue_is(one.client(), "sem/fair", 0).await;
    });
}

#[test]
fn where_users_differ_in_how_many_there_are_the_smallest_number_counts() {
    run(async {
        let session = session().await;
        let (small, large) = (
            session.semaphore("sem/differ", 2),
            session.semaphore("sem/differ", 4),
        );
        let held = small.acquire(1).await.unwrap();
        assert!(
            large.try_acquire(2).await.unwrap().is_none(),
            "more than the first was told"
        );
        let beside = large.try_acquire(1).await.unwrap().expect("within both");
        held.release().await.unwrap();
        let more = large.try_acquire(3).await.unwrap().expect("the small number is gone");
        assert!(small.try_acquire(1).await.unwrap().is_none(), "4 are held");
        beside.release().await.unwrap();
        more.release().await.unwrap();
        until_queue_is(session.client(), "sem/differ", 0).await;
    });
}

#[test]
fn what_cannot_be_had_is_refused_at_once() {
    run(async {
        let (client, sent) = counted_client().await;
        let session = client.session().ttl(TTL).await.unwrap();
        let before = sent.requests();
        for (count, of) in [(0, 3), (4, 3), (1, 0)] {
            let semaphore = session.semaphore("sem/refused", of);
            let error = semaphore.acquire(count).await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{error}");
            let error = semaphore.try_acquire(count).await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        }
        assert_eq!(sent.requests(), before);
    });
}

#[test]
fn a_mutex_on_the_name_takes_all_of_it() {
    run(async {
        let (one, two) = (session().await, session().await);
        let guard = one.mutex("sem/mutex").lock().await.unwrap();
        assert!(two.semaphore("sem/mutex", 9).try_acquire(1).await.unwrap().is_none());
        guard.release().await.unwrap();
        let permits = two.semaphore("sem/mutex", 9).acquire(1).await.unwrap();
        assert!(one.mutex("sem/mutex").try_lock().await.unwrap().is_none());
        drop(permits);
        until_queue_is(one.client(), "sem/mutex", 0).await;
    });
}

#[test]
fn permits_of_a_session_that_ends_are_free() {
    run(async {
        let (one, two) = (session().await, session().await);
        let permits = one.semaphore("sem/end", 1).acquire(1).await.unwrap();
        let semaphore = two.semaphore("sem/end", 1);
        let waiting = tokio::spawn(async move { semaphore.acquire(1).await.unwrap() });
        until_queue_is(two.client(), "sem/end", 2).await;
        one.close().await.unwrap();
        assert!(!permits.is_valid());
        permits.lost().await;
        let next = patiently("the permit", waiting).await.unwrap();
        assert_eq!(
            permits.release().await.unwrap_err().code(),
            Code::FailedPrecondition
        );
        next.release().await.unwrap();
        until_queue_is(two.client(), "sem/end", 0).await;
    });
}
