//! The command `tenure`: parses the command line, runs one command, and says what failed.
//!
//! It is built on what the library offers to everybody. One thread does it all.

#![forbid(unsafe_code)]

mod arguments;
mod child;
mod commands;
mod connection;
mod descendants;
mod duration;
mod failure;
mod held;
mod holder;
mod json;
mod keys;
mod output;
mod signals;
mod stage;
mod time;

use std::process::ExitCode;

use clap::CommandFactory;

use arguments::{Arguments, Command};
use commands::{
    bench, completions, del, dev, elect, get, lease, lock, member, put, snapshot, status, txn, unlock, watch,
    who,
};
use failure::Failure;
use stage::Stage;

fn main() -> ExitCode {
    if let Some(stage) = Stage::told() {
        return ExitCode::from(stage.run());
    }
    let status = match Arguments::told() {
        Ok(arguments) => run(&arguments).unwrap_or_else(|failure| failure.tell(arguments.output.is_json())),
        Err(failure) => failure.tell(true),
    };
    ExitCode::from(status)
}

fn run(arguments: &Arguments) -> Result<u8, Failure> {
    if let Command::Completions(told) = &arguments.command {
        return completions::run(told, Arguments::command()).map(|()| 0);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(run_async(arguments));
    // A read of stdin cannot be ended.
    runtime.shutdown_background();
    status
}

async fn run_async(arguments: &Arguments) -> Result<u8, Failure> {
    let (cluster, output) = (&arguments.cluster, &arguments.output);
    // These have exit statuses of their own, or need no etcd.
    match &arguments.command {
        Command::Lock(arguments) => return lock::run(arguments, cluster, output).await,
        Command::Elect(arguments) => return elect::run(arguments, cluster, output).await,
        Command::Bench(arguments) => return bench::run(arguments, cluster, output).await,
        Command::Dev(arguments) => return dev::run(arguments, output).await.map(|()| 0),
        _ => {}
    }
    let etcd = cluster.connect().await?;
    match &arguments.command {
        Command::Who(arguments) => who::run(arguments, &etcd, output).await?,
        Command::Unlock(arguments) => unlock::run(arguments, &etcd, output).await?,
        Command::Get(arguments) => get::run(arguments, &etcd, output).await?,
        Command::Put(arguments) => put::run(arguments, &etcd, output).await?,
        Command::Del(arguments) => del::run(arguments, &etcd, output).await?,
        Command::Watch(arguments) => watch::run(arguments, &etcd, output).await?,
        Command::Txn(arguments) => txn::run(arguments, &etcd, output).await?,
        Command::Lease(arguments) => lease::run(arguments, &etcd, output).await?,
        Command::Member(arguments) => member::run(arguments, &etcd, output).await?,
        Command::Snapshot(arguments) => snapshot::run(arguments, &etcd, output).await?,
        Command::Status(arguments) => return status::run(arguments, &etcd, output).await,
        Command::Lock(_)
        | Command::Elect(_)
        | Command::Bench(_)
        | Command::Dev(_)
        | Command::Completions(_) => {}
    }
    Ok(0)
}
