//! A cluster, a proxy before each member, and a load over them.

use std::time::Duration;

use tenure::{Client, Config};
use tenure_etcd::{Binary, Cluster, Options};
use tenure_proxy::Proxy;
use tokio::runtime::{Builder, Runtime};

use crate::ledger::Ledger;
use crate::load::Load;

/// Less than a member takes to be added.
const SYNC_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    /// By the index of the member.
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) load: Load,
    pub(crate) runtime: Runtime,
}

/// Plays a fault over and over before three members, under load, and settles the ledger.
pub(crate) fn play(fault: impl FnMut(&mut Stage, usize)) {
    let cluster = cluster(3);
    let proxies: Vec<Proxy> = cluster
        .endpoints()
        .iter()
        .map(|endpoint| Proxy::start(endpoint).expect("a proxy"))
        .collect();
    let endpoints: Vec<String> = proxies.iter().map(|proxy| proxy.endpoint().to_owned()).collect();
    play_over(cluster, proxies, &endpoints, &Config::new(), fault);
}

/// The same without proxies: the members are asked where they are.
pub(crate) fn play_synced(fault: impl FnMut(&mut Stage, usize)) {
    let cluster = cluster(3);
    let (endpoints, config) = (cluster.endpoints(), Config::new().sync_interval(SYNC_INTERVAL));
    play_over(cluster, Vec::new(), &endpoints, &config, fault);
}

fn play_over(
    cluster: Cluster,
    proxies: Vec<Proxy>,
    endpoints: &[String],
    config: &Config,
    mut fault: impl FnMut(&mut Stage, usize),
) {
    let runtime = runtime();
    let load = Load::start(&runtime, endpoints, config);
    let mut stage = Stage {
        cluster,
        proxies,
        load,
        runtime,
    };
    stage.load.goes_on("nothing has happened yet");
    for round in 0..rounds() {
        fault(&mut stage, round);
        stage.load.goes_on("all is well again");
    }
    stage.end();
}

impl Stage {
    pub(crate) fn leader(&self) -> usize {
        self.cluster.leader_index().expect("a leader")
    }

    /// One that does not lead, not the same in every round.
    pub(crate) fn follower(&self, round: usize) -> usize {
        (self.leader() + 1 + round % 2) % 3
    }

    fn end(self) {
        let ledger = self.load.stop(&self.runtime);
        self.cluster.wait_ready().expect("a cluster that is well again");
        settle(&self.runtime, &self.cluster, &ledger);
    }
}

/// Holds the ledger against the cluster, asked directly.
pub(crate) fn settle(runtime: &Runtime, cluster: &Cluster, ledger: &Ledger) {
    runtime.block_on(async {
        let server = Client::connect(cluster.endpoints()).await.expect("a client");
        ledger.settle(&server).await;
    });
}

pub(crate) fn cluster(members: usize) -> Cluster {
    let binary = Binary::find().expect("an etcd");
    Cluster::start(&binary, members, Options::default()).expect("a cluster")
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

pub(crate) fn rounds() -> usize {
    let rounds = std::env::var("TENURE_FAILOVER_ROUNDS");
    rounds.map_or(1, |text| text.parse().expect("a number of rounds"))
}
