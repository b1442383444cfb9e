//! The messages of etcd's API and of gRPC's health service: data, no behaviour.
//!
//! Generated from `proto/` and committed; `cargo build --features codegen`
//! renews them, and a test fails when they are stale. Every `bytes` field is a
//! [`bytes::Bytes`] that shares the buffer its message was received in: a key
//! that is kept keeps the whole message in memory. By hand are only `header.rs`
//! (what is read off a response header) and `redacted.rs` (`Debug` without
//! passwords and tokens).

mod header;
mod redacted;

// The generated files keep the formatting of the generator.

/// Users, roles and permissions.
#[rustfmt::skip]
pub mod authpb;
/// Requests and responses of etcd's own services.
#[rustfmt::skip]
pub mod etcdserverpb;
/// gRPC's health service, `grpc.health.v1`.
#[rustfmt::skip]
pub mod health;
/// Keys and events.
#[rustfmt::skip]
pub mod mvccpb;
/// The election service that a server runs.
#[rustfmt::skip]
pub mod v3electionpb;
/// The lock service that a server runs.
#[rustfmt::skip]
pub mod v3lockpb;
