//! The transactions of the lock, and how their answers are read. What they mean
//! is told in `core::lock`.

use bytes::Bytes;

use crate::client::{Client, Compare, Get, Op, Txn};
use crate::core::lock::{Place, READING_KEYS_MAX, Registered};
use crate::error::{Code, Delivery, Error, Origin};
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::pb::etcdserverpb::response_op::Response;
use crate::pb::etcdserverpb::{RangeResponse, TxnResponse};
use crate::pb::mvccpb::KeyValue;
use crate::types::{KeyRange, Revision};

/// If the own key is absent and the gate unchanged: put the key, read the queue.
/// `if_empty`: if the whole queue is empty, so that there is none to read. A key below
/// the prefix has a create_revision, so comparing the range with 0 fails on any.
pub(super) fn register<'a>(
    client: &'a Client,
    place: &Place,
    gate: Revision,
    value: &Bytes,
    if_empty: bool,
) -> Txn<&'a Client> {
    let absent = match if_empty {
        true => queue(place),
        false => KeyRange::key(place.key.clone()),
    };
    let txn = client
        .txn()
        .control()
        .when(Compare::create_revision(absent).equal(Revision::ZERO))
        .when(Compare::mod_revision(place.gate.clone()).equal(gate))
        .then(Op::put(place.key.clone(), value.clone()).lease(place.lease));
    let txn = match if_empty {
        true => txn,
        false => txn.then(newest(Op::get(queue(place)))),
    };
    txn.or_else(own(place))
        .or_else(Op::get(place.gate.clone()).keys_only())
        .or_else(newest(Op::get(queue(place))))
}

pub(super) fn registered(answer: &TxnResponse, if_empty: bool) -> Result<Registered<'_>, Error> {
    let (put, revision) = (answer.succeeded, answer.revision());
    let mut registered = Registered {
        put,
        revision,
        gate: Revision::ZERO,
        own: None,
        queue: &[],
        more: false,
    };
    if put && if_empty {
        return Ok(registered);
    }
    if !put {
        registered.own = range(answer, 0)?.kvs.first();
        registered.gate = mod_revision(range(answer, 1)?);
    }
    let queue = range(answer, if put { 1 } else { 2 })?;
    registered.queue = &queue.kvs;
    registered.more = queue.more;
    Ok(registered)
}

/// The own key and what is older, or the newest of that.
pub(super) fn read<'a>(client: &'a Client, place: &Place, upto: Revision, whole: bool) -> Get<&'a Client> {
    let range = client.get(queue(place)).max_create_revision(upto);
    match whole {
        true => range.keys_only(),
        false => newest(range),
    }
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
        .control()
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
        .control()
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

/// What all read and watch.
pub(super) fn queue(place: &Place) -> KeyRange {
    KeyRange::prefix(place.prefix.clone())
}

fn newest<C>(range: Get<C>) -> Get<C> {
    let range = range.keys_only().limit(READING_KEYS_MAX);
    range.sort(SortTarget::Create, SortOrder::Descend)
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
