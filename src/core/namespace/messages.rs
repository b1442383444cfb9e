//! Where the keys are in each request and each answer. A message that is in neither list here
//! cannot be sent by a client: whoever adds one says what of it is a key.

use prost::Message;

use super::{Namespace, Outside};
use crate::pb::etcdserverpb::{self as pb, ResponseHeader, request_op, response_op};
use crate::pb::mvccpb::KeyValue;
use crate::pb::{health, v3electionpb, v3lockpb};

/// A request, whose keys can be moved into a namespace.
pub trait Request: Message + Clone {
    /// Its keys are those in etcd from now on.
    fn enter(&mut self, _namespace: &Namespace) {}
}

/// An answer, whose keys can be moved out of a namespace.
pub trait Answer {
    /// Its keys are those in the namespace from now on.
    ///
    /// # Errors
    ///
    /// The server sent a key that was not asked for.
    fn leave(&mut self, _namespace: &Namespace) -> Result<(), Outside> {
        Ok(())
    }

    /// What it says of the store that it was made from: only where that has the revision of what is in
    /// the answer, which not every service fills in alike.
    fn header(&self) -> Option<&ResponseHeader> {
        None
    }

    /// The term and who leads in it, where it says that.
    fn leader(&self) -> Option<(u64, u64)> {
        None
    }
}

/// What has no key, or names whole keys to whoever administrates: nothing of it is mapped.
macro_rules! unmapped {
    ($trait:ident, $package:ident: $($name:ident),+ $(,)?) => {
        $(impl $trait for $package::$name {})+
    };
}

unmapped![Request, pb:
    CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, LeaseLeasesRequest,
    MemberAddRequest, MemberRemoveRequest, MemberUpdateRequest, MemberListRequest, MemberPromoteRequest,
    AlarmRequest, StatusRequest, DefragmentRequest, HashRequest, HashKvRequest, SnapshotRequest,
    MoveLeaderRequest, DowngradeRequest,
    AuthEnableRequest, AuthDisableRequest, AuthStatusRequest, AuthUserAddRequest, AuthUserGetRequest,
    AuthUserListRequest, AuthUserDeleteRequest, AuthUserChangePasswordRequest, AuthUserGrantRoleRequest,
    AuthUserRevokeRoleRequest, AuthRoleAddRequest, AuthRoleGetRequest, AuthRoleListRequest,
    AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest,
];
unmapped![Request, health: HealthCheckRequest];

unmapped![Answer, pb:
    CompactionResponse, LeaseGrantResponse, LeaseRevokeResponse, LeaseLeasesResponse,
    MemberAddResponse, MemberRemoveResponse, MemberUpdateResponse, MemberListResponse,
    MemberPromoteResponse,
    AlarmResponse, DefragmentResponse, HashResponse, HashKvResponse, SnapshotResponse,
    MoveLeaderResponse, DowngradeResponse,
    AuthEnableResponse, AuthDisableResponse, AuthStatusResponse, AuthenticateResponse, AuthUserAddResponse,
    AuthUserGetResponse, AuthUserListResponse, AuthUserDeleteResponse, AuthUserChangePasswordResponse,
    AuthUserGrantRoleResponse, AuthUserRevokeRoleResponse, AuthRoleAddResponse, AuthRoleGetResponse,
    AuthRoleListResponse, AuthRoleDeleteResponse, AuthRoleGrantPermissionResponse,
    AuthRoleRevokePermissionResponse,
];
unmapped![Answer, v3lockpb: UnlockResponse];
unmapped![Answer, v3electionpb: ProclaimResponse, ResignResponse];
unmapped![Answer, health: HealthCheckResponse];

impl Request for pb::RangeRequest {
    fn enter(&mut self, namespace: &Namespace) {
        namespace.enter_range(&mut self.key, &mut self.range_end);
    }
}

impl Request for pb::PutRequest {
    fn enter(&mut self, namespace: &Namespace) {
        namespace.enter_key(&mut self.key);
    }
}

impl Request for pb::DeleteRangeRequest {
    fn enter(&mut self, namespace: &Namespace) {
        namespace.enter_range(&mut self.key, &mut self.range_end);
    }
}

impl Request for pb::TxnRequest {
    fn enter(&mut self, namespace: &Namespace) {
        for compare in &mut self.compare {
            namespace.enter_range(&mut compare.key, &mut compare.range_end);
        }
        for op in self.success.iter_mut().chain(&mut self.failure) {
            match &mut op.request {
                Some(request_op::Request::RequestRange(range)) => range.enter(namespace),
                Some(request_op::Request::RequestPut(put)) => put.enter(namespace),
                Some(request_op::Request::RequestDeleteRange(delete)) => delete.enter(namespace),
                Some(request_op::Request::RequestTxn(txn)) => txn.enter(namespace),
                None => {}
            }
        }
    }
}

impl Request for v3lockpb::LockRequest {
    fn enter(&mut self, namespace: &Namespace) {
        namespace.enter_name(&mut self.name);
    }
}

impl Request for v3lockpb::UnlockRequest {
    fn enter(&mut self, namespace: &Namespace) {
        namespace.enter_key(&mut self.key);
    }
}

impl Request for v3electionpb::CampaignRequest {
    fn enter(&mut self, namespace: &Namespace) {
        namespace.enter_name(&mut self.name);
    }
}

impl Request for v3electionpb::LeaderRequest {
    fn enter(&mut self, namespace: &Namespace) {
        namespace.enter_name(&mut self.name);
    }
}

impl Request for v3electionpb::ProclaimRequest {
    fn enter(&mut self, namespace: &Namespace) {
        enter_leader(&mut self.leader, namespace);
    }
}

impl Request for v3electionpb::ResignRequest {
    fn enter(&mut self, namespace: &Namespace) {
        enter_leader(&mut self.leader, namespace);
    }
}

fn enter_leader(leader: &mut Option<v3electionpb::LeaderKey>, namespace: &Namespace) {
    if let Some(leader) = leader {
        namespace.enter_name(&mut leader.name);
        namespace.enter_key(&mut leader.key);
    }
}

impl Answer for pb::StatusResponse {
    fn leader(&self) -> Option<(u64, u64)> {
        Some((self.raft_term, self.leader))
    }
}

impl Answer for pb::RangeResponse {
    fn leave(&mut self, namespace: &Namespace) -> Result<(), Outside> {
        leave_all(&mut self.kvs, namespace)
    }

    fn header(&self) -> Option<&ResponseHeader> {
        self.header.as_ref()
    }
}

impl Answer for pb::RangeStreamResponse {
    fn leave(&mut self, namespace: &Namespace) -> Result<(), Outside> {
        self.range_response.as_mut().map_or(Ok(()), |range| range.leave(namespace))
    }

    /// The last piece has one.
    fn header(&self) -> Option<&ResponseHeader> {
        self.range_response.as_ref()?.header.as_ref()
    }
}

impl Answer for pb::PutResponse {
    fn leave(&mut self, namespace: &Namespace) -> Result<(), Outside> {
        leave_all(&mut self.prev_kv, namespace)
    }

    fn header(&self) -> Option<&ResponseHeader> {
        self.header.as_ref()
    }
}

impl Answer for pb::DeleteRangeResponse {
    fn leave(&mut self, namespace: &Namespace) -> Result<(), Outside> {
        leave_all(&mut self.prev_kvs, namespace)
    }

    fn header(&self) -> Option<&ResponseHeader> {
        self.header.as_ref()
    }
}

impl Answer for pb::TxnResponse {
    fn leave(&mut self, namespace: &Namespace) -> Result<(), Outside> {
        self.responses.iter_mut().try_for_each(|op| match &mut op.response {
            Some(response_op::Response::ResponseRange(range)) => range.leave(namespace),
            Some(response_op::Response::ResponsePut(put)) => put.leave(namespace),
            Some(response_op::Response::ResponseDeleteRange(deleted)) => deleted.leave(namespace),
            Some(response_op::Response::ResponseTxn(txn)) => txn.leave(namespace),
            None => Ok(()),
        })
    }

    fn header(&self) -> Option<&ResponseHeader> {
        self.header.as_ref()
    }
}

/// A lease is the whole cluster's. Of its keys those of the namespace are told.
impl Answer for pb::LeaseTimeToLiveResponse {
    fn leave(&mut self, namespace: &Namespace) -> Result<(), Outside> {
        self.keys.retain_mut(|key| namespace.leave_key(key).is_ok() && !key.is_empty());
        Ok(())
    }
}

impl Answer for v3lockpb::LockResponse {
    fn leave(&mut self, namespace: &Namespace) -> Result<(), Outside> {
        namespace.leave_key(&mut self.key)
    }
}

impl Answer for v3electionpb::CampaignResponse {
    fn leave(&mut self, namespace: &Namespace) -> Result<(), Outside> {
        let Some(leader) = &mut self.leader else {
            return Ok(());
        };
        namespace.leave_key(&mut leader.name)?;
        namespace.leave_key(&mut leader.key)
    }
}

impl Answer for v3electionpb::LeaderResponse {
    fn leave(&mut self, namespace: &Namespace) -> Result<(), Outside> {
        leave_all(&mut self.kv, namespace)
    }
}

fn leave_all<'a>(
    kvs: impl IntoIterator<Item = &'a mut KeyValue>,
    namespace: &Namespace,
) -> Result<(), Outside> {
    kvs.into_iter().try_for_each(|kv| namespace.leave_key(&mut kv.key))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn namespace() -> Namespace {
        Namespace::new(Bytes::from_static(b"p/")).expect("it is not empty")
    }

    fn range(keys: &[&'static str]) -> pb::RangeResponse {
        let kv = |key: &&'static str| KeyValue {
            key: Bytes::from_static(key.as_bytes()),
            ..KeyValue::default()
        };
        pb::RangeResponse {
            kvs: keys.iter().map(kv).collect(),
            ..pb::RangeResponse::default()
        }
    }

    /// A transaction with a transaction in it with this range.
    fn nested(range: pb::RangeResponse) -> pb::TxnResponse {
        let txn = |response| pb::TxnResponse {
            responses: vec![pb::ResponseOp {
                response: Some(response),
            }],
            ..pb::TxnResponse::default()
        };
        let inner = txn(response_op::Response::ResponseRange(range));
        txn(response_op::Response::ResponseTxn(inner))
    }

    #[test]
    fn a_key_that_was_not_asked_for_is_refused_wherever_it_is() {
        for (keys, left) in [(&["p/a", "p/b"][..], Ok(())), (&["p/a", "q/b"], Err(Outside))] {
            assert_eq!(range(keys).leave(&namespace()), left);
            assert_eq!(nested(range(keys)).leave(&namespace()), left);
        }
    }

    /// Each field of a message that is a key, or has keys, from the sources.
    fn keyed_fields() -> Vec<String> {
        let sources = [
            include_str!("../../../proto/etcdserverpb.proto"),
            include_str!("../../../proto/v3lockpb.proto"),
            include_str!("../../../proto/v3electionpb.proto"),
        ];
        let mut found = Vec::new();
        let mut message = "";
        for line in sources.iter().flat_map(|source| source.lines()).map(str::trim) {
            let words: Vec<&str> = line.trim_start_matches("repeated ").split([' ', ';']).collect();
            match words[..] {
                ["message", name, ..] => message = name,
                ["bytes", "value" | "blob", ..] => {}
                [
                    "bytes" | "mvccpb.KeyValue" | "mvccpb.Event" | "LeaderKey",
                    field,
                    "=",
                    ..,
                ] => {
                    found.push(format!("{message}.{field}"));
                }
                _ => {}
            }
        }
        found
    }

    /// The watch's are mapped by its client and its cursor. Those of a permission are whole keys.
    #[test]
    fn every_key_of_the_protocol_is_known_here() {
        let known = [
            "RangeRequest.key",
            "RangeRequest.range_end",
            "RangeResponse.kvs",
            "PutRequest.key",
            "PutResponse.prev_kv",
            "DeleteRangeRequest.key",
            "DeleteRangeRequest.range_end",
            "DeleteRangeResponse.prev_kvs",
            "Compare.key",
            "Compare.range_end",
            "WatchCreateRequest.key",
            "WatchCreateRequest.range_end",
            "WatchResponse.events",
            "LeaseTimeToLiveResponse.keys",
            "AuthRoleRevokePermissionRequest.key",
            "AuthRoleRevokePermissionRequest.range_end",
            "LockRequest.name",
            "LockResponse.key",
            "UnlockRequest.key",
            "CampaignRequest.name",
            "CampaignResponse.leader",
            "LeaderKey.name",
            "LeaderKey.key",
            "LeaderRequest.name",
            "LeaderResponse.kv",
            "ResignRequest.leader",
            "ProclaimRequest.leader",
        ];
        assert_eq!(keyed_fields(), known, "proto/ has another list");
    }
}
