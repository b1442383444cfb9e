//! What one call asks for beyond the client's configuration.

use std::sync::Arc;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::route::Route;
use super::view::View;
use crate::core::pool::{Class, EndpointId};

/// The options of one call.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) route: Option<Route>,
    /// The member that it is for, and no other.
    pub(crate) addressee: Option<Addressee>,
    /// A second time changes nothing, the caller says.
    pub(crate) idempotent: bool,
    pub(crate) class: Class,
    /// The member answers from what it has: it needs no leader for that.
    pub(crate) is_local: bool,
    /// A part of something that has begun: not refused, however many calls are in flight.
    pub(crate) is_part: bool,
    /// Goes without a token, to ask for one.
    pub(crate) is_anonymous: bool,
    /// Through which the answer is seen.
    pub(crate) view: Option<Arc<View>>,
}

/// One of the client's endpoints, by name and by number: removed and added again, it is another.
#[derive(Clone, Debug)]
pub(crate) struct Addressee {
    pub(super) id: EndpointId,
    pub(super) endpoint: Arc<Endpoint>,
}

impl Addressee {
    /// Its address.
    pub(crate) fn name(&self) -> &str {
        self.endpoint.name()
    }
}

impl CallOptions {
    /// For calls that are small, and that somebody's lease hangs on.
    pub(crate) fn control() -> CallOptions {
        CallOptions {
            class: Class::Control,
            ..CallOptions::default()
        }
    }

    /// For calls to one member.
    pub(crate) fn to(addressee: Addressee) -> CallOptions {
        CallOptions {
            addressee: Some(addressee),
            ..CallOptions::default()
        }
    }

    /// Whether it has to find a place among the calls in flight. What leases, locks and tokens hang on
    /// does not, nor what an operator asks of one member: refused under load, they would make it worse.
    pub(super) fn is_counted(&self) -> bool {
        self.class == Class::Bulk && !self.is_part && self.addressee.is_none()
    }

    pub(super) fn only(&self) -> Option<EndpointId> {
        self.addressee.as_ref().map(|addressee| addressee.id)
    }
}
