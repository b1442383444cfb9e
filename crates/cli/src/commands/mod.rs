//! The commands, a file each: what they are told, what they do, and what they print.

pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod del;
pub(crate) mod dev;
pub(crate) mod elect;
pub(crate) mod get;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod member;
pub(crate) mod put;
pub(crate) mod snapshot;
pub(crate) mod status;
pub(crate) mod txn;
pub(crate) mod unlock;
pub(crate) mod watch;
pub(crate) mod who;
