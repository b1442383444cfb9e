//! Everything at once: tasks that lock, hold and give up; members that freeze and die.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tenure::{Client, Code, Config, Guard, Op, Session};
use tenure_etcd::{Cluster, Options};

use crate::support::{TTL, client, cluster_with, patiently, runtime, until_empty};

const LENGTH: Duration = Duration::from_secs(8);
const SESSIONS: usize = 4;
const TASKS: usize = 40;

#[derive(Default)]
struct Seen {
    holders: AtomicUsize,
    grants: AtomicUsize,
}

#[test]
fn a_storm_over_three_members_has_one_holder_at_a_time_and_leaves_no_key() {
    let options = Options {
        fsync: true,
        ..Options::default()
    };
    let cluster = cluster_with(3, options);
    let (runtime, seen) = (runtime(), Arc::new(Seen::default()));
    let sessions: Vec<_> = (0..SESSIONS).map(|index| runtime.block_on(session(&cluster, index))).collect();
    let end = Instant::now() + LENGTH;
    let spawn = |index: usize| {
        runtime.spawn(locks(
            sessions[index % SESSIONS].clone(),
            index,
            seen.clone(),
            end,
        ))
    };
    let tasks: Vec<_> = (0..TASKS).map(spawn).collect();
    rage(&cluster, end);
    runtime.block_on(async {
        for task in tasks {
            patiently("the end of a task", task).await.unwrap();
        }
        until_empty(&client(&cluster).await, "storm").await;
    });
    assert!(
        seen.grants.load(Ordering::SeqCst) > 0,
        "nothing was locked, so nothing was tried"
    );
}

/// A session whose client prefers another member than the session before it.
async fn session(cluster: &Cluster, index: usize) -> Session {
    let mut endpoints = cluster.endpoints();
    endpoints.rotate_left(index % 3);
    let config = Config::new().call_timeout(Duration::from_millis(1500));
    let client = Client::connect_with(endpoints, config).await.unwrap();
    crate::support::session(&client, TTL).await
}

/// Freezes the members in turn, and kills every fourth instead.
fn rage(cluster: &Cluster, end: Instant) {
    let mut turn = 0;
    while Instant::now() < end {
        let member = cluster.member(turn % 3);
        if turn % 4 == 3 {
            member.kill();
            std::thread::sleep(Duration::from_millis(200));
            member.restart().unwrap();
        } else {
            member.pause().unwrap();
            std::thread::sleep(Duration::from_millis(300 + 300 * (turn as u64 % 3)));
            member.resume().unwrap();
        }
        std::thread::sleep(Duration::from_millis(500));
        turn += 1;
    }
    cluster.wait_ready().unwrap();
}

/// Locks again and again, with more patience or less.
async fn locks(session: Session, index: usize, seen: Arc<Seen>, end: Instant) {
    let mutex = session.mutex("storm");
    let mut dice = Rng::with_seed(index as u64);
    while Instant::now() < end {
        let patience = Duration::from_micros(dice.u64(..400_000));
        let Ok(lock) = tokio::time::timeout(patience, mutex.lock()).await else {
            continue;
        };
        let guard = lock.expect("no session ends in a storm that is shorter than its TTL");
        assert_eq!(seen.holders.fetch_add(1, Ordering::SeqCst), 0, "two hold it");
        seen.grants.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_micros(dice.u64(..3000))).await;
        let fenced = session.client().txn().when(guard.fence()).then(Op::put("fenced", "")).await;
        let gone = fenced.is_ok_and(|answer| !answer.succeeded);
        assert!(!gone, "the key of a holder is gone");
        seen.holders.fetch_sub(1, Ordering::SeqCst);
        give_back(guard, &mut dice).await;
    }
}

async fn give_back(guard: Guard, dice: &mut Rng) {
    match dice.u64(..5) {
        0 => drop(guard),
        1 => {
            let patience = Duration::from_micros(dice.u64(..2000));
            let _ = tokio::time::timeout(patience, guard.release()).await;
        }
        _ => {
            let code = guard.release().await.err().map(|error| error.code());
            assert_ne!(
                code,
                Some(Code::FailedPrecondition),
                "the key of a holder is gone"
            );
        }
    }
}
