//! The IO: connections, calls and streams on them, and the tasks that drive the
//! machines of `core`. Only here is anything dialled, spawned or slept.

mod addresses;
mod attempt;
mod auth;
pub(crate) mod call;
pub(crate) mod call_options;
pub(crate) mod channel;
pub(crate) mod clock;
pub(crate) mod connection;
pub(crate) mod dial;
pub(crate) mod endpoint;
pub(crate) mod feed;
pub(crate) mod figures;
mod heard;
pub(crate) mod host;
pub(crate) mod in_flight;
mod lease_driver;
pub(crate) mod lease_inbox;
pub(crate) mod lease_keeper;
pub(crate) mod lease_state;
mod lease_stream;
pub(crate) mod named;
mod pool;
mod pulse;
pub(crate) mod race;
#[cfg(feature = "unstable")]
mod raw;
mod resolver;
pub(crate) mod response;
pub(crate) mod route;
pub(crate) mod runtime;
#[cfg(feature = "unstable")]
pub(crate) mod simulation;
#[cfg(feature = "srv")]
pub(crate) mod srv;
pub(crate) mod state_event;
pub(crate) mod stream;
mod sync;
#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(crate) mod tokens;
pub(crate) mod trace;
pub(crate) mod view;
pub(crate) mod watch_driver;
mod watch_inbox;
mod watch_mailbox;
mod why;
mod wishes;
