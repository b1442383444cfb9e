//! What the tests here share: servers, clocks, patience and chance.

use std::future::Future;
use std::time::Duration;

use fastrand::Rng;
use rustix::time::{ClockId, clock_gettime};
use tenure::Client;
use tenure_etcd::{Binary, Cluster, Options};
use tokio::runtime::{Builder, Runtime};

/// Long enough that nothing runs out by itself.
pub(crate) const TTL: Duration = Duration::from_secs(60);
/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

pub(crate) fn binary() -> Binary {
    Binary::find().expect("an etcd")
}

pub(crate) fn cluster(members: usize, options: Options) -> Cluster {
    Cluster::start(&binary(), members, options).expect("a cluster")
}

pub(crate) async fn client(cluster: &Cluster) -> Client {
    Client::connect(cluster.endpoints()).await.expect("a client")
}

pub(crate) async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    let bounded = tokio::time::timeout(PATIENCE, future).await;
    bounded.unwrap_or_else(|_| panic!("{what} has not happened"))
}

/// The boot clock, in nanoseconds: the same for every process of this machine.
pub(crate) fn now() -> u64 {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: ClockId = ClockId::Monotonic;

    let time = clock_gettime(CLOCK);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

pub(crate) fn up_to(dice: &mut Rng, most: Duration) -> Duration {
    Duration::from_micros(dice.u64(..=most.as_micros() as u64))
}
