//! What the client weighs: how many crates and bytes a program that locks and unlocks is made of,
//! how long it takes to build, and what memory things take that do nothing. Each
//! beside etcd-client, on this machine and with the same profile.

mod idle;
mod program;
mod sheet;

use clap::Args;

use crate::Failure;
use crate::contest::Setting;
use crate::report::Report;
use crate::server::ServerKind;

/// The options of `footprint`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many watches, waiting locks and leases lie about.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Other machines to build the small program for, too, such as x86_64-unknown-linux-musl.
    #[arg(long, value_delimiter = ',')]
    target: Vec<String>,
    /// Without the builds: crates and memory only.
    #[arg(long)]
    without_builds: bool,
    /// The server that the idle things are on.
    #[arg(long, default_value = "etcd")]
    server: ServerKind,
}

pub(crate) fn run(arguments: &Arguments, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    report.add(&program::weigh(arguments, setting));
    if !setting.stop.is_set() {
        report.add(&idle::weigh(arguments, setting)?);
    }
    Ok(())
}
