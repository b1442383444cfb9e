//! ZooKeeper: the client's own lock recipe, under the names that Curator gives its nodes.

use std::time::Duration;

use tenure_bench_worker::{Lock, Locker};
use zookeeper_client::{Acls, Client, CreateMode, LockOptions, LockPrefix};

use crate::text;

/// Of the session, whose end takes its locks with it.
const SESSION_TIMEOUT: Duration = Duration::from_secs(30);
/// What Curator's mutex calls its nodes.
const NODES: &str = "lock-";

#[derive(Clone)]
pub(crate) struct ZooKeeper {
    client: Client,
}

pub(crate) struct ZooKeeperLock {
    client: Client,
    directory: String,
    node: Option<String>,
}

impl Locker for ZooKeeper {
    type Lock = ZooKeeperLock;

    async fn connect(endpoints: &[String]) -> Result<ZooKeeper, String> {
        let connector = Client::connector().with_session_timeout(SESSION_TIMEOUT);
        let client = connector.connect(&endpoints.join(",")).await;
        Ok(ZooKeeper {
            client: client.map_err(text)?,
        })
    }

    async fn mutex(&self, name: &str) -> Result<ZooKeeperLock, String> {
        Ok(ZooKeeperLock {
            client: self.client.clone(),
            directory: format!("/{name}"),
            node: None,
        })
    }
}

impl Lock for ZooKeeperLock {
    async fn lock(&mut self) -> Result<(), String> {
        let prefix = LockPrefix::new_curator(&self.directory, NODES).map_err(text)?;
        let directories = CreateMode::Persistent.with_acls(Acls::anyone_all());
        let options =
            LockOptions::new(Acls::anyone_all()).with_ancestor_options(directories).map_err(text)?;
        let lock = self.client.lock(prefix, b"bench", options).await.map_err(text)?;
        self.node = Some(lock.lock_path().to_owned());
        // Dropped, it would delete its node in the background, and nobody would know when that is done.
        std::mem::forget(lock);
        Ok(())
    }

    async fn unlock(&mut self) -> Result<(), String> {
        let node = self.node.take().ok_or("it is not locked")?;
        self.client.delete(&node, None).await.map_err(text)
    }
}
