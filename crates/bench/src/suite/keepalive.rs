//! Many leases on one client, kept alive for a while: what a renewal takes, what all of them take of a
//! processor, and how many leases are lost.
//!
//! The server is in another process and is not measured. Each turn has a server of its own, so that nobody
//! keeps his leases beside what is left of another one's.

use std::process::Command;

use clap::Args;

use crate::Failure;
use crate::child::Child;
use crate::contest::{self, Competitor, Setting};
use crate::peer::Peer;
use crate::probe::{self, Counts, Probes};
use crate::report::{Report, Row, Table};
use crate::server::{Server, ServerKind};
use crate::tally::Round;

/// Of a core, by the number of leases; and none of them is to be lost.
const SHARE_GOAL: (u64, f64) = (100_000, 0.1);

/// The options of `keepalive`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// How many leases; a table for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000])]
    leases: Vec<u64>,
    /// For how many seconds a round, once all are granted and a TTL has passed. Go's renewals come in bursts, a third
    /// of the TTL apart: only so many seconds, or twice as many and so on, have their part of them.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// The time to live, in seconds.
    #[arg(long, default_value_t = 30)]
    ttl: u64,
    /// The servers to run on.
    #[arg(long, value_delimiter = ',', default_values = ["embedded"])]
    server: Vec<ServerKind>,
    /// tenure with a thread of the client's own, too. That one's allocations are not counted.
    #[arg(long)]
    own_thread: bool,
    /// Without the other clients.
    #[arg(long)]
    alone: bool,
    #[command(flatten)]
    probes: Probes,
}

impl Arguments {
    fn peers(&self) -> Vec<Peer> {
        let takes_part = |peer: &Peer| match peer {
            Peer::Tenure => true,
            Peer::TenureOwnThread => self.own_thread,
            _ => !self.alone,
        };
        let peers = [Peer::Tenure, Peer::TenureOwnThread, Peer::Go, Peer::EtcdClient];
        peers.into_iter().filter(takes_part).collect()
    }
}

pub(crate) fn run(arguments: &Arguments, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    for kind in &arguments.server {
        for leases in &arguments.leases {
            if setting.stop.is_set() {
                return Ok(());
            }
            let keeper = |peer: Peer| -> Box<dyn Competitor> {
                Box::new(Keeper {
                    peer,
                    kind: *kind,
                    leases: *leases,
                    arguments: arguments.clone(),
                })
            };
            let title = format!(
                "{leases} leases of {} s, kept alive, on {}",
                arguments.ttl,
                kind.story()?
            );
            let competitors = arguments.peers().into_iter().map(keeper).collect();
            let mut table = contest::run(Table::new(title, "renewals"), competitors, setting);
            table.notes.extend(against_goals(*leases, &table.rows[0]));
            report.add(&table);
        }
    }
    Ok(())
}

/// One client and its leases.
struct Keeper {
    peer: Peer,
    kind: ServerKind,
    leases: u64,
    arguments: Arguments,
}

impl Keeper {
    fn command(&self, server: &Server, seconds: u64) -> Result<Command, Failure> {
        let mut command = self.peer.command()?;
        command
            .arg("keepalive")
            .arg(format!("--endpoints={}", server.endpoint()))
            .arg(format!("--leases={}", self.leases))
            .arg(format!("--ttl={}", self.arguments.ttl))
            .arg(format!("--seconds={seconds}"));
        Ok(command)
    }
}

impl Competitor for Keeper {
    fn name(&self) -> String {
        self.peer.name()
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        self.peer.prepare()
    }

    fn run_round(&mut self, setting: &Setting) -> Result<Round, Failure> {
        let server = Server::start(self.kind)?;
        let mut command = self.command(&server, self.arguments.seconds)?;
        Child::start(&mut command)?.round(&setting.stop)
    }

    fn count(&mut self, setting: &Setting) -> (Counts, Vec<String>) {
        if !self.arguments.probes.are_wanted() {
            return Default::default();
        }
        let server = match Server::start(self.kind) {
            Ok(server) => server,
            Err(cause) => return (Counts::default(), vec![cause.to_string()]),
        };
        // For a TTL and for two, or so.
        let command =
            |amount: u64| self.command(&server, (self.arguments.ttl * amount).div_ceil(probe::FEWER));
        self.arguments.probes.count(&self.name(), command, &setting.stop)
    }
}

fn against_goals(leases: u64, ours: &Row) -> Option<String> {
    let verdict = |is_met: bool| if is_met { "met" } else { "missed" };
    let (lost, share) = (ours.tally.lost()?, ours.tally.shares()?.median);
    let mut said = vec![format!("none lost: {}", verdict(lost == 0))];
    let (count, goal) = SHARE_GOAL;
    if leases == count {
        said.push(format!(
            "under {} % of a core: {}",
            100.0 * goal,
            verdict(share < goal)
        ));
    }
    Some(format!("Goals of {}: {}.", ours.name, said.join("; ")))
}
