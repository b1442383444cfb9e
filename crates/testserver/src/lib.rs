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
//! behaves as a member of etcd 3.6 does: key-value history with compaction, nested
//! transactions, leases that expire, watches with their synced and unsynced sets, and
//! etcd's own error texts. It has KV, Watch, Lease, and of Cluster and
//! Maintenance what a client asks first; any other method is UNIMPLEMENTED.
//!
//! It keeps nothing and checks nobody's identity: real work runs on an etcd
//! cluster. It shares no code with the client, so that one mistake is not made on
//! both sides.
//!
//! ```text
//!   store, lease, watch  <-  etcd  <-  service  <-  cluster  <-  server
//!   pure: no IO, no clock    one       bytes in,    leader and   HTTP/2, tasks,
//!                            state     bytes out    followers    the clock
//! ```
//!
//! # Time
//!
//! Time is tokio's clock: a runtime whose clock is paused, or simulated, drives leases,
//! etcd's loops and late faults. With [`Clock::ByHand`] it is a clock of its own that
//! stands still on any runtime until [`Server::advance`] moves it.
//!
//! # Members
//!
//! A server alone is a cluster of one. [`Server::add_follower`] gives it a [`Follower`]
//! with an endpoint of its own that applies writes as late as its [`Lag`] says, so that
//! reads and watches there see the past, and replay it as it catches up.
//!
//! # Faults
//!
//! [`Faults`] lose, delay and repeat messages of calls and streams, end them with a
//! status, and cut or freeze connections; each member has its own.

#![forbid(unsafe_code)]

mod clock;
mod cluster;
mod error;
mod etcd;
mod faults;
mod follower;
mod lease;
mod pb;
mod server;
mod service;
mod store;
mod watch;

pub use cluster::Lag;
pub use etcd::{Clock, Options};
pub use faults::{Fault, Faults, Late, Link};
pub use follower::Follower;
pub use server::Server;
