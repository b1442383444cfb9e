//! The lock against a real server: what it costs on the wire, who holds it, and
//! what is left behind.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tenure::{Client, Code, KeyRange, LeaseEnd, Lost, Op, Revision, Session};

use crate::support::{client, counted_client, patiently, run};

/// Long enough that no renewal happens while requests are counted.
pub(crate) const TTL: Duration = Duration::from_secs(60);
/// For what has to live: renewed every two seconds, so that a machine may stand still for as long.
pub(crate) const TTL_KEPT: Duration = Duration::from_secs(6);
/// Short, for what is to run out.
const TTL_SHORT: Duration = Duration::from_secs(2);

pub(crate) async fn session() -> Session {
    client().await.session().ttl(TTL).await.unwrap()
}

/// How many keys there are in the queue of `name`.
async fn queue(client: &Client, name: &str) -> i64 {
    client.get(KeyRange::prefix(format!("{name}/"))).count_only().await.unwrap().count
}

pub(crate) async fn until_queue_is(client: &Client, name: &str, length: i64) {
    patiently(&format!("a queue of {length}"), async {
        while queue(client, name).await != length {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[test]
fn a_free_lock_is_one_request_and_so_is_its_release() {
    run(async {
        let (client, sent) = counted_client().await;
        let session = client.session().ttl(TTL).await.unwrap();
        let mutex = session.mutex("lock/free");
        for _ in 0..3 {
            let before = (sent.requests(), sent.messages());
            let guard = mutex.lock().await.unwrap();
            assert_eq!(
                (sent.requests(), sent.messages()),
                (before.0 + 1, before.1 + 1),
                "lock"
            );
            guard.release().await.unwrap();
            assert_eq!(
                (sent.requests(), sent.messages()),
                (before.0 + 2, before.1 + 2),
                "release"
            );
        }
    });
}

#[test]
fn after_the_last_older_key_is_gone_nothing_is_asked() {
    // On one thread, so that nothing else can run between the grant and the count.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let holder = session().await;
        let (client, sent) = counted_client().await;
        let waiter = client.session().ttl(TTL).await.unwrap();
        for _ in 0..3 {
            let guard = holder.mutex("lock/handoff").lock().await.unwrap();
            let mutex = waiter.mutex("lock/handoff");
            let mut waiting = pin!(mutex.lock());
            // Register, and the watch: when both are answered, the waiter is quiet.
            let begun = sent.messages();
            let before = loop {
                let before = (sent.requests(), sent.messages());
                let quiet = tokio::time::timeout(Duration::from_millis(300), waiting.as_mut()).await;
                assert!(quiet.is_err(), "the lock is held");
                if before == (sent.requests(), sent.messages()) && before.1 >= begun + 2 {
                    break before;
                }
            };
            guard.release().await.unwrap();
            let granted = patiently("the hand-off", waiting).await.unwrap();
            assert_eq!((sent.requests(), sent.messages()), before);
            granted.release().await.unwrap();
        }
    });
}

#[test]
fn one_holds_it_at_a_time_and_tokens_rise() {
    run(async {
        let holders = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let (session, holders) = (session().await, holders.clone());
            tasks.push(tokio::spawn(async move {
                let mut tokens = Vec::new();
                for _ in 0..25 {
                    let guard = session.mutex("lock/exclusive").lock().await.unwrap();
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold the lock");
                    assert!(guard.is_valid() && guard.valid_for() > Duration::ZERO);
                    tokens.push(guard.token());
                    tokio::task::yield_now().await;
                    holders.fetch_sub(1, Ordering::SeqCst);
                    guard.release().await.unwrap();
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
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "a token was given twice");
        assert_eq!(queue(&client().await, "lock/exclusive").await, 0);
    });
}

#[test]
fn tasks_of_one_session_take_turns() {
    run(async {
        let session = session().await;
        let holders = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (mutex, holders) = (session.mutex("lock/turns"), holders.clone());
                tokio::spawn(async move {
                    let guard = mutex.lock().await.unwrap();
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold the lock");
                    tokio::task::yield_now().await;
                    holders.fetch_sub(1, Ordering::SeqCst);
                    drop(guard);
                })
            })
            .collect();
        for task in tasks {
            patiently("a turn", task).await.unwrap();
        }
    });
}

#[test]
fn a_dropped_guard_gives_the_lock_to_the_next() {
    run(async {
        let (one, two) = (session().await, session().await);
        let guard = one.mutex("lock/drop").lock().await.unwrap();
        let mutex = two.mutex("lock/drop");
        let waiting = tokio::spawn(async move { mutex.lock().await });
        until_queue_is(one.client(), "lock/drop", 2).await;
        drop(guard);
        let granted = patiently("the hand-off", waiting).await.unwrap().unwrap();
        drop(granted);
        until_queue_is(one.client(), "lock/drop", 0).await;
    });
}

#[test]
fn the_fence_holds_as_long_as_the_lock() {
    run(async {
        let (one, two) = (session().await, session().await);
        let guard = one.mutex("lock/fence").lock().await.unwrap();
        let fence = guard.fence();
        let write = |fence| one.client().txn().when(fence).then(Op::put("lock-fence", "x")).into_future();
        assert!(write(fence.clone()).await.unwrap().succeeded);
        let token = guard.token();
        guard.release().await.unwrap();
        assert!(!write(fence.clone()).await.unwrap().succeeded, "released");
        let next = two.mutex("lock/fence").lock().await.unwrap();
        assert!(next.token() > token);
        assert!(!write(fence).await.unwrap().succeeded, "somebody else holds it");
    });
}

#[test]
fn a_lock_future_dropped_at_any_poll_leaves_no_key() {
    run(async {
        let (holder, session) = (session().await, session().await);
        let client = client().await;
        for name in ["lock/cancel/free", "lock/cancel/held"] {
            let held = match name {
                "lock/cancel/held" => Some(holder.mutex(name).lock().await.unwrap()),
                _ => None,
            };
            let keys = held.is_some().into();
            for polls in 1..=12 {
                let mutex = session.mutex(name);
                poll_times(mutex.lock(), polls).await;
                until_queue_is(&client, name, keys).await;
            }
            drop(held);
            // The name is as good as new.
            patiently("the lock", session.mutex(name).lock()).await.unwrap().release().await.unwrap();
        }
    });
}

/// Polls a future so many times, unless it is done before, and drops it.
async fn poll_times<T>(future: impl Future<Output = T>, polls: usize) {
    let mut future = pin!(future);
    let mut left = polls;
    let bounded = std::future::poll_fn(|cx| {
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Pending if left > 0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    });
    // A future that waits for the holder is polled no more.
    let _ = tokio::time::timeout(Duration::from_millis(100), bounded).await;
}

#[test]
fn a_holder_that_hangs_is_told_and_the_next_gets_the_lock() {
    run(async {
        let two = session().await;
        // Its tasks are gone like those of a process that died; the guard is not.
        let doomed = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let holding = doomed.spawn(async {
            let session = client().await.session().ttl(TTL_SHORT).await.unwrap();
            session.mutex("lock/hang").lock().await.unwrap()
        });
        let guard = holding.await.unwrap();
        doomed.shutdown_background();
        let next = patiently("the next grant", two.mutex("lock/hang").lock()).await.unwrap();
        assert!(!guard.is_valid(), "the next one has it already");
        assert_eq!(guard.valid_for(), Duration::ZERO);
        // Which of the dying tasks was first decides between the two.
        let end = patiently("the news", guard.lost()).await;
        let over = matches!(end, Lost::Session(LeaseEnd::Expired | LeaseEnd::Closed));
        assert!(over, "{end}");
        let answer = two.client().txn().when(guard.fence()).then(Op::put("lock-hang", "late")).await.unwrap();
        assert!(!answer.succeeded, "a late write");
        assert!(next.is_valid());
    });
}

#[test]
fn an_orphaned_session_is_over_and_its_lease_runs_out() {
    run(async {
        let one = client().await.session().ttl(TTL_SHORT).await.unwrap();
        let two = session().await;
        let guard = one.mutex("lock/orphan").lock().await.unwrap();
        one.orphan();
        assert!(!guard.is_valid());
        assert_eq!(guard.lost().await, Lost::Session(LeaseEnd::Closed));
        let next = patiently("the next grant", two.mutex("lock/orphan").lock()).await.unwrap();
        assert!(next.token() > guard.token());
    });
}

#[test]
fn a_closed_session_frees_its_locks_at_once() {
    run(async {
        let (one, two) = (session().await, session().await);
        let guard = one.mutex("lock/close").lock().await.unwrap();
        one.close().await.unwrap();
        assert!(!guard.is_valid());
        let next = patiently("the next grant", two.mutex("lock/close").lock()).await.unwrap();
        assert!(next.token() > guard.token());
        let again = guard.session().mutex("lock/close/again").lock().await.unwrap_err();
        assert_eq!(again.code(), Code::FailedPrecondition, "{again}");
        assert!(std::error::Error::source(&again).is_some(), "why it ended");
    });
}

#[test]
fn a_session_that_nobody_holds_revokes_its_lease() {
    run(async {
        let session = session().await;
        let lease = session.lease_id();
        let guard = session.mutex("lock/nobody").lock().await.unwrap();
        drop(session);
        assert!(guard.is_valid(), "the guard holds the session");
        drop(guard);
        let client = client().await;
        patiently("the revocation", async {
            while client.leases().await.unwrap().leases.iter().any(|status| status.id == lease.0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    });
}

#[test]
fn a_waiter_whose_key_is_deleted_is_told() {
    run(async {
        let (one, two) = (session().await, session().await);
        let guard = one.mutex("lock/deleted").lock().await.unwrap();
        let (mutex, lease) = (two.mutex("lock/deleted"), two.lease_id());
        let waiting = tokio::spawn(async move { mutex.lock().await });
        until_queue_is(one.client(), "lock/deleted", 2).await;
        one.client().delete(format!("lock/deleted/{lease}")).await.unwrap();
        let error = patiently("the news", waiting).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::Aborted, "{error}");
        guard.release().await.unwrap();
    });
}

#[test]
fn a_prefix_deleted_in_one_revision_grants_nobody() {
    run(async {
        let (one, two) = (session().await, session().await);
        let _guard = one.mutex("lock/prefix").lock().await.unwrap();
        let mutex = two.mutex("lock/prefix");
        let waiting = tokio::spawn(async move { mutex.lock().await });
        until_queue_is(one.client(), "lock/prefix", 2).await;
        one.client().delete(KeyRange::prefix("lock/prefix/")).await.unwrap();
        let error = patiently("the news", waiting).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::Aborted, "{error}");
    });
}

#[test]
fn the_key_says_who_holds_it_as_other_clients_expect() {
    run(async {
        let session = session().await;
        let guard = session.mutex("lock/value").value("somebody").lock().await.unwrap();
        let key = format!("lock/value/{}", session.lease_id());
        assert_eq!(guard.key(), key.as_bytes());
        let kv = session.client().get(key).await.unwrap().kvs.remove(0);
        assert_eq!(
            (&kv.value[..], kv.lease),
            (&b"somebody"[..], session.lease_id().0)
        );
        assert_eq!(Revision(kv.create_revision), guard.token().create_revision());
    });
}

#[test]
fn a_bad_name_is_refused_before_anything_is_sent() {
    run(async {
        let session = session().await;
        for name in ["", "x#gate", "x#latch", "x#queue/claim"] {
            let error = session.mutex(name).lock().await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{name:?}");
        }
    });
}
