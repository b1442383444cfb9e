//! `tenure who`: who has a lock, or leads an election, and who waits.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tenure::{LeaseId, LockEntry};

use crate::connection::Connection;
use crate::failure::{Failure, one_line};
use crate::json;
use crate::output::Output;

/// What `who` is told.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
The second column is what each says of itself. `tenure lock` says since when, in UTC and by the
clock of its machine: who has the lock since when it has it, who waits since when it waits. Others
may say something else, or nothing; in an election it is the proposal. etcd itself knows revisions,
not times: the third column has that at which each joined the queue.")]
pub(crate) struct Arguments {
    /// The name of the lock or of the election.
    name: String,
}

pub(crate) async fn run(arguments: &Arguments, etcd: &Connection, output: &Output) -> Result<(), Failure> {
    let queue = etcd.who(&arguments.name).await?;
    let left = match queue.first() {
        Some(holder) => left(holder.lease, etcd).await?,
        None => None,
    };
    if output.is_json() {
        return Ok(output.json(&to_json(&arguments.name, &queue, left))?);
    }
    if queue.is_empty() {
        return Ok(output.line(format_args!("nobody has {:?}", arguments.name))?);
    }
    let rows = queue.iter().enumerate().map(|(at, entry)| row(at, entry, left)).collect();
    Ok(output.table(&["place", "who", "queued at revision", "lease", "key"], rows)?)
}

/// How long the lease lives on if it is not renewed.
async fn left(lease: LeaseId, etcd: &Connection) -> Result<Option<Duration>, Failure> {
    if lease == LeaseId::NONE {
        return Ok(None);
    }
    let answer = etcd.lease_time_to_live(lease).await?;
    Ok(u64::try_from(answer.ttl).ok().map(Duration::from_secs))
}

fn row(at: usize, entry: &LockEntry, left: Option<Duration>) -> Vec<String> {
    let place = if at == 0 {
        "holds it".to_owned()
    } else {
        format!("waits, {at}")
    };
    let lease = match left.filter(|_| at == 0) {
        Some(left) => format!("{} ({left:?} left)", entry.lease),
        None if entry.lease == LeaseId::NONE => "none".to_owned(),
        None => entry.lease.to_string(),
    };
    vec![
        place,
        one_line(&String::from_utf8_lossy(&entry.value)),
        entry.created.to_string(),
        lease,
        one_line(&String::from_utf8_lossy(&entry.key)),
    ]
}

/// The first has it.
fn to_json(name: &str, queue: &[LockEntry], left: Option<Duration>) -> Value {
    let mut entries = queue.iter().map(entry);
    let holder = entries.next();
    json!({
        "name": name,
        "holder": holder,
        "lease_left_seconds": left.map(|left| left.as_secs()),
        "queue": entries.collect::<Vec<_>>(),
    })
}

pub(super) fn entry(entry: &LockEntry) -> Value {
    json::object([
        json::text("key", "key_base64", &entry.key),
        json::text("value", "value_base64", &entry.value),
        ("created", entry.created.0.into()),
        ("lease", entry.lease.to_string().into()),
    ])
}
