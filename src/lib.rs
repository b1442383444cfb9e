//! An etcd v3 client on raw HTTP/2, and a fast, correct distributed lock on top.

#![forbid(unsafe_code)]

pub mod client;
pub mod config;
pub mod error;
mod net;
pub mod pb;
pub mod types;
pub mod wire;

#[doc(hidden)]
pub mod core;

pub use client::{
    Batch, Call, Client, Compare, Dial, Dialing, Endpoint, Event, Io, Lease, LeaseEnd, Op, Route, Txn, Watch,
    WatchEnd,
};
pub use config::Config;
pub use error::{Code, Delivery, Error, EtcdError, Origin};
pub use types::{KeyRange, LeaseId, Revision, WatchId};
