//! An etcd v3 client on raw HTTP/2, and a fast, correct distributed lock on top.

#![forbid(unsafe_code)]

pub mod error;
pub mod pb;
pub mod types;
pub mod wire;

#[doc(hidden)]
pub mod core;

pub use error::{Code, Delivery, Error, EtcdError, Origin};
pub use types::{KeyRange, LeaseId, Revision, WatchId};
