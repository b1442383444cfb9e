//! Two runtimes: the session is of one, the lease's driver and the waiters are of
//! the other, and the first one ends.

use std::time::Duration;

use crate::support::{TTL, TTL_SHORT, client, cluster, patiently, runtime, session};

/// As long as a request takes to be on its way.
const MOMENT: Duration = Duration::from_millis(200);

#[test]
fn a_guard_dropped_after_the_releasers_runtime_ended_is_given_back_or_runs_out() {
    let cluster = cluster(1);
    let (lasting, ending) = (runtime(), runtime());
    let client = lasting.block_on(client(&cluster));
    // The driver of all leases of a client is where its first one was granted.
    let _first = lasting.block_on(client.lease(TTL).into_future()).unwrap();
    let releasing = ending.block_on(session(&client, TTL_SHORT));
    let guard = lasting.block_on(releasing.mutex("gone").lock()).unwrap();
    ending.shutdown_timeout(Duration::from_secs(1));
    drop(guard);
    lasting.block_on(async {
        let other = session(&client, TTL).await;
        let guard = patiently("the next grant", other.mutex("gone").lock()).await.unwrap();
        guard.release().await.unwrap();
    });
    drop(releasing);
}

#[test]
fn a_release_that_went_with_its_runtime_passes_no_turn_on() {
    let cluster = cluster(1);
    let (lasting, ending) = (runtime(), runtime());
    let client = lasting.block_on(client(&cluster));
    let _first = lasting.block_on(client.lease(TTL).into_future()).unwrap();
    let session = ending.block_on(session(&client, TTL));
    let guard = lasting.block_on(session.mutex("turn").lock()).unwrap();
    let mutex = session.mutex("turn");
    let waiting = lasting.spawn(async move { mutex.lock().await.map(drop) });
    std::thread::sleep(MOMENT);
    cluster.member(0).pause().unwrap();
    drop(guard);
    std::thread::sleep(MOMENT);
    ending.shutdown_timeout(Duration::from_secs(1));
    std::thread::sleep(MOMENT);
    cluster.member(0).resume().unwrap();
    // It may be granted or told that the session is over; it must neither hang nor panic.
    let _ = lasting.block_on(patiently("the waiter's end", waiting)).expect("no panic");
}

#[test]
fn whatever_outlives_its_runtime_ends_without_a_panic() {
    let cluster = cluster(1);
    let ending = runtime();
    let (session, guard, waiting) = ending.block_on(async {
        let session = session(&client(&cluster).await, TTL_SHORT).await;
        let guard = session.mutex("out").lock().await.unwrap();
        let mutex = session.mutex("out");
        (session, guard, tokio::spawn(async move { mutex.lock().await }))
    });
    std::thread::sleep(MOMENT);
    ending.shutdown_timeout(Duration::from_secs(1));
    assert!(guard.key().starts_with(b"out/"));
    std::thread::spawn(move || drop(guard)).join().unwrap();
    runtime().block_on(async {
        let lock = patiently("the end", session.mutex("out").lock()).await;
        lock.expect_err("the lease's driver is gone");
    });
    drop((session, waiting));
}
