//! Real etcd servers for tests, examples and benchmarks: found, built,
//! started, frozen and killed.
//!
//! ```no_run
//! use tenure_etcd::{Binary, Cluster, Options};
//!
//! # fn main() -> Result<(), tenure_etcd::Error> {
//! let binary = Binary::find()?;
//! let cluster = Cluster::start(&binary, 3, Options::default())?;
//! let endpoints = cluster.endpoints();
//! let leader = cluster.leader_index()?;
//! cluster.member(leader).pause()?;
//! // A client of `endpoints` has to get along with the other two.
//! cluster.member(leader).resume()?;
//! # drop(endpoints);
//! # Ok(())
//! # }
//! ```
//!
//! It owns the processes and their directories, and knows nothing of the
//! client that is tested: it speaks just enough HTTP/1.1 to ask a server how
//! it is. Servers of other kinds, to compare etcd with, are a [`Daemon`] of a
//! [`Package`]. Unix only.
//!
//! # Blocking
//!
//! All of it blocks. Signals return within milliseconds; starting a server
//! and waiting for it takes a second or less, three of them a few. A test on
//! tokio may simply call it: on the current-thread runtime its other tasks
//! stand still meanwhile, and where that matters `spawn_blocking` is for it.
//! Only what finds a [`Binary`] may take minutes, the first time on a machine.
//!
//! # Environment
//!
//! - `TENURE_ETCD`: the path of an etcd to use.
//! - `TENURE_ETCD_LINE`: the line to test with, such as `3.5`.
//! - `TENURE_CACHE`: where built servers are kept; else
//!   `$XDG_CACHE_HOME/tenure`, else `~/.cache/tenure`.

#![forbid(unsafe_code)]

mod apt;
mod binary;
mod cache;
mod cluster;
mod daemon;
mod distribution;
mod error;
mod golang;
mod guard;
mod http;
mod member;
mod port;
mod program;
mod version;

use std::io::Write;
use std::sync::OnceLock;

pub use binary::Binary;
pub use cluster::{Cluster, Options};
pub use daemon::Daemon;
pub use distribution::Package;
pub use error::Error;
pub use member::Member;
pub use program::GoProgram;
pub use version::{Line, Version};

/// One server for all tests of this process, started by the first that asks.
///
/// What a test does to it, all see: use keys of your own, and a cluster of
/// your own to kill or pause.
///
/// # Panics
///
/// There is no etcd, or it does not start: then every test that needs it fails,
/// with the same reason.
#[must_use]
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Result<Cluster, Error>> = OnceLock::new();
    let shared = SHARED
        .get_or_init(|| Binary::find().and_then(|binary| Cluster::start(&binary, 1, Options::default())));
    match shared {
        Ok(cluster) => cluster,
        Err(cause) => panic!("{cause}"),
    }
}

/// Tells whoever waits why, also from within a test, whose own output is kept back.
fn notice(text: &str) {
    let _ = writeln!(std::io::stderr(), "tenure-etcd: {text}");
}
