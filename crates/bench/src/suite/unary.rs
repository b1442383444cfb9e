//! What a call costs: puts, gets and transactions, one after another and many at a time,
//! beside a call written down on the h2 crate alone, and with a thread of the client's
//! own, whose allocations are not counted.

use clap::{Args, ValueEnum};
use tenure_bench_worker::Method;

use crate::Failure;
use crate::contest::{self, Setting};
use crate::order::Ordered;
use crate::peer::Peer;
use crate::probe::Probes;
use crate::report::{Report, Row, Table};
use crate::server::{Server, ServerKind};

const PEERS: [Peer; 6] = [
    Peer::Tenure,
    Peer::TenureOwnThread,
    Peer::Floor,
    Peer::FloorTimed,
    Peer::Go,
    Peer::EtcdClient,
];

/// Of all values of a turn together: a store keeps what was overwritten.
const VALUES_BYTES_MAX: u64 = 64 << 20;

/// The options of `unary`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Calls a round, for each client; of large values no more than 64 MiB.
    #[arg(long, default_value_t = 20_000)]
    calls: u64,
    /// What is called; tables for each.
    #[arg(long, value_delimiter = ',', default_values = ["put", "get", "txn"])]
    method: Vec<Method>,
    /// How many at a time; tables for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64])]
    in_flight: Vec<u64>,
    /// The sizes of the value, in bytes; tables for each. The key has 24.
    #[arg(long, value_delimiter = ',', default_values_t = [16])]
    value_bytes: Vec<u64>,
    /// The servers to run on.
    #[arg(long, value_delimiter = ',', default_values = ["etcd", "embedded"])]
    server: Vec<ServerKind>,
    #[command(flatten)]
    probes: Probes,
}

pub(crate) fn run(arguments: &Arguments, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    for kind in &arguments.server {
        for value_bytes in &arguments.value_bytes {
            for method in &arguments.method {
                if setting.stop.is_set() {
                    return Ok(());
                }
                // A store that is new, whatever was written before.
                let server = Server::start(*kind)?;
                for in_flight in &arguments.in_flight {
                    if setting.stop.is_set() {
                        break;
                    }
                    let table = contend(arguments, setting, &server, *method, *in_flight, *value_bytes)?;
                    report.add(&table);
                }
            }
        }
    }
    Ok(())
}

fn contend(
    arguments: &Arguments,
    setting: &Setting,
    server: &Server,
    method: Method,
    in_flight: u64,
    value_bytes: u64,
) -> Result<Table, Failure> {
    let method = method.to_possible_value().ok_or("no such method")?;
    let method = method.get_name();
    let order = [
        "unary".to_owned(),
        format!("--endpoints={}", server.endpoints().join(",")),
        format!("--method={method}"),
        format!("--in-flight={in_flight}"),
        format!("--value-bytes={value_bytes}"),
    ];
    let calls = arguments.calls.min(VALUES_BYTES_MAX / value_bytes.max(1));
    let competitors = Ordered::all(&PEERS, &order, calls, &arguments.probes);
    let title = format!(
        "Unary {method}, values of {value_bytes} bytes, {in_flight} in flight, on {}",
        server.story()
    );
    let mut table = contest::run(Table::new(title, "calls"), competitors, setting);
    table.notes.extend(beside_the_others(&table.rows));
    Ok(table)
}

/// The processor's time for a call, beside the floor's and etcd-client's.
fn beside_the_others(rows: &[Row]) -> Option<String> {
    let cpu = |name: &str| {
        let row = rows.iter().find(|row| row.name == name)?;
        let each = row.tally.cost_each()?;
        Some((each.user + each.system).as_secs_f64())
    };
    let ours = cpu(&Peer::Tenure.name())?;
    let times = |peer: Peer| Some(format!("{:.2} x {}", ours / cpu(&peer.name())?, peer.name()));
    let said: Vec<_> =
        [Peer::Floor, Peer::FloorTimed, Peer::EtcdClient].into_iter().filter_map(times).collect();
    let is_said = !said.is_empty();
    is_said.then(|| format!("CPU each of {}: {}.", Peer::Tenure.name(), said.join(", ")))
}
