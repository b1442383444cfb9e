//! The cluster service: who is a member, and changes of that.

use super::Client;
use super::unary::Unary;
use crate::net::call_options::CallOptions;
use crate::pb::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse,
};
use crate::types::MemberId;
use crate::wire::method::cluster as method;

/// The members of the cluster, as [`Client::members`] gives them. A change is agreed on by a
/// quorum, one at a time, and needs the role `root` where authentication is enabled.
///
/// A new member is added first as a learner, which has no vote and so takes none from the
/// quorum while it catches up, and is promoted once it has.
///
/// ```no_run
/// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
/// use tenure::MemberId;
///
/// let answer = client.members().add(["http://10.0.0.4:2380"]).learner().await?;
/// let added = answer.member.map(|member| MemberId(member.id)).unwrap_or_default();
/// println!("start it now; it is member {added}");
/// // .. once it runs and has caught up:
/// client.members().promote(added).await?;
/// # Ok(())
/// # }
/// ```
///
/// The client's own endpoints are as they were:
/// [`Endpoints::sync`](super::Endpoints::sync) asks for them anew.
#[derive(Clone, Copy, Debug)]
pub struct Members<'a> {
    client: &'a Client,
}

/// A list of the members to await, as [`Members::list`] makes it.
pub type MemberList<'a> = Unary<'a, MemberListRequest, MemberListResponse>;
/// A member to add, as [`Members::add`] makes it.
pub type MemberAdd<'a> = Unary<'a, MemberAddRequest, MemberAddResponse>;
/// A change of a member to await, as [`Members::update`] makes it.
pub type MemberUpdate<'a> = Unary<'a, MemberUpdateRequest, MemberUpdateResponse>;
/// A member to remove, as [`Members::remove`] makes it.
pub type MemberRemove<'a> = Unary<'a, MemberRemoveRequest, MemberRemoveResponse>;
/// A learner to promote, as [`Members::promote`] makes it.
pub type MemberPromote<'a> = Unary<'a, MemberPromoteRequest, MemberPromoteResponse>;

impl Client {
    /// The members of the cluster, to look at and to change.
    #[must_use]
    pub fn members(&self) -> Members<'_> {
        Members { client: self }
    }
}

impl<'a> Members<'a> {
    /// Lists the members, learners too. Linearizable unless it says otherwise (since etcd 3.5;
    /// a server of 3.4 always answers from what it has). A member that was added and has not
    /// started yet has no name and no client URLs.
    pub fn list(&self) -> MemberList<'a> {
        let request = MemberListRequest { linearizable: true };
        self.call(&method::MEMBER_LIST, request)
    }

    /// Adds a member that its peers reach at these URLs. It is to be started after that, with
    /// `--initial-cluster-state=existing`. The answer has its ID and all members.
    ///
    /// # Errors
    ///
    /// [`InvalidMemberUrls`](crate::EtcdError::InvalidMemberUrls),
    /// [`PeerUrlsExist`](crate::EtcdError::PeerUrlsExist), or
    /// [`MemberExists`](crate::EtcdError::MemberExists) within the same second,
    /// [`TooManyLearners`](crate::EtcdError::TooManyLearners) above one by default; and so that
    /// the quorum is not lost, [`Unhealthy`](crate::EtcdError::Unhealthy) and
    /// [`MemberNotEnoughStarted`](crate::EtcdError::MemberNotEnoughStarted).
    pub fn add<U: Into<String>>(&self, peer_urls: impl IntoIterator<Item = U>) -> MemberAdd<'a> {
        let request = MemberAddRequest {
            peer_urls: peer_urls.into_iter().map(Into::into).collect(),
            is_learner: false,
        };
        self.call(&method::MEMBER_ADD, request)
    }

    /// Has the peers reach a member at these URLs from now on.
    ///
    /// # Errors
    ///
    /// [`MemberNotFound`](crate::EtcdError::MemberNotFound), and for the URLs as
    /// [`Members::add`].
    pub fn update<U: Into<String>>(
        &self,
        id: MemberId,
        peer_urls: impl IntoIterator<Item = U>,
    ) -> MemberUpdate<'a> {
        let request = MemberUpdateRequest {
            id: id.0,
            peer_urls: peer_urls.into_iter().map(Into::into).collect(),
        };
        self.call(&method::MEMBER_UPDATE, request)
    }

    /// Removes a member for good: its server stops. The same server comes back only as a new
    /// member without its data.
    ///
    /// # Errors
    ///
    /// [`MemberNotFound`](crate::EtcdError::MemberNotFound); and so that the quorum is not
    /// lost, [`Unhealthy`](crate::EtcdError::Unhealthy) and
    /// [`MemberNotEnoughStarted`](crate::EtcdError::MemberNotEnoughStarted).
    pub fn remove(&self, id: MemberId) -> MemberRemove<'a> {
        self.call(&method::MEMBER_REMOVE, MemberRemoveRequest { id: id.0 })
    }

    /// Gives a learner its vote. Since etcd 3.4.
    ///
    /// # Errors
    ///
    /// [`MemberNotFound`](crate::EtcdError::MemberNotFound),
    /// [`LearnerNotReady`](crate::EtcdError::LearnerNotReady) until it has caught up; and either
    /// that or [`MemberNotLearner`](crate::EtcdError::MemberNotLearner) where it has its vote.
    pub fn promote(&self, id: MemberId) -> MemberPromote<'a> {
        self.call(&method::MEMBER_PROMOTE, MemberPromoteRequest { id: id.0 })
    }

    fn call<M, R>(&self, method: &'static crate::wire::Method, request: M) -> Unary<'a, M, R> {
        Unary::new(self.client, method, request, CallOptions::default())
    }
}

impl MemberList<'_> {
    /// Answered by the member that is asked, from what it has: also without a leader, and
    /// possibly stale.
    pub fn serializable(mut self) -> Self {
        self.request.linearizable = false;
        self.options.is_local = true;
        self
    }
}

impl MemberAdd<'_> {
    /// As a learner, which has no vote until it is promoted. Since etcd 3.4.
    pub fn learner(mut self) -> Self {
        self.request.is_learner = true;
        self
    }
}
