//! The transactions of the lock, and how their answers are read. What they mean
//! is told in `core::lock`.

use bytes::Bytes;

use crate::client::{Client, Compare, Op, Txn};
use crate::core::lock::{Place, Registered};
use crate::error::{Code, Delivery, Error, Origin};
use crate::pb::etcdserverpb::response_op::Response;
use crate::pb::etcdserverpb::{RangeResponse, TxnResponse};
use crate::pb::mvccpb::KeyValue;
use crate::types::{KeyRange, Revision};

/// If the own key is absent and the gate unchanged: put the key, read the queue.
pub(super) fn register<'a>(
    client: &'a Client,
    place: &Place,
    gate: Revision,
    value: &Bytes,
) -> Txn<&'a Client> {
    client
        .txn()
        .when(Compare::create_revision(place.key.clone()).equal(Revision::ZERO))
        .when(Compare::mod_revision(place.gate.clone()).equal(gate))
        .then(Op::put(place.key.clone(), value.clone()).lease(place.lease))
        .then(queue(place))
        .or_else(own(place))
        .or_else(Op::get(place.gate.clone()).keys_only())
        .or_else(queue(place))
}

pub(super) fn registered(answer: &TxnResponse) -> Result<Registered<'_>, Error> {
    let (put, revision) = (answer.succeeded, answer.revision());
    if put {
        let queue = &range(answer, 1)?.kvs;
        return Ok(Registered {
            put,
            revision,
            gate: Revision::ZERO,
            own: None,
            queue,
        });
    }
    let own = range(answer, 0)?.kvs.first();
    Ok(Registered {
        put,
        revision,
        gate: mod_revision(range(answer, 1)?),
        own,
        queue: &range(answer, 2)?.kvs,
    })
}

/// If the own key is the one that was granted: delete it. Closes the gate in
/// either case where a register may still be under way.
pub(super) fn release<'a>(
    client: &'a Client,
    place: &Place,
    created: Revision,
    close_gate: bool,
) -> Txn<&'a Client> {
    let txn = client
        .txn()
        .when(Compare::create_revision(place.key.clone()).equal(created))
        .then(Op::delete(place.key.clone()));
    if close_gate {
        txn.then(close(place)).or_else(close(place)).or_else(own(place))
    } else {
        txn
    }
}

/// The own key that a release found instead of the one that was granted.
pub(super) fn unreleased(answer: &TxnResponse, close_gate: bool) -> Result<Option<&KeyValue>, Error> {
    match close_gate && !answer.succeeded {
        true => Ok(range(answer, 1)?.kvs.first()),
        false => Ok(None),
    }
}

/// If the gate is unchanged: delete the own key and change the gate.
pub(super) fn withdraw<'a>(client: &'a Client, place: &Place, gate: Revision) -> Txn<&'a Client> {
    client
        .txn()
        .when(Compare::mod_revision(place.gate.clone()).equal(gate))
        .then(Op::delete(place.key.clone()))
        .then(close(place))
        .or_else(Op::get(place.gate.clone()).keys_only())
        .or_else(own(place))
}

/// The gate's mod_revision and the own key, where a withdrawal came too late.
pub(super) fn passed(answer: &TxnResponse) -> Result<(Revision, Option<&KeyValue>), Error> {
    Ok((mod_revision(range(answer, 0)?), range(answer, 1)?.kvs.first()))
}

/// With its value, since etcd 3.7 tells the lease only then.
fn own(place: &Place) -> Op {
    Op::get(place.key.clone()).into()
}

fn queue(place: &Place) -> Op {
    Op::get(KeyRange::prefix(place.prefix.clone())).keys_only().into()
}

fn close(place: &Place) -> Op {
    Op::put(place.gate.clone(), Bytes::new()).lease(place.lease).into()
}

fn mod_revision(range: &RangeResponse) -> Revision {
    Revision(range.kvs.first().map_or(0, |kv| kv.mod_revision))
}

fn range(answer: &TxnResponse, index: usize) -> Result<&RangeResponse, Error> {
    match answer.responses.get(index).and_then(|op| op.response.as_ref()) {
        Some(Response::ResponseRange(range)) => Ok(range),
        _ => Err(misfit("the answer to a transaction does not fit its operations")),
    }
}

/// An answer that no etcd gives.
pub(super) fn misfit(message: &'static str) -> Error {
    Error::new(Code::Internal, Origin::Server, Delivery::Unknown, message)
}
