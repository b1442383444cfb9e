//! The lock passed on between the tasks of one session: without a request, in the order
//! in which they asked, and for no longer than others can wait.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use tenure::{Code, Error, Guard, Mutex, Token};

use crate::lock::{TTL, session, until_queue_is};
use crate::support::{client, counted_client, patiently, run};

/// No test takes so long.
const LONG: Duration = Duration::from_secs(3600);

type Locking<'a> = Pin<Box<dyn Future<Output = Result<Guard, Error>> + Send + 'a>>;

/// A lock that waits in the local queue.
pub(crate) fn waiting(mutex: &Mutex) -> Locking<'_> {
    let mut locking: Locking<'_> = Box::pin(mutex.lock());
    let polled = locking.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending(), "it is held");
    locking
}

async fn granted(locking: Locking<'_>) -> Guard {
    patiently("the grant", locking).await.unwrap()
}

/// Grants each of them in turn and drops it at once.
async fn tokens_of(waiting: Vec<Locking<'_>>) -> Vec<Token> {
    let mut tokens = Vec::new();
    for locking in waiting {
        tokens.push(granted(locking).await.token());
    }
    tokens
}

#[test]
fn a_hand_off_sends_nothing_and_its_tokens_rise() {
    run(async {
        let (client, sent) = counted_client().await;
        let session = client.session().ttl(TTL).await.unwrap();
        let mutex = session.mutex("hand-off/free").hand_off(u32::MAX, LONG);
        let first = mutex.lock().await.unwrap();
        let token = first.token();
        assert_eq!(token.sequence(), 0);
        let locks: Vec<_> = (0..8).map(|_| waiting(&mutex)).collect();
        let mut last = waiting(&mutex);
        let before = (sent.requests(), sent.messages());
        drop(first);
        let tokens = tokens_of(locks).await;
        let held = patiently("the last grant", last.as_mut()).await.unwrap();
        assert_eq!((sent.requests(), sent.messages()), before);
        assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
        assert!(tokens.iter().all(|next| next.create_revision() == token.create_revision()));
        assert_eq!(held.token().sequence(), 9);
        held.release().await.unwrap();
        until_queue_is(&client, "hand-off/free", 0).await;
    });
}

#[test]
fn another_process_is_served_after_so_many_hand_offs() {
    run(async {
        let (one, two) = (session().await, session().await);
        let mutex = one.mutex("hand-off/count").hand_off(3, LONG);
        let first = mutex.lock().await.unwrap();
        let locks: Vec<_> = (0..6).map(|_| waiting(&mutex)).collect();
        let rival = two.mutex("hand-off/count");
        let other = tokio::spawn(async move {
            let guard = rival.lock().await.unwrap();
            let token = guard.token();
            guard.release().await.unwrap();
            token
        });
        until_queue_is(one.client(), "hand-off/count", 2).await;
        let created = first.token().create_revision();
        drop(first);
        let tokens = tokens_of(locks).await;
        let other = patiently("the other process", other).await.unwrap();
        assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
        let passed = tokens.iter().filter(|token| token.create_revision() == created).count();
        assert_eq!(passed, 3);
        assert!(tokens[2] < other && other < tokens[3], "{other} in {tokens:?}");
        until_queue_is(one.client(), "hand-off/count", 0).await;
    });
}

#[test]
fn a_foreign_key_is_served_after_so_many_hand_offs() {
    run(async {
        let session = session().await;
        let client = session.client();
        let mutex = session.mutex("hand-off/foreign").hand_off(1, LONG);
        let first = mutex.lock().await.unwrap();
        let (second, third) = (waiting(&mutex), waiting(&mutex));
        // As the Go client's mutex writes it.
        let lease = client.lease_grant(TTL).await.unwrap().id;
        let foreign = format!("hand-off/foreign/{lease:x}");
        client.put(foreign.clone(), "").lease(tenure::LeaseId(lease)).await.unwrap();
        drop(first);
        drop(granted(second).await);
        let (own, foreign) = (format!("hand-off/foreign/{}", session.lease_id()), &foreign);
        let served = async {
            patiently("a place behind it", async {
                while created(client, &own).await < created(client, foreign).await {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            let served = created(client, foreign).await;
            client.delete(foreign.clone()).await.unwrap();
            served
        };
        let (third, served) = tokio::join!(granted(third), served);
        assert!(third.token().create_revision().0 > served, "it overtook");
    });
}

/// A key's create_revision; 0 where there is none.
async fn created(client: &tenure::Client, key: &str) -> i64 {
    let kvs = client.get(key.to_owned()).await.unwrap().kvs;
    kvs.first().map_or(0, |kv| kv.create_revision)
}

#[test]
fn no_time_or_no_grants_is_no_hand_off() {
    run(async {
        let session = session().await;
        for (grants, time) in [(u32::MAX, Duration::ZERO), (0, LONG)] {
            let mutex = session.mutex("hand-off/never").hand_off(grants, time);
            let first = mutex.lock().await.unwrap();
            let locks = vec![waiting(&mutex), waiting(&mutex)];
            drop(first);
            let tokens = tokens_of(locks).await;
            assert!(tokens.iter().all(|token| token.sequence() == 0), "{tokens:?}");
            assert!(tokens[0].create_revision() < tokens[1].create_revision());
        }
    });
}

#[test]
fn with_one_token_a_key_each_grant_has_its_own() {
    run(async {
        let session = session().await;
        let shared = session.mutex("hand-off/one");
        let alone = shared.clone().one_token_per_key();
        let first = shared.lock().await.unwrap();
        let before = first.token();
        let locks = vec![waiting(&alone), waiting(&shared), waiting(&alone)];
        drop(first);
        let tokens = tokens_of(locks).await;
        let mut revisions: Vec<_> = tokens.iter().map(|token| token.create_revision()).collect();
        revisions.insert(0, before.create_revision());
        assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
        until_queue_is(session.client(), "hand-off/one", 0).await;
    });
}

#[test]
fn a_tainted_key_is_not_passed_on() {
    run(async {
        let session = session().await;
        let mutex = session.mutex("hand-off/taint").hand_off(u32::MAX, LONG);
        let first = mutex.lock().await.unwrap();
        let second = waiting(&mutex);
        first.taint();
        let (token, fence) = (first.token(), first.fence());
        drop(first);
        let second = granted(second).await;
        assert!(second.token().create_revision() > token.create_revision());
        let write = session.client().txn().when(fence).then(tenure::Op::put("hand-off-taint", "late"));
        assert!(!write.await.unwrap().succeeded, "a late write");
        // The next key is as good as any.
        let third = waiting(&mutex);
        let token = second.token();
        drop(second);
        assert_eq!(
            granted(third).await.token().create_revision(),
            token.create_revision()
        );
    });
}

#[test]
fn what_was_passed_to_a_task_that_gave_up_is_passed_on_or_given_back() {
    run(async {
        let session = session().await;
        let mutex = session.mutex("hand-off/cancel").hand_off(u32::MAX, LONG);
        let first = mutex.lock().await.unwrap();
        let token = first.token();
        let (second, third) = (waiting(&mutex), waiting(&mutex));
        drop(first);
        drop(second);
        let third = granted(third).await;
        assert_eq!(third.token().create_revision(), token.create_revision());
        let fourth = waiting(&mutex);
        drop(third);
        drop(fourth);
        until_queue_is(session.client(), "hand-off/cancel", 0).await;
        patiently("the lock", mutex.lock()).await.unwrap().release().await.unwrap();
    });
}

#[test]
fn who_waits_locally_is_told_when_the_session_ends() {
    run(async {
        let session = session().await;
        let mutex = session.mutex("hand-off/ended");
        let held = mutex.lock().await.unwrap();
        let second = waiting(&mutex);
        session.close().await.unwrap();
        let error = patiently("the news", second).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        let third = patiently("an answer", mutex.lock()).await;
        assert_eq!(third.unwrap_err().code(), Code::FailedPrecondition);
        assert!(held.release().await.is_err(), "it was lost");
        until_queue_is(&client().await, "hand-off/ended", 0).await;
    });
}

#[test]
fn nothing_is_passed_on_once_the_session_is_over() {
    run(async {
        let session = session().await;
        let mutex = session.mutex("hand-off/over");
        let held = mutex.lock().await.unwrap();
        let next = waiting(&mutex);
        session.orphan();
        // The server still has the lease, so there is something to give back.
        held.release().await.unwrap();
        let error = patiently("the news", next).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        until_queue_is(&client().await, "hand-off/over", 0).await;
    });
}

#[test]
fn tasks_of_two_sessions_exclude_one_another_and_all_are_served() {
    run(async {
        let holders = Arc::new(AtomicUsize::new(0));
        let sessions = [session().await, session().await];
        let mut tasks = Vec::new();
        for number in 0..16 {
            let mutex = sessions[number % 2].mutex("hand-off/storm").hand_off(4, LONG);
            let holders = holders.clone();
            tasks.push(tokio::spawn(async move {
                let mut tokens = Vec::new();
                for _ in 0..20 {
                    let guard = mutex.lock().await.unwrap();
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold the lock");
                    tokens.push(guard.token());
                    tokio::task::yield_now().await;
                    holders.fetch_sub(1, Ordering::SeqCst);
                    drop(guard);
                }
                tokens
            }));
        }
        let mut all = Vec::new();
        for task in tasks {
            let tokens = patiently("the end of a task", task).await.unwrap();
            assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
            all.extend(tokens);
        }
        assert!(
            all.iter().any(|token| token.sequence() > 0),
            "nothing was passed on"
        );
        assert!(
            all.iter().all(|token| token.sequence() <= 4),
            "passed on too often"
        );
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "a token was given twice");
        until_queue_is(sessions[0].client(), "hand-off/storm", 0).await;
    });
}
