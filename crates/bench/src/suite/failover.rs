//! What befalls a cluster, and what calls notice of it: three real members, proxies
//! before each and between them, and a client in a process of its own that begins a put and a get
//! every so often, whether those before are answered or not.
//!
//! In each turn something happens a second after the load has begun. From the
//! moment that a live member knows a leader then, or from the fault itself where the
//! leader stays, the clock runs until the first call that is answered.

mod between;
mod fault;
mod leader;
mod table;
mod trial;

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use tenure_etcd::{Binary, Cluster, Options};
use tenure_proxy::Proxy;

use crate::Failure;
use crate::child::Child;
use crate::contest::{self, Setting};
use crate::machine;
use crate::peer::Peer;
use crate::report::Report;
use between::Between;
use fault::Fault;
use table::Table;
use trial::{Call, Trial};

/// Until the first calls are answered.
const READY_MAX: Duration = Duration::from_secs(60);
/// Between the first answers and the fault: all connections are made.
const CALM: Duration = Duration::from_secs(1);
/// How often the wish to stop is looked at.
const POLL: Duration = Duration::from_millis(50);

/// The options of `failover`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What happens; a table for each.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// How long it lasts, in seconds.
    #[arg(long, default_value_t = 15)]
    window: u64,
    /// The deadline of each call, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    deadline: u64,
    /// Milliseconds from one put, and one get, to the next.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
}

/// The members and the ways to them.
#[derive(Debug)]
struct Stage {
    cluster: Cluster,
    /// By the index of the member.
    proxies: Vec<Proxy>,
    /// The ways from member to member.
    between: Between,
}

/// When a fault happened and was over, and from when on the first answer counts.
#[derive(Clone, Copy, Debug)]
struct Incident {
    at: SystemTime,
    /// When a live member reported a leader.
    led: SystemTime,
    /// No answer before this can be due to that leader.
    unled: SystemTime,
    end: SystemTime,
}

pub(crate) fn run(arguments: &Arguments, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let binary = Binary::find()?;
    let stage = Stage::start(&binary)?;
    let faults = match arguments.faults.as_slice() {
        [] => Fault::value_variants(),
        faults => faults,
    };
    let story = format!(
        "etcd {}, 3 members, no fsync; a put and a get every {} ms, deadline {} ms",
        binary.version(),
        arguments.every,
        arguments.deadline
    );
    let mut tables: Vec<Table> = faults.iter().map(|fault| Table::new(*fault, &story)).collect();
    let failures = Peer::CLIENTS.map(|peer| peer.prepare().err().map(|cause| cause.to_string()));
    for table in &mut tables {
        for (row, failure) in table.rows.iter_mut().zip(&failures) {
            row.failure.clone_from(failure);
        }
    }
    let load_before = machine::load_average();
    let played = run_rounds(arguments, setting, &stage, &mut tables);
    let circumstances = contest::circumstances(setting, load_before);
    // What there is, also where it ended early.
    for mut table in tables.into_iter().filter(|table| table.has_begun) {
        table.tell(&circumstances);
        report.add(&table);
    }
    played
}

fn run_rounds(
    arguments: &Arguments,
    setting: &Setting,
    stage: &Stage,
    tables: &mut [Table],
) -> Result<(), Failure> {
    for round in 0..setting.rounds {
        for table in &mut *tables {
            run_round(arguments, setting, stage, round, table)?;
        }
    }
    Ok(())
}

/// Each client has its turn, and in each round another one begins.
fn run_round(
    arguments: &Arguments,
    setting: &Setting,
    stage: &Stage,
    round: u32,
    table: &mut Table,
) -> Result<(), Failure> {
    let count = Peer::CLIENTS.len();
    for turn in 0..count {
        let index = (turn + round as usize) % count;
        let row = &mut table.rows[index];
        if setting.stop.is_set() || row.failure.is_some() {
            continue;
        }
        stage.wait_ready()?;
        let played = play(arguments, setting, stage, table.fault, row.peer, round);
        table.fault.undo(stage)?;
        table.has_begun |= !setting.stop.is_set();
        let told = match played {
            Ok(_) if setting.stop.is_set() => "stopped".to_owned(),
            Ok(trial) => {
                let told = trial.story();
                row.trials.push(trial);
                told
            }
            Err(cause) => row.failure.insert(cause.to_string()).clone(),
        };
        eprintln!(
            "  round {}/{}  {}, {}: {told}",
            round + 1,
            setting.rounds,
            table.fault.story(),
            row.peer.name()
        );
    }
    Ok(())
}

fn play(
    arguments: &Arguments,
    setting: &Setting,
    stage: &Stage,
    fault: Fault,
    peer: Peer,
    round: u32,
) -> Result<Trial, Failure> {
    let endpoints: Vec<&str> = stage.proxies.iter().map(Proxy::endpoint).collect();
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let mut child = Child::start(
        peer.command()?
            .arg("steady")
            .arg(format!("--endpoints={}", endpoints.join(",")))
            .arg(format!("--deadline={}", arguments.deadline))
            .arg(format!("--every={}", arguments.every))
            .arg(format!("--prefix=bench/failover/{since}")),
    )?;
    child.wait_ready(READY_MAX)?;
    sleep(CALM);
    let begun = Instant::now();
    let window = Duration::from_secs(arguments.window);
    let (at, reported) = fault.strike(stage, round, window)?;
    while begun.elapsed() < window && !setting.stop.is_set() {
        sleep(POLL);
    }
    let incident = Incident {
        at,
        led: reported.led,
        unled: reported.unled,
        end: SystemTime::now(),
    };
    child.end_input();
    let (mut calls, mut late) = (Vec::new(), Duration::ZERO);
    child.read(&setting.stop, |line| {
        match line.strip_prefix("late ") {
            Some(text) => late = Duration::from_nanos(text.parse()?),
            None => calls.push(Call::read(line)?),
        }
        Ok(())
    })?;
    let deadline = Duration::from_millis(arguments.deadline);
    Ok(Trial {
        late,
        ..Trial::of(&calls, &incident, deadline)
    })
}

impl Stage {
    fn start(binary: &Binary) -> Result<Stage, Failure> {
        let between = Between::default();
        let options = Options::default();
        let cluster = Cluster::start_by_ways(binary, 3, options, |index, address| {
            between.lead_to(index, address)
        })?;
        let endpoints = cluster.endpoints();
        let proxies = endpoints.iter().map(|endpoint| Proxy::start(endpoint));
        let proxies = proxies.collect::<Result<_, _>>()?;
        Ok(Stage {
            cluster,
            proxies,
            between,
        })
    }

    /// Until all is well.
    fn wait_ready(&self) -> Result<(), Failure> {
        self.cluster.wait_ready()?;
        self.cluster.leader_index()?;
        Ok(())
    }
}
