//! A lock that its owner takes again while it has it.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use tenure::{Code, Lost};

use crate::lock::{TTL, session, until_queue_is};
use crate::support::{counted_client, patiently, run};

#[test]
fn the_same_owner_takes_it_again_without_a_request_and_the_last_gives_it_back() {
    run(async {
        let (client, sent) = counted_client().await;
        let session = client.session().ttl(TTL).await.unwrap();
        let owner = session.mutex("reentrant/again").reentrant();
        let outer = owner.lock().await.unwrap();
        let before = (sent.requests(), sent.messages());
        let inner = owner.lock().await.unwrap();
        let innermost = owner.clone().try_lock().await.unwrap().expect("it is the same owner");
        assert_eq!((inner.depth(), inner.token()), (3, outer.token()));
        outer.release().await.unwrap();
        drop(inner);
        assert!(innermost.is_valid());
        assert_eq!((sent.requests(), sent.messages()), before);
        until_queue_is(&client, "reentrant/again", 1).await;
        innermost.release().await.unwrap();
        until_queue_is(&client, "reentrant/again", 0).await;
        let anew = owner.lock().await.unwrap();
        assert_eq!(anew.depth(), 1);
    });
}

#[test]
fn another_owner_waits_as_everybody_does() {
    run(async {
        let session = session().await;
        let mutex = session.mutex("reentrant/other");
        let (one, two) = (mutex.reentrant(), mutex.reentrant());
        let held = one.lock().await.unwrap();
        assert!(two.try_lock().await.unwrap().is_none());
        assert!(mutex.try_lock().await.unwrap().is_none());
        let mut waits = pin!(two.lock());
        assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let token = held.token();
        let inner = one.lock().await.unwrap();
        drop((inner, held));
        let next = patiently("the other's grant", waits).await.unwrap();
        assert!(next.token() > token);
    });
}

#[test]
fn two_tasks_of_an_owner_that_wait_share_one_place() {
    run(async {
        let session = session().await;
        let mutex = session.mutex("reentrant/tasks");
        let owner = mutex.reentrant();
        let held = mutex.lock().await.unwrap();
        let mut first = Box::pin(owner.lock());
        assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let others = async { tokio::join!(owner.lock(), owner.lock()) };
        let release = async {
            tokio::task::yield_now().await;
            // The first is given up while the others wait for it.
            drop(first);
            held.release().await.unwrap();
        };
        let ((second, third), ()) = tokio::join!(others, release);
        let (second, third) = (second.unwrap(), third.unwrap());
        assert_eq!((second.token(), second.depth()), (third.token(), 2));
    });
}

#[test]
fn what_was_lost_is_not_given_to_its_owner_again() {
    run(async {
        let session = session().await;
        let hold = Duration::from_millis(300);
        let mutex = session.mutex("reentrant/lost").hold_at_most(hold);
        let owner = mutex.reentrant();
        let outer = owner.lock().await.unwrap();
        assert_eq!(patiently("the loss", outer.lost()).await, Lost::HeldTooLong);
        assert_eq!(owner.lock().await.unwrap_err().code(), Code::FailedPrecondition);
        let token = outer.token();
        drop(outer);
        let asked = Instant::now();
        let anew = patiently("a new grant", owner.lock()).await.unwrap();
        assert!(anew.token() > token);
        // It has the whole time again, which on a machine that stood still may be over already.
        assert!(anew.is_valid() || asked.elapsed() >= hold);
    });
}

#[test]
fn who_waits_for_another_task_of_its_owner_is_in_time_too() {
    run(async {
        let session = session().await;
        let mutex = session.mutex("reentrant/time");
        let _held = mutex.lock().await.unwrap();
        let owner = mutex.timeout(Duration::from_millis(50)).reentrant();
        let (one, two) = tokio::join!(owner.lock(), owner.lock());
        for refused in [one.unwrap_err(), two.unwrap_err()] {
            assert_eq!(refused.code(), Code::DeadlineExceeded);
        }
    });
}
