//! Double barriers against a real server: all in before one goes on, all out before one goes home.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tenure::{Client, Code, Session};
use tenure_proxy::{Direction, Flow, Proxy};

use crate::barrier::{keys, lose_answers, waits};
use crate::lock::{TTL, session};
use crate::support::{client, endpoints, patiently, run, viewed};

const PARTIES: usize = 4;

#[test]
fn all_begin_together_and_end_together_round_after_round() {
    run(async {
        let (inside, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = Vec::new();
        let turn = Arc::new(tokio::sync::Barrier::new(PARTIES));
        for _ in 0..PARTIES {
            let (session, inside, done, turn) = (session().await, inside.clone(), done.clone(), turn.clone());
            tasks.push(tokio::spawn(async move {
                let barrier = session.double_barrier("double/rule", PARTIES as u32);
                for round in 1..=5 {
                    inside.fetch_add(1, Ordering::SeqCst);
                    let entered = barrier.enter().await.unwrap();
                    assert_eq!(
                        inside.load(Ordering::SeqCst),
                        round * PARTIES,
                        "somebody is missing"
                    );
                    done.fetch_add(1, Ordering::SeqCst);
                    entered.leave().await.unwrap();
                    assert_eq!(
                        done.load(Ordering::SeqCst),
                        round * PARTIES,
                        "somebody is still in"
                    );
                    // The counts stand still until all have looked.
                    turn.wait().await;
                }
            }));
        }
        for task in tasks {
            patiently("the end of a task", task).await.unwrap();
        }
        assert_eq!(keys(&client().await, "double/rule").await, 0);
    });
}

#[test]
fn who_dies_before_does_not_count_and_who_dies_inside_has_left() {
    run(async {
        let (one, two, dying) = (session().await, session().await, session().await);
        let client = client().await;
        let barrier = |session: &Session| session.double_barrier("double/dying", 2);
        let early = barrier(&dying);
        let mut early = Box::pin(early.enter());
        waits("one of two", early.as_mut()).await;
        client.lease_revoke(dying.lease_id()).await.unwrap();
        let first = barrier(&one);
        let mut first = pin!(first.enter());
        waits("one of two, where the other has died", first.as_mut()).await;
        let error = patiently("the end of the dead", early).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);

        let second = barrier(&two);
        let (first, second) = patiently("the round", async { tokio::join!(first, second.enter()) }).await;
        let (first, second) = (first.unwrap(), second.unwrap());
        let mut leaving = pin!(first.leave());
        waits("one who is still in", leaving.as_mut()).await;
        client.lease_revoke(two.lease_id()).await.unwrap();
        patiently("the end of the round", leaving).await.unwrap();
        assert_eq!(keys(&client, "double/dying").await, 0);
        assert_eq!(second.leave().await.unwrap_err().code(), Code::FailedPrecondition);
    });
}

#[test]
fn who_comes_late_waits_for_the_round_to_be_over_and_a_dead_round_is_swept() {
    run(async {
        let (one, late) = (session().await, session().await);
        let client = client().await;
        let inside = one.double_barrier("double/late", 1).enter().await.unwrap();
        // Names nest.
        let below = late.double_barrier("double/late/below", 1).enter().await.unwrap();
        below.leave().await.unwrap();
        let barrier = late.double_barrier("double/late", 1);
        let mut entering = pin!(barrier.enter());
        waits("the round before", entering.as_mut()).await;
        // All of the round are dead, and the marker is left.
        client.lease_revoke(one.lease_id()).await.unwrap();
        let entered = patiently("the next round", entering).await.unwrap();
        assert!(inside.leave().await.is_err());
        entered.leave().await.unwrap();
        assert_eq!(keys(&client, "double/late").await, 0);
        for parties in [0, 121] {
            let refused = late.double_barrier("double/late", parties).enter().await;
            assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
        }
    });
}

#[test]
fn a_place_whose_answer_is_lost_is_one_place() {
    run(async {
        let outside = client().await;
        let other = session().await;
        let proxy = Proxy::start(&endpoints()[0]).unwrap();
        let client = viewed(Client::connect([proxy.endpoint()]).await.unwrap());
        let session = client.session().ttl(TTL).await.unwrap();
        let barrier = session.double_barrier("double/lost", 2);
        let mut entering = Box::pin(barrier.enter());
        let lose = lose_answers(&outside, &proxy, "double/lost#double-barrier/in/", 1);
        proxy.flow(Direction::Down, Flow::Delay(std::time::Duration::from_millis(60)));
        tokio::select! {
            entered = entering.as_mut() => panic!("{entered:?}"),
            () = patiently("its key", lose) => {}
        }
        waits("one of two, entered twice", entering.as_mut()).await;
        let second = other.double_barrier("double/lost", 2);
        let (first, second) = patiently("the round", async { tokio::join!(entering, second.enter()) }).await;
        let (first, second) = (first.unwrap(), second.unwrap());
        let (first, second) = tokio::join!(first.leave(), second.leave());
        first.unwrap();
        second.unwrap();
        session.close().await.unwrap();
        assert_eq!(keys(&outside, "double/lost").await, 0);
    });
}
