//! The programs under measurement that take the orders of `worker`: one process for
//! each client, all with the same command line.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use tenure_etcd::GoProgram;

use crate::Failure;
use crate::cargo::Workspace;

const CLIENT_OF_GO: &str = "go.etcd.io/etcd/client/v3";
const GO: GoProgram = GoProgram {
    name: "tenure-bench-go",
    go_mod: include_str!("../go/go.mod"),
    go_sum: include_str!("../go/go.sum"),
    main_go: include_str!("../go/worker/main.go"),
};

const PEERS_LOCK: &str = include_str!("../peers/Cargo.lock");

/// Whose client is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Tenure,
    /// With a thread of the client's own, beside that of its caller.
    TenureOwnThread,
    Go,
    EtcdClient,
    /// No client at all: the h2 crate, written down naively.
    Floor,
    /// The same in a runtime that has a timer to look at.
    FloorTimed,
}

impl Peer {
    /// The clients.
    pub(crate) const CLIENTS: [Peer; 3] = [Peer::Tenure, Peer::Go, Peer::EtcdClient];

    /// With its version.
    pub(crate) fn name(self) -> String {
        match self {
            Peer::Tenure => format!("tenure {}", env!("CARGO_PKG_VERSION")),
            Peer::TenureOwnThread => format!("{}, own thread", Peer::Tenure.name()),
            Peer::Go => format!("Go clientv3 {}", GO.version_of(CLIENT_OF_GO)),
            Peer::EtcdClient => format!("etcd-client {}", locked("etcd-client")),
            Peer::Floor => "h2 by hand".to_owned(),
            Peer::FloorTimed => "h2 by hand, a timer set".to_owned(),
        }
    }

    /// Builds its program, which can take minutes the first time.
    ///
    /// # Errors
    ///
    /// It cannot be built here.
    pub(crate) fn prepare(self) -> Result<(), Failure> {
        self.command().map(drop)
    }

    /// Its program, to which an order is added. It is built first, unless it was.
    ///
    /// # Errors
    ///
    /// It cannot be built here.
    pub(crate) fn command(self) -> Result<Command, Failure> {
        match self {
            Peer::Tenure => this("worker"),
            Peer::TenureOwnThread => this("worker-own-thread"),
            Peer::Floor => this("floor"),
            Peer::FloorTimed => this("floor-timed"),
            Peer::Go => Ok(Command::new(GO.build()?)),
            Peer::EtcdClient => {
                static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
                let built = BUILT.get_or_init(|| build_etcd_client().map_err(|cause| cause.to_string()));
                Ok(Command::new(built.as_ref().map_err(String::clone)?))
            }
        }
    }
}

fn this(subcommand: &str) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(subcommand);
    Ok(command)
}

fn build_etcd_client() -> Result<PathBuf, Failure> {
    Workspace::peers()?.with_protoc()?.build("tenure-bench-etcd-client", "release", None)
}

/// The version of a package in the peers' lock file.
pub(crate) fn locked(package: &str) -> &'static str {
    let entry = PEERS_LOCK.split_once(&format!("name = \"{package}\"\nversion = \""));
    entry.and_then(|(_, rest)| rest.split('"').next()).unwrap_or("of unknown version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_is_named_with_the_version_that_is_pinned() {
        for peer in Peer::CLIENTS {
            let name = peer.name();
            let version = name.rsplit(' ').next().unwrap();
            let numbers: Vec<_> = version.split('.').map(str::parse::<u32>).collect();
            assert!(numbers.len() == 3 && numbers.iter().all(Result::is_ok), "{name}");
        }
    }
}
