//! The client against servers that break every protocol they speak: HTTP/2, HPACK,
//! gRPC, protobuf and etcd's own. Whatever they send, a call, a watch or a lease
//! ends in a typed error or goes on, in time, within 8 MiB, and nothing panics.
//!
//! Each table names where its cases are described. `--nocapture` prints the most
//! memory that a case held at a time.

mod bounds;
mod case;
mod etcd;
mod floods;
mod frames;
mod grpc;
mod h2spec;
mod hpack;
mod interop;
mod peer;
mod protobuf;
