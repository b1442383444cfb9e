//! `tenure dev`: an etcd in memory on a port, until a signal.

use std::net::SocketAddr;

use clap::Args;
use serde_json::json;
use tenure_testserver::{Options, Server};
use tokio::net::TcpListener;

use crate::failure::Failure;
use crate::output::Output;
use crate::signals::Signals;

/// What `dev` is told.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
It has keys, transactions, leases, watches and the list of members; no authentication, no maintenance
and no disk: what was written goes with it. It is for trying out and for tests.")]
pub(crate) struct Arguments {
    /// Where it listens; port 0 is any that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:2379")]
    listen: SocketAddr,
}

pub(crate) async fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let mut signals = Signals::catch()?;
    let listener = TcpListener::bind(arguments.listen).await;
    let listener = listener.map_err(|cause| format!("cannot listen at {}: {cause}", arguments.listen))?;
    let server = Server::start_on(listener, Options::default())?;
    match output.is_json() {
        true => output.json(&json!({ "endpoint": server.endpoint() }))?,
        false => output.line(server.endpoint())?,
    }
    signals.end().await;
    Ok(())
}
