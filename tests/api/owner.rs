//! A lock that has an owner by name: whoever comes back under it takes over what an earlier
//! session has left, at once and in place, and the earlier session is told apart from it.

use std::future::Future;
use std::time::Duration;

use tenure::{Client, Code, Guard, Lost, Mutex, Op, Session};

use crate::lock::until_queue_is;
use crate::support::{client, patiently, run};

/// No test waits for so long: what is granted before is not granted because a lease ran out.
const TTL_LONG: Duration = Duration::from_secs(300);
/// What has to be seen not to happen does not happen for so long.
const WHILE: Duration = Duration::from_millis(300);

/// A process that begins: with a client of its own.
async fn process() -> Session {
    client().await.session().ttl(TTL_LONG).await.unwrap()
}

async fn locked(mutex: &Mutex) -> Guard {
    patiently("the grant", mutex.lock()).await.unwrap()
}

async fn is_fenced(client: &Client, guard: &Guard) -> bool {
    let written = client.txn().when(guard.fence()).then(Op::put("owner-resource", "")).await.unwrap();
    !written.succeeded
}

/// What a crash leaves of a holder: its guard is never dropped, and its lease runs on.
async fn crash(session: Session) {
    session.orphan();
}

#[test]
fn whoever_comes_back_takes_its_lock_over_at_once_and_in_place() {
    run(async {
        let (old, new) = (process().await, process().await);
        let (lease, client) = (old.lease_id(), new.client());
        let left = old.mutex("owner/back").owner("a").lock().await.unwrap();
        crash(old).await;
        let guard = locked(&new.mutex("owner/back").owner("a")).await;
        let (before, after) = (left.token(), guard.token());
        assert_eq!(after.create_revision(), before.create_revision());
        assert_eq!((before.takeovers(), after.takeovers()), (0, 1));
        assert!(after > before);
        assert!(
            is_fenced(client, &left).await,
            "a late write of the earlier session"
        );
        assert!(!is_fenced(client, &guard).await);
        // The key does not hang on that lease any more.
        client.lease_revoke(lease).await.unwrap();
        assert!(
            !is_fenced(client, &guard).await,
            "the old lease took the key along"
        );
        until_queue_is(client, "owner/back", 1).await;
        // Its drop, late, deletes nothing either.
        drop(left);
        tokio::time::sleep(WHILE).await;
        assert!(guard.is_valid() && !is_fenced(client, &guard).await);
        guard.release().await.unwrap();
        until_queue_is(client, "owner/back", 0).await;
    });
}

#[test]
fn a_session_that_lives_is_told_that_its_lock_was_taken_over() {
    run(async {
        let (old, new) = (process().await, process().await);
        let left = old.mutex("owner/told").owner("a").lock().await.unwrap();
        assert!(left.is_valid());
        let guard = locked(&new.mutex("owner/told").owner("a")).await;
        assert_eq!(patiently("the news", left.lost()).await, Lost::TakenOver);
        assert!(!left.is_valid() && old.is_valid());
        let refused = left.release().await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(
            !is_fenced(new.client(), &guard).await,
            "the release deleted the other's key"
        );
        assert!(guard.is_valid());
        // A guard is told as well that its key was deleted.
        new.client().force_unlock("owner/told").await.unwrap();
        assert_eq!(patiently("the news", guard.lost()).await, Lost::KeyDeleted);
    });
}

#[test]
fn a_place_that_waits_is_taken_over_and_keeps_its_order() {
    run(async {
        let (holder, old, behind) = (process().await, process().await, process().await);
        let client = holder.client();
        let held = holder.mutex("owner/place").lock().await.unwrap();
        let mutex = old.mutex("owner/place").owner("a");
        let waits = tokio::spawn(async move { mutex.lock().await.is_err() });
        until_queue_is(client, "owner/place", 2).await;
        let mutex = behind.mutex("owner/place");
        let behind = tokio::spawn(async move { mutex.lock().await.unwrap() });
        until_queue_is(client, "owner/place", 3).await;
        crash(old).await;
        assert!(patiently("the end of the wait", waits).await.unwrap());
        let new = process().await;
        let mutex = new.mutex("owner/place").owner("a");
        let again = tokio::spawn(async move { mutex.lock().await.unwrap() });
        patiently("the takeover", async {
            while client.who("owner/place").await.unwrap()[1].lease != new.lease_id() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        held.release().await.unwrap();
        let first = patiently("the grant", again).await.unwrap();
        assert!(!behind.is_finished(), "it was overtaken");
        let token = first.token();
        first.release().await.unwrap();
        let second = patiently("the next grant", behind).await.unwrap();
        assert!(second.token() > token, "tokens rise, whoever was taken over");
        drop(second);
        until_queue_is(client, "owner/place", 0).await;
    });
}

#[test]
fn a_session_that_waits_is_told_that_its_place_was_taken_over() {
    run(async {
        let (holder, old, new) = (process().await, process().await, process().await);
        let client = holder.client();
        let held = holder.mutex("owner/waits").lock().await.unwrap();
        let mutex = old.mutex("owner/waits").owner("a");
        let waits = tokio::spawn(async move { mutex.lock().await });
        until_queue_is(client, "owner/waits", 2).await;
        let mutex = new.mutex("owner/waits").owner("a");
        let again = tokio::spawn(async move { mutex.lock().await.unwrap() });
        let refused = patiently("the end of the wait", waits).await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::Aborted);
        held.release().await.unwrap();
        let guard = patiently("the grant", again).await.unwrap();
        assert!(
            !is_fenced(client, &guard).await,
            "its key was withdrawn by the other"
        );
    });
}

#[test]
fn of_two_that_come_back_at_once_one_has_it() {
    run(async {
        let (old, one, two) = (process().await, process().await, process().await);
        let _left = old.mutex("owner/two").owner("a").lock().await.unwrap();
        crash(old).await;
        let mutexes = [&one, &two].map(|session| session.mutex("owner/two").owner("a"));
        let (first, second) = tokio::join!(mutexes[0].lock(), mutexes[1].lock());
        let mut theirs = Vec::new();
        for granted in [first, second] {
            match granted {
                Ok(guard) => theirs.push(guard),
                Err(refused) => assert_eq!(refused.code(), Code::Aborted),
            }
        }
        // The second may have come after the first was done, and took it from there.
        theirs.sort_by_key(Guard::token);
        let last = theirs.pop().expect("one of them has it");
        assert!(!is_fenced(one.client(), &last).await);
        for guard in theirs {
            assert!(is_fenced(one.client(), &guard).await);
            assert_eq!(patiently("the news", guard.lost()).await, Lost::TakenOver);
        }
    });
}

#[test]
fn a_try_takes_over_what_is_its_owners_and_nobody_elses() {
    run(async {
        let (old, new) = (process().await, process().await);
        let _left = old.mutex("owner/try").owner("a").lock().await.unwrap();
        crash(old).await;
        assert!(new.mutex("owner/try").try_lock().await.unwrap().is_none());
        assert!(new.mutex("owner/try").owner("b").try_lock().await.unwrap().is_none());
        let mutex = new.mutex("owner/try").owner("a");
        let guard = mutex.try_lock().await.unwrap().expect("it is its own");
        assert_eq!(guard.token().takeovers(), 1);
        guard.release().await.unwrap();
        let anew = mutex.lock().await.unwrap();
        assert_eq!(anew.token().takeovers(), 0, "it is another key");
    });
}

#[test]
fn a_lock_of_an_owner_is_passed_on_within_its_session() {
    run(async {
        let (old, new) = (process().await, process().await);
        let _left = old.mutex("owner/local").owner("a").lock().await.unwrap();
        crash(old).await;
        let mutex = new.mutex("owner/local").owner("a").hand_off(u32::MAX, TTL_LONG);
        let first = locked(&mutex).await;
        let second = crate::hand_off::waiting(&mutex);
        let token = first.token();
        first.release().await.unwrap();
        let second = patiently("a hand-off", second).await.unwrap();
        assert_eq!(
            (second.token().takeovers(), second.token().sequence()),
            (1, token.sequence() + 1)
        );
        assert!(second.token() > token);
        assert!(!is_fenced(new.client(), &second).await);
        drop(second);
        until_queue_is(new.client(), "owner/local", 0).await;
    });
}

#[test]
fn who_gives_up_while_he_takes_over_leaves_nothing() {
    run(async {
        for polls in 0..30 {
            let (old, new) = (process().await, process().await);
            let (name, lease) = (format!("owner/dropped/{polls}"), old.lease_id());
            let _left = old.mutex(&name).owner("a").lock().await.unwrap();
            crash(old).await;
            let mutex = new.mutex(&name).owner("a");
            let mut locking = Box::pin(mutex.lock());
            let mut left = polls;
            let done = std::future::poll_fn(|cx| {
                let polled = locking.as_mut().poll(cx);
                match left {
                    _ if polled.is_ready() => std::task::Poll::Ready(true),
                    0 => std::task::Poll::Ready(false),
                    _ => {
                        left -= 1;
                        std::task::Poll::Pending
                    }
                }
            });
            let done = patiently("a poll", done).await;
            drop(locking);
            // Given back, or left to the lease that it hung on.
            new.client().lease_revoke(lease).await.unwrap();
            until_queue_is(new.client(), &name, 0).await;
            if done {
                return;
            }
        }
        panic!("it is never granted");
    });
}

#[test]
fn what_cannot_be_an_owner_is_refused() {
    run(async {
        let session = process().await;
        let mutex = session.mutex("owner/invalid");
        for refused in [
            mutex.clone().owner(""),
            mutex.clone().owner("a/b"),
            mutex.owner("a").one_token_per_key(),
        ] {
            assert_eq!(refused.lock().await.unwrap_err().code(), Code::InvalidArgument);
            assert_eq!(
                refused.try_lock().await.unwrap_err().code(),
                Code::InvalidArgument
            );
        }
    });
}

#[test]
fn what_reads_like_another_ones_place_is_refused_also_while_that_is_in_use() {
    run(async {
        let session = process().await;
        let held = session.mutex("owner/a/b").owner("c").lock().await.unwrap();
        for mutex in [
            session.mutex("owner/a").owner("b/c"),
            session.mutex("owner/a/b/c#gate"),
        ] {
            assert_eq!(mutex.try_lock().await.unwrap_err().code(), Code::InvalidArgument);
        }
        held.release().await.unwrap();
        session.close().await.unwrap();
    });
}
