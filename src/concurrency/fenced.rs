//! Writes under a fence: a put, a deletion or a transaction that takes effect only while its
//! lock is ours in etcd itself, in one line and one request. It drives nothing.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use super::grip::Grip;
use super::refusal::lost;
use super::requests::odd;
use super::session::Session;
use crate::client::{Client, Compare, Delete, Op, Put, Txn};
use crate::error::{Delivery, Error};
use crate::pb::etcdserverpb::response_op::Response;
use crate::pb::etcdserverpb::{DeleteRangeResponse, PutResponse, ResponseHeader, TxnResponse};
use crate::types::KeyRange;

/// Writes that take effect only while a lock, a leadership or an item of a queue is ours in etcd itself:
/// of [`Guard::fenced`](super::Guard::fenced) and its like. The builders are those of the client.
///
/// ```no_run
/// # async fn example(guard: tenure::Guard) -> Result<(), tenure::Error> {
/// match guard.fenced().put("report", "done").await {
///     Ok(answer) => println!("written at {}", answer.revision()),
///     Err(error) if error.is_lost() => println!("not written: somebody else may have the lock"),
///     Err(error) if error.may_be_applied() => println!("written, or not, or soon: {error}"),
///     Err(error) => println!("not written: {error}"),
/// }
/// # Ok(())
/// # }
/// ```
///
/// Each is one transaction, sent over the session's client.
///
/// # Errors
///
/// - [`Error::is_lost`]: it was ours no more, and nothing was written. That is certain, but for
///   [`FencedWrites::idempotent`]: of writes that may be sent more than once an earlier copy may have been
///   written while it was ours, and [`Error::may_be_applied`] says so too.
/// - [`Error::may_be_applied`]: no answer tells what became of it. It may be carried out yet, but only
///   while the lock is ours.
/// - Any other: as the write without a fence; nothing was written.
///
/// # Cancel safety
///
/// Dropped, it may have been written, or may be yet, but only while the lock is ours. The
/// [`Guard`](super::Guard) of a mutex takes care of that, as where no answer came: its key is deleted at the end
/// instead of being passed on, so that no such write takes effect in the next grant.
#[derive(Clone, Debug)]
#[must_use = "nothing is written before a put, a deletion or a transaction is awaited"]
pub struct FencedWrites<'a> {
    session: &'a Session,
    /// The comparisons, and the options of the call.
    txn: Txn<&'a Client>,
    /// Of what is passed on within the session.
    grip: Option<&'a Grip>,
}

impl<'a> FencedWrites<'a> {
    pub(super) fn new(session: &'a Session, fences: impl IntoIterator<Item = Compare>) -> FencedWrites<'a> {
        FencedWrites {
            session,
            txn: fences.into_iter().fold(session.client().txn(), Txn::when),
            grip: None,
        }
    }

    /// What is passed on within the session is not to be while a write may be under way.
    pub(super) fn tainting(mut self, grip: &'a Grip) -> FencedWrites<'a> {
        self.grip = Some(grip);
        self
    }

    /// The time that each of the writes may take, instead of the client's.
    pub fn timeout(mut self, timeout: Duration) -> FencedWrites<'a> {
        self.txn = self.txn.timeout(timeout);
        self
    }

    /// Says that doing each of them twice is as good as doing it once, so that it is sent again where the first
    /// attempt may have been applied. While the lock is ours nobody else should have written in between.
    pub fn idempotent(mut self) -> FencedWrites<'a> {
        self.txn = self.txn.idempotent();
        self
    }

    /// As [`Client::put`](crate::Client::put).
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Put<FencedWrites<'a>> {
        Put::new(self.clone(), key.into(), value.into())
    }

    /// As [`Client::delete`](crate::Client::delete).
    pub fn delete(&self, keys: impl Into<KeyRange>) -> Delete<FencedWrites<'a>> {
        Delete::new(self.clone(), keys.into())
    }

    /// As [`Client::txn`](crate::Client::txn). It is nested in the one with the fence, so its comparisons are
    /// its own: `succeeded` speaks of those.
    pub fn txn(&self) -> Txn<FencedWrites<'a>> {
        Txn::on(self.clone())
    }

    /// One transaction: what the operation was answered.
    async fn write(self, op: Op) -> Result<(Option<ResponseHeader>, Response), Error> {
        let refused = || {
            lost(
                self.session,
                "nothing was written: what the fence is of is ours no more",
            )
        };
        let mut doubt = Doubt(self.grip);
        if !self.session.is_valid() {
            return Err(refused());
        }
        // Then an earlier copy of what is refused may have been written.
        let repeats = self.txn.is_idempotent();
        let answer = match self.txn.then(op).await {
            Ok(answer) => answer,
            Err(error) => {
                if error.delivery() != Delivery::Unknown {
                    doubt.settle();
                }
                return Err(error);
            }
        };
        if !answer.succeeded {
            // With the doubt left as it is: a key that is gone is passed on to nobody.
            return Err(match repeats {
                true => refused().with_delivery(Delivery::Unknown),
                false => refused(),
            });
        }
        doubt.settle();
        let response = answer.responses.into_iter().next().and_then(|op| op.response);
        Ok((answer.header, response.ok_or_else(odd)?))
    }
}

/// How the future of a fenced write is called.
type Writing<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

macro_rules! awaited {
    ($builder:ident, $variant:ident, $response:ident) => {
        impl<'a> IntoFuture for $builder<FencedWrites<'a>> {
            type Output = Result<$response, Error>;
            type IntoFuture = Writing<'a, $response>;

            fn into_future(self) -> Writing<'a, $response> {
                let fenced = self.client().clone();
                Box::pin(async move {
                    match fenced.write(self.into()).await? {
                        // That of the operation has a revision only.
                        (header, Response::$variant(response)) => Ok($response { header, ..response }),
                        _ => Err(odd()),
                    }
                })
            }
        }
    };
}

awaited!(Put, ResponsePut, PutResponse);
awaited!(Delete, ResponseDeleteRange, DeleteRangeResponse);
awaited!(Txn, ResponseTxn, TxnResponse);

/// Until it is settled, a write may be under way.
struct Doubt<'a>(Option<&'a Grip>);

impl Doubt<'_> {
    fn settle(&mut self) {
        self.0 = None;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Some(grip) = self.0 {
            grip.taint();
        }
    }
}
