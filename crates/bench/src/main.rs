//! The benchmarks: one suite a run, its competitors in turn, round by round, and
//! at the end tables. It measures and draws; what is a good number it leaves to
//! the suite's goals and to BENCHMARKS.md.

#![forbid(unsafe_code)]

mod contest;
mod cost;
mod load;
mod machine;
mod report;
mod server;
mod stop;
mod suite;
mod tally;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::contest::Setting;
use crate::report::Report;
use crate::stop::Stop;
use crate::suite::Suite;

/// Why a benchmark could not run: a text for whoever started it.
type Failure = Box<dyn Error + Send + Sync>;

/// Measures tenure side by side with its peers.
///
/// Ctrl-C ends the measuring and prints what there is; once more, and it ends at once.
#[derive(Debug, Parser)]
#[command(name = "tenure-bench")]
struct Arguments {
    #[command(subcommand)]
    suite: Suite,
    /// How many rounds; in each, every competitor has its turn.
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Write everything that was measured to this file, too.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("tenure-bench: {cause}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let setting = Setting {
        rounds: arguments.rounds,
        stop: Stop::at_ctrl_c()?,
    };
    let mut report = Report::new(arguments.suite.name());
    let outcome = arguments.suite.run(&setting, &mut report);
    if let Some(path) = &arguments.json {
        report.write_to(path)?;
    }
    outcome?;
    match report.failures() {
        0 => Ok(()),
        count => Err(format!("{count} of the competitors did not run to the end, see above").into()),
    }
}
