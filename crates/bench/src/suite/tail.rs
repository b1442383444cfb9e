//! How long the last of a thousand small reads takes, with nothing beside them and while the same client watches
//! what others write, keeps leases alive and reads what is large.
//!
//! The reads begin at a pace, whether those before are answered or not, and their time runs from when they are due:
//! a client that holds its caller's thread up is seen, too. Others write in both cases.

use clap::Args;

use crate::Failure;
use crate::contest::{self, Setting};
use crate::load::{self, Load};
use crate::order::Ordered;
use crate::peer::Peer;
use crate::probe::Probes;
use crate::report::{Report, Table};
use crate::server::{Server, ServerKind};

const PEERS: [Peer; 4] = [Peer::Tenure, Peer::TenureOwnThread, Peer::Go, Peer::EtcdClient];

/// The options of `tail`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Reads a round, for each client.
    #[arg(long, default_value_t = 5_000)]
    calls: u64,
    /// Microseconds between the beginnings of two of them.
    #[arg(long, default_value_t = 1_000)]
    every: u64,
    /// Leases that are kept alive meanwhile.
    #[arg(long, default_value_t = 1_000)]
    leases: u64,
    /// Keys a second that another client writes, and this one watches meanwhile.
    #[arg(long, default_value_t = 500)]
    writes: u32,
    /// The size of a value that is read meanwhile, 50 milliseconds after the last time; 0 for none.
    #[arg(long, default_value_t = 1 << 20)]
    large_bytes: u64,
    /// The server to run on.
    #[arg(long, default_value = "etcd")]
    server: ServerKind,
}

pub(crate) fn run(arguments: &Arguments, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let beside = [
        format!("--leases={}", arguments.leases),
        format!("--watch={}", load::PREFIX),
        format!("--large-bytes={}", arguments.large_bytes),
    ];
    let story = format!(
        "beside {} leases, a watch and reads of {} KiB",
        arguments.leases,
        arguments.large_bytes >> 10
    );
    for (story, beside) in [("alone", &[][..]), (&story, &beside)] {
        if setting.stop.is_set() {
            break;
        }
        // Leases that were left behind run out on a server of their own.
        let server = Server::start(arguments.server)?;
        let load = Load::start(server.endpoint(), arguments.writes)?;
        let mut order = vec![
            "tail".to_owned(),
            format!("--endpoints={}", server.endpoints().join(",")),
            format!("--every={}", arguments.every),
        ];
        order.extend_from_slice(beside);
        let title = format!("Small reads at a pace, {story}, on {}", server.story());
        let competitors = Ordered::all(&PEERS, &order, arguments.calls, &Probes::default());
        let mut table = contest::run(Table::new(title, "reads"), competitors, setting);
        table.notes.push(load.finish()?);
        report.add(&table);
    }
    Ok(())
}
