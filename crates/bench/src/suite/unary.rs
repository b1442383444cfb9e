//! What a call costs: small puts and gets, one after another and many at a time,
//! beside a call written down on the h2 crate alone.

use clap::Args;

use crate::Failure;
use crate::child::{Child, Figures};
use crate::contest::{self, Competitor, Setting};
use crate::peer::Peer;
use crate::report::{Report, Table};
use crate::server::{Server, ServerKind};
use crate::tally::Round;

const PEERS: [Peer; 4] = [Peer::Tenure, Peer::Floor, Peer::Go, Peer::EtcdClient];

/// The options of `unary`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Calls a round, for each client.
    #[arg(long, default_value_t = 20_000)]
    calls: u64,
    /// How many at a time; tables for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64])]
    in_flight: Vec<u64>,
    /// The servers to run on.
    #[arg(long, value_delimiter = ',', default_values = ["etcd", "embedded"])]
    server: Vec<ServerKind>,
}

pub(crate) fn run(arguments: &Arguments, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    for kind in &arguments.server {
        let server = Server::start(*kind)?;
        for method in ["put", "get"] {
            for in_flight in &arguments.in_flight {
                if setting.stop.is_set() {
                    return Ok(());
                }
                let order = vec![
                    format!("--endpoints={}", server.endpoint()),
                    format!("--method={method}"),
                    format!("--calls={}", arguments.calls),
                    format!("--in-flight={in_flight}"),
                ];
                let caller = |peer: Peer| -> Box<dyn Competitor> {
                    Box::new(Caller {
                        peer,
                        order: order.clone(),
                    })
                };
                let title = format!("Unary {method}, {in_flight} in flight, on {}", server.story());
                let competitors = PEERS.into_iter().map(caller).collect();
                report.add(&contest::run(Table::new(title, "calls"), competitors, setting));
            }
        }
    }
    Ok(())
}

struct Caller {
    peer: Peer,
    order: Vec<String>,
}

impl Competitor for Caller {
    fn name(&self) -> String {
        self.peer.name()
    }

    fn run_round(&mut self, setting: &Setting) -> Result<Round, Failure> {
        let child = Child::start(self.peer.command()?.arg("unary").args(&self.order))?;
        let mut figures = Figures::default();
        child.read(&setting.stop, |line| figures.read(line))?;
        Ok(figures.into_round())
    }
}
