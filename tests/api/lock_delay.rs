//! A lock that stays closed for a while after a holder that did not give it back.

use std::time::{Duration, Instant};

use tenure::{Code, Lost, Session};

use crate::lock::{session, until_queue_is};
use crate::support::{client, patiently, run};

const TTL: Duration = Duration::from_secs(2);
const DELAY: Duration = Duration::from_secs(3);
/// No test waits for so long.
const LONG: Duration = Duration::from_secs(300);

async fn delaying(ttl: Duration, delay: Duration) -> Session {
    client().await.session().ttl(ttl).lock_delay(delay).await.unwrap()
}

#[test]
fn whoever_comes_after_a_holder_that_crashed_waits_for_the_delay() {
    run(async {
        let (doomed, next) = (delaying(TTL, DELAY).await, session().await);
        let guard = doomed.mutex("delay/crash").lock().await.unwrap();
        assert!(guard.valid_for() <= TTL);
        let lost = Instant::now() + guard.valid_for();
        doomed.orphan();
        // Whoever waits need not know of any delay.
        let guard = patiently("the next grant", next.mutex("delay/crash").lock()).await.unwrap();
        assert!(
            Instant::now() >= lost + DELAY,
            "while what the holder sent was on its way"
        );
        guard.release().await.unwrap();
        until_queue_is(next.client(), "delay/crash", 0).await;
    });
}

#[test]
fn a_lock_that_is_given_back_is_free_at_once() {
    run(async {
        let (one, two) = (delaying(LONG, LONG).await, delaying(LONG, LONG).await);
        for session in [&one, &two, &one, &two] {
            let mutex = session.mutex("delay/free");
            patiently("the grant", mutex.lock()).await.unwrap().release().await.unwrap();
            drop(patiently("the grant", mutex.lock()).await.unwrap());
        }
        let _held = patiently("the grant", one.mutex("delay/free").lock()).await.unwrap();
        one.close().await.unwrap();
        drop(patiently("the grant", two.mutex("delay/free").lock()).await.unwrap());
        until_queue_is(two.client(), "delay/free", 0).await;
    });
}

#[test]
fn the_time_to_live_is_believed_in_and_renewed_without_the_delay() {
    run(async {
        // A renewal may be late on a busy machine, though not by so much.
        let ttl = TTL * 3;
        let session = delaying(ttl, DELAY).await;
        let id = session.lease_id();
        let lease = session.client().lease_time_to_live(id).await.unwrap();
        assert_eq!(lease.granted_ttl, 9);
        let begun = Instant::now();
        while begun.elapsed() < ttl + DELAY {
            assert!(session.valid_for() <= ttl);
            assert!(session.is_valid(), "it was not renewed in time");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        session.orphan();
        let again = client().await.session().lease(id).lock_delay(DELAY).await.unwrap();
        assert!(again.is_valid() && again.valid_for() <= ttl);
        again.orphan();
        let refused = client().await.session().lease(id).lock_delay(ttl + DELAY).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    });
}

#[test]
fn who_crashes_while_it_waits_delays_the_next_as_well() {
    run(async {
        let (holder, doomed, next) = (session().await, delaying(TTL, DELAY).await, session().await);
        let held = holder.mutex("delay/waiter").lock().await.unwrap();
        let mutex = doomed.mutex("delay/waiter");
        let waits = tokio::spawn(async move { mutex.lock().await.is_err() });
        until_queue_is(holder.client(), "delay/waiter", 2).await;
        let lost = Instant::now() + doomed.valid_for();
        doomed.orphan();
        assert!(patiently("the end of the wait", waits).await.unwrap());
        held.release().await.unwrap();
        drop(patiently("the next grant", next.mutex("delay/waiter").lock()).await.unwrap());
        assert!(Instant::now() >= lost + DELAY);
        until_queue_is(next.client(), "delay/waiter", 0).await;
    });
}

#[test]
fn who_gives_up_waiting_delays_nobody() {
    run(async {
        let (holder, other) = (delaying(LONG, LONG).await, delaying(LONG, LONG).await);
        let held = holder.mutex("delay/withdrawn").lock().await.unwrap();
        let mutex = other.mutex("delay/withdrawn").timeout(Duration::from_millis(50));
        assert!(mutex.lock().await.is_err());
        held.release().await.unwrap();
        until_queue_is(holder.client(), "delay/withdrawn", 0).await;
        drop(patiently("the grant", holder.mutex("delay/withdrawn").lock()).await.unwrap());
    });
}

#[test]
fn a_lock_that_was_held_for_too_long_is_given_back_after_the_delay() {
    run(async {
        let (hold, delay) = (Duration::from_millis(200), Duration::from_secs(1));
        let (one, two) = (delaying(LONG, delay).await, session().await);
        let begun = Instant::now();
        let guard = one.mutex("delay/hold").hold_at_most(hold).lock().await.unwrap();
        let next = two.mutex("delay/hold");
        let (lost, next) = tokio::join!(guard.lost(), patiently("the next grant", next.lock()));
        assert_eq!(lost, Lost::HeldTooLong);
        assert!(begun.elapsed() >= hold + delay);
        next.unwrap().release().await.unwrap();
    });
}

#[test]
fn what_was_lost_is_free_no_sooner_when_its_guard_is_dropped_or_released() {
    run(async {
        let (doomed, next) = (delaying(TTL, DELAY).await, session().await);
        let dropped = doomed.mutex("delay/dropped").lock().await.unwrap();
        let released = doomed.mutex("delay/released").lock().await.unwrap();
        let shared = doomed.rw_lock("delay/shared").read().await.unwrap();
        let lost = Instant::now() + doomed.valid_for();
        doomed.orphan();
        drop((dropped, shared));
        assert_eq!(
            released.release().await.unwrap_err().code(),
            Code::FailedPrecondition
        );
        for name in ["delay/dropped", "delay/released", "delay/shared"] {
            drop(patiently("the next grant", next.mutex(name).lock()).await.unwrap());
            assert!(Instant::now() >= lost + DELAY, "{name}");
        }
    });
}

#[test]
fn what_was_held_for_too_long_is_free_no_sooner_when_it_is_released() {
    run(async {
        let delay = Duration::from_secs(1);
        let (one, two) = (delaying(LONG, delay).await, session().await);
        let begun = Instant::now();
        let guard = one.mutex("delay/late").hold_at_most(Duration::ZERO).lock().await.unwrap();
        assert!(!guard.is_valid());
        assert!(guard.release().await.is_err());
        drop(patiently("the grant", two.mutex("delay/late").lock()).await.unwrap());
        assert!(begun.elapsed() >= delay);
        until_queue_is(two.client(), "delay/late", 0).await;
    });
}
