//! The transactions of the locks whose attempts have keys of their own, exactly as a
//! server receives them.

use bytes::Bytes;
use tenure::pb::etcdserverpb::request_op::Request;
use tenure::pb::etcdserverpb::response_op::Response;
use tenure::pb::etcdserverpb::{
    DeleteRangeResponse, PutResponse, RangeRequest, RequestOp, TxnRequest, TxnResponse, WatchResponse,
};
use tenure::pb::mvccpb::KeyValue;
use tenure::{Code, Error, Revision};

use super::{
    NAME, VALUE, created_is, delete, get, get_queue, header, kv, modified_is, newest, op, put, range_op,
    ranged, session, txn,
};
use crate::peer::patiently;

const READER: &str = "jobs/77-r1";
const WRITER: &str = "jobs/77-w1";
const CANDIDATE: &str = "jobs/77-x1";
const GATE: &str = "jobs#gate/77-1";

fn get_own(key: &'static str) -> RequestOp {
    let range = RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    };
    op(Request::RequestRange(range))
}

fn register_writer(gate: i64) -> TxnRequest {
    TxnRequest {
        compare: vec![
            created_is(READER, 0),
            created_is(WRITER, 0),
            modified_is(GATE, gate),
        ],
        success: vec![put(READER, VALUE), put(WRITER, VALUE), get_queue()],
        failure: vec![get_own(READER), get(GATE), get_queue()],
    }
}

fn give_up(keys: &[&'static str], gate: Option<&'static str>) -> TxnRequest {
    let deletions = keys.iter().copied().map(delete);
    TxnRequest {
        success: deletions.chain(gate.map(|gate| put(gate, ""))).collect(),
        ..TxnRequest::default()
    }
}

fn own(key: &'static str, created: i64) -> KeyValue {
    KeyValue {
        key: key.into(),
        create_revision: created,
        mod_revision: created,
        lease: 0x77,
        ..KeyValue::default()
    }
}

/// A register put so many keys, and found these queues.
fn put_all(revision: i64, keys: usize, queues: &[&[KeyValue]]) -> TxnResponse {
    let puts = (0..keys).map(|_| Response::ResponsePut(PutResponse::default()));
    txn(
        revision,
        true,
        puts.chain(queues.iter().map(|queue| range_op(queue))).collect(),
    )
}

/// What was given up was all there.
fn given_up(revision: i64, keys: usize) -> TxnResponse {
    let deletion = || DeleteRangeResponse {
        deleted: 1,
        ..DeleteRangeResponse::default()
    };
    let deletions = (0..keys).map(|_| Response::ResponseDeleteRange(deletion()));
    txn(revision, true, deletions.collect())
}

#[tokio::test]
async fn a_writer_puts_both_keys_and_a_downgrade_deletes_one() {
    let (session, mut etcd) = session().await;
    let lock = session.rw_lock(NAME).value(VALUE);
    let writing = tokio::spawn(async move { lock.write().await });
    let asked = etcd.txn().await;
    assert_eq!(asked.message, register_writer(0));
    asked.answer(&put_all(5, 2, &[&[own(READER, 5), own(WRITER, 5)]]));
    let writer = patiently("the grant", writing).await.unwrap().unwrap();
    assert_eq!(
        (writer.key(), writer.token().create_revision()),
        (WRITER.as_bytes(), Revision(5))
    );
    let downgrading = tokio::spawn(writer.downgrade());
    let asked = etcd.txn().await;
    let downgrade = TxnRequest {
        compare: vec![created_is(READER, 5)],
        success: vec![delete(WRITER)],
        failure: Vec::new(),
    };
    assert_eq!(asked.message, downgrade);
    asked.lose();
    let asked = etcd.txn().await;
    assert_eq!(asked.message, downgrade, "the same once more");
    asked.answer(&given_up(6, 0));
    let reader = patiently("the downgrade", downgrading).await.unwrap().unwrap();
    assert_eq!(reader.key(), READER.as_bytes());
    let releasing = tokio::spawn(reader.release());
    let asked = etcd.txn().await;
    assert_eq!(asked.message, give_up(&[READER, WRITER], None));
    asked.answer(&given_up(7, 1));
    patiently("the release", releasing).await.unwrap().expect("it was ours");
}

#[tokio::test]
async fn a_writer_whose_answer_was_lost_looks_for_both_keys_and_closes_its_gate() {
    let (session, mut etcd) = session().await;
    let lock = session.rw_lock(NAME).value(VALUE);
    let writing = tokio::spawn(async move { lock.write().await });
    etcd.txn().await.lose();
    let asked = etcd.txn().await;
    assert_eq!(asked.message, register_writer(0), "the same once more");
    let both = [own(READER, 5), own(WRITER, 5)];
    let found = vec![range_op(&both[..1]), range_op(&[]), range_op(&both)];
    asked.answer(&txn(6, false, found));
    let asked = etcd.range().await;
    let upto = RangeRequest {
        max_create_revision: 5,
        ..newest()
    };
    assert_eq!(asked.message, upto);
    asked.answer(&ranged(6, &both));
    let writer = patiently("the grant", writing).await.unwrap().unwrap();
    drop(writer);
    let asked = etcd.txn().await;
    assert_eq!(asked.message, give_up(&[READER, WRITER], Some(GATE)));
    asked.answer(&given_up(7, 2));
}

#[tokio::test]
async fn a_claim_that_is_dropped_in_flight_is_withdrawn_whatever_its_gate_is() {
    let (session, mut etcd) = session().await;
    let semaphore = session.semaphore(NAME, 3).value(VALUE);
    let acquiring = tokio::spawn(async move { semaphore.acquire(2).await });
    let asked = etcd.txn().await;
    let key = "jobs/77-p2.3.1";
    assert_eq!(asked.message.compare, [created_is(key, 0), modified_is(GATE, 0)]);
    assert_eq!(asked.message.success, [put(key, VALUE), get_queue()]);
    acquiring.abort();
    let asked = etcd.txn().await;
    assert_eq!(asked.message, give_up(&[key], Some(GATE)));
    asked.lose();
    let asked = etcd.txn().await;
    assert_eq!(asked.message, give_up(&[key], Some(GATE)), "until it is certain");
    asked.answer(&given_up(9, 0));
    // Who has the same gate begins where it is now: the 16th after this one.
    for attempt in 2..=17 {
        let semaphore = session.semaphore(NAME, 3);
        let acquiring = tokio::spawn(async move { semaphore.acquire(1).await });
        let asked = etcd.txn().await;
        let own_gate = asked.message.compare.last() == Some(&modified_is(GATE, 9));
        assert_eq!(own_gate, attempt == 17, "attempt {attempt}");
        acquiring.abort();
        etcd.txn().await.answer(&given_up(9 + attempt, 0));
    }
}

/// Says `value` where the own key is as it was at `modified`.
fn say(value: &'static str, modified: i64) -> TxnRequest {
    TxnRequest {
        compare: vec![created_is(CANDIDATE, 5), modified_is(CANDIDATE, modified)],
        success: vec![put(CANDIDATE, value)],
        failure: vec![get_own(CANDIDATE)],
    }
}

/// The own key says something since this revision.
fn says(value: &'static str, modified: i64) -> TxnResponse {
    let kv = KeyValue {
        value: value.into(),
        mod_revision: modified,
        ..own(CANDIDATE, 5)
    };
    txn(20, false, vec![range_op(&[kv])])
}

#[tokio::test]
async fn what_a_leader_proclaims_is_put_on_what_it_last_saw_and_on_nothing_else() {
    let (session, mut etcd) = session().await;
    let election = session.election(NAME);
    let campaign = tokio::spawn(async move { election.campaign(VALUE).await });
    etcd.txn().await.answer(&put_all(5, 1, &[&[own(CANDIDATE, 5)]]));
    let mut leadership = patiently("the grant", campaign).await.unwrap().unwrap();
    let proclaiming = tokio::spawn(async move {
        for value in ["a", "b", "c", "d"] {
            leadership.proclaim(value).await?;
        }
        Ok::<(), Error>(())
    });
    let said = |revision| {
        txn(
            revision,
            true,
            vec![Response::ResponsePut(PutResponse::default())],
        )
    };
    let mut expect = async |request: TxnRequest| {
        let asked = etcd.txn().await;
        assert_eq!(asked.message, request);
        asked
    };
    expect(say("a", 5)).await.answer(&said(6));
    // Its answer is lost, and then the first copy is found.
    expect(say("b", 6)).await.lose();
    expect(say("b", 6)).await.answer(&says("b", 7));
    // Something older got through: it is put upon, so that it cannot once more.
    expect(say("c", 7)).await.answer(&says("older", 8));
    expect(say("c", 8)).await.answer(&said(9));
    // Another life of the key is not ours.
    let another = KeyValue {
        mod_revision: 12,
        ..own(CANDIDATE, 11)
    };
    expect(say("d", 9)).await.answer(&txn(12, false, vec![range_op(&[another])]));
    let error = patiently("the refusal", proclaiming).await.unwrap().expect_err("it is not ours");
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert_eq!(etcd.txn().await.message, give_up(&[CANDIDATE], None));
}

#[tokio::test]
async fn several_names_are_put_and_read_in_one_transaction() {
    let (session, mut etcd) = session().await;
    let lock = session.multi_lock(["runs", "jobs"]).value(VALUE);
    let locking = tokio::spawn(async move { lock.lock().await });
    let (jobs, runs) = ("jobs/77-x1", "runs/77-x1");
    let half = |(start, end): (&'static str, &'static str), upto: i64| {
        op(Request::RequestRange(RangeRequest {
            key: start.into(),
            range_end: Bytes::from(end),
            limit: 64,
            max_create_revision: upto,
            ..newest()
        }))
    };
    let queues = |upto| [("jobs/", "jobs0"), ("runs/", "runs0")].map(|prefix| half(prefix, upto));
    let asked = etcd.txn().await;
    let register = TxnRequest {
        compare: vec![created_is(jobs, 0), created_is(runs, 0), modified_is(GATE, 0)],
        success: [put(jobs, VALUE), put(runs, VALUE)].into_iter().chain(queues(0)).collect(),
        failure: [get_own(jobs), get(GATE)].into_iter().chain(queues(0)).collect(),
    };
    assert_eq!(asked.message, register);
    let older = kv("runs/11", 3);
    asked.answer(&put_all(5, 2, &[&[own(jobs, 5)], &[own(runs, 5), older]]));
    // The older key, and the own one.
    for watch_id in 0..2 {
        let created = WatchResponse {
            header: header(9),
            created: true,
            ..WatchResponse::default()
        };
        etcd.watch().await.send_as(watch_id, &created);
    }
    let asked = etcd.txn().await;
    assert_eq!(asked.message.success, queues(5));
    asked.answer(&txn(
        9,
        true,
        vec![range_op(&[own(jobs, 5)]), range_op(&[own(runs, 5)])],
    ));
    let guard = patiently("the grant", locking).await.unwrap().unwrap();
    assert_eq!(guard.token().create_revision(), Revision(5));
    let releasing = tokio::spawn(guard.release());
    let asked = etcd.txn().await;
    assert_eq!(asked.message, give_up(&[jobs, runs], None));
    asked.answer(&given_up(10, 1));
    let error = patiently("the release", releasing).await.unwrap().expect_err("one was gone");
    assert_eq!(error.code(), Code::FailedPrecondition);
}
