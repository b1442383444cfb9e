//! The client's decisions as machines without IO. They name no socket, task,
//! clock or source of chance: time is a parameter, so they are tested with
//! scripted inputs, fuzzed and simulated.
//!
//! One grammar for all: `handle_<event>(now, ..)` takes an input,
//! `poll_action()` is drained after each input, `poll_timeout()` says when to
//! come back, and `check()` asserts the invariants.

pub mod auth;
pub mod backoff;
pub mod breaker;
pub mod double_barrier;
pub mod election;
pub mod grants;
pub mod histogram;
pub mod jitter;
pub mod lease;
pub mod list_watch;
pub mod lock;
pub mod mirror;
pub mod monotonic;
pub mod namespace;
pub mod ping;
pub mod pool;
pub mod queue;
pub mod retry;
pub mod stm;
pub mod time;
pub mod view;
pub mod watch;

mod slot_heap;
