//! A try for the lock, and a lock that waits only so long: what they ask, and what
//! they leave to be undone.

use std::time::Duration;

use tenure::pb::etcdserverpb::{Compare, PutResponse, TxnRequest, TxnResponse, response_op};
use tenure::{Code, Error, Guard, Revision};
use tokio::task::JoinHandle;

use super::{
    GATE, KEY, NAME, OLDER, PREFIX, VALUE, created_is, found, get, get_queue, held, kv, lock, locked,
    modified_is, put, registered, released, session, try_lock, txn, withdrawn,
};
use crate::peer::patiently;

const NESTED: &str = "jobs/nightly/11";

fn try_register(gate: i64) -> TxnRequest {
    let nobody = Compare {
        range_end: PREFIX.1.into(),
        ..created_is(PREFIX.0, 0)
    };
    TxnRequest {
        compare: vec![nobody, modified_is(GATE, gate)],
        success: vec![put(KEY, VALUE)],
        failure: vec![super::transactions::get_own(), get(GATE), get_queue()],
    }
}

/// The try found nothing below the prefix, and put the key.
fn taken(revision: i64) -> TxnResponse {
    let put = response_op::Response::ResponsePut(PutResponse::default());
    txn(revision, true, vec![put])
}

async fn tried(trying: JoinHandle<Result<Option<Guard>, Error>>) -> Option<Guard> {
    patiently("an answer to the try", trying).await.unwrap().expect("no error")
}

#[tokio::test]
async fn a_try_takes_a_lock_that_nobody_has_in_one_transaction() {
    let (session, mut etcd) = session().await;
    let trying = try_lock(&session);
    let asked = etcd.txn().await;
    assert_eq!(asked.message, try_register(0));
    asked.answer(&taken(5));
    let guard = tried(trying).await.expect("it is free");
    assert_eq!(guard.token().create_revision(), Revision(5));
    let releasing = tokio::spawn(guard.release());
    etcd.txn().await.answer(&released(6));
    patiently("the release", releasing).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_try_that_finds_somebody_has_nothing_to_undo() {
    let (session, mut etcd) = session().await;
    let trying = try_lock(&session);
    etcd.txn().await.answer(&found(9, &[], 0, &[kv(OLDER, 3)]));
    assert!(tried(trying).await.is_none());
    // The next call is another try, and no withdrawal.
    let trying = try_lock(&session);
    let asked = etcd.txn().await;
    assert_eq!(asked.message, try_register(0));
    asked.answer(&taken(10));
    assert!(tried(trying).await.is_some());
}

#[tokio::test]
async fn a_try_beside_another_task_of_the_session_asks_nothing() {
    let (session, mut etcd, guard) = held().await;
    assert!(tried(try_lock(&session)).await.is_none());
    drop(guard);
    etcd.txn().await.answer(&released(6));
}

#[tokio::test]
async fn a_try_at_a_gate_that_moved_is_made_again() {
    let (session, mut etcd) = session().await;
    let trying = try_lock(&session);
    etcd.txn().await.answer(&found(9, &[], 7, &[]));
    let asked = etcd.txn().await;
    assert_eq!(asked.message, try_register(7));
    asked.answer(&taken(10));
    assert!(tried(trying).await.is_some());
}

#[tokio::test]
async fn a_try_that_finds_nested_names_only_queues_and_is_first() {
    let (session, mut etcd) = session().await;
    let trying = try_lock(&session);
    etcd.txn().await.answer(&found(9, &[], 0, &[kv(NESTED, 3)]));
    let asked = etcd.txn().await;
    assert_eq!(asked.message, super::transactions::register(0));
    asked.answer(&registered(10, &[kv(KEY, 10), kv(NESTED, 3)]));
    assert!(tried(trying).await.is_some());
}

#[tokio::test]
async fn a_try_that_queued_and_is_not_first_withdraws() {
    let (session, mut etcd) = session().await;
    let trying = try_lock(&session);
    etcd.txn().await.answer(&found(9, &[], 0, &[kv(NESTED, 3)]));
    // Somebody was faster.
    let queue = [kv(KEY, 11), kv(OLDER, 10), kv(NESTED, 3)];
    etcd.txn().await.answer(&registered(11, &queue));
    assert!(tried(trying).await.is_none());
    let asked = etcd.txn().await;
    assert_eq!(asked.message, super::transactions::release(11, false));
    asked.answer(&released(12));
}

#[tokio::test]
async fn a_try_whose_answer_was_lost_takes_the_key_that_it_put() {
    let (session, mut etcd) = session().await;
    let trying = try_lock(&session);
    etcd.txn().await.lose();
    let asked = etcd.txn().await;
    assert_eq!(asked.message, try_register(0), "the same once more");
    asked.answer(&found(6, &[kv(KEY, 5)], 0, &[kv(KEY, 5)]));
    let guard = tried(trying).await.expect("it is ours");
    assert_eq!(guard.token().create_revision(), Revision(5));
    drop(guard);
    let asked = etcd.txn().await;
    assert_eq!(
        asked.message,
        super::transactions::release(5, true),
        "a copy may still land"
    );
}

#[tokio::test]
async fn a_try_that_lost_an_answer_and_then_the_race_stops_its_first_copy() {
    let (session, mut etcd) = session().await;
    let trying = try_lock(&session);
    etcd.txn().await.lose();
    etcd.txn().await.answer(&found(6, &[], 0, &[kv(OLDER, 5)]));
    assert!(tried(trying).await.is_none());
    let asked = etcd.txn().await;
    assert_eq!(asked.message, super::transactions::withdraw(0));
    asked.answer(&withdrawn(7));
    let _trying = try_lock(&session);
    // The turn comes back a moment after the answer.
    let _next = lock(&session);
    assert_eq!(etcd.txn().await.message.compare[1], modified_is(GATE, 7));
}

#[tokio::test]
async fn a_lock_that_waits_only_so_long_gives_its_place_up() {
    let (session, mut etcd) = session().await;
    let mutex = session.mutex(NAME).value(VALUE).timeout(Duration::from_secs(2));
    let locking = tokio::spawn(async move { mutex.lock().await });
    etcd.txn().await.answer(&registered(10, &[kv(KEY, 10), kv(OLDER, 3)]));
    let _watching = etcd.watch().await;
    let error = patiently("the end of the time", locking).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    assert!(error.is_timeout() && !error.may_be_applied(), "{error}");
    let asked = etcd.txn().await;
    assert_eq!(asked.message, super::transactions::release(10, false));
    asked.answer(&released(11));
}

#[tokio::test]
async fn a_lock_that_waits_only_so_long_gives_its_local_turn_up() {
    let (session, mut etcd, guard) = held().await;
    let mutex = session.mutex(NAME).timeout(Duration::from_millis(50));
    let error = patiently("the end of the time", mutex.lock()).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    drop(guard);
    etcd.txn().await.answer(&released(6));
    let locking = lock(&session);
    etcd.txn().await.answer(&registered(7, &[kv(KEY, 7)]));
    drop(locked(locking).await);
}
