//! The benchmarks: one suite a run, its competitors in turn, round by round, and
//! at the end tables. It measures and draws; what is a good number it leaves to
//! the suite's goals and to BENCHMARKS.md.

#![forbid(unsafe_code)]

mod cargo;
mod child;
mod contest;
mod floor;
mod load;
mod machine;
mod null;
mod order;
mod peer;
mod probe;
mod report;
mod server;
mod stop;
mod suite;
mod tally;
mod worker;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tenure_bench_worker::Order;

use crate::contest::Setting;
use crate::report::Report;
use crate::server::Serve;
use crate::stop::Stop;
use crate::suite::{Climb, Suite};

/// Why a benchmark could not run: a text for whoever started it.
type Failure = Box<dyn Error + Send + Sync>;

/// As a shell has it of who ended by Ctrl-C: what there is was printed, and it is not all.
const STOPPED: u8 = 130;

/// Measures tenure side by side with its peers.
///
/// Ctrl-C ends the measuring, prints what there is, and has the status be 130; once more, and it ends at once.
#[derive(Debug, Parser)]
#[command(name = "tenure-bench")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// How many rounds; in each, every competitor has its turn.
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Write everything that was measured to this file, too.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the curves, a file for each into this directory.
    #[arg(long, global = true, value_name = "DIR")]
    svg: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Suite(Suite),
    /// tenure under measurement, in a process of its own.
    #[command(hide = true)]
    Worker {
        #[command(subcommand)]
        order: Order,
    },
    /// The same with a thread of the client's own.
    #[command(hide = true)]
    WorkerOwnThread {
        #[command(subcommand)]
        order: Order,
    },
    /// A server in memory.
    #[command(hide = true)]
    Serve(Serve),
    /// A process of `ladder`.
    #[command(hide = true)]
    Climb(Climb),
    /// The h2 crate alone, likewise.
    #[command(hide = true)]
    Floor {
        #[command(subcommand)]
        order: Order,
    },
    /// The same with a timer set.
    #[command(hide = true)]
    FloorTimed {
        #[command(subcommand)]
        order: Order,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Command::Worker { order } => return tenure_bench_worker::run::<worker::Tenure<false>>(order),
        Command::WorkerOwnThread { order } => {
            return tenure_bench_worker::run::<worker::Tenure<true>>(order);
        }
        Command::Floor { order } => return tenure_bench_worker::run::<floor::Floor<false>>(order),
        Command::FloorTimed { order } => return tenure_bench_worker::run::<floor::Floor<true>>(order),
        Command::Serve(serve) => return serve.run(),
        Command::Climb(climb) => return climb.run(),
        Command::Suite(suite) => run(suite, &arguments),
    };
    match outcome {
        Ok(Ended::Whole) => ExitCode::SUCCESS,
        Ok(Ended::Stopped) => ExitCode::from(STOPPED),
        Err(cause) => {
            eprintln!("tenure-bench: {cause}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was measured.
enum Ended {
    Whole,
    Stopped,
}

fn run(suite: &Suite, arguments: &Arguments) -> Result<Ended, Failure> {
    let setting = Setting {
        rounds: arguments.rounds,
        stop: Stop::at_ctrl_c()?,
    };
    let mut report = Report::new(suite.name());
    let outcome = suite.run(&setting, &mut report);
    if let Some(path) = &arguments.json {
        report.write_to(path)?;
    }
    if let Some(directory) = &arguments.svg {
        report.draw_to(directory)?;
    }
    outcome?;
    match report.failures() {
        _ if setting.stop.is_set() => Ok(Ended::Stopped),
        0 => Ok(Ended::Whole),
        count => Err(format!("{count} of the competitors did not run to the end, see above").into()),
    }
}
