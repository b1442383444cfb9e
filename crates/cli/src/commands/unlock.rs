//! `tenure unlock`: takes a lock away from whoever has it.

use clap::Args;
use serde_json::json;

use super::who::entry;
use crate::connection::Connection;
use crate::failure::{Failure, one_line};
use crate::output::Output;

/// What `unlock` is told.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
The holder is not stopped, unless it is `tenure lock`, which ends its command then. What it still
does is told from the next holder's only by the fencing token, or by a transaction that compares the lock's key.")]
pub(crate) struct Arguments {
    /// The name of the lock.
    name: String,
    /// That it is meant: a lock is given back by its holder, else.
    #[arg(long, required = true)]
    force: bool,
}

pub(crate) async fn run(arguments: &Arguments, etcd: &Connection, output: &Output) -> Result<(), Failure> {
    let taken = etcd.force_unlock(&arguments.name).await?;
    if output.is_json() {
        return Ok(output.json(&json!({ "name": arguments.name, "taken_from": taken.as_ref().map(entry) }))?);
    }
    match taken {
        Some(holder) => {
            let who = one_line(&String::from_utf8_lossy(&holder.value));
            let lease = holder.lease;
            output.line(format_args!(
                "{:?} was taken from {who} (lease {lease})",
                arguments.name
            ))?;
        }
        None => output.line(format_args!("nobody has {:?}", arguments.name))?,
    }
    Ok(())
}
