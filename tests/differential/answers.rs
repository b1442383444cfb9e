//! What of an answer to a unary request is compared, and as what.

use std::fmt::Debug;

use prost::Message;
use tenure::pb::etcdserverpb::response_op::Response;
use tenure::pb::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeResponse, LeaseTimeToLiveResponse, PutResponse, RangeResponse, ResponseHeader, ResponseOp,
    TxnResponse,
};

use crate::caller::Answer;
use crate::requests::Request;

/// An answer without what may differ.
pub(crate) struct Comparable {
    pub(crate) text: String,
    /// Nothing for a refusal.
    pub(crate) revision: Option<i64>,
}

pub(crate) fn comparable(request: &Request, answer: Answer, hides_leases: bool) -> Comparable {
    let message = match answer {
        Ok(message) => message,
        Err(status) => {
            return Comparable {
                text: format!("{status:?}"),
                revision: None,
            };
        }
    };
    match request {
        Request::Range(_) => common(message, |range: &mut RangeResponse| {
            strip_leases(range, hides_leases);
            &mut range.header
        }),
        Request::Put(_) => common(message, |put: &mut PutResponse| &mut put.header),
        Request::Delete(_) => common(message, |delete: &mut DeleteRangeResponse| &mut delete.header),
        Request::Txn(_) => common(message, |txn: &mut TxnResponse| {
            txn.responses.iter_mut().for_each(|response| strip_nested(response, hides_leases));
            &mut txn.header
        }),
        Request::Compact(_) => common(message, |compact: &mut CompactionResponse| &mut compact.header),
        Request::Grant(_) => common(message, |grant: &mut LeaseGrantResponse| &mut grant.header),
        Request::Revoke(_) => common(message, |revoke: &mut LeaseRevokeResponse| &mut revoke.header),
        Request::KeepAlive(_) => common(message, |alive: &mut LeaseKeepAliveResponse| &mut alive.header),
        Request::TimeToLive(_) => common(message, |left: &mut LeaseTimeToLiveResponse| {
            left.ttl = left.ttl.min(1);
            left.keys.sort();
            &mut left.header
        }),
        Request::Leases(_) => common(message, |leases: &mut LeaseLeasesResponse| {
            leases.leases.sort_by_key(|lease| lease.id);
            &mut leases.header
        }),
    }
}

fn common<M: Message + Default + Debug>(
    message: bytes::Bytes,
    header: impl Fn(&mut M) -> &mut Option<ResponseHeader>,
) -> Comparable {
    let mut message = M::decode(message).expect("an answer of its kind");
    let revision = strip(header(&mut message)).expect("an answer has a header");
    Comparable {
        text: format!("{message:#?}"),
        revision: Some(revision),
    }
}

/// Takes ids and term away, and tells the revision.
pub(crate) fn strip(header: &mut Option<ResponseHeader>) -> Option<i64> {
    let header = header.as_mut()?;
    *header = ResponseHeader {
        revision: header.revision,
        ..ResponseHeader::default()
    };
    Some(header.revision)
}

/// The headers inside a transaction have no ids: they are compared as they are.
fn strip_nested(response: &mut ResponseOp, hides_leases: bool) {
    match &mut response.response {
        Some(Response::ResponseRange(range)) => strip_leases(range, hides_leases),
        Some(Response::ResponseTxn(txn)) => {
            txn.responses.iter_mut().for_each(|response| strip_nested(response, hides_leases));
        }
        _ => {}
    }
}

/// Takes the leases away where they are of keys without values.
fn strip_leases(range: &mut RangeResponse, hides_leases: bool) {
    let valueless = range.kvs.iter_mut().filter(|kv| hides_leases && kv.value.is_empty());
    valueless.for_each(|kv| kv.lease = 0);
}
