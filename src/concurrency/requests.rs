//! The transactions of the lock, and how their answers are read. What they mean
//! is told in `core::lock`.

use std::ops::Range;

use bytes::Bytes;

use crate::client::{Client, Compare, Get, Op, Txn};
use crate::core::lock::{Place, READING_KEYS_MAX, Registered};
use crate::error::{Code, Delivery, Error, Origin};
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::pb::etcdserverpb::response_op::Response;
use crate::pb::etcdserverpb::{RangeResponse, TxnResponse};
use crate::pb::mvccpb::KeyValue;
use crate::types::{KeyRange, Revision};

/// If the own keys are absent and the gate unchanged: put them, read the queues.
/// `if_empty`: if the queues are empty, so that there is nothing to read. A key below a
/// prefix has a create_revision, so comparing the range with 0 fails on any.
pub(super) fn register<'a>(
    client: &'a Client,
    place: &Place,
    gate: Revision,
    value: &Bytes,
    if_empty: bool,
) -> Txn<&'a Client> {
    let queues = place.prefixes().filter(|_| if_empty).map(|prefix| KeyRange::prefix(prefix.clone()));
    let keys = place.keys().filter(|_| !if_empty).map(|key| KeyRange::key(key.clone()));
    let absent = |range| Compare::create_revision(range).equal(Revision::ZERO);
    let txn = queues.chain(keys).map(absent).fold(client.txn().control(), Txn::when);
    let txn = txn.when(Compare::mod_revision(place.gate.clone()).equal(gate));
    let txn = put(txn, place, value);
    let txn = match if_empty {
        true => txn,
        false => newest(place).fold(txn, Txn::then),
    };
    look(txn, place)
}

/// If the own key was last put at `seen` and the gate is unchanged: put it on our lease, read
/// the queue.
pub(super) fn take_over<'a>(
    client: &'a Client,
    place: &Place,
    gate: Revision,
    seen: Revision,
    value: &Bytes,
) -> Txn<&'a Client> {
    let txn = client
        .txn()
        .control()
        .when(Compare::mod_revision(place.key.clone()).equal(seen))
        .when(Compare::mod_revision(place.gate.clone()).equal(gate));
    look(newest(place).fold(put(txn, place, value), Txn::then), place)
}

/// Has a [`register`] compare with another gate.
pub(super) fn set_gate(register: &mut Txn, gate: Revision) {
    register.compare_with(register.comparisons() - 1, gate);
}

/// What a register was told; `several` is where several queues are put together.
pub(super) fn registered<'a>(
    answer: &'a TxnResponse,
    place: &Place,
    if_empty: bool,
    several: &'a mut Vec<KeyValue>,
) -> Result<Registered<'a>, Error> {
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
    // Behind the puts, or behind the own key and the gate.
    let (first, count) = (
        if put { place.keys().count() } else { 2 },
        place.prefixes().count(),
    );
    if count == 1 {
        let queue = range(answer, first)?;
        (registered.queue, registered.more) = (&queue.kvs, queue.more);
    } else {
        registered.more = together(answer, first..first + count, several)?;
        registered.queue = several;
    }
    Ok(registered)
}

/// The keys of an attempt are deleted whatever they are: none of them is ever put
/// again. Nor does a late copy of this do any harm.
pub(super) fn give_up<'a>(client: &'a Client, place: &Place, close_gate: bool) -> Txn<&'a Client> {
    let deletions = place.keys().map(|key| Op::delete(key.clone()));
    let txn = deletions.fold(client.txn().control(), Txn::then);
    match close_gate {
        true => txn.then(close(place)),
        false => txn,
    }
}

/// How many keys went.
pub(super) fn given_up(answer: &TxnResponse) -> i64 {
    let deleted = answer.responses.iter().map(|op| match &op.response {
        Some(Response::ResponseDeleteRange(deletion)) => deletion.deleted,
        _ => 0,
    });
    deleted.sum()
}

/// If the own key is the one that was granted: delete it. `created` is its mod_revision where it
/// is an owner's. Closes the gate in
/// either case where a register may still be under way.
pub(super) fn release<'a>(
    client: &'a Client,
    place: &Place,
    created: Revision,
    close_gate: bool,
) -> Txn<&'a Client> {
    let txn = client.txn().control().when(is_still(place, created)).then(Op::delete(place.key.clone()));
    if close_gate {
        txn.then(close(place)).or_else(close(place)).or_else(own(place))
    } else {
        txn
    }
}

/// Has a [`release`] delete the key with this revision, as [`is_still`] means it.
pub(super) fn set_revision(release: &mut Txn, created: Revision) {
    release.compare_with(0, created);
}

/// Whether the own key is the one with this create_revision, or mod_revision where it is an owner's.
pub(super) fn is_still(place: &Place, revision: Revision) -> Compare {
    let key = place.key.clone();
    match place.is_owned() {
        true => Compare::mod_revision(key).equal(revision),
        false => Compare::create_revision(key).equal(revision),
    }
}

/// The own key that a release found instead of the one that was granted.
pub(super) fn unreleased(answer: &TxnResponse, close_gate: bool) -> Result<Option<&KeyValue>, Error> {
    match close_gate && !answer.succeeded {
        true => Ok(range(answer, 1)?.kvs.first()),
        false => Ok(None),
    }
}

/// If the gate is unchanged: delete the own key and change the gate. An owner's key may hang
/// on another lease, and is another session's then.
pub(super) fn withdraw<'a>(client: &'a Client, place: &Place, gate: Revision) -> Txn<&'a Client> {
    let delete = Op::from(Op::delete(place.key.clone()));
    let delete = match place.is_owned() {
        true => Txn::new().when(Compare::lease(place.key.clone()).equal(place.lease)).then(delete).into(),
        false => delete,
    };
    client
        .txn()
        .control()
        .when(Compare::mod_revision(place.gate.clone()).equal(gate))
        .then(delete)
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

/// The newest keys of each queue.
fn newest(place: &Place) -> impl Iterator<Item = Get> {
    let limit = keys_of_each(place.prefixes().count());
    place
        .prefixes()
        .map(move |prefix| newest_of(Op::get(KeyRange::prefix(prefix.clone())), limit))
}

/// Of several queues so many that all of them are no longer than one: the own key and
/// one more at least.
pub(super) fn keys_of_each(queues: usize) -> u32 {
    let queues = u32::try_from(queues).unwrap_or(u32::MAX);
    (READING_KEYS_MAX / queues.max(1)).max(2)
}

pub(super) fn newest_of<C>(range: Get<C>, limit: u32) -> Get<C> {
    range.keys_only().limit(limit).sort(SortTarget::Create, SortOrder::Descend)
}

/// Where nothing is put: the own key, the gate and the queue.
fn look<'a>(txn: Txn<&'a Client>, place: &Place) -> Txn<&'a Client> {
    let txn = txn.or_else(own(place)).or_else(Op::get(place.gate.clone()).keys_only());
    newest(place).fold(txn, Txn::or_else)
}

fn put<'a>(txn: Txn<&'a Client>, place: &Place, value: &Bytes) -> Txn<&'a Client> {
    let puts = place.keys().map(|key| Op::put(key.clone(), value.clone()).lease(place.lease));
    puts.fold(txn, Txn::then)
}

/// Puts several queues together. Says whether one of them is longer.
pub(super) fn together(
    answer: &TxnResponse,
    ranges: Range<usize>,
    all: &mut Vec<KeyValue>,
) -> Result<bool, Error> {
    let mut more = false;
    for index in ranges {
        let queue = range(answer, index)?;
        all.extend_from_slice(&queue.kvs);
        more |= queue.more;
    }
    Ok(more)
}

fn close(place: &Place) -> Op {
    Op::put(place.gate.clone(), Bytes::new()).lease(place.lease).into()
}

fn mod_revision(range: &RangeResponse) -> Revision {
    Revision(range.kvs.first().map_or(0, |kv| kv.mod_revision))
}

/// The answer to the read that is the operation of this index.
pub(super) fn range(answer: &TxnResponse, index: usize) -> Result<&RangeResponse, Error> {
    match answer.responses.get(index).and_then(|op| op.response.as_ref()) {
        Some(Response::ResponseRange(range)) => Ok(range),
        _ => Err(odd()),
    }
}

/// The answer to a transaction is not one to its operations.
pub(super) fn odd() -> Error {
    misfit("the answer to a transaction does not fit its operations")
}

/// An answer that no etcd gives.
pub(super) fn misfit(message: &'static str) -> Error {
    Error::new(Code::Internal, Origin::Server, Delivery::Unknown, message)
}
