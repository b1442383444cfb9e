//! A server that one test at a time uses, so that what is left on it can be
//! counted: keys, leases and watches.

use std::future::{Future, ready};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use tenure::{Client, KeyRange};
use tenure_etcd::{Binary, Cluster};
use tenure_testserver::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{is_embedded, patiently, run};

/// How often a count is asked for until it is what it should be.
const POLL: Duration = Duration::from_millis(3);
/// The watches of a real etcd, in its metrics.
const WATCHES_METRIC: &str = "etcd_debugging_mvcc_watcher_total ";

/// The server of these tests, and what somebody who is no part of a test sees there.
pub(super) struct Etcd {
    server: &'static Kind,
    client: Client,
}

enum Kind {
    Embedded(Server),
    Real(Box<Cluster>),
}

/// Runs a test while no other of these uses the server.
pub(super) fn alone(body: impl AsyncFnOnce(Arc<Etcd>)) {
    static SERVER: OnceLock<Kind> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = SERVER.get_or_init(start);
    // Its connections come and go as the pool likes, so they are tasks of another runtime.
    let aside = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let aside = aside.expect("a runtime");
    let client = aside.block_on(Client::connect([server.endpoint()])).expect("a client");
    run(async { body(Arc::new(Etcd { server, client })).await });
}

fn start() -> Kind {
    if !is_embedded() {
        let binary = Binary::find().expect("an etcd");
        let cluster = Cluster::start(&binary, 1, tenure_etcd::Options::default()).expect("a server");
        return Kind::Real(Box::new(cluster));
    }
    let (started, server) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async move {
            started.send(Server::start().await.expect("a free port")).expect("a test waits");
            std::future::pending::<()>().await;
        });
    });
    Kind::Embedded(server.recv().expect("the server in memory starts"))
}

impl Kind {
    fn endpoint(&self) -> String {
        match self {
            Kind::Embedded(server) => server.endpoint().to_owned(),
            Kind::Real(cluster) => cluster.member(0).endpoint(),
        }
    }
}

impl Etcd {
    pub(super) fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) async fn until_keys(&self, prefix: &str, count: i64) {
        until(&format!("{count} keys below {prefix:?}"), count, || {
            self.keys(prefix)
        })
        .await;
    }

    pub(super) async fn until_leases(&self, count: usize) {
        until(&format!("{count} leases"), count, || self.leases()).await;
    }

    pub(super) async fn until_watches(&self, count: usize) {
        until(&format!("{count} watches"), count, || self.watches()).await;
    }

    async fn keys(&self, prefix: &str) -> i64 {
        let range = self.client.get(KeyRange::prefix(prefix.to_owned())).count_only();
        range.await.expect("a count").count
    }

    async fn leases(&self) -> usize {
        self.client.leases().await.expect("a list").leases.len()
    }

    async fn watches(&self) -> usize {
        match self.server {
            Kind::Embedded(server) => server.watch_count(),
            Kind::Real(_) => {
                let metrics = self.metrics().await.expect("the metrics");
                let mut lines = metrics.lines();
                let watches = lines.find_map(|line| line.strip_prefix(WATCHES_METRIC)).expect("a metric");
                watches.trim().parse::<f64>().expect("a number") as usize
            }
        }
    }

    async fn metrics(&self) -> std::io::Result<String> {
        let endpoint = self.endpoint();
        let mut stream = TcpStream::connect(endpoint.trim_start_matches("http://")).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// Waits until the runtime has no more tasks than it had.
pub(super) async fn until_tasks(count: usize) {
    until(&format!("{count} tasks or fewer"), true, || {
        ready(tasks() <= count)
    })
    .await;
}

pub(super) fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

async fn until<T: PartialEq, F: Future<Output = T>>(what: &str, wanted: T, count: impl Fn() -> F) {
    patiently(what, async {
        while count().await != wanted {
            tokio::time::sleep(POLL).await;
        }
    })
    .await;
}
