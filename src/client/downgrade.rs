//! A downgrade of the cluster to the release before.

use super::Client;
use super::unary::Unary;
use crate::net::call_options::CallOptions;
use crate::pb::etcdserverpb::downgrade_request::DowngradeAction;
use crate::pb::etcdserverpb::{DowngradeRequest, DowngradeResponse};
use crate::wire::method::maintenance as method;

/// A downgrade of the cluster, as [`Client::downgrade`] gives it. Since etcd 3.5, and complete
/// since 3.6; with `root` where authentication is enabled.
///
/// Once it is enabled the members are replaced by those of the older release, one after the
/// other; it is over when the last one was. Each answer has the cluster's version.
#[derive(Clone, Copy, Debug)]
pub struct Downgrade<'a> {
    client: &'a Client,
}

/// A step of a downgrade to await, as [`Downgrade`] makes it.
pub type DowngradeStep<'a> = Unary<'a, DowngradeRequest, DowngradeResponse>;

impl Client {
    /// A downgrade of the cluster.
    #[must_use]
    pub fn downgrade(&self) -> Downgrade<'_> {
        Downgrade { client: self }
    }
}

impl<'a> Downgrade<'a> {
    /// Asks whether the cluster can go down to a version such as `3.6.0`, which is one minor
    /// version below its own.
    ///
    /// # Errors
    ///
    /// [`WrongDowngradeVersionFormat`](crate::EtcdError::WrongDowngradeVersionFormat),
    /// [`InvalidDowngradeTargetVersion`](crate::EtcdError::InvalidDowngradeTargetVersion),
    /// [`DowngradeInProgress`](crate::EtcdError::DowngradeInProgress).
    pub fn validate(&self, version: impl Into<String>) -> DowngradeStep<'a> {
        self.call(DowngradeAction::Validate, version.into()).idempotent()
    }

    /// Begins it.
    ///
    /// # Errors
    ///
    /// As [`Downgrade::validate`].
    pub fn enable(&self, version: impl Into<String>) -> DowngradeStep<'a> {
        self.call(DowngradeAction::Enable, version.into())
    }

    /// Gives it up: members of the older release are to be replaced again.
    ///
    /// # Errors
    ///
    /// [`NoDowngradeInProgress`](crate::EtcdError::NoDowngradeInProgress), which some releases
    /// do not say.
    pub fn cancel(&self) -> DowngradeStep<'a> {
        self.call(DowngradeAction::Cancel, String::new())
    }

    fn call(&self, action: DowngradeAction, version: String) -> DowngradeStep<'a> {
        let request = DowngradeRequest {
            action: action.into(),
            version,
        };
        Unary::new(self.client, &method::DOWNGRADE, request, CallOptions::default())
    }
}
