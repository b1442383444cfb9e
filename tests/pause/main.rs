//! The lock while its holder's process stands still or dies: processes of their
//! own, stopped with SIGSTOP and killed with SIGKILL, on a real etcd.
//!
//! `TENURE_PAUSES` asks for more pauses, 10,000 say, and `TENURE_SEED` for others.
//! `TENURE_PAUSE_PROCESSES` says how many processes there are at a time.

mod child;
mod crashes;
mod pauses;
mod process;
mod record;
mod signals;
mod support;
