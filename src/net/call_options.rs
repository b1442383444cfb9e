//! What one call asks for beyond the client's configuration.

use std::time::Duration;

use super::route::Route;
use crate::core::pool::Class;

/// The options of one call.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) route: Option<Route>,
    /// A second time changes nothing, the caller says.
    pub(crate) idempotent: bool,
    pub(crate) class: Class,
    /// The member answers from what it has: it needs no leader for that.
    pub(crate) is_local: bool,
    /// Goes without a token, to ask for one.
    pub(crate) is_anonymous: bool,
}

impl CallOptions {
    /// For calls that are small, and that somebody's lease hangs on.
    pub(crate) fn control() -> CallOptions {
        CallOptions {
            class: Class::Control,
            ..CallOptions::default()
        }
    }
}
