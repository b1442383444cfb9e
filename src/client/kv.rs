//! The KV service: range, put, delete, compaction. Transactions are in `txn`.
//!
//! `Get`, `Put` and `Delete` serve twice: made by a client they are awaited, made
//! by [`Op`](super::Op) they are an operation of a transaction.

use std::future::IntoFuture;
use std::time::Duration;

use bytes::Bytes;

use super::{Call, Client, Route};
use crate::core::pool::Class;
use crate::net::call_options::CallOptions;
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::pb::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse,
};
use crate::types::{KeyRange, LeaseId, Revision};
use crate::wire::method;

impl Client {
    /// Reads a key, or a [`KeyRange`] of keys.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
    /// use tenure::KeyRange;
    ///
    /// let answer = client.get(KeyRange::prefix("jobs/")).limit(100).await?;
    /// for kv in &answer.kvs {
    ///     println!("{:?} = {:?}", kv.key, kv.value);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn get(&self, keys: impl Into<KeyRange>) -> Get<&Client> {
        Get::new(self, keys.into())
    }

    /// Writes a key.
    ///
    /// # Errors
    ///
    /// An error whose [`may_be_applied`](crate::Error::may_be_applied) is true
    /// leaves open whether the key was written. It is not sent again by itself.
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Put<&Client> {
        Put::new(self, key.into(), value.into())
    }

    /// Deletes a key, or a [`KeyRange`] of keys.
    ///
    /// # Errors
    ///
    /// As [`Client::put`].
    pub fn delete(&self, keys: impl Into<KeyRange>) -> Delete<&Client> {
        Delete::new(self, keys.into())
    }

    /// Drops the history before `revision`: reads and watches below it fail with
    /// [`EtcdError::Compacted`](crate::EtcdError::Compacted) from then on.
    pub fn compact(&self, revision: Revision) -> Compact<'_> {
        let request = CompactionRequest {
            revision: revision.0,
            physical: false,
        };
        Compact {
            client: self,
            request,
            options: CallOptions::default(),
        }
    }
}

/// Lets a builder be awaited, and gives it what every call can have.
macro_rules! awaited {
    ($builder:ty, $method:expr, $response:ty) => {
        impl $builder {
            /// The time that the call may take, instead of the client's.
            pub fn timeout(mut self, timeout: Duration) -> Self {
                self.options.timeout = Some(timeout);
                self
            }

            /// Sends the call over this connection and no other, so that it sees the
            /// same member's store as whatever else runs there.
            pub fn via(mut self, route: &Route) -> Self {
                self.options.route = Some(route.clone());
                self
            }

            /// Sends the call beside leases, watches and locks, and not behind bulk
            /// transfers: for what is small and urgent. It is not among those that
            /// [`Config::calls_max`](crate::Config::calls_max) bounds.
            pub fn control(mut self) -> Self {
                self.options.class = Class::Control;
                self
            }
        }

        impl IntoFuture for $builder {
            type Output = Result<$response, $crate::error::Error>;
            type IntoFuture = Call<$response>;

            fn into_future(self) -> Call<$response> {
                self.client.unary(&$method, &self.request, self.options)
            }
        }
    };
}
pub(super) use awaited;

/// For what writes.
macro_rules! idempotent {
    ($builder:ty) => {
        impl $builder {
            /// Says that doing it twice is as good as doing it once, so that it is sent
            /// again where the first attempt may have been applied. That is for the
            /// caller to know: somebody else may have written in between.
            pub fn idempotent(mut self) -> Self {
                self.options.idempotent = true;
                self
            }
        }
    };
}
pub(super) use idempotent;

/// A read of one key or of a range. Linearizable unless it says otherwise.
#[derive(Clone, Debug)]
#[must_use = "a read is sent only once it is awaited"]
pub struct Get<C = ()> {
    client: C,
    pub(super) request: RangeRequest,
    options: CallOptions,
}

impl<C> Get<C> {
    pub(super) fn new(client: C, keys: KeyRange) -> Get<C> {
        let request = RangeRequest {
            key: keys.key,
            range_end: keys.range_end,
            ..RangeRequest::default()
        };
        Get {
            client,
            request,
            options: CallOptions::default(),
        }
    }

    /// At most this many keys; the answer says whether there are `more`.
    pub fn limit(mut self, keys: u32) -> Self {
        self.request.limit = keys.into();
        self
    }

    /// The store as it was at this revision. Fails where that is compacted or
    /// lies ahead.
    pub fn revision(mut self, revision: Revision) -> Self {
        self.request.revision = revision.0;
        self
    }

    /// The order of the answer. Ascending by key unless said otherwise.
    pub fn sort(mut self, target: SortTarget, order: SortOrder) -> Self {
        self.request.set_sort_target(target);
        self.request.set_sort_order(order);
        self
    }

    /// Answered by the member that is asked, from what it has: faster, and
    /// possibly stale.
    pub fn serializable(mut self) -> Self {
        self.request.serializable = true;
        self.options.is_local = true;
        self
    }

    /// Without the values.
    pub fn keys_only(mut self) -> Self {
        self.request.keys_only = true;
        self
    }

    /// Only how many keys there are.
    pub fn count_only(mut self) -> Self {
        self.request.count_only = true;
        self
    }

    /// Without the keys that were last changed before this revision.
    pub fn min_mod_revision(mut self, revision: Revision) -> Self {
        self.request.min_mod_revision = revision.0;
        self
    }

    /// Without the keys that were last changed after this revision.
    pub fn max_mod_revision(mut self, revision: Revision) -> Self {
        self.request.max_mod_revision = revision.0;
        self
    }

    /// Without the keys that were created before this revision.
    pub fn min_create_revision(mut self, revision: Revision) -> Self {
        self.request.min_create_revision = revision.0;
        self
    }

    /// Without the keys that were created after this revision.
    pub fn max_create_revision(mut self, revision: Revision) -> Self {
        self.request.max_create_revision = revision.0;
        self
    }
}

awaited!(Get<&Client>, method::kv::RANGE, RangeResponse);

impl Get<&Client> {
    /// Belongs to something that has begun: it is not refused for the calls in flight.
    pub(crate) fn part(mut self) -> Self {
        self.options.is_part = true;
        self
    }
}

/// A write of one key.
#[derive(Clone, Debug)]
#[must_use = "a write is sent only once it is awaited"]
pub struct Put<C = ()> {
    client: C,
    pub(super) request: PutRequest,
    options: CallOptions,
}

impl<C> Put<C> {
    pub(crate) fn new(client: C, key: Bytes, value: Bytes) -> Put<C> {
        let request = PutRequest {
            key,
            value,
            ..PutRequest::default()
        };
        Put {
            client,
            request,
            options: CallOptions::default(),
        }
    }

    /// What it is sent with.
    pub(crate) fn client(&self) -> &C {
        &self.client
    }

    /// The key goes when this lease ends.
    pub fn lease(mut self, lease: LeaseId) -> Self {
        self.request.lease = lease.0;
        self
    }

    /// The answer brings the key as it was before.
    pub fn prev_kv(mut self) -> Self {
        self.request.prev_kv = true;
        self
    }

    /// Keeps the present value and changes the lease only. The value given must be
    /// empty, and the key must exist.
    pub fn ignore_value(mut self) -> Self {
        self.request.ignore_value = true;
        self
    }

    /// Keeps the present lease. The key must exist.
    pub fn ignore_lease(mut self) -> Self {
        self.request.ignore_lease = true;
        self
    }
}

awaited!(Put<&Client>, method::kv::PUT, PutResponse);
idempotent!(Put<&Client>);

/// A deletion of one key or of a range.
#[derive(Clone, Debug)]
#[must_use = "a deletion is sent only once it is awaited"]
pub struct Delete<C = ()> {
    client: C,
    pub(super) request: DeleteRangeRequest,
    options: CallOptions,
}

impl<C> Delete<C> {
    pub(crate) fn new(client: C, keys: KeyRange) -> Delete<C> {
        let request = DeleteRangeRequest {
            key: keys.key,
            range_end: keys.range_end,
            prev_kv: false,
        };
        Delete {
            client,
            request,
            options: CallOptions::default(),
        }
    }

    /// What it is sent with.
    pub(crate) fn client(&self) -> &C {
        &self.client
    }

    /// The answer brings the keys as they were before.
    pub fn prev_kv(mut self) -> Self {
        self.request.prev_kv = true;
        self
    }
}

awaited!(Delete<&Client>, method::kv::DELETE_RANGE, DeleteRangeResponse);
idempotent!(Delete<&Client>);

/// A compaction of the history.
#[derive(Clone, Debug)]
#[must_use = "a compaction is sent only once it is awaited"]
pub struct Compact<'a> {
    client: &'a Client,
    request: CompactionRequest,
    options: CallOptions,
}

impl Compact<'_> {
    /// Answered only once the space is free in the database's file.
    pub fn physical(mut self) -> Self {
        self.request.physical = true;
        self
    }
}

awaited!(Compact<'_>, method::kv::COMPACT, CompactionResponse);
idempotent!(Compact<'_>);
