//! `tenure watch`: what happens to keys, as it happens, until it is ended by a signal.

use clap::Args;
use serde_json::json;
use tenure::{Batch, Event, Revision};

use crate::connection::Connection;
use crate::failure::Failure;
use crate::json;
use crate::keys::{self, Keys};
use crate::output::Output;

/// What `watch` is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    keys: Keys,
    /// From this revision on, instead of from now on.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    rev: i64,
    /// Prints the key as it was before each event, too.
    #[arg(long)]
    prev_kv: bool,
    /// Says now and then how far it has come, while nothing happens.
    #[arg(long)]
    progress_notify: bool,
}

pub(crate) async fn run(arguments: &Arguments, etcd: &Connection, output: &Output) -> Result<(), Failure> {
    let mut watch = etcd.watch(arguments.keys.range()?);
    if arguments.rev > 0 {
        watch = watch.start_revision(Revision(arguments.rev));
    }
    if arguments.prev_kv {
        watch = watch.prev_kv();
    }
    if arguments.progress_notify {
        watch = watch.progress_notify();
    }
    let mut watch = watch.await?;
    loop {
        let batch = watch.next().await?;
        match output.is_json() {
            true => output.json(&to_json(&batch))?,
            false => print(&batch, output)?,
        }
    }
}

fn to_json(batch: &Batch) -> serde_json::Value {
    json!({
        "Header": { "revision": batch.revision.0 },
        "Events": batch.events.iter().map(json::event).collect::<Vec<_>>(),
        "CompactRevision": 0,
        "Canceled": false,
        "Created": false,
    })
}

fn print(batch: &Batch, output: &Output) -> Result<(), Failure> {
    if batch.is_progress() {
        output.line(format_args!("progress notify: {}", batch.revision))?;
    }
    for event in &batch.events {
        output.line(match event {
            Event::Put { .. } => "PUT",
            Event::Delete { .. } => "DELETE",
        })?;
        if let Some(kv) = event.prev_kv() {
            keys::print(output, kv)?;
        }
        keys::print(output, event.kv())?;
    }
    Ok(())
}
