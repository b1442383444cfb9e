//! Whether members serve: what they say of themselves, and a read that only a quorum answers.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use super::answers::Answers;
use super::{Call, Client, Maintenance};
use crate::error::{Code, Error, EtcdError};
use crate::net::call_options::{Addressee, CallOptions};
use crate::net::race::{all, both};
use crate::pb::etcdserverpb::{RangeRequest, RangeResponse};
use crate::pb::health::health_check_response::ServingStatus;
use crate::pb::health::{HealthCheckRequest, HealthCheckResponse};
use crate::wire::method::{health, kv};

/// Need not exist. etcdctl reads it for the same purpose.
const KEY: &[u8] = b"health";

/// How a member does, as [`Client::health`] tells.
#[derive(Debug)]
#[non_exhaustive]
pub struct Health {
    /// The address of the member.
    pub endpoint: String,
    /// What it says of itself by gRPC's health service (`grpc.health.v1`): false while etcd is being
    /// defragmented, where it was told to refuse calls then. `None` where it offers no such
    /// service, or said nothing in time.
    pub serving: Option<bool>,
    /// Why a linearizable read failed there; none where it was answered, which takes a leader and a
    /// quorum that this member reaches. A learner refuses such reads
    /// ([`NotSupportedForLearner`](EtcdError::NotSupportedForLearner)).
    pub error: Option<Error>,
}

impl Health {
    /// Whether it serves, with a quorum behind it.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.error.is_none() && self.serving != Some(false)
    }
}

impl Client {
    /// Asks every endpoint how it does, all at the same time, in the order of
    /// [`Endpoints::list`](super::Endpoints::list). What has not answered `within` this time is not healthy.
    ///
    /// A user without any permission may ask too.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) {
    /// use std::time::Duration;
    ///
    /// for member in client.health(Duration::from_secs(2)).await {
    ///     println!("{}: {}", member.endpoint, member.is_healthy());
    /// }
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn health(&self, within: Duration) -> Vec<Health> {
        let addressees = self.channel().addressees().into_iter();
        all(addressees.map(|addressee| Box::pin(self.health_of(addressee, within)))).await
    }

    async fn health_of(&self, addressee: Addressee, within: Duration) -> Health {
        let endpoint = addressee.name().to_owned();
        let options = CallOptions {
            timeout: Some(within),
            ..CallOptions::to(addressee)
        };
        let question = HealthCheckRequest::default();
        let check = self.channel().unary(&health::CHECK, &question, options.clone());
        let check: Call<HealthCheckResponse> = check;
        let range = RangeRequest {
            key: KEY.into(),
            keys_only: true,
            ..RangeRequest::default()
        };
        let read: Call<RangeResponse> = self.channel().unary(&kv::RANGE, &range, options);
        let (check, read) = both(pin!(check), pin!(read)).await;
        let serving = check.map(|answer| answer.status() == ServingStatus::Serving);
        Health {
            endpoint,
            serving: serving.ok(),
            error: read.err().filter(|error| !is_answer(error)),
        }
    }
}

impl Maintenance<'_> {
    /// How this member does; see [`Client::health`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn health(&self, within: Duration) -> Health {
        self.client.health_of(self.addressee.clone(), within).await
    }

    /// What this member says of itself by gRPC's health service, now and whenever that changes.
    /// Nothing is sent before the first word is asked for.
    #[must_use]
    pub fn watch_health(&self) -> HealthStream {
        HealthStream {
            answers: Answers::new(
                self.client.clone(),
                &health::WATCH,
                HealthCheckRequest::default(),
                CallOptions::to(self.addressee.clone()),
            ),
        }
    }
}

/// Whether a member serves, as [`Maintenance::watch_health`] gives it. It ends with the connection.
pub struct HealthStream {
    answers: Answers<HealthCheckRequest, HealthCheckResponse>,
}

impl HealthStream {
    /// Whether the member serves: at once the first time, and then when it is another word than
    /// the one before. It waits for as long as that takes.
    ///
    /// # Errors
    ///
    /// Why the stream is over: the member is gone, or [`Code::Unimplemented`] where it has no such
    /// service. It is not to be asked again after that.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it has taken no word.
    pub async fn next(&mut self) -> Result<bool, Error> {
        Ok(self.answers.next_of_endless().await?.status() == ServingStatus::Serving)
    }
}

impl fmt::Debug for HealthStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthStream").finish_non_exhaustive()
    }
}

/// A server that says who may not read has had its quorum's word before.
fn is_answer(error: &Error) -> bool {
    error.etcd() == Some(EtcdError::PermissionDenied) && error.code() == Code::PermissionDenied
}
