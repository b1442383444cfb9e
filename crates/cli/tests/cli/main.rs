//! The command as it is started, on real servers.

#[path = "../../../../tests/tls/authority.rs"]
#[allow(dead_code, reason = "the library's tests want more of it")]
mod authority;
mod bench;
mod connection;
mod etcdctl;
mod golden;
mod input;
mod lock;
mod queue;
mod run;
mod signals;
mod status;
mod terminal;
mod tls;
mod usage;
