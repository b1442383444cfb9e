//! The command as it is started, on real servers.

mod connection;
mod etcdctl;
mod golden;
mod lock;
mod queue;
mod run;
mod signals;
mod status;
mod terminal;
