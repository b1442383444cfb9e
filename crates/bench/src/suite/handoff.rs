//! The hand-off of a contended lock: from the holder's call to release it until the
//! next one's call to lock it returns, both on one clock.
//!
//! Each contender has a connection and a session of its own and locks and releases
//! again and again, all of a client in one process. A lock that comes back to who
//! released it is a grant and no hand-off. Each checks that never two hold the lock.

mod go;

use std::time::Duration;

use clap::Args;

use crate::Failure;
use crate::child::Child;
use crate::contest::{self, Competitor, Setting};
use crate::load::Load;
use crate::peer::Peer;
use crate::report::{Report, Row, Table, show};
use crate::server::{Server, ServerKind};
use crate::tally::Round;

/// When a lock that does not come is a failure.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the lock shall reach where nobody holds it.
const P50_GOAL: Duration = Duration::from_millis(2);
/// How many times another client's locks a second, by the number of contenders.
const TIMES_GOALS: [(u32, f64); 2] = [(2, 20.0), (8, 12.0)];

/// The options of `handoff`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Hand-offs of each client, over all rounds.
    #[arg(long, default_value_t = 1000)]
    handoffs: u32,
    /// How many contend for the lock; a table for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 8, 64])]
    contenders: Vec<u32>,
    /// Milliseconds for which a holder keeps the lock.
    #[arg(long, default_value_t = 0)]
    hold: u64,
    /// Keys a second that another client writes meanwhile.
    #[arg(long, default_value_t = 250)]
    writes: u32,
    /// The server to run on.
    #[arg(long, default_value = "etcd")]
    server: ServerKind,
}

/// One contest for one lock.
#[derive(Clone, Debug)]
pub(super) struct Race {
    pub(super) name: String,
    pub(super) contenders: u32,
    /// Hand-offs a round.
    pub(super) handoffs: u32,
    pub(super) hold: Duration,
}

impl Race {
    /// What it asks of a worker, but where to.
    pub(super) fn order(&self) -> Vec<String> {
        vec![
            "handoff".to_owned(),
            format!("--name={}", self.name),
            format!("--contenders={}", self.contenders),
            format!("--handoffs={}", self.handoffs),
            format!("--hold={}", self.hold.as_micros()),
            format!("--patience={}", PATIENCE.as_millis()),
        ]
    }

    /// Who takes part, for a title.
    pub(super) fn story(&self) -> String {
        let held = match self.hold {
            Duration::ZERO => "not held".to_owned(),
            hold => format!("held for {}", show(hold)),
        };
        format!("{} contenders, {held}", self.contenders)
    }
}

/// A client whose worker takes the order.
#[derive(Debug)]
struct Client {
    peer: Peer,
    race: Race,
    endpoint: String,
}

impl Competitor for Client {
    fn name(&self) -> String {
        self.peer.name()
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        self.peer.prepare()
    }

    fn run_round(&mut self, setting: &Setting) -> Result<Round, Failure> {
        let mut worker = self.peer.command()?;
        worker.args(self.race.order()).arg(format!("--endpoints={}", self.endpoint));
        Child::start(&mut worker)?.round(&setting.stop)
    }
}

pub(crate) fn run(arguments: &Arguments, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    check(&arguments.contenders)?;
    let server = Server::start(arguments.server)?;
    for contenders in &arguments.contenders {
        if setting.stop.is_set() {
            break;
        }
        let race = Race {
            name: format!("bench/handoff/{contenders}"),
            contenders: *contenders,
            handoffs: arguments.handoffs.div_ceil(setting.rounds),
            hold: Duration::from_millis(arguments.hold),
        };
        let load = Load::start(server.endpoint(), arguments.writes)?;
        let client = |peer| Client {
            peer,
            race: race.clone(),
            endpoint: server.endpoint().to_owned(),
        };
        let competitors: Vec<Box<dyn Competitor>> = vec![
            Box::new(client(Peer::Tenure)),
            Box::new(go::Go::new(race.clone(), server.endpoint().to_owned())),
            Box::new(client(Peer::EtcdClient)),
        ];
        let mut table = contest::run(
            Table::new(
                format!("Lock hand-off, {}, on {}", race.story(), server.story()),
                "hand-offs",
            ),
            competitors,
            setting,
        );
        if race.hold.is_zero() {
            table.notes.extend(against_goals(*contenders, &table.rows));
        }
        table.notes.push(load.finish()?);
        report.add(&table);
    }
    Ok(())
}

/// # Errors
///
/// Somebody would be alone.
pub(super) fn check(contenders: &[u32]) -> Result<(), Failure> {
    match contenders.iter().find(|contenders| **contenders < 2) {
        Some(few) => Err(format!("a hand-off takes two contenders, not {few}").into()),
        None => Ok(()),
    }
}

/// The first row beside the others.
fn against_goals(contenders: u32, rows: &[Row]) -> Option<String> {
    let verdict = |is_met: bool| if is_met { "met" } else { "missed" };
    let (ours, others) = rows.split_first()?;
    let median = ours.tally.percentile(50.0)?;
    let goal = show(P50_GOAL);
    let mut said = vec![format!(
        "p50 under {goal}: {} with {}",
        verdict(median < P50_GOAL),
        show(median)
    )];
    let times_goal = TIMES_GOALS.iter().find(|(count, _)| *count == contenders);
    for other in others {
        let (Some(rate), Some(beside)) = (ours.tally.rates(), other.tally.rates()) else {
            continue;
        };
        let times = rate.median / beside.median;
        let goal = times_goal.map(|(_, goal)| format!(", goal at least {goal}: {}", verdict(times >= *goal)));
        said.push(format!(
            "{times:.1} x the locks a second of {}{}",
            other.name,
            goal.unwrap_or_default()
        ));
    }
    Some(format!("{}: {}.", ours.name, said.join("; ")))
}
