//! The suites: what there is to measure, each a module with its arguments.

mod failover;
mod footprint;
mod handoff;
mod keepalive;
mod ladder;
mod local;
mod lock;
mod stores;
mod tail;
mod unary;
mod watch_latency;
mod watch_start;
mod watch_throughput;

use clap::Subcommand;

pub(crate) use ladder::Climb;

use crate::Failure;
use crate::contest::Setting;
use crate::report::Report;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Suite {
    /// From a watch's creation to the first event, by where it starts, on a busy store.
    WatchStart(watch_start::Arguments),
    /// From a put to its event, with one watch and with many on one client, beside Go and etcd-client.
    WatchLatency(watch_latency::Arguments),
    /// From a holder's release to the next one's lock, beside Go and etcd-client, on a busy store.
    Handoff(handoff::Arguments),
    /// From a fault of members or of the ways to them to the next answer, beside Go and etcd-client.
    Failover(failover::Arguments),
    /// Events a second through one watch, and what one costs, beside Go and etcd-client.
    WatchThroughput(watch_throughput::Arguments),
    /// What a small call costs, beside the h2 crate alone, Go and etcd-client.
    Unary(unary::Arguments),
    /// The last of a thousand small reads, beside watches, leases and large reads of the same client.
    Tail(tail::Arguments),
    /// What a lock costs that is free, beside the same transactions on h2 alone, Go and etcd-client.
    Lock(lock::Arguments),
    /// Locks beside those of Redis, ZooKeeper, PostgreSQL and MariaDB: free, and passed on.
    Stores(stores::Arguments),
    /// Many leases on one client, kept alive: how many are lost, and at what cost, beside Go and etcd-client.
    Keepalive(keepalive::Arguments),
    /// Locks that need no request: passed on within a session, and locked again while they linger.
    Local(local::Arguments),
    /// More and more tasks that want one lock, in one process and spread over several.
    Ladder(ladder::Arguments),
    /// Crates, sizes, build times, and what idle things take of memory, beside etcd-client.
    Footprint(footprint::Arguments),
}

impl Suite {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Suite::WatchStart(_) => "watch-start",
            Suite::WatchLatency(_) => "watch-latency",
            Suite::Handoff(_) => "handoff",
            Suite::Unary(_) => "unary",
            Suite::Tail(_) => "tail",
            Suite::WatchThroughput(_) => "watch-throughput",
            Suite::Failover(_) => "failover",
            Suite::Lock(_) => "lock",
            Suite::Stores(_) => "stores",
            Suite::Keepalive(_) => "keepalive",
            Suite::Local(_) => "local",
            Suite::Ladder(_) => "ladder",
            Suite::Footprint(_) => "footprint",
        }
    }

    /// Measures, and adds a table to the report for each contest that came to an end.
    pub(crate) fn run(&self, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
        match self {
            Suite::WatchStart(arguments) => watch_start::run(arguments, setting, report),
            Suite::WatchLatency(arguments) => watch_latency::run(arguments, setting, report),
            Suite::Handoff(arguments) => handoff::run(arguments, setting, report),
            Suite::Unary(arguments) => unary::run(arguments, setting, report),
            Suite::Tail(arguments) => tail::run(arguments, setting, report),
            Suite::WatchThroughput(arguments) => watch_throughput::run(arguments, setting, report),
            Suite::Failover(arguments) => failover::run(arguments, setting, report),
            Suite::Lock(arguments) => lock::run(arguments, setting, report),
            Suite::Stores(arguments) => stores::run(arguments, setting, report),
            Suite::Keepalive(arguments) => keepalive::run(arguments, setting, report),
            Suite::Local(arguments) => local::run(arguments, setting, report),
            Suite::Ladder(arguments) => ladder::run(arguments, setting, report),
            Suite::Footprint(arguments) => footprint::run(arguments, setting, report),
        }
    }
}
