//! The server that a suite runs on: a real etcd in a process of its own, or the
//! one in memory on a thread of its own.

use std::sync::mpsc;
use std::thread;

use clap::ValueEnum;
use tenure_etcd::{Binary, Cluster, Options};
use tokio::sync::oneshot;

use crate::Failure;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServerKind {
    /// A real etcd: one member, without fsync.
    Etcd,
    /// The etcd in memory of this repository's tests.
    Embedded,
}

/// A server that runs as long as its value lives.
#[derive(Debug)]
pub(crate) struct Server {
    endpoint: String,
    story: String,
    _running: Running,
}

#[derive(Debug)]
#[expect(dead_code, reason = "held for what dropping it ends")]
enum Running {
    Etcd(Box<Cluster>),
    Embedded(oneshot::Sender<()>),
}

impl Server {
    pub(crate) fn start(kind: ServerKind) -> Result<Server, Failure> {
        match kind {
            ServerKind::Etcd => Server::start_etcd(),
            ServerKind::Embedded => Server::start_embedded(),
        }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What it is, for a title.
    pub(crate) fn story(&self) -> &str {
        &self.story
    }

    fn start_etcd() -> Result<Server, Failure> {
        let binary = Binary::find()?;
        let cluster = Cluster::start(&binary, 1, Options::default())?;
        Ok(Server {
            endpoint: cluster.member(0).endpoint(),
            story: format!("etcd {}, 1 member, no fsync", binary.version()),
            _running: Running::Etcd(Box::new(cluster)),
        })
    }

    fn start_embedded() -> Result<Server, Failure> {
        let (started, endpoint) = mpsc::channel();
        let (running, dropped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::spawn(move || {
            runtime.block_on(async {
                let server = tenure_testserver::Server::start().await;
                let told = server.as_ref().map(|server| server.endpoint().to_owned());
                let _ = started.send(told.map_err(ToString::to_string));
                let _ = dropped.await;
                drop(server);
            });
        });
        Ok(Server {
            endpoint: endpoint.recv()??,
            story: "the etcd in memory".to_owned(),
            _running: Running::Embedded(running),
        })
    }
}
