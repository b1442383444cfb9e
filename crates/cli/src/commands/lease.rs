//! `tenure lease`: grants, keeps, shows and revokes leases.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tenure::LeaseId;
use tokio::time::sleep;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::json::beside;
use crate::keys;
use crate::output::Output;

/// What `lease` is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Grants a lease for so many seconds, and leaves it to run out.
    Grant {
        #[arg(value_name = "SECONDS")]
        ttl: u64,
    },
    /// Ends a lease and deletes its keys.
    Revoke {
        #[arg(value_parser = keys::lease)]
        id: LeaseId,
    },
    /// How long a lease has left.
    Timetolive {
        #[arg(value_parser = keys::lease)]
        id: LeaseId,
        /// The keys that hang on it, too.
        #[arg(long)]
        keys: bool,
    },
    /// All leases.
    List,
    /// Renews a lease again and again, until this is ended by a signal.
    KeepAlive {
        #[arg(value_parser = keys::lease)]
        id: LeaseId,
        /// Only once.
        #[arg(long)]
        once: bool,
    },
}

pub(crate) async fn run(arguments: &Arguments, etcd: &Connection, output: &Output) -> Result<(), Failure> {
    match &arguments.command {
        Command::Grant { ttl } => grant(*ttl, etcd, output).await,
        Command::Revoke { id } => revoke(*id, etcd, output).await,
        Command::Timetolive { id, keys } => time_to_live(*id, *keys, etcd, output).await,
        Command::List => list(etcd, output).await,
        Command::KeepAlive { id, once } => keep_alive(*id, *once, etcd, output).await,
    }
}

async fn grant(ttl: u64, etcd: &Connection, output: &Output) -> Result<(), Failure> {
    let answer = etcd.lease_grant(Duration::from_secs(ttl)).await?;
    let fields = json!({ "ID": answer.id, "TTL": answer.ttl, "Error": answer.error });
    say(
        output,
        || beside(answer.header.as_ref(), fields),
        || format!("lease {:016x} granted with TTL({}s)", answer.id, answer.ttl),
    )
}

async fn revoke(id: LeaseId, etcd: &Connection, output: &Output) -> Result<(), Failure> {
    let answer = etcd.lease_revoke(id).await?;
    let fields = || json!({ "header": crate::json::header(answer.header.as_ref()) });
    say(output, fields, || format!("lease {:016x} revoked", id.0))
}

async fn time_to_live(id: LeaseId, keys: bool, etcd: &Connection, output: &Output) -> Result<(), Failure> {
    let question = etcd.lease_time_to_live(id);
    let answer = if keys {
        question.keys().await?
    } else {
        question.await?
    };
    if output.is_json() {
        let keys: Option<Vec<_>> =
            keys.then(|| answer.keys.iter().map(|key| crate::json::base64(key)).collect());
        let fields = json!({
            "id": answer.id,
            "ttl": answer.ttl,
            "granted-ttl": answer.granted_ttl,
            "keys": keys,
        });
        return Ok(output.json(&beside(answer.header.as_ref(), fields))?);
    }
    if answer.granted_ttl == 0 && answer.ttl == -1 {
        return Ok(output.line(format_args!("lease {:016x} already expired", answer.id))?);
    }
    let (id, granted, left) = (answer.id, answer.granted_ttl, answer.ttl);
    let mut text = format!("lease {id:016x} granted with TTL({granted}s), remaining({left}s)");
    if keys {
        let keys: Vec<_> = answer.keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
        text.push_str(&format!(", attached keys([{}])", keys.join(" ")));
    }
    Ok(output.line(text)?)
}

async fn list(etcd: &Connection, output: &Output) -> Result<(), Failure> {
    let answer = etcd.leases().await?;
    if output.is_json() {
        let leases: Vec<_> = answer.leases.iter().map(|lease| json!({ "id": lease.id })).collect();
        return Ok(output.json(&beside(answer.header.as_ref(), json!({ "leases": leases })))?);
    }
    output.line(format_args!("found {} leases", answer.leases.len()))?;
    for lease in answer.leases {
        output.line(format_args!("{:016x}", lease.id))?;
    }
    Ok(())
}

async fn keep_alive(id: LeaseId, once: bool, etcd: &Connection, output: &Output) -> Result<(), Failure> {
    loop {
        let answer = etcd.lease_keep_alive_once(id).await?;
        let fields = || {
            beside(
                answer.header.as_ref(),
                json!({ "ID": answer.id, "TTL": answer.ttl }),
            )
        };
        say(output, fields, || {
            format!("lease {:016x} keepalived with TTL({})", answer.id, answer.ttl)
        })?;
        if once {
            return Ok(());
        }
        // As often as Go's client does.
        let ttl = Duration::from_secs(answer.ttl.unsigned_abs());
        sleep(ttl / 3).await;
    }
}

fn say(output: &Output, json: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
    match output.is_json() {
        true => Ok(output.json(&json())?),
        false => Ok(output.line(text())?),
    }
}
