//! A lock that its guard may not hold for long: it is lost when that time is over, while its
//! session lives on.

use std::error::Error as _;
use std::future::pending;
use std::time::Duration;

use tenure::{Code, Error, Lost, Op};

use crate::hand_off::waiting;
use crate::lock::{session, until_queue_is};
use crate::support::{patiently, run};

/// Shorter than any test.
const SHORT: Duration = Duration::from_millis(100);
/// Longer than any.
const LONG: Duration = Duration::from_secs(3600);

fn is_too_long(error: &Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<Lost>());
    error.code() == Code::FailedPrecondition && source == Some(&Lost::HeldTooLong)
}

#[test]
fn a_guard_that_is_held_for_too_long_loses_the_lock_and_its_session_lives_on() {
    run(async {
        let (one, two) = (session().await, session().await);
        let guard = one.mutex("hold/too-long").hold_at_most(SHORT).lock().await.unwrap();
        assert!(guard.valid_for() <= SHORT);
        let next = patiently("the next grant", two.mutex("hold/too-long").lock()).await.unwrap();
        assert!(!guard.is_valid(), "the next one has it already");
        assert_eq!(guard.valid_for(), Duration::ZERO);
        assert_eq!(patiently("the news", guard.lost()).await, Lost::HeldTooLong);
        let late = one.client().txn().when(guard.fence()).then(Op::put("hold-too-long", "late"));
        assert!(!late.await.unwrap().succeeded, "a late write");
        assert!(is_too_long(&guard.release().await.unwrap_err()));
        assert!(one.is_valid() && next.is_valid());
        assert!(
            next.release().await.is_ok(),
            "its key is not the one that was lost"
        );
        until_queue_is(two.client(), "hold/too-long", 0).await;
    });
}

#[test]
fn what_was_lost_is_not_passed_on_within_the_session() {
    run(async {
        let session = session().await;
        let bounded = session.mutex("hold/local").hand_off(u32::MAX, LONG).linger(LONG).hold_at_most(SHORT);
        let first = bounded.lock().await.unwrap();
        let unbounded = session.mutex("hold/local").hand_off(u32::MAX, LONG);
        let next = patiently("the next grant", waiting(&unbounded)).await.unwrap();
        assert!(next.token().create_revision() > first.token().create_revision());
        // Whatever is done with it now is not done to the next one's key.
        first.taint();
        drop(first);
        let token = next.token();
        let again = waiting(&unbounded);
        next.release().await.unwrap();
        let again = patiently("a hand-off", again).await.unwrap();
        assert_eq!(again.token().create_revision(), token.create_revision());
    });
}

#[test]
fn a_guard_that_ends_in_time_passes_the_lock_on_and_each_has_its_own_time() {
    run(async {
        let session = session().await;
        let mutex = session.mutex("hold/in-time").hand_off(u32::MAX, LONG).hold_at_most(LONG);
        let first = mutex.lock().await.unwrap();
        let second = waiting(&mutex);
        let token = first.token();
        assert!(first.is_valid());
        first.release().await.unwrap();
        let second = patiently("a hand-off", second).await.unwrap();
        assert_eq!(second.token().create_revision(), token.create_revision());
        assert!(second.is_valid() && second.token() > token);
        drop(second);
        until_queue_is(session.client(), "hold/in-time", 0).await;
    });
}

#[test]
fn work_is_dropped_when_it_takes_too_long() {
    run(async {
        let session = session().await;
        let guard = session.mutex("hold/work").hold_at_most(SHORT).lock().await.unwrap();
        let done = patiently("the end of the work", guard.run(async |_| pending::<()>().await)).await;
        assert!(is_too_long(&done.unwrap_err()));
        until_queue_is(session.client(), "hold/work", 0).await;
    });
}

#[test]
fn the_end_of_the_session_is_told_where_it_comes_first() {
    run(async {
        let session = session().await;
        let guard = session.mutex("hold/session").hold_at_most(LONG).lock().await.unwrap();
        session.orphan();
        assert!(matches!(guard.lost().await, Lost::Session(_)));
        assert!(!guard.is_valid());
    });
}
