//! The command line as a whole.

use clap::{Parser, Subcommand};

use crate::commands::{
    bench, completions, del, dev, elect, get, lease, lock, member, put, snapshot, status, txn, unlock, watch,
    who,
};
use crate::connection::Cluster;
use crate::output::Output;
use crate::stage::{self, Stage};

/// Locks for the shell on etcd, and what else etcd has.
///
/// Flags and environment variables are etcdctl's where they mean the same.
#[derive(Debug, Parser)]
#[command(
    name = "tenure",
    version,
    max_term_width = 100,
    after_help = "\
Exit status: 0 done, 1 failed, 2 wrong usage, 141 whoever read the output has left; those of
`lock`, `elect`, `status` and `bench` are in their own help. A failure is a line on stderr."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a command while holding a lock.
    Lock(lock::Arguments),
    /// Leads an election until a signal, or follows who leads.
    Elect(elect::Arguments),
    /// Who has a lock, since when, and who waits.
    Who(who::Arguments),
    /// Takes a lock away from whoever has it.
    Unlock(unlock::Arguments),
    /// Reads a key or a range.
    Get(get::Arguments),
    /// Writes a key.
    Put(put::Arguments),
    /// Deletes a key or a range.
    Del(del::Arguments),
    /// Shows what happens to keys.
    Watch(watch::Arguments),
    /// A transaction from stdin.
    Txn(txn::Arguments),
    /// Grants, keeps, shows and revokes leases.
    Lease(lease::Arguments),
    /// Shows and changes who is in the cluster.
    Member(member::Arguments),
    /// Each member of the cluster, and how it does.
    Status(status::Arguments),
    /// Saves a member's database.
    Snapshot(snapshot::Arguments),
    /// Measures a lock that more and more tasks want.
    Bench(bench::Arguments),
    /// Runs an etcd in memory.
    Dev(dev::Arguments),
    /// Prints a script that completes the command line.
    Completions(completions::Arguments),
    /// The step between a lock and its command.
    #[command(name = stage::NAME, hide = true)]
    Stage(Stage),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_has_no_contradiction() {
        super::Arguments::command().debug_assert();
    }
}
