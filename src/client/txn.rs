//! Transactions: comparisons, and what is done when all of them hold or one does
//! not. They nest.

use bytes::Bytes;
use prost::Message;

use super::kv::{awaited, idempotent};
use super::{Call, Client, Delete, Get, Put, Route};
use crate::core::namespace::Answer;
use crate::core::pool::Class;
use crate::net::call_options::CallOptions;
use crate::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::{self as pb, RequestOp, ResponseHeader, TxnRequest, TxnResponse};
use crate::types::{KeyRange, LeaseId, Revision};
use crate::wire::{self, method};
use std::future::IntoFuture;
use std::time::Duration;

impl Client {
    /// Compares, then does the one thing or the other, all at one revision.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
    /// use tenure::{Compare, Op, Revision};
    ///
    /// let answer = client
    ///     .txn()
    ///     .when(Compare::create_revision("seat").equal(Revision::ZERO))
    ///     .then(Op::put("seat", "mine"))
    ///     .or_else(Op::get("seat"))
    ///     .await?;
    /// println!("took it: {}", answer.succeeded);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Client::put`]; a server takes 128 operations in a branch by default.
    pub fn txn(&self) -> Txn<&Client> {
        Txn::on(self)
    }
}

/// A transaction. Without comparisons it always takes the `then` branch.
#[derive(Clone, Debug, Default)]
#[must_use = "a transaction is sent only once it is awaited"]
pub struct Txn<C = ()> {
    client: C,
    request: TxnRequest,
    options: CallOptions,
}

impl Txn {
    /// A transaction to nest in another one.
    pub fn new() -> Txn {
        Txn::default()
    }
}

impl Txn<&Client> {
    /// Belongs to something that has begun: it is not refused for the calls in flight.
    pub(crate) fn part(mut self) -> Self {
        self.options.is_part = true;
        self
    }

    /// To be kept, and sent again and again.
    pub(crate) fn detach(self) -> Txn {
        Txn {
            client: (),
            request: self.request,
            options: self.options,
        }
    }
}

impl Txn<()> {
    /// Sends it as it is.
    pub(crate) fn send<R: wire::Response + Answer>(&self, client: &Client) -> Call<R> {
        client.unary(&method::kv::TXN, &self.request, self.options.clone())
    }

    /// Has the nth comparison, which is one of revisions, compare with another one.
    pub(crate) fn compare_with(&mut self, nth: usize, with: Revision) {
        let compared = self.request.compare.get_mut(nth).and_then(|compare| compare.target_union.as_mut());
        match compared {
            Some(TargetUnion::CreateRevision(revision) | TargetUnion::ModRevision(revision)) => {
                *revision = with.0;
            }
            _ => debug_assert!(false, "there is no such comparison"),
        }
    }

    /// How many comparisons there are.
    pub(crate) fn comparisons(&self) -> usize {
        self.request.compare.len()
    }
}

/// What a transaction came to, for those who do not look at the answers of its
/// operations: they are skipped, so that nothing is allocated for them.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Verdict {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    pub(crate) succeeded: bool,
}

impl wire::Response for Verdict {}

impl Answer for Verdict {
    fn header(&self) -> Option<&ResponseHeader> {
        self.header.as_ref()
    }
}

impl Verdict {
    pub(crate) fn revision(&self) -> Revision {
        self.header.as_ref().map_or(Revision::ZERO, |header| Revision(header.revision))
    }
}

impl<C> Txn<C> {
    pub(crate) fn on(client: C) -> Txn<C> {
        Txn {
            client,
            request: TxnRequest::default(),
            options: CallOptions {
                is_local: true,
                ..CallOptions::default()
            },
        }
    }

    /// What it is sent with.
    pub(crate) fn client(&self) -> &C {
        &self.client
    }

    /// Whether it is sent again where the first attempt may have been carried out.
    pub(crate) fn is_idempotent(&self) -> bool {
        self.options.idempotent
    }

    /// Adds a comparison; all of them have to hold.
    pub fn when(mut self, compare: Compare) -> Self {
        self.request.compare.push(compare.0);
        self
    }

    /// Adds an operation for when every comparison holds.
    pub fn then(mut self, op: impl Into<Op>) -> Self {
        let op = op.into();
        self.options.is_local &= op.is_local();
        self.request.success.push(op.0);
        self
    }

    /// Adds an operation for when a comparison does not hold.
    pub fn or_else(mut self, op: impl Into<Op>) -> Self {
        let op = op.into();
        self.options.is_local &= op.is_local();
        self.request.failure.push(op.0);
        self
    }
}

awaited!(Txn<&Client>, method::kv::TXN, TxnResponse);
idempotent!(Txn<&Client>);

/// An operation of a transaction.
#[derive(Clone, Debug)]
pub struct Op(RequestOp);

impl Op {
    /// Reads a key or a range, with the options of [`Get`].
    pub fn get(keys: impl Into<KeyRange>) -> Get {
        Get::new((), keys.into())
    }

    /// Writes a key, with the options of [`Put`].
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Put {
        Put::new((), key.into(), value.into())
    }

    /// Deletes a key or a range, with the options of [`Delete`].
    pub fn delete(keys: impl Into<KeyRange>) -> Delete {
        Delete::new((), keys.into())
    }

    /// Whether a member answers it from what it has. A transaction of nothing else needs
    /// no leader.
    fn is_local(&self) -> bool {
        matches!(&self.0.request, Some(Request::RequestRange(range)) if range.serializable)
    }
}

impl<C> From<Get<C>> for Op {
    fn from(get: Get<C>) -> Op {
        Op(RequestOp {
            request: Some(Request::RequestRange(get.request)),
        })
    }
}

impl<C> From<Put<C>> for Op {
    fn from(put: Put<C>) -> Op {
        Op(RequestOp {
            request: Some(Request::RequestPut(put.request)),
        })
    }
}

impl<C> From<Delete<C>> for Op {
    fn from(delete: Delete<C>) -> Op {
        Op(RequestOp {
            request: Some(Request::RequestDeleteRange(delete.request)),
        })
    }
}

impl<C> From<Txn<C>> for Op {
    fn from(txn: Txn<C>) -> Op {
        Op(RequestOp {
            request: Some(Request::RequestTxn(txn.request)),
        })
    }
}

/// A comparison of something that a key has with a given value. On a range it
/// holds when it holds for every key there is in it.
///
/// A key that does not exist has version, revisions and lease 0, and no value.
#[derive(Clone, Debug)]
pub struct Compare(pb::Compare);

impl Compare {
    /// How often the key was written since it was created.
    pub fn version(keys: impl Into<KeyRange>) -> Comparand<i64> {
        Comparand::new(keys, CompareTarget::Version, TargetUnion::Version)
    }

    /// The revision that created the key. 0 says that there is none, and a range
    /// compared with 0 holds only where it is empty.
    pub fn create_revision(keys: impl Into<KeyRange>) -> Comparand<Revision> {
        Comparand::new(keys, CompareTarget::Create, |revision| {
            TargetUnion::CreateRevision(revision.0)
        })
    }

    /// The revision that last changed the key.
    pub fn mod_revision(keys: impl Into<KeyRange>) -> Comparand<Revision> {
        Comparand::new(keys, CompareTarget::Mod, |revision| {
            TargetUnion::ModRevision(revision.0)
        })
    }

    /// The value. A key that does not exist never compares true.
    pub fn value(keys: impl Into<KeyRange>) -> Comparand<Bytes> {
        Comparand::new(keys, CompareTarget::Value, TargetUnion::Value)
    }

    /// The lease that the key hangs on.
    pub fn lease(keys: impl Into<KeyRange>) -> Comparand<LeaseId> {
        Comparand::new(keys, CompareTarget::Lease, |lease| TargetUnion::Lease(lease.0))
    }
}

/// Half a comparison: it lacks the value to compare with.
#[derive(Clone, Debug)]
#[must_use = "a comparison needs a value to compare with"]
pub struct Comparand<T> {
    keys: KeyRange,
    target: CompareTarget,
    union: fn(T) -> TargetUnion,
}

impl<T> Comparand<T> {
    fn new(keys: impl Into<KeyRange>, target: CompareTarget, union: fn(T) -> TargetUnion) -> Comparand<T> {
        Comparand {
            keys: keys.into(),
            target,
            union,
        }
    }

    /// Holds where what the key has is equal to `value`.
    pub fn equal(self, value: impl Into<T>) -> Compare {
        self.finish(CompareResult::Equal, value.into())
    }

    /// Holds where it is not.
    pub fn not_equal(self, value: impl Into<T>) -> Compare {
        self.finish(CompareResult::NotEqual, value.into())
    }

    /// Holds where it is greater.
    pub fn greater(self, value: impl Into<T>) -> Compare {
        self.finish(CompareResult::Greater, value.into())
    }

    /// Holds where it is less.
    pub fn less(self, value: impl Into<T>) -> Compare {
        self.finish(CompareResult::Less, value.into())
    }

    fn finish(self, result: CompareResult, value: T) -> Compare {
        Compare(pb::Compare {
            result: result.into(),
            target: self.target.into(),
            key: self.keys.key,
            range_end: self.keys.range_end,
            target_union: Some((self.union)(value)),
        })
    }
}
