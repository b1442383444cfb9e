//! An etcd v3 client on raw HTTP/2, and a fast, correct distributed lock on top.
//!
//! A [`Client`] is a cheap clone over HTTP/2 connections to all endpoints. Its
//! calls are builders that are awaited directly. A [`Session`] is a lease that is
//! kept alive; a [`Mutex`] made from it is a fair lock among all processes that
//! use the same etcd, and its [`Guard`] carries a fencing [`Token`].
//!
//! ```no_run
//! # async fn example() -> Result<(), tenure::Error> {
//! use tenure::Client;
//!
//! let client = Client::connect(["http://127.0.0.1:2379"]).await?;
//! client.put("greeting", "hello").await?;
//!
//! let session = client.session().await?;
//! let guard = session.mutex("jobs/nightly").lock().await?;
//! println!("holding it with token {}", guard.token());
//!
//! // Written only if the lock is still ours in etcd itself.
//! guard.fenced().put("result", "42").await?;
//! guard.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Guides
//!
//! | | |
//! |---|---|
//! | [Locks and fencing](guide::locks) | what a lock promises, which recipe, which options |
//! | [Failover and deadlines](guide::failover) | what is sent again, what goes on by itself, how to read an error |
//! | [Observability](guide::observability) | what to watch, names of metrics, alert rules, tracing |
//! | [Testing](guide::testing) | a program on the etcd in memory, with faults and a clock |
//! | [Constrained machines](guide::constrained) | features, bounds on memory, size |
//! | [Fuzzing](guide::fuzzing) | etcd, with raw calls |
//! | [Coming from another client](guide::coming_from) | etcd-client, Go's clientv3, Redisson, Curator |
//!
//! `examples/` in the repository has a program for each task.
//!
//! # Features
//!
//! | | default | |
//! |---|---|---|
//! | `tls` | yes | `https` and `unixs` endpoints, on rustls with ring |
//! | `snapshot` | yes | snapshots of a member's database, their checksum verified |
//! | `srv` | no | endpoints from DNS SRV records |
//! | `metrics` | no | what a client counts, published to the `metrics` facade ([guide](guide::observability)) |
//! | `tracing` | no | a span for each call, events for what becomes of a client |
//! | `unstable` | no | raw calls and simulation; exempt from semantic versioning |
//!
//! # Errors
//!
//! There is one [`Error`]. It says whose fault it is, what etcd said, which
//! endpoint was asked, and whether a write may have been applied: such a write of
//! yours is never sent again by this crate, unless you marked it as idempotent.
//!
//! # Cancel safety
//!
//! Every future may be dropped at any await. A call that is dropped resets its
//! stream; what it asked for may have happened. A lock that is dropped while it is
//! being acquired or released is given back in the background.
//!
//! # Runtime
//!
//! tokio, with IO and time enabled; one thread is enough. Dropping the last handle
//! ends the tasks behind it.
//!
//! # What this is not
//!
//! No client for etcd v2, no other runtime than tokio, no general gRPC client, and
//! no substitute for the fence: no lock can protect a resource that knows no token.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod client;
pub mod concurrency;
pub mod config;
pub mod error;
mod net;
pub mod pb;
pub mod types;
pub mod wire;

#[doc(hidden)]
pub mod core;

#[cfg(feature = "metrics")]
pub use client::Metrics;
pub use client::{
    Batch, BatchKind, Cache, Call, Client, Compare, Dial, Dialing, Endpoint, Event, Health, Io, Latencies,
    Lease, LeaseEnd, ListWatch, ListWatchEnd, Mirror, MirrorEnd, MirrorProgress, Op, RangeStream, Route,
    Scheme, Seen, StateEvent, StateEvents, Telemetry, Txn, Update, Watch, WatchEnd,
};
#[cfg(feature = "unstable")]
pub use client::{RawAnswer, RawCall};
pub use concurrency::{
    Barrier, Committed, Consumer, DoubleBarrier, Election, FencedWrites, Guard, Held, Hold, Inside,
    Isolation, Job, Latch, Leader, Leadership, LockEntry, Lost, ManagedSession, MultiGuard, MultiLock, Mutex,
    Observe, Permits, Queue, ReadGuard, Reentrant, ReentrantGuard, Replaced, RwLock, Semaphore, Session, Stm,
    Token, Transaction, WriteGuard,
};
#[cfg(feature = "tls")]
pub use config::Tls;
pub use config::{Auth, Config};
#[cfg(feature = "tls")]
pub use error::TlsFailure;
pub use error::{Code, Delivery, Error, EtcdError, Origin, Stale};
#[cfg(feature = "unstable")]
pub use net::simulation::Simulation;
pub use types::{KeyRange, LeaseId, MemberId, Revision, WatchId};

/// The guides, as they are in `docs/` of the repository. There is nothing in here to call.
#[cfg(any(doc, doctest))]
pub mod guide {
    #[doc = include_str!("../docs/coming-from.md")]
    pub mod coming_from {}
    #[doc = include_str!("../docs/constrained.md")]
    pub mod constrained {}
    #[doc = include_str!("../docs/failover.md")]
    pub mod failover {}
    #[doc = include_str!("../docs/fuzzing.md")]
    pub mod fuzzing {}
    #[doc = include_str!("../docs/locks.md")]
    pub mod locks {}
    #[doc = include_str!("../docs/observability.md")]
    pub mod observability {}
    #[doc = include_str!("../docs/testing.md")]
    pub mod testing {}
}

/// The examples of the front page compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
