//! The transactions of the lock, exactly as a server receives them.

use tenure::pb::etcdserverpb::request_op::Request;
use tenure::pb::etcdserverpb::{RangeRequest, RequestOp, TxnRequest};
use tenure::pb::mvccpb::KeyValue;
use tenure::{Code, Revision};

use super::{
    GATE, KEY, NAME, VALUE, created_is, delete, found, get, get_queue, held, kv, lock, locked, modified_is,
    op, passed, put, refused, registered, released, session, unreleased, withdrawn,
};
use crate::peer::patiently;

pub(super) fn register(gate: i64) -> TxnRequest {
    TxnRequest {
        compare: vec![created_is(KEY, 0), modified_is(GATE, gate)],
        success: vec![put(KEY, VALUE), get_queue()],
        failure: vec![get_own(), get(GATE), get_queue()],
    }
}

pub(super) fn release(created: i64, closes_gate: bool) -> TxnRequest {
    let close = || closes_gate.then(|| put(GATE, ""));
    TxnRequest {
        compare: vec![created_is(KEY, created)],
        success: [delete(KEY)].into_iter().chain(close()).collect(),
        failure: close().into_iter().chain(closes_gate.then(get_own)).collect(),
    }
}

/// With its value.
pub(super) fn get_own() -> RequestOp {
    let range = RangeRequest {
        key: KEY.into(),
        ..RangeRequest::default()
    };
    op(Request::RequestRange(range))
}

pub(super) fn withdraw(gate: i64) -> TxnRequest {
    TxnRequest {
        compare: vec![modified_is(GATE, gate)],
        success: vec![delete(KEY), put(GATE, "")],
        failure: vec![get(GATE), get_own()],
    }
}

#[tokio::test]
async fn a_register_demands_that_the_key_is_absent_and_the_gate_unmoved() {
    let (session, mut etcd) = session().await;
    let locking = lock(&session);
    let asked = etcd.txn().await;
    assert_eq!(asked.message, register(0));
    asked.answer(&found(9, &[], 7, &[]));
    let asked = etcd.txn().await;
    assert_eq!(asked.message, register(7));
    asked.answer(&registered(10, &[kv(KEY, 10)]));
    assert_eq!(locked(locking).await.token().create_revision(), Revision(10));
}

#[tokio::test]
async fn a_release_deletes_the_key_that_was_granted_and_nothing_else() {
    let (_session, mut etcd, guard) = held().await;
    let releasing = tokio::spawn(guard.release());
    let asked = etcd.txn().await;
    assert_eq!(asked.message, release(5, false));
    asked.answer(&released(6));
    patiently("the release", releasing).await.unwrap().expect("it was ours");
}

#[tokio::test]
async fn a_release_closes_the_gate_while_a_register_may_still_land() {
    let (session, mut etcd) = session().await;
    let mutex = session.mutex(NAME).value(VALUE).one_token_per_key();
    let locking = tokio::spawn(async move { mutex.lock().await });
    etcd.txn().await.lose();
    let asked = etcd.txn().await;
    assert_eq!(asked.message, register(0), "the same once more");
    asked.answer(&found(6, &[kv(KEY, 5)], 0, &[kv(KEY, 5)]));
    let guard = locked(locking).await;
    assert_eq!(
        guard.token().create_revision(),
        Revision(5),
        "what was put is ours"
    );

    // Who waits for the turn keeps what is known of the gate.
    let _waiting = lock(&session);
    tokio::task::yield_now().await;
    let releasing = tokio::spawn(guard.release());
    let asked = etcd.txn().await;
    assert_eq!(asked.message, release(5, true));
    asked.answer(&released(8));
    patiently("the release", releasing).await.unwrap().expect("it was ours");
    assert_eq!(etcd.txn().await.message, register(8), "through the new gate");
}

#[tokio::test]
async fn a_gate_that_is_closed_stays_so_for_the_releases_after_it() {
    let (session, mut etcd) = session().await;
    let locking = lock(&session);
    etcd.txn().await.lose();
    etcd.txn().await.answer(&found(6, &[kv(KEY, 5)], 0, &[kv(KEY, 5)]));
    drop(locked(locking).await);
    etcd.txn().await.answer(&released(8));

    let locking = lock(&session);
    etcd.txn().await.answer(&registered(9, &[kv(KEY, 9)]));
    drop(locked(locking).await);
    assert_eq!(
        etcd.txn().await.message,
        release(9, false),
        "nothing is loose any more"
    );
}

#[tokio::test]
async fn a_lock_dropped_while_its_register_is_unanswered_is_withdrawn_until_that_is_certain() {
    let (session, mut etcd) = session().await;
    let locking = lock(&session);
    let register_asked = etcd.txn().await;
    locking.abort();
    let waiting = lock(&session);
    for _ in 0..3 {
        let asked = etcd.txn().await;
        assert_eq!(asked.message, withdraw(0));
        asked.lose();
    }
    let asked = etcd.txn().await;
    assert_eq!(asked.message, withdraw(0));
    asked.answer(&withdrawn(6));
    drop(register_asked);

    let asked = etcd.txn().await;
    assert_eq!(asked.message, register(6), "the next one's turn");
    asked.answer(&registered(7, &[kv(KEY, 7)]));
    drop(locked(waiting).await);
}

#[tokio::test]
async fn a_withdrawal_that_had_got_through_before_releases_what_was_registered_since() {
    let (session, mut etcd) = session().await;
    let locking = lock(&session);
    let _unanswered = etcd.txn().await;
    locking.abort();
    let _waiting = lock(&session);
    etcd.txn().await.lose();
    let asked = etcd.txn().await;
    assert_eq!(asked.message, withdraw(0));
    asked.answer(&passed(9, 6, &[kv(KEY, 8)]));
    let asked = etcd.txn().await;
    assert_eq!(asked.message, release(8, false));
    asked.answer(&released(10));
    assert_eq!(etcd.txn().await.message, register(6));
}

#[tokio::test]
async fn a_register_that_lands_after_somebody_deleted_our_key_is_released_as_well() {
    let (session, mut etcd) = session().await;
    let locking = lock(&session);
    etcd.txn().await.lose();
    etcd.txn().await.answer(&found(6, &[kv(KEY, 5)], 0, &[kv(KEY, 5)]));
    drop(locked(locking).await);
    let _waiting = lock(&session);
    let asked = etcd.txn().await;
    assert_eq!(asked.message, release(5, true));
    asked.answer(&unreleased(9, &[kv(KEY, 8)]));
    let asked = etcd.txn().await;
    assert_eq!(asked.message, release(8, false));
    asked.answer(&released(10));
    assert_eq!(etcd.txn().await.message, register(9));
}

#[tokio::test]
async fn a_key_on_another_lease_is_left_alone_but_the_gate_is_closed() {
    let (session, mut etcd) = session().await;
    let locking = lock(&session);
    etcd.txn().await.lose();
    let theirs = [KeyValue {
        lease: 1,
        ..kv(KEY, 5)
    }];
    etcd.txn().await.answer(&found(6, &theirs, 0, &theirs));
    assert_eq!(refused(locking).await.code(), Code::Aborted);
    let _waiting = lock(&session);
    let asked = etcd.txn().await;
    assert_eq!(asked.message, release(0, true));
    asked.answer(&unreleased(7, &theirs));
    assert_eq!(etcd.txn().await.message, register(7));
}

#[tokio::test]
async fn the_gate_lies_behind_the_sessions_prefix_and_the_key_does_not() {
    let (client, mut etcd) = super::etcd::Etcd::start(1).await;
    let session = client.session().gate_prefix("gates/").await.unwrap();
    let _locking = lock(&session);
    let asked = etcd.txn().await.message;
    assert_eq!(
        asked.compare,
        [created_is(KEY, 0), modified_is("gates/jobs#gate/77", 0)]
    );
}

#[tokio::test]
async fn a_key_says_which_process_holds_it() {
    let (session, mut etcd) = session().await;
    let mutex = session.mutex(NAME);
    let _locking = tokio::spawn(async move { mutex.lock().await });
    let asked = etcd.txn().await.message;
    let [
        RequestOp {
            request: Some(Request::RequestPut(put)),
        },
        _,
    ] = &asked.success[..]
    else {
        panic!("{asked:?}");
    };
    let process = format!(":{}", std::process::id());
    assert!(put.value.ends_with(process.as_bytes()), "{put:?}");
}
