//! TLS: against a real etcd where that can produce the failure, and against a
//! scripted server for what no etcd does.

mod authority;
mod etcd;
mod scripted;
