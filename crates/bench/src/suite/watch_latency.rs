//! From a put to its event, by the number of watches that the client has: each is of a key of its own, and
//! another process puts them in turn, at a pace. The value of each put is when it began, so that one clock,
//! the machine's, is what it is measured with.

use std::time::Duration;

use clap::Args;

use crate::Failure;
use crate::child::Child;
use crate::contest::{self, Competitor, Setting};
use crate::load::Load;
use crate::peer::Peer;
use crate::report::{Report, Table};
use crate::server::{Server, ServerKind};
use crate::tally::Round;

/// Until all watches are there.
const READY_MAX: Duration = Duration::from_secs(60);

/// The options of `watch-latency`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Events a round, for each client.
    #[arg(long, default_value_t = 5_000)]
    events: u64,
    /// How many watches the client has; a table for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [1_u64, 1_000], value_parser = clap::value_parser!(u64).range(1..=10_000))]
    watches: Vec<u64>,
    /// Puts a second.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    puts: u32,
    /// The servers to run on.
    #[arg(long, value_delimiter = ',', default_values = ["etcd"])]
    server: Vec<ServerKind>,
}

pub(crate) fn run(arguments: &Arguments, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    for kind in &arguments.server {
        for watches in &arguments.watches {
            if setting.stop.is_set() {
                return Ok(());
            }
            let server = Server::start(*kind)?;
            let watcher = |peer: Peer| -> Box<dyn Competitor> {
                Box::new(Watcher {
                    peer,
                    endpoint: server.endpoint().to_owned(),
                    events: arguments.events,
                    watches: *watches,
                    puts: arguments.puts,
                })
            };
            let title = format!(
                "From a put to its event, {} puts a second, {watches} {}, on {}",
                arguments.puts,
                if *watches == 1 { "watch" } else { "watches" },
                server.story()
            );
            let competitors = Peer::CLIENTS.into_iter().map(watcher).collect();
            report.add(&contest::run(Table::new(title, "events"), competitors, setting));
        }
    }
    Ok(())
}

struct Watcher {
    peer: Peer,
    endpoint: String,
    events: u64,
    watches: u64,
    puts: u32,
}

impl Competitor for Watcher {
    fn name(&self) -> String {
        self.peer.name()
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        self.peer.prepare()
    }

    fn run_round(&mut self, setting: &Setting) -> Result<Round, Failure> {
        let prefix = "bench/watch-latency/";
        let mut child = Child::start(
            self.peer
                .command()?
                .arg("latency")
                .arg(format!("--endpoints={}", self.endpoint))
                .arg(format!("--prefix={prefix}"))
                .arg(format!("--watches={}", self.watches))
                .arg(format!("--calls={}", self.events)),
        )?;
        child.wait_ready(READY_MAX)?;
        let puts = Load::stamped(prefix, self.watches, &self.endpoint, self.puts)?;
        let round = child.round(&setting.stop)?;
        puts.finish()?;
        Ok(round)
    }
}
