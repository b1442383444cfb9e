//! The read-write lock against a real server: who is beside whom, who comes first,
//! and what it costs on the wire.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tenure::{Code, KeyRange, Op};

use crate::lock::{TTL, session, until_queue_is};
use crate::support::{client, counted_client, patiently, run};

/// What holds a writer's place; readers have one key each.
const WRITERS_KEYS: i64 = 2;
/// For so long after a grant a reader may be joined.
const JOINING: Duration = Duration::from_millis(100);

#[test]
fn readers_are_beside_each_other_and_a_writer_is_alone() {
    run(async {
        let inside = Arc::new(AtomicI64::new(0));
        let mut tasks = Vec::new();
        for worker in 0..4 {
            let (lock, inside) = (session().await.rw_lock("rw/exclusive"), inside.clone());
            tasks.push(tokio::spawn(async move {
                for round in 0..12 {
                    if (worker + round) % 3 == 0 {
                        let guard = lock.write().await.unwrap();
                        assert_eq!(
                            inside.swap(-1000, Ordering::SeqCst),
                            0,
                            "somebody beside a writer"
                        );
                        tokio::task::yield_now().await;
                        assert_eq!(
                            inside.swap(0, Ordering::SeqCst),
                            -1000,
                            "somebody beside a writer"
                        );
                        guard.release().await.unwrap();
                    } else {
                        let guard = lock.read().await.unwrap();
                        assert!(
                            inside.fetch_add(1, Ordering::SeqCst) >= 0,
                            "a writer beside a reader"
                        );
                        tokio::task::yield_now().await;
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(guard);
                    }
                }
            }));
        }
        for task in tasks {
            patiently("the end of a worker", task).await.unwrap();
        }
        until_queue_is(&client().await, "rw/exclusive", 0).await;
    });
}

#[test]
fn a_writer_that_waits_holds_up_the_readers_behind_it() {
    run(async {
        let (one, two, three) = (session().await, session().await, session().await);
        let reading = one.rw_lock("rw/fair").read().await.unwrap();
        let lock = two.rw_lock("rw/fair");
        let writing = tokio::spawn(async move { lock.write().await.unwrap() });
        until_queue_is(one.client(), "rw/fair", 1 + WRITERS_KEYS).await;
        assert!(three.rw_lock("rw/fair").try_read().await.unwrap().is_none());
        let lock = three.rw_lock("rw/fair");
        let behind = tokio::spawn(async move { lock.read().await.unwrap() });
        until_queue_is(one.client(), "rw/fair", 2 + WRITERS_KEYS).await;
        reading.release().await.unwrap();
        let writer = patiently("the writer", writing).await.unwrap();
        assert!(!behind.is_finished(), "a reader beside a writer");
        writer.release().await.unwrap();
        let reader = patiently("the reader", behind).await.unwrap();
        reader.release().await.unwrap();
        until_queue_is(one.client(), "rw/fair", 0).await;
    });
}

#[test]
fn free_it_is_one_request_to_read_and_one_to_write() {
    run(async {
        let (client, sent) = counted_client().await;
        let session = client.session().ttl(TTL).await.unwrap();
        let mut before = sent.requests();
        let mut cost = || {
            let now = sent.requests();
            now - std::mem::replace(&mut before, now)
        };
        for _ in 0..2 {
            // A handle each, so that nobody joins.
            let lock = session.rw_lock("rw/free");
            let reader = lock.read().await.unwrap();
            assert_eq!(cost(), 1, "read");
            let other = session.rw_lock("rw/free").read().await.unwrap();
            assert_eq!(cost(), 1, "read beside a reader");
            assert!(lock.try_write().await.unwrap().is_none());
            assert_eq!(cost(), 1, "a try that loses");
            reader.release().await.unwrap();
            other.release().await.unwrap();
            assert_eq!(cost(), 2, "releases");
            let writer = lock.write().await.unwrap();
            assert_eq!(cost(), 1, "write");
            assert!(lock.try_read().await.unwrap().is_none());
            assert_eq!(cost(), 1, "a try that loses");
            let reader = writer.downgrade().await.unwrap();
            assert_eq!(cost(), 1, "downgrade");
            reader.release().await.unwrap();
            assert_eq!(cost(), 1, "release");
        }
        until_queue_is(&client, "rw/free", 0).await;
    });
}

#[test]
fn readers_of_one_handle_share_a_key() {
    // On one thread, so that hardly anything takes longer than others may join.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, sent) = counted_client().await;
        let lock = client.session().ttl(TTL).await.unwrap().rw_lock("rw/shared");
        let (first, before, second, third) = loop {
            let began = Instant::now();
            let first = lock.read().await.unwrap();
            let before = sent.requests();
            let second = lock.clone().read().await.unwrap();
            let third = lock.try_read().await.unwrap().expect("it is held to read");
            if began.elapsed() < JOINING {
                break (first, before, second, third);
            }
        };
        assert_eq!(sent.requests(), before);
        assert!(first.token() == second.token() && second.key() == third.key());
        first.release().await.unwrap();
        third.release().await.unwrap();
        assert_eq!(sent.requests(), before, "others still read");
        until_queue_is(&client, "rw/shared", 1).await;
        drop(second);
        until_queue_is(&client, "rw/shared", 0).await;
        // The key is gone for good: the next reader has another.
        lock.read().await.unwrap().release().await.unwrap();
    });
}

#[test]
fn a_reader_does_not_join_another_while_a_writer_of_the_handle_waits() {
    run(async {
        let lock = session().await.rw_lock("rw/waiting");
        let reader = lock.read().await.unwrap();
        let writing = tokio::spawn({
            let lock = lock.clone();
            async move { lock.write().await.unwrap() }
        });
        let client = client().await;
        until_queue_is(&client, "rw/waiting", 1 + WRITERS_KEYS).await;
        let reading = tokio::spawn(async move { lock.read().await.unwrap() });
        until_queue_is(&client, "rw/waiting", 2 + WRITERS_KEYS).await;
        reader.release().await.unwrap();
        let writer = patiently("the writer", writing).await.unwrap();
        assert!(!reading.is_finished(), "a reader beside a writer");
        drop(writer);
        drop(patiently("the reader", reading).await.unwrap());
        until_queue_is(&client, "rw/waiting", 0).await;
    });
}

#[test]
fn a_downgrade_lets_readers_in_and_no_writer() {
    run(async {
        let (one, two, three) = (session().await, session().await, session().await);
        let writer = one.rw_lock("rw/downgrade").write().await.unwrap();
        let (token, fence) = (writer.token(), writer.fence());
        let lock = two.rw_lock("rw/downgrade");
        let reading = tokio::spawn(async move { lock.read().await.unwrap() });
        until_queue_is(one.client(), "rw/downgrade", WRITERS_KEYS + 1).await;
        let lock = three.rw_lock("rw/downgrade");
        let writing = tokio::spawn(async move { lock.write().await.unwrap() });
        until_queue_is(one.client(), "rw/downgrade", 2 * WRITERS_KEYS + 1).await;
        let reader = writer.downgrade().await.unwrap();
        let other = patiently("the reader behind", reading).await.unwrap();
        assert!(other.token() > token && reader.token() == token);
        let write = |fence| one.client().txn().when(fence).then(Op::put("rw-fence", "x")).into_future();
        assert!(!write(fence).await.unwrap().succeeded, "it writes no more");
        assert!(write(reader.fence()).await.unwrap().succeeded, "it reads still");
        reader.release().await.unwrap();
        assert!(!writing.is_finished(), "a writer beside a reader");
        other.release().await.unwrap();
        let last = patiently("the writer behind", writing).await.unwrap();
        assert!(last.token() > token && last.is_valid() && last.valid_for() > Duration::ZERO);
        last.release().await.unwrap();
        until_queue_is(one.client(), "rw/downgrade", 0).await;
    });
}

#[test]
fn a_mutex_on_the_name_is_a_writer() {
    run(async {
        let (one, two) = (session().await, session().await);
        let guard = one.mutex("rw/mutex").lock().await.unwrap();
        assert!(two.rw_lock("rw/mutex").try_read().await.unwrap().is_none());
        guard.release().await.unwrap();
        let reader = two.rw_lock("rw/mutex").read().await.unwrap();
        assert!(one.mutex("rw/mutex").try_lock().await.unwrap().is_none());
        reader.release().await.unwrap();
        until_queue_is(one.client(), "rw/mutex", 0).await;
    });
}

#[test]
fn whoever_waits_is_told_when_his_place_or_his_session_is_gone() {
    run(async {
        let (holder, waiter) = (session().await, session().await);
        let writer = holder.rw_lock("rw/gone").write().await.unwrap();
        for by_hand in [true, false] {
            let lock = waiter.rw_lock("rw/gone");
            let reading = tokio::spawn(async move { lock.read().await });
            until_queue_is(holder.client(), "rw/gone", WRITERS_KEYS + 1).await;
            if by_hand {
                let theirs = KeyRange::prefix(format!("rw/gone/{}-", waiter.lease_id()));
                holder.client().delete(theirs).await.unwrap();
            } else {
                waiter.clone().close().await.unwrap();
            }
            let error = patiently("the news", reading).await.unwrap().unwrap_err();
            let code = if by_hand {
                Code::Aborted
            } else {
                Code::FailedPrecondition
            };
            assert_eq!(error.code(), code, "{error}");
        }
        // A release of what somebody deleted says so.
        holder.client().delete(KeyRange::prefix("rw/gone/")).await.unwrap();
        assert_eq!(
            writer.release().await.unwrap_err().code(),
            Code::FailedPrecondition
        );
    });
}

#[test]
fn a_wait_that_takes_too_long_ends_and_leaves_nothing() {
    run(async {
        let (one, two) = (session().await, session().await);
        let writer = one.rw_lock("rw/timeout").write().await.unwrap();
        let lock = two.rw_lock("rw/timeout").timeout(Duration::from_millis(50));
        assert_eq!(lock.read().await.unwrap_err().code(), Code::DeadlineExceeded);
        assert_eq!(lock.write().await.unwrap_err().code(), Code::DeadlineExceeded);
        until_queue_is(one.client(), "rw/timeout", WRITERS_KEYS).await;
        writer.release().await.unwrap();
        // With all the time that it takes.
        two.rw_lock("rw/timeout").write().await.unwrap().release().await.unwrap();
        let error = two.rw_lock("").read().await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    });
}
