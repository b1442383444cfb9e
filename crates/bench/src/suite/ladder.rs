//! More and more tasks that want one lock, in one process and spread over several:
//! whether the locks a second hold out, and how long a task waits.

mod climber;
mod table;

use std::process::Command;
use std::thread;
use std::time::Duration;

use clap::Args;

pub(crate) use climber::Climb;
use table::{Rung, Table};

use crate::Failure;
use crate::child::Child;
use crate::contest::{self, Setting};
use crate::machine;
use crate::report::Report;
use crate::server::{Server, ServerKind};

/// How long a process may take until all of its tasks wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// The options of `ladder`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many tasks, all processes together; a row for each.
    #[arg(long, value_delimiter = ',', default_values_t = [100_usize, 500, 1_000, 3_000, 5_000])]
    tasks: Vec<usize>,
    /// Over how many processes, each with a client and a session; a table for each.
    #[arg(long, value_delimiter = ',', default_values_t = [1_usize, 8])]
    processes: Vec<usize>,
    /// How long each round of each rung takes, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The server to run on.
    #[arg(long, default_value = "etcd")]
    server: ServerKind,
}

pub(crate) fn run(arguments: &Arguments, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let server = Server::start(arguments.server)?;
    for &processes in &arguments.processes {
        if setting.stop.is_set() {
            break;
        }
        let mut table = Table::new(processes, server.story(), &arguments.tasks);
        let load = machine::load_average();
        let climbed = climb_all(&mut table, processes, &server, arguments.seconds, setting);
        table.notes = contest::circumstances(setting, load);
        // What there is, also where it ended early.
        report.add(&table);
        climbed?;
    }
    Ok(())
}

/// All rounds of all rungs.
fn climb_all(
    table: &mut Table,
    processes: usize,
    server: &Server,
    seconds: u64,
    setting: &Setting,
) -> Result<(), Failure> {
    for round in 0..setting.rounds {
        for rung in &mut table.rungs {
            if setting.stop.is_set() {
                return Ok(());
            }
            climb(rung, processes, server, seconds, setting)?;
            eprintln!("  round {}/{}  {}", round + 1, setting.rounds, rung.told());
        }
    }
    Ok(())
}

/// One round: all processes at once, each with its part of the tasks.
fn climb(
    rung: &mut Rung,
    processes: usize,
    server: &Server,
    seconds: u64,
    setting: &Setting,
) -> Result<(), Failure> {
    let mut children = Vec::with_capacity(processes);
    for index in 0..processes {
        let tasks = (rung.tasks + index) / processes;
        let mut child = Child::start(
            Command::new(std::env::current_exe()?)
                .arg("climb")
                .arg(format!("--endpoint={}", server.endpoint()))
                .arg(format!("--tasks={tasks}"))
                .arg(format!("--seconds={seconds}")),
        )?;
        child.wait_ready(PATIENCE)?;
        children.push(child);
    }
    let read = |child: Child| {
        let mut part = table::Part::default();
        child.read(&setting.stop, |line| part.read(line))?;
        Ok::<_, Failure>(part)
    };
    let parts = thread::scope(|scope| {
        let reading: Vec<_> = children
            .into_iter()
            .map(|child| scope.spawn(|| read(child).map_err(|cause| cause.to_string())))
            .collect();
        reading
            .into_iter()
            .map(|part| part.join().unwrap_or_else(|_| Err("a reader panicked".to_owned())))
            .collect::<Vec<_>>()
    });
    rung.add(parts.into_iter().collect::<Result<Vec<_>, _>>()?);
    Ok(())
}
