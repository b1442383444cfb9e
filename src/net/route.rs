//! A live connection, as a call needs it.

use std::fmt;
use std::sync::Arc;

use h2::client::SendRequest;

use super::endpoint::Endpoint;
use super::pulse::Pulse;
use crate::core::pool::{ConnectionId, EndpointId};
use crate::wire::Body;

/// A live connection to an endpoint: calls and streams that are given the same
/// route share it, and so see one member's view of the store.
#[derive(Clone)]
pub struct Route {
    pub(super) id: ConnectionId,
    pub(super) endpoint_id: EndpointId,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(super) sender: SendRequest<Body>,
    pub(super) pulse: Arc<Pulse>,
}

impl Route {
    /// The address of the endpoint that the connection goes to.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.endpoint.name()
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("endpoint", &self.endpoint).field("id", &self.id.0).finish()
    }
}
