//! What a response decodes to, in bytes, told from its wire form before it is
//! decoded.
//!
//! An element of a repeated message costs two bytes on the wire when it is
//! empty, and 200 in memory when it is an event: a hostile server turns 4 MiB
//! into 400. So the fields whose elements are large in memory are counted first.
//! A message may decode to [`GROWTH_MAX`] times its bytes and
//! [`GROWTH_FREE_BYTES`] more. The least element that etcd sends, the deletion
//! of a key of one byte at a revision of one digit, takes 11 bytes and decodes to
//! 200, so no answer of a real server is refused.
//!
//! Listed are the messages whose elements can take more than that: the least
//! element has two bytes, so those of over twice [`GROWTH_MAX`] bytes in memory.
//! A string or a `Bytes` stays below.
//!
//! What was counted is also the room that the longest lists are given at once: a list that
//! grows while it is decoded is copied over and over.
//!
//! The scan visits each byte at most once and allocates nothing. Other
//! fields are skipped, bytes and strings never looked into.

use prost::Message;

use super::status::Status;
use crate::error::{Code, Origin};
use crate::pb::{authpb, etcdserverpb, health, mvccpb, v3electionpb, v3lockpb};

/// How many bytes of elements a byte of message may decode to.
pub const GROWTH_MAX: usize = 20;

/// How many bytes of elements any message may decode to, however short it is.
pub const GROWTH_FREE_BYTES: usize = 64 << 10;

/// The fields of a message that grow when they are decoded.
#[derive(Debug)]
pub struct Shape(&'static [Field]);

/// A field whose value is a message.
#[derive(Debug)]
struct Field {
    number: u64,
    /// What one more of it takes on the heap: nothing when it is not repeated.
    bytes: usize,
    shape: &'static Shape,
}

/// A message that servers answer with.
pub trait Response: Message + Default {
    /// What of it grows.
    const SHAPE: &'static Shape = &FLAT;

    /// An empty one, whose list has room for elements of so many bytes if it has such a list.
    #[must_use]
    fn with_room(_: usize) -> Self {
        Self::default()
    }
}

impl Shape {
    /// How many bytes the elements of a message of this shape take, if it stays in proportion.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when it does not.
    pub fn check(&self, message: &[u8]) -> Result<usize, Status> {
        if self.0.is_empty() {
            return Ok(0);
        }
        let allowed = message.len().saturating_mul(GROWTH_MAX) + GROWTH_FREE_BYTES;
        let bytes = self.decoded_bytes(message, DEPTH_MAX);
        if bytes <= allowed {
            return Ok(bytes);
        }
        Err(Status::new(
            Code::ResourceExhausted,
            Origin::Library,
            "a response that would take out of proportion much memory",
        ))
    }

    /// What the elements of a message take. Where the wire form is broken the
    /// count ends, as decoding will.
    fn decoded_bytes(&self, mut rest: &[u8], depth: usize) -> usize {
        let mut bytes = 0;
        while let Some((number, value)) = next_field(&mut rest) {
            let Some(field) = self.0.iter().find(|field| field.number == number) else {
                continue;
            };
            bytes += field.bytes;
            if depth > 0 && !field.shape.0.is_empty() {
                bytes += field.shape.decoded_bytes(value, depth - 1);
            }
        }
        bytes
    }
}

/// The depth at which prost refuses a message, so nothing below it is decoded.
const DEPTH_MAX: usize = 100;

static FLAT: Shape = Shape(&[]);
static RANGE: Shape = Shape(&[repeated::<mvccpb::KeyValue>(2)]);
static RANGE_PIECE: Shape = Shape(&[one(1, &RANGE)]);
static DELETE_RANGE: Shape = Shape(&[repeated::<mvccpb::KeyValue>(3)]);
static TXN: Shape = Shape(&[Field {
    number: 3,
    bytes: size_of::<etcdserverpb::ResponseOp>(),
    shape: &OPERATION,
}]);
static OPERATION: Shape = Shape(&[one(1, &RANGE), one(3, &DELETE_RANGE), one(4, &TXN)]);
static WATCH: Shape = Shape(&[repeated::<mvccpb::Event>(11)]);
static MEMBERS: Shape = Shape(&[repeated::<etcdserverpb::Member>(2)]);
static MEMBER_ADDED: Shape = Shape(&[repeated::<etcdserverpb::Member>(3)]);
static PERMISSIONS: Shape = Shape(&[repeated::<authpb::Permission>(2)]);

const fn one(number: u64, shape: &'static Shape) -> Field {
    Field {
        number,
        bytes: 0,
        shape,
    }
}

const fn repeated<M>(number: u64) -> Field {
    Field {
        number,
        bytes: size_of::<M>(),
        shape: &FLAT,
    }
}

macro_rules! responses {
    ($package:ident: $($name:ident $(= $shape:ident $(in $list:ident)?)?),+ $(,)?) => {$(
        impl Response for $package::$name {
            $(
                const SHAPE: &'static Shape = &$shape;

                $(fn with_room(bytes: usize) -> Self {
                    Self { $list: room(bytes), ..Self::default() }
                })?
            )?
        }
    )+};
}

responses![etcdserverpb:
    RangeResponse = RANGE in kvs, RangeStreamResponse = RANGE_PIECE, PutResponse,
    DeleteRangeResponse = DELETE_RANGE in prev_kvs, TxnResponse = TXN, CompactionResponse,
    WatchResponse = WATCH in events,
    LeaseGrantResponse, LeaseRevokeResponse, LeaseKeepAliveResponse, LeaseTimeToLiveResponse,
    LeaseLeasesResponse,
    MemberAddResponse = MEMBER_ADDED, MemberRemoveResponse = MEMBERS, MemberUpdateResponse = MEMBERS,
    MemberListResponse = MEMBERS, MemberPromoteResponse = MEMBERS,
    AlarmResponse, StatusResponse, DefragmentResponse, HashResponse, HashKvResponse, SnapshotResponse,
    MoveLeaderResponse, DowngradeResponse,
    AuthEnableResponse, AuthDisableResponse, AuthStatusResponse, AuthenticateResponse, AuthUserAddResponse,
    AuthUserGetResponse, AuthUserListResponse, AuthUserDeleteResponse, AuthUserChangePasswordResponse,
    AuthUserGrantRoleResponse, AuthUserRevokeRoleResponse, AuthRoleAddResponse, AuthRoleGetResponse = PERMISSIONS,
    AuthRoleListResponse, AuthRoleDeleteResponse, AuthRoleGrantPermissionResponse,
    AuthRoleRevokePermissionResponse,
];
responses![v3lockpb: LockResponse, UnlockResponse];
responses![v3electionpb: CampaignResponse, ProclaimResponse, LeaderResponse, ResignResponse];
responses![health: HealthCheckResponse];

fn room<T>(bytes: usize) -> Vec<T> {
    Vec::with_capacity(bytes / size_of::<T>())
}

/// The next field with a length, by number; those without are passed over.
fn next_field<'a>(rest: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    loop {
        let tag = varint(rest)?;
        let fixed_len = match tag & 7 {
            0 => {
                varint(rest)?;
                continue;
            }
            1 => 8,
            2 => {
                let len = usize::try_from(varint(rest)?).ok()?;
                let (value, tail) = rest.split_at_checked(len)?;
                *rest = tail;
                return Some((tag >> 3, value));
            }
            // The marks of a group. What is inside counts as if it were outside, which is no less.
            3 | 4 => 0,
            5 => 4,
            _ => return None,
        };
        *rest = rest.get(fixed_len..)?;
    }
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift.min(63);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb::{
        RangeResponse, ResponseHeader, ResponseOp, TxnResponse, WatchResponse, response_op,
    };
    use crate::pb::mvccpb::{Event, KeyValue};

    fn refused<M: Response>(message: &[u8]) -> bool {
        M::SHAPE.check(message).is_err()
    }

    /// `count` empty elements of the field with this one-byte tag.
    fn empty_elements(tag: u8, count: usize) -> Vec<u8> {
        [tag, 0].repeat(count)
    }

    fn field(tag: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        prost::encode_length_delimiter(value.len(), &mut bytes).expect("room");
        bytes.extend_from_slice(value);
        bytes
    }

    #[test]
    fn empty_elements_are_found_inside_other_messages() {
        let range = field(0x0a, &empty_elements(0x12, 100_000));
        let mut txn = field(0x1a, &range);
        for _ in 0..5 {
            assert!(refused::<TxnResponse>(&txn));
            txn = field(0x1a, &field(0x22, &txn));
        }
        let piece = field(0x0a, &empty_elements(0x12, 100_000));
        assert!(refused::<etcdserverpb::RangeStreamResponse>(&piece));
    }

    #[test]
    fn the_smallest_events_of_a_server_pass() {
        let deletion = Event {
            r#type: 1,
            kv: Some(KeyValue {
                key: "k".into(),
                mod_revision: 2,
                ..KeyValue::default()
            }),
            prev_kv: None,
        };
        let watch = WatchResponse {
            events: vec![deletion; 100_000],
            ..WatchResponse::default()
        };
        assert!(!refused::<WatchResponse>(&watch.encode_to_vec()));
    }

    #[test]
    fn the_smallest_keys_of_a_server_pass() {
        let key = KeyValue {
            key: "k".into(),
            create_revision: 2,
            mod_revision: 2,
            version: 1,
            ..KeyValue::default()
        };
        let range = RangeResponse {
            kvs: vec![key; 100_000],
            ..RangeResponse::default()
        };
        assert!(!refused::<RangeResponse>(&range.encode_to_vec()));
    }

    #[test]
    fn a_transaction_of_many_small_answers_passes() {
        let header = ResponseHeader {
            revision: 2,
            ..ResponseHeader::default()
        };
        let put = etcdserverpb::PutResponse {
            header: Some(header),
            prev_kv: None,
        };
        let txn = TxnResponse {
            responses: vec![
                ResponseOp {
                    response: Some(response_op::Response::ResponsePut(put)),
                };
                10_000
            ],
            ..TxnResponse::default()
        };
        assert!(!refused::<TxnResponse>(&txn.encode_to_vec()));
    }

    #[test]
    fn a_value_that_reads_like_empty_elements_passes() {
        let range = RangeResponse {
            kvs: vec![KeyValue {
                key: "k".into(),
                value: empty_elements(0x12, 1 << 20).into(),
                ..KeyValue::default()
            }],
            ..RangeResponse::default()
        };
        assert!(!refused::<RangeResponse>(&range.encode_to_vec()));
    }

    #[test]
    fn other_fields_are_passed_over_whatever_their_type() {
        let others: [&[u8]; 5] = [
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x09\0\0\0\0\0\0\0\0",
            b"\x0d\0\0\0\0",
            b"\x0b\x0c",
            b"\x0a\x02ab",
        ];
        for other in others {
            let message = [other, &empty_elements(0x12, 100_000)].concat();
            assert!(refused::<RangeResponse>(&message), "{other:x?}");
        }
    }

    #[test]
    fn a_broken_message_is_left_to_the_decoder() {
        for broken in [
            &b"\x12"[..],
            b"\x12\x05ab",
            b"\x0f",
            b"\x80",
            b"\x09\0",
            &[0xff; 11],
        ] {
            assert!(!refused::<RangeResponse>(broken), "{broken:x?}");
        }
    }

    /// Message and field number of every repeated message of a response, from the sources.
    fn repeated_messages() -> Vec<String> {
        let sources = [
            include_str!("../../proto/etcdserverpb.proto"),
            include_str!("../../proto/v3electionpb.proto"),
            include_str!("../../proto/v3lockpb.proto"),
            include_str!("../../proto/health.proto"),
        ];
        let mut found = Vec::new();
        let mut message = "";
        for line in sources.iter().flat_map(|source| source.lines()).map(str::trim) {
            let words: Vec<&str> = line.split([' ', ';']).collect();
            match words[..] {
                ["message", name, ..] => message = name,
                ["repeated", "string" | "bytes", ..] => {}
                ["repeated", _, _, "=", number, ..] if message.ends_with("Response") => {
                    found.push(format!("{message} {number}"));
                }
                _ => {}
            }
        }
        found
    }

    #[test]
    fn every_response_refuses_the_elements_that_grow_too_much() {
        use crate::pb::authpb::Permission;
        use crate::pb::etcdserverpb::*;

        fn row<M: Response, E>(name: &'static str) -> (&'static str, usize, &'static Shape) {
            (name, size_of::<E>(), M::SHAPE)
        }
        let table = [
            row::<RangeResponse, KeyValue>("RangeResponse 2"),
            row::<DeleteRangeResponse, KeyValue>("DeleteRangeResponse 3"),
            row::<TxnResponse, ResponseOp>("TxnResponse 3"),
            row::<WatchResponse, Event>("WatchResponse 11"),
            row::<LeaseLeasesResponse, LeaseStatus>("LeaseLeasesResponse 2"),
            row::<MemberAddResponse, Member>("MemberAddResponse 3"),
            row::<MemberRemoveResponse, Member>("MemberRemoveResponse 2"),
            row::<MemberUpdateResponse, Member>("MemberUpdateResponse 2"),
            row::<MemberListResponse, Member>("MemberListResponse 2"),
            row::<MemberPromoteResponse, Member>("MemberPromoteResponse 2"),
            row::<AlarmResponse, AlarmMember>("AlarmResponse 2"),
            row::<AuthRoleGetResponse, Permission>("AuthRoleGetResponse 2"),
        ];
        assert_eq!(
            repeated_messages(),
            table.map(|(name, ..)| name),
            "proto/ has another list"
        );
        for (name, element_bytes, shape) in table {
            let (_, number) = name.split_once(' ').expect("a number");
            let tag = number.parse::<u8>().expect("a small number") << 3 | 2;
            let is_refused = shape.check(&empty_elements(tag, 100_000)).is_err();
            assert_eq!(
                is_refused,
                element_bytes > 2 * GROWTH_MAX,
                "{name} of {element_bytes} bytes"
            );
        }
    }
}
