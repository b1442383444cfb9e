//! One body of tests for the client's API. It runs on whatever etcd the
//! environment names (`TENURE_ETCD_LINE`), or on the server in memory
//! (`TENURE_TEST_SERVER=embedded`), on the runtime that it names
//! (`TENURE_TEST_RUNTIME=current_thread`, else a multi-threaded one), and on clients that see everything,
//! a part of it (`TENURE_TEST_VIEW=namespace`), or nothing older than before (`monotonic`).

mod barrier;
mod breakers;
mod cache;
mod cancel;
mod delivery;
mod double_barrier;
mod election;
mod fenced;
mod hand_off;
mod health;
mod hold_at_most;
mod inherited;
mod kv;
mod late_copies;
mod lease;
mod linger;
mod list_watch;
mod lock;
mod lock_delay;
mod lock_use;
mod maintenance;
mod members;
#[cfg(feature = "snapshot")]
mod methods;
mod mirror;
mod monotonic;
mod multi;
mod namespace;
mod owner;
mod queue;
mod range_stream;
mod reentrant;
mod resume;
mod rwlock;
mod semaphore;
mod services;
mod sessions;
mod shedding;
#[cfg(feature = "snapshot")]
mod snapshot;
mod stm;
mod support;
mod telemetry;
mod txn;
mod users;
mod watch;
mod who;
