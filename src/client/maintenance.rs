//! The maintenance service: one member, seen by its operator.

use super::Client;
use super::unary::Unary;
use crate::error::Error;
use crate::net::call_options::{Addressee, CallOptions};
use crate::net::endpoint::Endpoint;
use crate::pb::etcdserverpb::{
    DefragmentRequest, DefragmentResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
    MoveLeaderRequest, MoveLeaderResponse, StatusRequest, StatusResponse,
};
use crate::types::{MemberId, Revision};
use crate::wire::Method;
use crate::wire::method::maintenance as method;

/// One member, as [`Client::maintenance`] gives it: its calls go to this member and to no
/// other. Where it cannot be reached they wait for it until their time is over.
///
/// ```no_run
/// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
/// for endpoint in client.endpoints().list() {
///     let status = client.maintenance(&endpoint)?.status().await?;
///     println!("{endpoint} runs etcd {}, {} bytes", status.version, status.db_size);
/// }
/// # Ok(())
/// # }
/// ```
///
/// Where authentication is enabled they need the role `root`; any user may ask for the status.
#[derive(Clone, Debug)]
pub struct Maintenance<'a> {
    pub(super) client: &'a Client,
    pub(super) addressee: Addressee,
}

/// A question to a member to await, as [`Maintenance::status`] makes it.
pub type Status<'a> = Unary<'a, StatusRequest, StatusResponse>;
/// A defragmentation to await, as [`Maintenance::defragment`] makes it.
pub type Defragment<'a> = Unary<'a, DefragmentRequest, DefragmentResponse>;
/// A question to a member to await, as [`Maintenance::hash`] makes it.
pub type Hash<'a> = Unary<'a, HashRequest, HashResponse>;
/// A question to a member to await, as [`Maintenance::hash_kv`] makes it.
pub type HashKv<'a> = Unary<'a, HashKvRequest, HashKvResponse>;
/// A change of the leader to await, as [`Maintenance::move_leader`] makes it.
pub type MoveLeader<'a> = Unary<'a, MoveLeaderRequest, MoveLeaderResponse>;

impl Client {
    /// The member at this address, which has to be one of the client's
    /// [endpoints](Client::endpoints).
    ///
    /// # Errors
    ///
    /// The address does not parse, or is none of the client's.
    pub fn maintenance(&self, endpoint: impl AsRef<str>) -> Result<Maintenance<'_>, Error> {
        let endpoint = Endpoint::parse(endpoint.as_ref())?;
        Ok(Maintenance {
            client: self,
            addressee: self.channel().addressee(&endpoint)?,
        })
    }
}

impl<'a> Maintenance<'a> {
    /// The address of the member.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.addressee.name()
    }

    /// How it does: its version, the size of its database, whom it takes for the leader, how far
    /// it has come, and its alarms among the `errors`. Answered without a leader too.
    pub fn status(&self) -> Status<'a> {
        self.call(&method::STATUS, StatusRequest {})
    }

    /// Gives the free space in its database's file back to the file system.
    ///
    /// The member serves nothing until it is done, which may take longer than a call usually
    /// does: give it a [timeout](Unary::timeout). Not two members at a time. An answer that
    /// does not come in time stops nothing.
    pub fn defragment(&self) -> Defragment<'a> {
        self.call(&method::DEFRAGMENT, DefragmentRequest {})
    }

    /// A hash of its whole database. Members at the same revision may differ in it without
    /// harm: [`Maintenance::hash_kv`] is what tells whether they agree.
    pub fn hash(&self) -> Hash<'a> {
        self.call(&method::HASH, HashRequest {})
    }

    /// A hash of its keys up to a revision, or up to now for [`Revision::ZERO`]. Two members
    /// agree where they give the same hash for the same revision and the same
    /// `compact_revision`.
    ///
    /// # Errors
    ///
    /// [`Compacted`](crate::EtcdError::Compacted), or
    /// [`FutureRevision`](crate::EtcdError::FutureRevision) where the member has not come
    /// that far.
    pub fn hash_kv(&self, revision: Revision) -> HashKv<'a> {
        self.call(&method::HASH_KV, HashKvRequest { revision: revision.0 })
    }

    /// Has this member, which leads, hand the leadership over to that one.
    ///
    /// # Errors
    ///
    /// [`NotLeader`](crate::EtcdError::NotLeader) where this member does not lead:
    /// [`Maintenance::status`] names who does. And
    /// [`BadLeaderTransferee`](crate::EtcdError::BadLeaderTransferee) where the other is no
    /// member with a vote.
    pub fn move_leader(&self, to: MemberId) -> MoveLeader<'a> {
        self.call(&method::MOVE_LEADER, MoveLeaderRequest { target_id: to.0 })
    }

    pub(super) fn call<M, R>(&self, method: &'static Method, request: M) -> Unary<'a, M, R> {
        let options = CallOptions::to(self.addressee.clone());
        Unary::new(self.client, method, request, options)
    }
}
