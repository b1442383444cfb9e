//! What both kinds of tests need: a client of the shared server, the boot clock,
//! and patience.

use std::future::Future;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tenure::{Client, KeyRange, Session};
use tokio::runtime::{Builder, Runtime};

use crate::environment::number;

/// What the processes that are stopped ask for; a server grants no less.
pub(crate) const TTL: Duration = Duration::from_secs(2);
/// What those ask for that die, and hold until then also where the machine stands still for a while.
pub(crate) const TTL_OF_HOLDER: Duration = Duration::from_secs(5);
/// For sessions of this process, which nothing stops.
const TTL_LONG: Duration = Duration::from_secs(60);
/// How many processes are paused at a time.
const PROCESSES: u64 = 25;

/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// How many processes are paused at a time, each at a time of its own.
pub(crate) fn processes() -> u64 {
    number("TENURE_PAUSE_PROCESSES").unwrap_or(PROCESSES).max(1)
}

pub(crate) fn endpoint() -> String {
    tenure_etcd::shared().endpoints().remove(0)
}

/// A session of this process, on a connection of its own.
pub(crate) async fn session() -> Session {
    let client = Client::connect([endpoint()]).await.expect("a client");
    client.session().ttl(TTL_LONG).await.expect("a session")
}

pub(crate) async fn until_queue_is(client: &Client, name: &str, length: i64) {
    patiently(&format!("a queue of {length}"), async {
        let queue = || client.get(KeyRange::prefix(format!("{name}/"))).count_only();
        while queue().await.expect("a count").count != length {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub(crate) async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    let bounded = tokio::time::timeout(PATIENCE, future).await;
    bounded.unwrap_or_else(|_| panic!("{what} has not happened"))
}

/// The boot clock, which all processes of a machine share, in nanoseconds.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// As random as a test needs it (Marsaglia's xorshift), from a seed but zero.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A time up to `longest`, in whole microseconds.
    pub(crate) fn duration(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.roll() % (longest.as_micros() as u64 + 1))
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The lowest bits of the first roll of a small seed are not random.
        self.0 >> 11
    }
}
