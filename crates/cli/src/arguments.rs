//! The command line as a whole.

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    bench, completions, del, dev, elect, get, lease, lock, member, put, snapshot, status, txn, unlock, watch,
    who,
};
use crate::connection::{Cluster, ENDPOINTS};
use crate::failure::{Failure, WRONG};
use crate::output::{self, Output};

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
}

impl Arguments {
    /// What this process was told.
    ///
    /// # Errors
    ///
    /// That is wrong, and the output is to be JSON. Where it is not, or it is a question for help, the process ends here.
    pub(crate) fn told() -> Result<Arguments, Failure> {
        let matches = with_usage(with_variables(Arguments::command())).try_get_matches();
        matches.and_then(|matches| Arguments::from_arg_matches(&matches)).map_err(|error| {
            if !error.use_stderr() || !output::asks_for_json(std::env::args_os().skip(1)) {
                error.exit();
            }
            Failure::new(WRONG, sentence(&error))
        })
    }
}

/// What is wrong, without the advice on what would not be.
fn sentence(error: &clap::Error) -> String {
    if let ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand = error.kind() {
        return "a command is missing".to_owned();
    }
    let text = error.render().to_string();
    let lines = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
    let sentence = lines.collect::<Vec<_>>().join(" ");
    sentence.strip_prefix("error: ").unwrap_or(&sentence).to_owned()
}

/// Each says in its errors how it is used as it does in its help. By itself clap shows what a variable has set as if it
/// were required.
fn with_usage(mut command: clap::Command) -> clap::Command {
    command.build();
    with_own_usage(command)
}

fn with_own_usage(mut command: clap::Command) -> clap::Command {
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").to_owned();
    command.override_usage(usage).mut_subcommands(with_own_usage)
}

/// Without the variables that are empty: to etcdctl that is as if they were not there. Only those that name no
/// endpoint are a mistake, which `Cluster` tells of.
fn with_variables(command: clap::Command) -> clap::Command {
    let is_empty = |argument: &Arg| {
        let variable = argument.get_env().filter(|name| *name != ENDPOINTS);
        variable.and_then(std::env::var_os).is_some_and(|value| value.is_empty())
    };
    let empty = command.get_arguments().filter(|argument| is_empty(argument));
    let empty: Vec<_> = empty.map(|argument| argument.get_id().clone()).collect();
    empty.into_iter().fold(command, |command, id| {
        command.mut_arg(id, |argument| argument.env(Resettable::Reset))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_no_contradiction() {
        Arguments::command().debug_assert();
    }
}
