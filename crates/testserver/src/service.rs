//! The unary methods: from a path and the bytes of a request to the bytes of an
//! answer, or to a status. The two methods that stream are the server's.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::error::{Code, Error};
use crate::etcd::Etcd;
use crate::pb::{
    CompactionRequest, DeleteRequest, Header, LeaseGrantRequest, LeaseId, LeaseTimeToLiveRequest, PutRequest,
    RangeRequest, StatusResponse, TxnRequest,
};

pub(crate) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(crate) const PUT: &str = "/etcdserverpb.KV/Put";
pub(crate) const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";
pub(crate) const TXN: &str = "/etcdserverpb.KV/Txn";
pub(crate) const COMPACT: &str = "/etcdserverpb.KV/Compact";
pub(crate) const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
pub(crate) const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
pub(crate) const LEASE_TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
pub(crate) const MAINTENANCE_STATUS: &str = "/etcdserverpb.Maintenance/Status";
pub(crate) const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub(crate) const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// The release whose behaviour this server shows.
const VERSION: &str = "3.6.0";

/// How a call ends that does not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// gRPC's number.
    pub(crate) code: u16,
    pub(crate) message: String,
}

impl Status {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Status {
        let message = message.into();
        let code = code as u16;
        Status { code, message }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        Status::new(error.code(), error.to_string())
    }
}

/// Answers one request to a unary method out of one member's state. What needs
/// more than that, [`Cluster`](crate::cluster::Cluster) answers.
pub(crate) fn answer(etcd: &mut Etcd, now: Duration, path: &str, body: Bytes) -> Result<Bytes, Status> {
    match path {
        RANGE => reply(etcd.range(&decode::<RangeRequest>(body)?)),
        PUT => reply(etcd.put(&decode::<PutRequest>(body)?)),
        DELETE_RANGE => reply(etcd.delete(&decode::<DeleteRequest>(body)?)),
        TXN => reply(etcd.txn(&decode::<TxnRequest>(body)?)),
        COMPACT => reply(etcd.compact(&decode::<CompactionRequest>(body)?)),
        LEASE_GRANT => reply(etcd.lease_grant(now, &decode::<LeaseGrantRequest>(body)?)),
        LEASE_REVOKE => reply(etcd.lease_revoke(&decode::<LeaseId>(body)?)),
        LEASE_TIME_TO_LIVE => {
            let request = decode::<LeaseTimeToLiveRequest>(body)?;
            reply(Ok(etcd.lease_time_to_live(now, &request)))
        }
        "/etcdserverpb.Lease/LeaseLeases" => reply(Ok(etcd.lease_leases())),
        "/etcdserverpb.Cluster/MemberList" => reply(Ok(etcd.members())),
        // A client that has a password is told that none is needed.
        "/etcdserverpb.Auth/Authenticate" => Err(Error::AuthNotEnabled.into()),
        _ => Err(unknown(path)),
    }
}

/// What a member says of itself beside its leader.
pub(crate) fn status(member: &Etcd, leading: &Header) -> StatusResponse {
    let header = member.header().unwrap_or_default();
    // A log of writes that were carried out is as long as their revisions say.
    let index = |header: &Header| u64::try_from(header.revision).unwrap_or_default();
    StatusResponse {
        version: VERSION.to_owned(),
        db_size: 0,
        leader: leading.member_id,
        raft_index: index(leading),
        raft_term: header.raft_term,
        raft_applied_index: index(&header),
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
        "etcdserverpb.Auth",
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

pub(crate) fn reply<M: Message>(answer: Result<M, Error>) -> Result<Bytes, Status> {
    Ok(answer?.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::Options;
    use crate::pb::{PutResponse, RangeResponse};

    fn ask(etcd: &mut Etcd, path: &str, request: &impl Message) -> Result<Bytes, Status> {
        let body = request.encode_to_vec().into();
        answer(etcd, Duration::ZERO, path, body)
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
        let status = ask(
            &mut etcd,
            "/etcdserverpb.Auth/Authenticate",
            &PutRequest::default(),
        )
        .unwrap_err();
        let expected = Status::new(
            Code::FailedPrecondition,
            "etcdserver: authentication is not enabled",
        );
        assert_eq!(status, expected);
    }

    #[test]
    fn what_is_not_known_is_unimplemented_and_what_is_broken_internal() {
        let mut etcd = Etcd::new(&Options::default());
        for path in ["/etcdserverpb.KV/Nothing", "/no.Such/Service", "", "/"] {
            let status = ask(&mut etcd, path, &PutRequest::default()).unwrap_err();
            assert_eq!(status.code, Code::Unimplemented as u16, "{path}");
        }
        let broken = Bytes::from_static(&[0x0a, 0x7f]);
        let status = answer(&mut etcd, Duration::ZERO, "/etcdserverpb.KV/Put", broken).unwrap_err();
        assert_eq!(status.code, Code::Internal as u16);
    }
}
