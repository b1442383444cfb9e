//! The election service that servers run themselves, call by call. This crate's own elections
//! ([`Session::election`](crate::Session::election)) share the candidates with it.

use std::fmt;

use bytes::Bytes;

use super::Client;
use super::answers::Answers;
use super::unary::Unary;
use crate::error::Error;
use crate::net::call_options::CallOptions;
use crate::pb::mvccpb::KeyValue;
use crate::pb::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use crate::types::LeaseId;
use crate::wire::method::election as method;

/// The server's own election service, as [`Client::election_service`] gives it.
///
/// For programs that have to do as others do that use it: it tells nobody that the lease has
/// ended.
#[derive(Clone, Copy, Debug)]
pub struct ElectionService<'a> {
    client: &'a Client,
}

/// A candidacy to await, as [`ElectionService::campaign`] makes it.
pub type ServiceCampaign<'a> = Unary<'a, CampaignRequest, CampaignResponse>;
/// A proclamation to await, as [`ElectionService::proclaim`] makes it.
pub type ServiceProclaim<'a> = Unary<'a, ProclaimRequest, ProclaimResponse>;
/// A question to await, as [`ElectionService::leader`] makes it.
pub type ServiceLeader<'a> = Unary<'a, LeaderRequest, LeaderResponse>;
/// A resignation to await, as [`ElectionService::resign`] makes it.
pub type ServiceResign<'a> = Unary<'a, ResignRequest, ResignResponse>;

impl Client {
    /// The election service that the server runs.
    #[must_use]
    pub fn election_service(&self) -> ElectionService<'_> {
        ElectionService { client: self }
    }
}

impl<'a> ElectionService<'a> {
    /// Waits until it leads, in line with the other candidates. The answer has the proof of
    /// leadership, which lasts until it resigns or the lease ends.
    ///
    /// As for its time, and what becomes of it when it is dropped, it is like
    /// [`LockService::lock`](super::LockService::lock).
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](crate::EtcdError::LeaseNotFound).
    pub fn campaign(
        &self,
        name: impl Into<Bytes>,
        lease: LeaseId,
        value: impl Into<Bytes>,
    ) -> ServiceCampaign<'a> {
        let request = CampaignRequest {
            name: name.into(),
            lease: lease.0,
            value: value.into(),
        };
        Unary::new(self.client, &method::CAMPAIGN, request, CallOptions::control())
    }

    /// Says another value while it leads.
    ///
    /// # Errors
    ///
    /// "election: session expired", where it leads no more.
    pub fn proclaim(&self, leader: LeaderKey, value: impl Into<Bytes>) -> ServiceProclaim<'a> {
        let request = ProclaimRequest {
            leader: Some(leader),
            value: value.into(),
        };
        Unary::new(self.client, &method::PROCLAIM, request, CallOptions::control())
    }

    /// The key and the value of whoever leads.
    ///
    /// # Errors
    ///
    /// "election: no leader".
    pub fn leader(&self, name: impl Into<Bytes>) -> ServiceLeader<'a> {
        let request = LeaderRequest { name: name.into() };
        Unary::new(self.client, &method::LEADER, request, CallOptions::control())
    }

    /// Lets the next candidate lead. It is no error where it leads no more.
    pub fn resign(&self, leader: LeaderKey) -> ServiceResign<'a> {
        let request = ResignRequest { leader: Some(leader) };
        Unary::new(self.client, &method::RESIGN, request, CallOptions::control())
    }

    /// Whoever leads, and then each who does after that, and each value that is proclaimed.
    /// Nothing is sent before the first one is asked for.
    pub fn observe(&self, name: impl Into<Bytes>) -> LeaderStream {
        let request = LeaderRequest { name: name.into() };
        LeaderStream {
            answers: Answers::new(
                self.client.clone(),
                &method::OBSERVE,
                request,
                CallOptions::control(),
            ),
        }
    }
}

/// The leaders of an election, as [`ElectionService::observe`] gives them. It ends with the connection:
/// what goes on is [`Election::observe`](crate::Election::observe).
pub struct LeaderStream {
    answers: Answers<LeaderRequest, LeaderResponse>,
}

impl LeaderStream {
    /// The key and the value of the next leader, or of the same one with another value. It waits for
    /// as long as there is none.
    ///
    /// # Errors
    ///
    /// Why the stream is over. It is not to be asked again after that.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it has taken none.
    pub async fn next(&mut self) -> Result<KeyValue, Error> {
        loop {
            if let Some(kv) = self.answers.next_of_endless().await?.kv {
                return Ok(kv);
            }
        }
    }
}

impl fmt::Debug for LeaderStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaderStream").finish_non_exhaustive()
    }
}
