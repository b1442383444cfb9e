//! An etcd in memory, for tests, examples and simulation.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let server = tenure_testserver::Server::start().await?;
//! println!("an etcd at {}", server.endpoint());
//! # Ok(())
//! # }
//! ```
//!
//! It speaks etcd's gRPC protocol on a loopback port or on a pipe in memory, and
//! behaves as one member of etcd 3.6 does: key-value history with compaction, nested
//! transactions, leases that expire, watches with their synced and unsynced sets, and
//! etcd's own error texts. It has KV, Watch, Lease, and of Cluster and
//! Maintenance what a client asks first; any other method is UNIMPLEMENTED.
//!
//! It keeps nothing, checks nobody's identity and is one member alone: real work
//! runs on an etcd cluster. It shares no code with the client, so that one
//! mistake is not made on both sides.
//!
//! ```text
//!   store, lease, watch  <-  etcd  <-  service  <-  server
//!   pure: no IO, no clock    one state   bytes in,     HTTP/2, tasks,
//!                                        bytes out     tokio's clock
//! ```
//!
//! Time is tokio's clock: a runtime whose clock is paused drives it in a simulation.

#![forbid(unsafe_code)]

mod error;
mod etcd;
mod faults;
mod lease;
mod pb;
mod server;
mod service;
mod store;
mod watch;

pub use etcd::Options;
pub use faults::{Fault, Faults};
pub use server::Server;
