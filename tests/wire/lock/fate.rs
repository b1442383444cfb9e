//! Answers that fail or never come: what is tried again, and what is final.

use std::time::Duration;

use tenure::{Code, EtcdError, Origin, Revision};

use crate::peer::patiently;

use super::{KEY, found, held, kv, lock, locked, refused, registered, released, session};

/// The release of a dropped guard arrives until it is answered.
#[tokio::test]
async fn a_release_is_sent_until_it_is_certain_and_then_the_next_has_its_turn() {
    let (session, mut etcd, guard) = held().await;
    drop(guard);
    let waiting = lock(&session);
    let first = etcd.txn().await;
    let release = first.message.clone();
    first.fail("14", "etcdserver: request timed out");
    let second = etcd.txn().await;
    assert_eq!(second.message, release);
    second.lose();
    let third = etcd.txn().await;
    assert_eq!(third.message, release);
    third.answer(&released(6));

    let register = etcd.txn().await;
    assert_ne!(register.message, release);
    register.answer(&registered(7, &[kv(KEY, 7)]));
    assert_eq!(locked(waiting).await.token().create_revision(), Revision(7));
}

#[tokio::test]
async fn a_release_that_failed_goes_on_in_the_background() {
    let (session, mut etcd, guard) = held().await;
    let releasing = tokio::spawn(guard.release());
    let first = etcd.txn().await;
    let release = first.message.clone();
    first.fail("14", "etcdserver: request timed out");
    assert_eq!(releasing.await.unwrap().unwrap_err().code(), Code::Unavailable);
    let second = etcd.txn().await;
    assert_eq!(second.message, release);
    second.answer(&released(6));
    let _waiting = lock(&session);
    assert_ne!(etcd.txn().await.message, release);
}

/// As many as a session gives back at a time.
const RELEASES_MAX: usize = 64;

#[tokio::test]
async fn releases_that_fail_all_the_time_are_in_nobodys_way() {
    let (session, mut etcd) = session().await;
    let mut guards = Vec::new();
    for name in (0..RELEASES_MAX).map(|index| format!("revoked/{index}")).chain(["last".into()]) {
        let mutex = session.mutex(&name);
        let locking = tokio::spawn(async move { mutex.lock().await });
        etcd.txn().await.answer(&registered(5, &[]));
        guards.push(locked(locking).await);
    }
    let last = guards.pop();
    drop(guards);
    for _ in 0..RELEASES_MAX {
        etcd.txn().await.fail("7", "etcdserver: permission denied");
    }
    drop(last);
    let release = async {
        loop {
            let txn = etcd.txn().await;
            if txn.message.compare[0].key == "last/77" {
                return txn;
            }
            txn.fail("7", "etcdserver: permission denied");
        }
    };
    patiently("the release of the last", release).await.answer(&released(6));
    // And those that fail go on as well.
    assert!(etcd.txn().await.message.compare[0].key.starts_with(b"revoked/"));
}

#[tokio::test]
async fn a_register_on_a_lease_that_is_gone_ends_the_session_for_the_lock() {
    let (session, mut etcd) = session().await;
    let locking = lock(&session);
    etcd.txn().await.fail("5", "etcdserver: requested lease not found");
    let error = refused(locking).await;
    assert!(!session.is_valid(), "everybody is told");
    assert_eq!(
        (error.code(), error.origin()),
        (Code::FailedPrecondition, Origin::Library),
        "{error}"
    );
    assert!(error.message().contains("the session has ended"), "{error}");
}

#[tokio::test]
async fn a_register_that_is_refused_is_not_sent_again_and_leaves_nothing_to_undo() {
    let (session, mut etcd) = session().await;
    let locking = lock(&session);
    let first = etcd.txn().await;
    let register = first.message.clone();
    first.fail("7", "etcdserver: permission denied");
    assert_eq!(refused(locking).await.code(), Code::PermissionDenied);
    let locking = lock(&session);
    let next = etcd.txn().await;
    assert_eq!(next.message, register);
    next.fail("8", "etcdserver: mvcc: database space exceeded");
    assert_eq!(refused(locking).await.etcd(), Some(EtcdError::NoSpace));
}

#[tokio::test]
async fn a_register_that_a_busy_server_turned_away_is_sent_again() {
    let (session, mut etcd) = session().await;
    let locking = lock(&session);
    let first = etcd.txn().await;
    let register = first.message.clone();
    first.fail("8", "etcdserver: too many requests");
    let next = etcd.txn().await;
    assert_eq!(next.message, register);
    next.answer(&registered(7, &[kv(KEY, 7)]));
    drop(locked(locking).await);
    let release = etcd.txn().await.message;
    assert!(release.failure.is_empty(), "nothing is loose: {release:?}");
}

/// Far more than a client sends that waits longer and longer, and far less than one
/// that does not wait.
const REFUSALS_MAX: usize = 50;

#[tokio::test]
async fn a_register_that_is_refused_for_no_reason_is_sent_ever_more_seldom() {
    // The gate stays where it is, or moves again and again.
    for gates in [[0, 0], [7, 0]] {
        let (session, mut etcd) = session().await;
        let locking = lock(&session);
        let mut refusals = 0;
        let refusing = async {
            loop {
                etcd.txn().await.answer(&found(9, &[], gates[refusals % 2], &[]));
                refusals += 1;
            }
        };
        let _: Result<(), _> = tokio::time::timeout(Duration::from_millis(500), refusing).await;
        assert!(
            refusals < REFUSALS_MAX,
            "{refusals} times at the gates {gates:?}, without a pause"
        );
        etcd.txn().await.answer(&registered(10, &[kv(KEY, 10)]));
        drop(locked(locking).await);
    }
}

#[tokio::test]
async fn a_release_whose_lease_is_gone_says_that_the_lock_had_been_lost() {
    for runs in [false, true] {
        let (session, mut etcd) = session().await;
        let locking = lock(&session);
        etcd.txn().await.lose();
        etcd.txn().await.answer(&found(6, &[kv(KEY, 5)], 0, &[kv(KEY, 5)]));
        let guard = locked(locking).await;
        // It closes the gate, with the lease.
        let releasing = tokio::spawn(async move {
            match runs {
                true => guard.run(async |_| ()).await,
                false => guard.release().await,
            }
        });
        etcd.txn().await.fail("5", "etcdserver: requested lease not found");
        let error = releasing.await.unwrap().expect_err("somebody else may have had it");
        assert_eq!(
            (error.code(), error.origin()),
            (Code::FailedPrecondition, Origin::Library),
            "{error}"
        );
        assert!(!session.is_valid(), "everybody is told");
    }
}
