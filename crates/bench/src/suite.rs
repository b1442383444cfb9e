//! The suites: what there is to measure, each a module with its arguments.

mod handoff;
mod keepalive;
mod watch_start;

use clap::Subcommand;

use crate::Failure;
use crate::contest::Setting;
use crate::report::Report;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Suite {
    /// From a watch's creation to the first event, by where it starts, on a busy store.
    WatchStart(watch_start::Arguments),
    /// From a holder's release to the next one's lock, beside the Go client, on a busy store.
    Handoff(handoff::Arguments),
    /// Many leases on one client, kept alive: how many are lost, and at what cost.
    Keepalive(keepalive::Arguments),
}

impl Suite {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Suite::WatchStart(_) => "watch-start",
            Suite::Handoff(_) => "handoff",
            Suite::Keepalive(_) => "keepalive",
        }
    }

    /// Measures, and adds a table to the report for each contest that came to an end.
    pub(crate) fn run(&self, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
        match self {
            Suite::WatchStart(arguments) => watch_start::run(arguments, setting, report),
            Suite::Handoff(arguments) => handoff::run(arguments, setting, report),
            Suite::Keepalive(arguments) => keepalive::run(arguments, setting, report),
        }
    }
}
