//! What every test of faults needs: servers of its own, and patience.

use std::future::Future;
use std::time::Duration;

use tenure::{Client, KeyRange, Session};
use tenure_etcd::{Binary, Cluster, Options};
use tokio::runtime::{Builder, Runtime};

/// Long enough that nothing runs out by itself.
pub(crate) const TTL: Duration = Duration::from_secs(60);
/// Short, for what is to run out, and not before: a machine may stand still for two seconds.
pub(crate) const TTL_SHORT: Duration = Duration::from_secs(5);
/// A bound for what has to happen at last; nothing is measured with it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

pub(crate) fn cluster(members: usize) -> Cluster {
    cluster_with(members, Options::default())
}

pub(crate) fn cluster_with(members: usize, options: Options) -> Cluster {
    let binary = Binary::find().expect("an etcd");
    Cluster::start(&binary, members, options).expect("a cluster")
}

pub(crate) async fn client(cluster: &Cluster) -> Client {
    Client::connect(cluster.endpoints()).await.expect("a client")
}

pub(crate) async fn session(client: &Client, ttl: Duration) -> Session {
    client.session().ttl(ttl).await.expect("a session")
}

pub(crate) async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    let bounded = tokio::time::timeout(PATIENCE, future).await;
    bounded.unwrap_or_else(|_| panic!("{what} has not happened"))
}

/// Waits until no key is left in the queues whose names begin with `name`.
pub(crate) async fn until_empty(client: &Client, name: &str) {
    patiently("an empty queue", async {
        loop {
            let range = KeyRange::prefix(format!("{name}/"));
            if client.get(range).count_only().await.is_ok_and(|answer| answer.count == 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
