//! The lock as it is used: tried, waited for with a bound, held around a piece of
//! work, and wanted by many at once.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tenure::{Code, Error, KeyRange, LeaseEnd};

use crate::lock::{TTL, session, until_queue_is};
use crate::support::{client, counted_client, patiently, run};

#[test]
fn a_try_is_one_request_whether_it_wins_or_loses() {
    run(async {
        let holder = session().await;
        let (client, sent) = counted_client().await;
        let session = client.session().ttl(TTL).await.unwrap();
        let mutex = session.mutex("use/try");
        for _ in 0..3 {
            let before = (sent.requests(), sent.messages());
            let won = mutex.try_lock().await.unwrap().expect("it is free");
            assert_eq!(
                (sent.requests(), sent.messages()),
                (before.0 + 1, before.1 + 1),
                "won"
            );
            won.release().await.unwrap();

            let held = holder.mutex("use/try").lock().await.unwrap();
            let before = (sent.requests(), sent.messages());
            assert!(mutex.try_lock().await.unwrap().is_none());
            assert_eq!(
                (sent.requests(), sent.messages()),
                (before.0 + 1, before.1 + 1),
                "lost"
            );
            until_queue_is(&client, "use/try", 1).await;
            held.release().await.unwrap();
        }
    });
}

#[test]
fn a_try_beside_the_sessions_own_holder_or_waiter_sends_nothing() {
    run(async {
        let (client, sent) = counted_client().await;
        let session = client.session().ttl(TTL).await.unwrap();
        let mutex = session.mutex("use/local");
        let held = mutex.lock().await.unwrap();
        let before = sent.requests();
        assert!(mutex.try_lock().await.unwrap().is_none());
        assert_eq!(sent.requests(), before);
        held.release().await.unwrap();
        assert!(mutex.try_lock().await.unwrap().is_some());
    });
}

#[test]
fn a_try_takes_a_free_lock_above_one_that_is_held() {
    run(async {
        let (one, two) = (session().await, session().await);
        let below = one.mutex("use/nested/below").lock().await.unwrap();
        let above = two.mutex("use/nested").try_lock().await.unwrap().expect("it is free");
        assert!(one.mutex("use/nested").try_lock().await.unwrap().is_none());
        above.release().await.unwrap();
        below.release().await.unwrap();
        until_queue_is(one.client(), "use/nested", 0).await;
    });
}

#[test]
fn a_try_in_a_session_that_is_over_is_an_error() {
    run(async {
        let session = session().await;
        let mutex = session.mutex("use/over");
        let guard = mutex.lock().await.unwrap();
        session.close().await.unwrap();
        assert_eq!(
            mutex.try_lock().await.unwrap_err().code(),
            Code::FailedPrecondition
        );
        drop(guard);
        assert_eq!(
            mutex.try_lock().await.unwrap_err().code(),
            Code::FailedPrecondition
        );
    });
}

#[test]
fn a_lock_that_is_not_had_in_time_leaves_the_queue() {
    run(async {
        let (one, two) = (session().await, session().await);
        let held = one.mutex("use/time").lock().await.unwrap();
        let mutex = two.mutex("use/time").timeout(Duration::from_millis(100));
        let error = patiently("the end of the time", mutex.lock()).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
        until_queue_is(one.client(), "use/time", 1).await;
        held.release().await.unwrap();
        // With all the time that it takes.
        let mutex = two.mutex("use/time");
        patiently("the lock", mutex.lock()).await.unwrap().release().await.unwrap();
    });
}

#[test]
fn work_that_is_done_in_time_gives_its_result_and_the_lock_back() {
    run(async {
        let session = session().await;
        let guard = session.mutex("use/run").lock().await.unwrap();
        // On another thread, as a service does it.
        let done: Result<u64, Error> = tokio::spawn(guard.run(async |guard| {
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert!(guard.is_valid());
            7
        }))
        .await
        .unwrap();
        assert_eq!(done.unwrap(), 7);
        assert!(session.mutex("use/run").try_lock().await.unwrap().is_some());
    });
}

/// Says when it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn work_is_dropped_when_the_lock_is_lost() {
    run(async {
        let session = session().await;
        let guard = session.mutex("use/lost").lock().await.unwrap();
        let dropped = Arc::new(AtomicUsize::new(0));
        let witness = Dropped(dropped.clone());
        let working = tokio::spawn(guard.run(async move |_| {
            let _witness = witness;
            std::future::pending::<()>().await;
        }));
        session.close().await.unwrap();
        let error = patiently("the loss", working).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        let end = std::error::Error::source(&error).and_then(|end| end.downcast_ref::<LeaseEnd>());
        assert_eq!(end, Some(&LeaseEnd::Revoked));
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn work_that_was_done_after_the_loss_was_not_protected() {
    run(async {
        let session = session().await;
        let guard = session.mutex("use/late").lock().await.unwrap();
        // Over within one poll, so that nobody is told of the loss before it is done.
        let worked = guard.run(async |_| session.orphan()).await;
        assert_eq!(worked.unwrap_err().code(), Code::FailedPrecondition);
    });
}

#[test]
fn work_on_a_key_that_somebody_deleted_was_not_protected() {
    run(async {
        let session = session().await;
        let guard = session.mutex("use/robbed").lock().await.unwrap();
        let client = session.client().clone();
        let worked = guard
            .run(async |guard: &tenure::Guard| client.delete(guard.key().to_vec()).await.map(drop))
            .await;
        assert_eq!(worked.unwrap_err().code(), Code::FailedPrecondition);
    });
}

#[test]
fn work_that_panics_gives_the_lock_back() {
    run(async {
        let session = session().await;
        let guard = session.mutex("use/panic").lock().await.unwrap();
        let worked = tokio::spawn(guard.run(async |_| panic!("as a test wants it"))).await;
        let worked: Result<Result<(), Error>, _> = worked;
        assert!(worked.unwrap_err().is_panic());
        let mutex = session.mutex("use/panic");
        patiently("the next grant", mutex.lock()).await.unwrap().release().await.unwrap();
        until_queue_is(session.client(), "use/panic", 0).await;
    });
}

/// More keys than an answer about a queue shows.
const MANY: usize = 150;

#[test]
fn a_queue_that_no_answer_shows_whole_is_waited_for_to_its_end() {
    run(async {
        let (name, session) = ("use/long", session().await);
        let client = session.client();
        // Older keys of other clients, and nested ones between them and ours.
        for number in 0..2 * MANY {
            let nested = if number < MANY { "" } else { "nested/" };
            client.put(format!("{name}/{nested}{number}"), "").await.unwrap();
        }
        let mutex = session.mutex(name);
        assert!(
            mutex.try_lock().await.unwrap().is_none(),
            "a try looks behind nested names"
        );
        let keys = i64::try_from(2 * MANY).unwrap();
        until_queue_is(client, name, keys).await;
        let locking = tokio::spawn(async move { mutex.lock().await });
        until_queue_is(client, name, keys + 1).await;
        // The nearest goes first, and others from everywhere.
        for number in (1..MANY).rev() {
            client.delete(format!("{name}/{number}")).await.unwrap();
        }
        assert!(!locking.is_finished(), "somebody older is there");
        client.delete(format!("{name}/0")).await.unwrap();
        let guard = patiently("the lock", locking).await.unwrap().unwrap();
        assert!(session.mutex("use/long/nested").try_lock().await.unwrap().is_none());
        guard.release().await.unwrap();
        client.delete(KeyRange::prefix(format!("{name}/"))).await.unwrap();
    });
}

#[test]
fn a_lock_of_the_client_is_given_back_by_its_release_and_by_its_drop() {
    run(async {
        let (client, other) = (client().await, session().await);
        for drops in [false, true] {
            let guard = client.lock("use/short").ttl(TTL).value("me").await.unwrap();
            let kv = client.get(guard.key().to_vec()).await.unwrap().kvs.remove(0);
            assert_eq!(kv.value, "me");
            assert!(other.mutex("use/short").try_lock().await.unwrap().is_none());
            match drops {
                true => drop(guard),
                false => guard.release().await.unwrap(),
            }
            let next = patiently("the next grant", other.mutex("use/short").lock()).await.unwrap();
            next.release().await.unwrap();
        }
    });
}

#[test]
fn a_lock_of_the_client_that_is_not_had_in_time_leaves_nothing() {
    run(async {
        let (client, other) = (client().await, session().await);
        let held = other.mutex("use/short/time").lock().await.unwrap();
        let locking = client.lock("use/short/time").timeout(Duration::from_millis(100));
        let error = patiently("the end of the time", locking.into_future()).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
        until_queue_is(&client, "use/short/time", 1).await;
        held.release().await.unwrap();
    });
}

/// More than are told of every release.
const CROWD: usize = 48;

#[test]
fn a_long_queue_is_served_in_its_order_past_those_who_give_up() {
    run(async {
        let name = "use/crowd";
        let client = client().await;
        let first = session().await.mutex(name).lock().await.unwrap();
        let mut waiting = Vec::new();
        for place in 1..=CROWD {
            let mutex = client.session().ttl(TTL).await.unwrap().mutex(name);
            waiting.push(tokio::spawn(async move {
                let guard = mutex.lock().await.unwrap();
                let token = guard.token();
                guard.release().await.unwrap();
                token
            }));
            until_queue_is(&client, name, i64::try_from(place).unwrap() + 1).await;
        }
        // The one before the last, who alone watches it, and some others.
        for place in [CROWD - 2, CROWD / 2, 3] {
            waiting.remove(place).abort();
        }
        until_queue_is(&client, name, i64::try_from(CROWD).unwrap() - 2).await;
        let mut last = first.token();
        first.release().await.unwrap();
        for waiting in waiting {
            let token = patiently("a turn", waiting).await.unwrap();
            assert!(token > last, "out of order");
            last = token;
        }
        until_queue_is(&client, name, 0).await;
    });
}
