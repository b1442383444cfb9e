//! Whatever decodes, encodes, and decodes to itself again; and nothing decodes
//! to far more memory than it has bytes (run with `-malloc_limit_mb=16`).

use std::fmt::Debug;

use bytes::Bytes;
use tenure::pb::{etcdserverpb::*, health::*, v3electionpb::*, v3lockpb::*};
use tenure::wire::{HEADER_BYTES, Response, decode, encode};

pub(crate) fn run(data: &[u8]) {
    let Some((&kind, message)) = data.split_first() else {
        return;
    };
    let message = Bytes::copy_from_slice(message);
    RESPONSES[usize::from(kind) % RESPONSES.len()](message);
}

macro_rules! responses {
    ($($name:ident),+ $(,)?) => {
        const RESPONSES: &[fn(Bytes)] = &[$(round_trip::<$name>),+];
    };
}

// The order is part of the corpus: append.
responses![
    RangeResponse,
    PutResponse,
    DeleteRangeResponse,
    TxnResponse,
    CompactionResponse,
    WatchResponse,
    LeaseGrantResponse,
    LeaseRevokeResponse,
    LeaseKeepAliveResponse,
    LeaseTimeToLiveResponse,
    LeaseLeasesResponse,
    MemberAddResponse,
    MemberRemoveResponse,
    MemberUpdateResponse,
    MemberListResponse,
    MemberPromoteResponse,
    AlarmResponse,
    StatusResponse,
    DefragmentResponse,
    HashResponse,
    HashKvResponse,
    SnapshotResponse,
    MoveLeaderResponse,
    DowngradeResponse,
    AuthEnableResponse,
    AuthDisableResponse,
    AuthStatusResponse,
    AuthenticateResponse,
    AuthUserAddResponse,
    AuthUserGetResponse,
    AuthUserListResponse,
    AuthUserDeleteResponse,
    AuthUserChangePasswordResponse,
    AuthUserGrantRoleResponse,
    AuthUserRevokeRoleResponse,
    AuthRoleAddResponse,
    AuthRoleGetResponse,
    AuthRoleListResponse,
    AuthRoleDeleteResponse,
    AuthRoleGrantPermissionResponse,
    AuthRoleRevokePermissionResponse,
    RangeStreamResponse,
    LockResponse,
    UnlockResponse,
    CampaignResponse,
    ProclaimResponse,
    LeaderResponse,
    ResignResponse,
    HealthCheckResponse,
];

fn round_trip<M: Response + Debug + PartialEq>(message: Bytes) {
    let Ok(decoded) = decode::<M>(message) else { return };
    let frame = encode(&decoded, usize::MAX).expect("a message of a few KiB");
    assert_eq!(frame.len(), HEADER_BYTES + decoded.encoded_len());
    // Not ours: without the fields that were unknown it may be out of proportion.
    let again = M::decode(&frame[HEADER_BYTES..]).expect("what was encoded decodes");
    assert_eq!(again, decoded);
    let _ = format!("{decoded:?}");
}
