//! The server that a suite runs on, in processes of its own: a real etcd of one member or
//! of three, or this program once more, which serves from memory.

use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Args, ValueEnum};
use tenure_etcd::{Binary, Cluster, Options};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use crate::Failure;
use crate::child::Child;
use crate::null;

/// How long the server in memory may take to start.
const START_MAX: Duration = Duration::from_secs(20);
/// More than any suite writes: etcd's usual 2 GiB are not.
const QUOTA: &str = "--quota-backend-bytes=8589934592";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServerKind {
    /// A real etcd: one member, without fsync.
    Etcd,
    /// A real etcd: three members, without fsync.
    Etcd3,
    /// The etcd in memory of this repository's tests.
    Embedded,
    /// No etcd: the same answer to every put, get and transaction, at once, and events without end.
    Null,
}

/// A server that runs as long as its value lives.
#[derive(Debug)]
pub(crate) struct Server {
    endpoints: Vec<String>,
    story: String,
    running: Running,
}

/// Held for what dropping it ends.
#[derive(Debug)]
enum Running {
    Etcd(Box<Cluster>),
    InMemory { _process: Child },
}

impl ServerKind {
    /// What such a server is, for a title before one runs.
    pub(crate) fn story(self) -> Result<String, Failure> {
        Ok(match self {
            ServerKind::Etcd => story_of_etcd(&Binary::find()?, 1, false),
            ServerKind::Etcd3 => story_of_etcd(&Binary::find()?, 3, false),
            ServerKind::Embedded => "the etcd in memory".to_owned(),
            ServerKind::Null => "the null server".to_owned(),
        })
    }
}

impl Server {
    pub(crate) fn start(kind: ServerKind) -> Result<Server, Failure> {
        match kind {
            ServerKind::Etcd => Server::start_etcd(1, false),
            ServerKind::Etcd3 => Server::start_etcd(3, false),
            ServerKind::Embedded | ServerKind::Null => Server::start_in_memory(kind),
        }
    }

    /// The leader's.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoints[0]
    }

    /// The leader's first.
    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// The process of etcd's only member.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.running {
            Running::Etcd(cluster) if self.endpoints.len() == 1 => cluster.member(0).pid(),
            _ => None,
        }
    }

    /// What it is, for a title.
    pub(crate) fn story(&self) -> &str {
        &self.story
    }

    /// A real etcd of this many members, which write what they acknowledge through to the disk or do not.
    pub(crate) fn start_etcd(members: usize, fsync: bool) -> Result<Server, Failure> {
        let binary = Binary::find()?;
        let options = Options {
            fsync,
            arguments: vec![QUOTA.to_owned()],
            ..Options::default()
        };
        let cluster = Cluster::start(&binary, members, options)?;
        let mut endpoints = cluster.endpoints();
        endpoints.swap(0, cluster.leader_index()?);
        Ok(Server {
            endpoints,
            story: story_of_etcd(&binary, members, fsync),
            running: Running::Etcd(Box::new(cluster)),
        })
    }

    fn start_in_memory(kind: ServerKind) -> Result<Server, Failure> {
        let name = kind.to_possible_value().ok_or("no such server")?;
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = Child::start(command.args(["serve", name.get_name()]))?;
        Ok(Server {
            endpoints: vec![child.wait_line(START_MAX)?],
            story: kind.story()?,
            running: Running::InMemory { _process: child },
        })
    }
}

fn story_of_etcd(binary: &Binary, members: usize, fsync: bool) -> String {
    let counted = if members == 1 { "member" } else { "members" };
    let synced = if fsync { "fsync" } else { "no fsync" };
    format!("etcd {}, {members} {counted}, {synced}", binary.version())
}

/// What the process of a server in memory is told. It says where it listens, and serves
/// until its input ends.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    kind: ServerKind,
}

impl Serve {
    pub(crate) fn run(&self) -> ExitCode {
        match self.serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(cause) => {
                println!("error {cause}");
                ExitCode::FAILURE
            }
        }
    }

    fn serve(&self) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let input_ended = tenure_bench_worker::input_ended();
        runtime.block_on(async {
            match self.kind {
                ServerKind::Embedded => {
                    let server = tenure_testserver::Server::start().await?;
                    println!("{}", server.endpoint());
                    let _ = input_ended.await;
                    Ok(())
                }
                ServerKind::Null => {
                    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
                    println!("http://{}", listener.local_addr()?);
                    let serving = LocalSet::new();
                    serving.spawn_local(null::serve(listener));
                    let _ = serving.run_until(input_ended).await;
                    Ok(())
                }
                ServerKind::Etcd | ServerKind::Etcd3 => Err("etcd is a program of its own".into()),
            }
        })
    }
}
