//! A server that one test at a time uses, so that what is left on it can be
//! counted: keys, leases and watches.

use std::future::{Future, ready};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tenure::{Client, KeyRange};

use crate::support::{OwnServer, patiently, run};

/// How often a count is asked for until it is what it should be.
const POLL: Duration = Duration::from_millis(3);

/// The server of these tests, and what somebody who is no part of a test sees there.
pub(super) struct Etcd {
    server: &'static OwnServer,
    client: Client,
}

/// Runs a test while no other of these uses the server.
pub(super) fn alone(body: impl AsyncFnOnce(Arc<Etcd>)) {
    static SERVER: OnceLock<OwnServer> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = SERVER.get_or_init(OwnServer::start);
    // Its connections come and go as the pool likes, so they are tasks of another runtime.
    let aside = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let aside = aside.expect("a runtime");
    let client = aside.block_on(Client::connect(server.endpoints())).expect("a client");
    run(async { body(Arc::new(Etcd { server, client })).await });
}

impl Etcd {
    pub(super) fn endpoint(&self) -> String {
        self.server.endpoints().swap_remove(0)
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
        until(&format!("{count} watches"), count, || self.server.watch_count()).await;
    }

    async fn keys(&self, prefix: &str) -> i64 {
        let range = self.client.get(KeyRange::prefix(prefix.to_owned())).count_only();
        range.await.expect("a count").count
    }

    async fn leases(&self) -> usize {
        self.client.leases().await.expect("a list").leases.len()
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
