//! Processes that die with a lock, or in its queue: whoever is next has it once
//! their lease is over.

use std::time::{Duration, Instant};

use tenure::{Revision, Session};
use tokio::task::JoinHandle;

use crate::child::Role;
use crate::process::Process;
use crate::support::{TTL_OF_HOLDER, endpoint, patiently, runtime, session, until_queue_is};

/// How often etcd looks for leases that have run out.
const SCAN: Duration = Duration::from_millis(500);
/// For machines that are busy, and yet far less than the 30 seconds after which whoever waits looks
/// again by itself.
const SLACK: Duration = Duration::from_secs(15);

/// A lock that this process waits for in the background.
struct Waiter {
    session: Session,
    locking: JoinHandle<tenure::Guard>,
}

impl Waiter {
    /// Queues up behind `older` others.
    async fn start(name: &str, older: i64) -> Waiter {
        let session = session().await;
        let mutex = session.mutex(name);
        let locking = tokio::spawn(async move { mutex.lock().await.expect("a lock") });
        until_queue_is(session.client(), name, older + 1).await;
        Waiter { session, locking }
    }

    async fn granted(&mut self) -> tenure::Guard {
        patiently("a grant", &mut self.locking).await.expect("no panic")
    }
}

/// A child that holds the lock, with its token.
async fn holder(name: &str) -> (Process, Revision) {
    let mut child = Process::start(Role::Holder, &endpoint(), name, 1);
    let token = child.says("held").await.parse().expect("a token");
    (child, Revision(token))
}

/// A child that waits for the lock behind `older` others.
async fn queued(name: &str, observer: &Session, older: i64) -> Process {
    let mut child = Process::start(Role::Holder, &endpoint(), name, 1);
    child.says("waits").await;
    until_queue_is(observer.client(), name, older + 1).await;
    child
}

fn assert_within_a_ttl(killed: Instant) {
    let waited = killed.elapsed();
    assert!(waited <= TTL_OF_HOLDER + SCAN + SLACK, "blocked for {waited:?}");
}

#[test]
fn a_crashed_holder_blocks_the_next_no_longer_than_its_ttl_and_a_scan() {
    runtime().block_on(async {
        let (mut child, token) = holder("crash/holder").await;
        let mut waiter = Waiter::start("crash/holder", 1).await;
        child.kill().await;
        let killed = Instant::now();
        let guard = waiter.granted().await;
        assert_within_a_ttl(killed);
        assert!(
            guard.token().create_revision() > token,
            "{token} was the crashed one's"
        );
        guard.release().await.expect("a release");
    });
}

#[test]
fn a_crashed_holder_blocks_a_lock_that_is_asked_for_later_no_longer() {
    runtime().block_on(async {
        let (mut child, token) = holder("crash/later").await;
        let session = session().await;
        child.kill().await;
        let killed = Instant::now();
        let guard = patiently("a grant", session.mutex("crash/later").lock()).await.expect("a lock");
        assert_within_a_ttl(killed);
        assert!(
            guard.token().create_revision() > token,
            "{token} was the crashed one's"
        );
    });
}

#[test]
fn a_queue_moves_up_in_order_when_its_holder_crashes() {
    runtime().block_on(async {
        let name = "crash/queue";
        let (mut child, token) = holder(name).await;
        let mut waiters = Vec::new();
        for older in 1..=3 {
            waiters.push(Waiter::start(name, older).await);
        }
        child.kill().await;
        let killed = Instant::now();
        let mut last = token;
        for index in 0..waiters.len() {
            let guard = waiters[index].granted().await;
            let behind = waiters[index + 1..].iter().all(|waiter| !waiter.locking.is_finished());
            assert!(behind, "two hold the lock");
            assert!(guard.token().create_revision() > last, "the token after {last}");
            last = guard.token().create_revision();
            guard.release().await.expect("a release");
        }
        assert_within_a_ttl(killed);
        until_queue_is(waiters[0].session.client(), name, 0).await;
    });
}

#[test]
fn a_waiter_that_crashes_in_the_middle_blocks_those_behind_it_no_longer() {
    runtime().block_on(async {
        let name = "crash/middle";
        let first = session().await;
        let guard = first.mutex(name).lock().await.expect("a lock");
        let mut child = queued(name, &first, 1).await;
        let mut behind = Waiter::start(name, 2).await;
        child.kill().await;
        let killed = Instant::now();
        let token = guard.token();
        guard.release().await.expect("a release");
        let next = behind.granted().await;
        assert_within_a_ttl(killed);
        assert!(next.token() > token);
    });
}

#[test]
fn a_holder_and_a_waiter_that_crash_together_block_no_longer_than_one() {
    runtime().block_on(async {
        let name = "crash/both";
        let (mut child, token) = holder(name).await;
        let observer = session().await;
        let mut middle = queued(name, &observer, 1).await;
        let mut last = Waiter::start(name, 2).await;
        child.kill().await;
        middle.kill().await;
        let killed = Instant::now();
        let guard = last.granted().await;
        assert_within_a_ttl(killed);
        assert!(
            guard.token().create_revision() > token,
            "{token} was the crashed one's"
        );
    });
}
