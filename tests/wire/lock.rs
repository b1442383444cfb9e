//! The lock against an etcd whose every answer is scripted: what it asks, in
//! which order, and what it makes of answers that are late, lost or bad.

mod claims;
mod etcd;
mod fate;
mod queue;
mod transactions;
mod tries;

use bytes::Bytes;
use tenure::pb::etcdserverpb::compare::{CompareTarget, TargetUnion};
use tenure::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use tenure::pb::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    RequestOp, ResponseHeader, ResponseOp, TxnResponse, request_op, response_op,
};
use tenure::pb::mvccpb::KeyValue;
use tenure::{Error, Guard, Session};
use tokio::task::JoinHandle;

use crate::peer::patiently;
use etcd::{Etcd, LEASE};

const NAME: &str = "jobs";
/// The session's own key, its gate, and what every key of the queue begins with.
const KEY: &str = "jobs/77";
const GATE: &str = "jobs#gate/77";
const PREFIX: (&str, &str) = ("jobs/", "jobs0");
/// What the session's key says of its holder.
const VALUE: &str = "worker 7";
/// Somebody else's key.
const OLDER: &str = "jobs/11";

/// A session on a cluster of one member.
async fn session() -> (Session, Etcd) {
    session_on(1).await
}

async fn session_on(members: usize) -> (Session, Etcd) {
    let (client, etcd) = Etcd::start(members).await;
    (client.session().await.expect("a lease"), etcd)
}

type Locking = JoinHandle<Result<Guard, Error>>;

fn lock(session: &Session) -> Locking {
    let mutex = session.mutex(NAME).value(VALUE);
    tokio::spawn(async move { mutex.lock().await })
}

/// A try for it.
fn try_lock(session: &Session) -> JoinHandle<Result<Option<Guard>, Error>> {
    let mutex = session.mutex(NAME).value(VALUE);
    tokio::spawn(async move { mutex.try_lock().await })
}

async fn locked(locking: Locking) -> Guard {
    patiently("the lock", locking).await.unwrap().expect("the lock is ours")
}

async fn refused(locking: Locking) -> Error {
    patiently("a refusal", locking).await.unwrap().expect_err("the lock is not ours")
}

/// A lock whose first register was put at revision 5 and found an empty queue.
async fn held() -> (Session, Etcd, Guard) {
    let (session, mut etcd) = session().await;
    let locking = lock(&session);
    etcd.txn().await.answer(&registered(5, &[kv(KEY, 5)]));
    let guard = locked(locking).await;
    (session, etcd, guard)
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

/// An entry of the queue, created at this revision, on the lease of its name.
fn kv(key: &'static str, created: i64) -> KeyValue {
    let lease = key.rsplit('/').next().unwrap();
    KeyValue {
        key: key.into(),
        create_revision: created,
        mod_revision: created,
        lease: i64::from_str_radix(lease, 16).unwrap(),
        ..KeyValue::default()
    }
}

fn ranged(revision: i64, kvs: &[KeyValue]) -> RangeResponse {
    RangeResponse {
        header: header(revision),
        kvs: kvs.to_vec(),
        ..RangeResponse::default()
    }
}

fn txn(revision: i64, succeeded: bool, responses: Vec<response_op::Response>) -> TxnResponse {
    let op = |response| ResponseOp {
        response: Some(response),
    };
    TxnResponse {
        header: header(revision),
        succeeded,
        responses: responses.into_iter().map(op).collect(),
    }
}

/// The register put the key.
fn registered(revision: i64, queue: &[KeyValue]) -> TxnResponse {
    let put = response_op::Response::ResponsePut(PutResponse::default());
    txn(revision, true, vec![put, range_op(queue)])
}

/// The register put the key, and the queue is longer than an answer shows.
fn registered_with_more(revision: i64, queue: &[KeyValue]) -> TxnResponse {
    let put = response_op::Response::ResponsePut(PutResponse::default());
    let range = RangeResponse {
        more: true,
        ..ranged(0, queue)
    };
    txn(
        revision,
        true,
        vec![put, response_op::Response::ResponseRange(range)],
    )
}

/// The register found the key or another gate.
fn found(revision: i64, own: &[KeyValue], gate: i64, queue: &[KeyValue]) -> TxnResponse {
    txn(
        revision,
        false,
        vec![range_op(own), range_op(&gate_at(gate)), range_op(queue)],
    )
}

/// A release deleted the key.
fn released(revision: i64) -> TxnResponse {
    let delete = response_op::Response::ResponseDeleteRange(DeleteRangeResponse::default());
    txn(revision, true, vec![delete])
}

/// A withdrawal put the gate.
fn withdrawn(revision: i64) -> TxnResponse {
    let delete = response_op::Response::ResponseDeleteRange(DeleteRangeResponse::default());
    let put = response_op::Response::ResponsePut(PutResponse::default());
    txn(revision, true, vec![delete, put])
}

/// A withdrawal found another gate.
fn passed(revision: i64, gate: i64, own: &[KeyValue]) -> TxnResponse {
    txn(revision, false, vec![range_op(&gate_at(gate)), range_op(own)])
}

/// A release that closes the gate found another key in place of the granted one.
fn unreleased(revision: i64, own: &[KeyValue]) -> TxnResponse {
    let put = response_op::Response::ResponsePut(PutResponse::default());
    txn(revision, false, vec![put, range_op(own)])
}

fn range_op(kvs: &[KeyValue]) -> response_op::Response {
    response_op::Response::ResponseRange(ranged(0, kvs))
}

/// The gate last put at this revision; no key where that is 0.
fn gate_at(revision: i64) -> Vec<KeyValue> {
    let gate = (revision > 0).then(|| kv(GATE, revision));
    gate.into_iter().collect()
}

fn created_is(key: &'static str, revision: i64) -> Compare {
    Compare {
        target: CompareTarget::Create.into(),
        key: key.into(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Compare::default()
    }
}

fn modified_is(key: &'static str, revision: i64) -> Compare {
    Compare {
        target: CompareTarget::Mod.into(),
        key: key.into(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Compare::default()
    }
}

fn put(key: &'static str, value: &'static str) -> RequestOp {
    let put = PutRequest {
        key: key.into(),
        value: value.into(),
        lease: LEASE,
        ..PutRequest::default()
    };
    op(request_op::Request::RequestPut(put))
}

fn delete(key: &'static str) -> RequestOp {
    let delete = DeleteRangeRequest {
        key: key.into(),
        ..DeleteRangeRequest::default()
    };
    op(request_op::Request::RequestDeleteRange(delete))
}

fn get(key: &'static str) -> RequestOp {
    op(request_op::Request::RequestRange(keys(key, "")))
}

fn get_queue() -> RequestOp {
    op(request_op::Request::RequestRange(newest()))
}

/// The newest keys of the queue.
fn newest() -> RangeRequest {
    let (start, end) = PREFIX;
    RangeRequest {
        limit: 128,
        sort_target: SortTarget::Create.into(),
        sort_order: SortOrder::Descend.into(),
        ..keys(start, end)
    }
}

fn keys(key: &'static str, end: &'static str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        range_end: Bytes::from(end),
        keys_only: true,
        ..RangeRequest::default()
    }
}

fn op(request: request_op::Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}
