//! Random requests from a seed: mostly of the kind that says something about a
//! store with few keys, and now and then one that has to be refused.

use bytes::Bytes;
use prost::Message;
use tenure::core::jitter::Jitter;
use tenure::pb::etcdserverpb::compare::TargetUnion;
use tenure::pb::etcdserverpb::request_op::Request as Operation;
use tenure::pb::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};

/// Few, so that requests meet; so few that servers sort those of equal rank alike.
pub(crate) const KEYS: [&str; 8] = ["a", "aa", "b", "c", "d", "e", "e\0", "f"];
/// No lease of the tests expires while they run, except that it is revoked at once.
const TTL_SAFE: i64 = 3600;
const NESTING_MAX: usize = 3;

#[derive(Clone, Debug)]
pub(crate) enum Request {
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    Grant(LeaseGrantRequest),
    Revoke(LeaseRevokeRequest),
    KeepAlive(LeaseKeepAliveRequest),
    TimeToLive(LeaseTimeToLiveRequest),
    Leases(LeaseLeasesRequest),
}

impl Request {
    pub(crate) fn encoded(&self) -> (&'static str, Bytes) {
        let (path, bytes) = match self {
            Request::Range(range) => ("/etcdserverpb.KV/Range", range.encode_to_vec()),
            Request::Put(put) => ("/etcdserverpb.KV/Put", put.encode_to_vec()),
            Request::Delete(delete) => ("/etcdserverpb.KV/DeleteRange", delete.encode_to_vec()),
            Request::Txn(txn) => ("/etcdserverpb.KV/Txn", txn.encode_to_vec()),
            Request::Compact(compact) => ("/etcdserverpb.KV/Compact", compact.encode_to_vec()),
            Request::Grant(grant) => ("/etcdserverpb.Lease/LeaseGrant", grant.encode_to_vec()),
            Request::Revoke(revoke) => ("/etcdserverpb.Lease/LeaseRevoke", revoke.encode_to_vec()),
            Request::KeepAlive(alive) => ("/etcdserverpb.Lease/LeaseKeepAlive", alive.encode_to_vec()),
            Request::TimeToLive(left) => ("/etcdserverpb.Lease/LeaseTimeToLive", left.encode_to_vec()),
            Request::Leases(leases) => ("/etcdserverpb.Lease/LeaseLeases", leases.encode_to_vec()),
        };
        (path, bytes.into())
    }
}

pub(crate) struct Requests {
    chance: Jitter,
    /// As far as the last answer told.
    revision: i64,
    /// Whether an unknown sort order may be sent.
    unsorted: bool,
    compacts: bool,
    /// Leases that would expire.
    to_revoke: Vec<i64>,
}

impl Requests {
    pub(crate) fn new(seed: u64, unsorted: bool, compacts: bool) -> Requests {
        Requests {
            chance: Jitter::new(seed),
            revision: 1,
            unsorted,
            compacts,
            to_revoke: Vec::new(),
        }
    }

    pub(crate) fn next(&mut self) -> Request {
        if let Some(id) = self.to_revoke.pop() {
            return Request::Revoke(LeaseRevokeRequest { id });
        }
        match self.below(100) {
            0..25 => Request::Range(self.range()),
            25..50 => Request::Put(self.put(true)),
            50..58 => Request::Delete(self.delete(true)),
            58..82 => {
                let may_keep = self.one_in(2);
                Request::Txn(self.txn(0, may_keep))
            }
            82..84 if self.compacts => Request::Compact(CompactionRequest {
                revision: self.past_or_wrong_revision(),
                physical: self.one_in(2),
            }),
            82..89 => Request::Grant(self.grant()),
            89..92 => Request::Revoke(LeaseRevokeRequest { id: self.lease() }),
            92..95 => Request::KeepAlive(LeaseKeepAliveRequest { id: self.lease() }),
            95..98 => Request::TimeToLive(LeaseTimeToLiveRequest {
                id: self.lease(),
                keys: self.one_in(2),
            }),
            _ => Request::Leases(LeaseLeasesRequest {}),
        }
    }

    /// One that mostly makes a revision.
    pub(crate) fn write(&mut self) -> Request {
        Request::Put(self.put(true))
    }

    /// Whether the next request is one that may not be late.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.to_revoke.is_empty()
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision of a good answer.
    pub(crate) fn handle_answer(&mut self, revision: Option<i64>) {
        self.revision = revision.unwrap_or(self.revision);
    }

    fn range(&mut self) -> RangeRequest {
        let bound = if self.unsorted { 40 } else { 0 };
        RangeRequest {
            key: self.key(),
            range_end: self.range_end(true),
            limit: self.pick(&[0, 0, 0, 1, 2, 3, 7, -1]),
            revision: if self.one_in(3) {
                self.past_or_wrong_revision()
            } else {
                0
            },
            sort_order: if self.one_in_or_never(bound) {
                3
            } else {
                self.pick(&[0, 0, 1, 2])
            },
            sort_target: if self.one_in_or_never(bound) {
                -1
            } else {
                self.pick(&[0, 0, 1, 2, 3, 4])
            },
            serializable: self.one_in(4),
            keys_only: self.one_in(4),
            count_only: self.one_in(6),
            min_mod_revision: self.filter(),
            max_mod_revision: self.filter(),
            min_create_revision: self.filter(),
            max_create_revision: self.filter(),
        }
    }

    fn put(&mut self, may_keep: bool) -> PutRequest {
        let ignore_value = may_keep && self.one_in(8);
        let ignore_lease = may_keep && self.one_in(8);
        let wrong = self.one_in(10);
        let leased = (!ignore_lease || wrong) && self.one_in(4);
        let value = self.pick(&["", "1", "2", "22", "3"]);
        PutRequest {
            key: self.key(),
            value: if ignore_value && !wrong {
                Bytes::new()
            } else {
                value.into()
            },
            lease: if leased { self.lease() } else { 0 },
            prev_kv: self.one_in(3),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self, may_be_open: bool) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key: self.key(),
            range_end: self.range_end(may_be_open),
            prev_kv: self.one_in(2),
        }
    }

    fn txn(&mut self, depth: usize, may_keep: bool) -> TxnRequest {
        let operations = |requests: &mut Requests| {
            let most = if depth == 0 && requests.one_in(100) {
                140
            } else {
                4
            };
            let count = requests.below(most);
            (0..count).map(|_| requests.operation(depth, may_keep)).collect()
        };
        let compares = self.below(3);
        TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: operations(self),
            failure: operations(self),
        }
    }

    fn operation(&mut self, depth: usize, may_keep: bool) -> RequestOp {
        let request = match self.below(100) {
            0 => None,
            1..40 => Some(Operation::RequestRange(self.range())),
            40..70 => Some(Operation::RequestPut(self.put(may_keep))),
            70..85 => {
                let may_be_open = !may_keep && !self.compacts;
                Some(Operation::RequestDeleteRange(self.delete(may_be_open)))
            }
            _ if depth < NESTING_MAX => Some(Operation::RequestTxn(self.txn(depth + 1, may_keep))),
            _ => Some(Operation::RequestRange(self.range())),
        };
        RequestOp { request }
    }

    fn compare(&mut self) -> Compare {
        let revision = self.past_or_wrong_revision();
        let operand = match self.below(6) {
            0 => TargetUnion::Version(self.pick(&[0, 1, 2])),
            1 => TargetUnion::CreateRevision(revision),
            2 => TargetUnion::ModRevision(revision),
            3 => TargetUnion::Value(self.pick(&["", "1", "2"]).into()),
            4 => TargetUnion::Lease(self.lease()),
            _ => TargetUnion::Version(0),
        };
        let target = match operand {
            // Now and then of another kind than the target.
            _ if self.one_in(10) => self.pick(&[0, 1, 2, 3, 4, 9]),
            TargetUnion::Version(_) => 0,
            TargetUnion::CreateRevision(_) => 1,
            TargetUnion::ModRevision(_) => 2,
            TargetUnion::Value(_) => 3,
            TargetUnion::Lease(_) => 4,
        };
        Compare {
            result: self.pick(&[0, 0, 1, 2, 3, 3, 1, 2, 0, 8]),
            target,
            key: self.key(),
            range_end: self.range_end(true),
            target_union: if self.one_in(20) { None } else { Some(operand) },
        }
    }

    fn grant(&mut self) -> LeaseGrantRequest {
        let ttl = self.pick(&[TTL_SAFE, TTL_SAFE, TTL_SAFE, 1, 0, -7, 9_000_000_001]);
        let id = self.pick(&[1, 2, 3, 4, -5, i64::MAX]);
        if ttl < TTL_SAFE {
            self.to_revoke.push(id);
        }
        LeaseGrantRequest { ttl, id }
    }

    fn lease(&mut self) -> i64 {
        self.pick(&[1, 1, 2, 2, 3, 4, -5, i64::MAX, 77])
    }

    pub(crate) fn key(&mut self) -> Bytes {
        if self.one_in(150) {
            Bytes::new()
        } else {
            self.pick(&KEYS).into()
        }
    }

    fn range_end(&mut self, may_be_open: bool) -> Bytes {
        match self.below(8) {
            0..5 => Bytes::new(),
            5 if may_be_open => Bytes::from_static(&[0]),
            _ => self.pick(&KEYS).into(),
        }
    }

    fn filter(&mut self) -> i64 {
        if self.one_in(10) {
            self.past_or_wrong_revision()
        } else {
            0
        }
    }

    /// Mostly one of the last, which may be compacted; seldom one that is none.
    pub(crate) fn past_or_wrong_revision(&mut self) -> i64 {
        let back = i64::try_from(self.below(30)).unwrap_or_default();
        match self.below(20) {
            0 => self.revision + 1,
            1 => self.pick(&[0, 1, -1, -3, i64::MAX, i64::MIN]),
            _ => self.revision - back,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.chance.next_u64() % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn one_in_or_never(&mut self, bound: u64) -> bool {
        bound > 0 && self.one_in(bound)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let index = self.below(of.len() as u64);
        of[usize::try_from(index).unwrap_or_default()]
    }
}
