//! The etcd in memory and the clients of a storm on it, over pipes, on a runtime whose
//! clock is paused: all that happens follows from the seed.

use std::future::Future;
use std::sync::Arc;

use tenure::{Client, Config, Simulation};
use tenure_testserver::{Faults, Follower, Options, Server};
use tokio::io::DuplexStream;

use crate::body::Clients;
use crate::chance::Chance;
use crate::pipe::Ways;

pub(crate) const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// Small, so that a transaction of a few keys comes in pieces.
const FRAGMENT_BYTES: usize = 400;
const PROGRESS: std::time::Duration = std::time::Duration::from_millis(500);
const READERS: usize = 2;

#[derive(Clone)]
pub(crate) struct Embedded {
    server: Arc<Server>,
    pub(crate) followers: Vec<Follower>,
    pub(crate) ways: Ways,
}

/// Runs a body as a simulation.
pub(crate) fn simulate<T>(seed: u64, body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let _simulation = Simulation::new(seed);
        body.await
    })
}

impl Embedded {
    pub(crate) fn start(followers: usize, chance: Chance) -> Embedded {
        let server = Server::in_memory(Options {
            fragment_bytes: FRAGMENT_BYTES,
            progress_interval: PROGRESS,
            ..Options::default()
        });
        Embedded {
            followers: (0..followers).map(|_| server.add_follower_in_memory()).collect(),
            server: Arc::new(server),
            ways: Ways::new(chance),
        }
    }

    pub(crate) async fn clients(&self) -> Clients {
        let mut readers = Vec::new();
        for first in 0..READERS {
            readers.push(self.client(first).await);
        }
        Clients {
            writers: vec![self.client(0).await],
            readers,
            historian: self.direct().await,
        }
    }

    /// A client over the ways that break, which begins with this member.
    pub(crate) async fn client(&self, first: usize) -> Client {
        let mut endpoints: Vec<_> =
            (0..=self.followers.len()).map(|member| format!("http://{member}.m")).collect();
        let members = endpoints.len();
        endpoints.rotate_left(first % members);
        let (server, followers) = (self.server.clone(), self.followers.clone());
        let connect = move |host: &str| {
            let member = host.trim_end_matches(".m").parse().expect("a number");
            connect(&server, &followers, member)
        };
        let client = Client::connect_over(self.ways.dialer(connect), endpoints, Config::default()).await;
        client.expect("a client of the server in memory")
    }

    /// A client of the leader over a way that only the server breaks.
    pub(crate) async fn direct(&self) -> Client {
        let calm = Ways::new(Chance::of(0, 0));
        let server = self.server.clone();
        let connect = move |_: &str| server.connect();
        let client = Client::connect_over(calm.dialer(connect), ["http://leader"], Config::default()).await;
        client.expect("a client of the server in memory")
    }

    pub(crate) fn member_count(&self) -> usize {
        self.followers.len() + 1
    }

    pub(crate) fn faults(&self, member: usize) -> Faults {
        match member.checked_sub(1) {
            None => self.server.faults(),
            Some(follower) => self.followers[follower].faults(),
        }
    }
}

fn connect(server: &Server, followers: &[Follower], member: usize) -> DuplexStream {
    match member.checked_sub(1) {
        None => server.connect(),
        Some(follower) => followers[follower].connect(),
    }
}
