//! The unary methods: from a path and the bytes of a request to the bytes of an
//! answer, or to a status. The two methods that stream are the server's.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::error::{Code, Error};
use crate::etcd::Etcd;
use crate::pb::{
    CompactionRequest, DeleteRequest, LeaseGrantRequest, LeaseId, LeaseTimeToLiveRequest, Member,
    MemberListResponse, PutRequest, RangeRequest, StatusResponse, TxnRequest,
};

pub(crate) const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub(crate) const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// The release whose behaviour this server shows.
const VERSION: &str = "3.6.0";

/// How a call ends that does not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Status {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Status {
        let message = message.into();
        Status { code, message }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        Status::new(error.code(), error.to_string())
    }
}

/// Answers one request to a unary method. `endpoint` is what a client reaches the server by.
pub(crate) fn answer(
    etcd: &mut Etcd,
    now: Duration,
    endpoint: &str,
    path: &str,
    body: Bytes,
) -> Result<Bytes, Status> {
    match path {
        "/etcdserverpb.KV/Range" => reply(etcd.range(&decode::<RangeRequest>(body)?)),
        "/etcdserverpb.KV/Put" => reply(etcd.put(&decode::<PutRequest>(body)?)),
        "/etcdserverpb.KV/DeleteRange" => reply(etcd.delete(&decode::<DeleteRequest>(body)?)),
        "/etcdserverpb.KV/Txn" => reply(etcd.txn(&decode::<TxnRequest>(body)?)),
        "/etcdserverpb.KV/Compact" => reply(etcd.compact(&decode::<CompactionRequest>(body)?)),
        "/etcdserverpb.Lease/LeaseGrant" => reply(etcd.lease_grant(now, &decode::<LeaseGrantRequest>(body)?)),
        "/etcdserverpb.Lease/LeaseRevoke" => reply(etcd.lease_revoke(&decode::<LeaseId>(body)?)),
        "/etcdserverpb.Lease/LeaseTimeToLive" => {
            let request = decode::<LeaseTimeToLiveRequest>(body)?;
            reply(Ok(etcd.lease_time_to_live(now, &request)))
        }
        "/etcdserverpb.Lease/LeaseLeases" => reply(Ok(etcd.lease_leases())),
        "/etcdserverpb.Cluster/MemberList" => reply(Ok(members(etcd, endpoint))),
        "/etcdserverpb.Maintenance/Status" => reply(Ok(status(etcd))),
        _ => Err(unknown(path)),
    }
}

fn members(etcd: &Etcd, endpoint: &str) -> MemberListResponse {
    let header = etcd.header();
    let member = Member {
        id: header.as_ref().map_or(0, |header| header.member_id),
        name: "embedded".to_owned(),
        peer_urls: Vec::new(),
        client_urls: vec![endpoint.to_owned()],
    };
    MemberListResponse {
        header,
        members: vec![member],
    }
}

fn status(etcd: &Etcd) -> StatusResponse {
    let header = etcd.header().unwrap_or_default();
    let index = u64::try_from(header.revision).unwrap_or_default();
    StatusResponse {
        version: VERSION.to_owned(),
        db_size: 0,
        leader: header.member_id,
        raft_index: index,
        raft_term: header.raft_term,
        raft_applied_index: index,
        header: Some(header),
    }
}

fn unknown(path: &str) -> Status {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (service, method) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let known = [
        "etcdserverpb.KV",
        "etcdserverpb.Lease",
        "etcdserverpb.Watch",
        "etcdserverpb.Cluster",
        "etcdserverpb.Maintenance",
    ];
    let message = match known.contains(&service) {
        true => format!("unknown method {method} for service {service}"),
        false => format!("unknown service {service}"),
    };
    Status::new(Code::Unimplemented, message)
}

pub(crate) fn decode<M: Message + Default>(body: Bytes) -> Result<M, Status> {
    M::decode(body).map_err(|error| {
        Status::new(
            Code::Internal,
            format!("grpc: error unmarshalling request: {error}"),
        )
    })
}

fn reply<M: Message>(answer: Result<M, Error>) -> Result<Bytes, Status> {
    Ok(answer?.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::Options;
    use crate::pb::{PutResponse, RangeResponse};

    fn ask(etcd: &mut Etcd, path: &str, request: &impl Message) -> Result<Bytes, Status> {
        let body = request.encode_to_vec().into();
        answer(etcd, Duration::ZERO, "http://127.0.0.1:1", path, body)
    }

    #[test]
    fn a_put_and_a_range_go_by_their_paths() {
        let mut etcd = Etcd::new(&Options::default());
        let put = PutRequest {
            key: "key".into(),
            value: "value".into(),
            ..PutRequest::default()
        };
        let answer = ask(&mut etcd, "/etcdserverpb.KV/Put", &put).unwrap();
        let header = PutResponse::decode(answer).unwrap().header.unwrap();
        assert_eq!((header.revision, header.raft_term), (2, 2));
        let range = RangeRequest {
            key: "key".into(),
            ..RangeRequest::default()
        };
        let answer = ask(&mut etcd, "/etcdserverpb.KV/Range", &range).unwrap();
        assert_eq!(RangeResponse::decode(answer).unwrap().kvs[0].value, "value");
    }

    #[test]
    fn an_error_has_its_code_and_etcds_text() {
        let mut etcd = Etcd::new(&Options::default());
        let status = ask(&mut etcd, "/etcdserverpb.KV/Put", &PutRequest::default()).unwrap_err();
        let expected = Status::new(Code::InvalidArgument, "etcdserver: key is not provided");
        assert_eq!(status, expected);
    }

    #[test]
    fn what_is_not_known_is_unimplemented_and_what_is_broken_internal() {
        let mut etcd = Etcd::new(&Options::default());
        for path in ["/etcdserverpb.KV/Nothing", "/no.Such/Service", "", "/"] {
            let status = ask(&mut etcd, path, &PutRequest::default()).unwrap_err();
            assert_eq!(status.code, Code::Unimplemented, "{path}");
        }
        let broken = Bytes::from_static(&[0x0a, 0x7f]);
        let status = answer(&mut etcd, Duration::ZERO, "", "/etcdserverpb.KV/Put", broken).unwrap_err();
        assert_eq!(status.code, Code::Internal);
    }
}
