//! The locks of other stores under measurement, each through a maintained client and by the recipe
//! that its documentation gives. They take the same orders as the clients of etcd.

#![forbid(unsafe_code)]

mod mariadb;
mod postgres;
mod redis;
mod zookeeper;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use tenure_bench_worker::{LockOrder, run_locks};

#[derive(Parser)]
struct Arguments {
    store: Store,
    #[command(subcommand)]
    order: LockOrder,
}

/// Whose lock it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Store {
    /// `SET NX PX`, and the script that deletes the key if the value is still one's own.
    Redis,
    /// Sequential ephemeral nodes, Curator's way.
    Zookeeper,
    /// `pg_advisory_lock` of a session.
    Postgres,
    /// `GET_LOCK`.
    Mariadb,
}

fn main() -> ExitCode {
    let Arguments { store, order } = Arguments::parse();
    match store {
        Store::Redis => run_locks::<redis::Redis>(&order),
        Store::Zookeeper => run_locks::<zookeeper::ZooKeeper>(&order),
        Store::Postgres => run_locks::<postgres::Postgres>(&order),
        Store::Mariadb => run_locks::<mariadb::MariaDb>(&order),
    }
}

fn text(cause: impl ToString) -> String {
    cause.to_string()
}

/// One endpoint as `host:port`, of which all but the lock on etcd have only one.
fn endpoint(endpoints: &[String]) -> Result<(&str, u16), String> {
    let endpoint = endpoints.first().ok_or("no endpoint")?;
    let (host, port) = endpoint.rsplit_once(':').ok_or("an endpoint is host:port")?;
    Ok((host, port.parse().map_err(text)?))
}
