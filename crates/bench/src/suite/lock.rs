//! What a lock costs that nobody else wants: locked and unlocked, one after the other,
//! beside the same two transactions written down on the h2 crate alone.

use clap::Args;

use crate::Failure;
use crate::contest::{self, Setting};
use crate::order::Ordered;
use crate::peer::Peer;
use crate::probe::Probes;
use crate::report::{Report, Row, Table, show};
use crate::server::{Server, ServerKind};

const PEERS: [Peer; 5] = [
    Peer::Tenure,
    Peer::Floor,
    Peer::FloorTimed,
    Peer::Go,
    Peer::EtcdClient,
];
/// The median latency, as a multiple of the floor's.
const RATIO_GOAL: f64 = 1.03;
const ALLOCATIONS_GOAL: f64 = 20.0;

/// The options of `lock`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Locks a round, for each client.
    #[arg(long, default_value_t = 2_000)]
    calls: u64,
    /// The servers to run on.
    #[arg(long, value_delimiter = ',', default_values = ["etcd"])]
    server: Vec<ServerKind>,
    #[command(flatten)]
    probes: Probes,
}

pub(crate) fn run(arguments: &Arguments, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    for kind in &arguments.server {
        if setting.stop.is_set() {
            break;
        }
        let server = Server::start(*kind)?;
        let order = [
            "lock".to_owned(),
            format!("--endpoints={}", server.endpoints().join(",")),
            "--name=bench/lock".to_owned(),
        ];
        let competitors = Ordered::all(&PEERS, &order, arguments.calls, &arguments.probes);
        let title = format!("Free lock, locked and unlocked, on {}", server.story());
        let mut table = contest::run(Table::new(title, "locks"), competitors, setting);
        table.notes.extend(against_goals(&table.rows[0], &table.rows[1]));
        report.add(&table);
    }
    Ok(())
}

fn against_goals(ours: &Row, floor: &Row) -> Option<String> {
    let verdict = |met: bool| if met { "met" } else { "missed" };
    let median = |row: &Row| row.tally.percentile(50.0);
    let (our_median, floors) = (median(ours)?, median(floor)?);
    let ratio = our_median.as_secs_f64() / floors.as_secs_f64();
    let allocations = ours.tally.cost_each()?.allocations;
    let by_rounds = ours.tally.medians_in_order().iter().zip(floor.tally.medians_in_order());
    let by_rounds =
        by_rounds.map(|(ours, floors)| format!("{:.3}", ours.as_secs_f64() / floors.as_secs_f64()));
    let by_rounds: Vec<_> = by_rounds.collect();
    Some(format!(
        "{}: p50 {} is {ratio:.3} x that of {}, {} (goal at most {RATIO_GOAL}: {}), by rounds {}; \
         {allocations:.1} allocations (goal at most {ALLOCATIONS_GOAL}: {}).",
        ours.name,
        show(our_median),
        floor.name,
        show(floors),
        verdict(ratio <= RATIO_GOAL),
        by_rounds.join(", "),
        // Now and then a buffer grows, which belongs to none of them.
        verdict(allocations.round() <= ALLOCATIONS_GOAL),
    ))
}
