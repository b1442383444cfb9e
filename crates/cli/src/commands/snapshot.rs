//! `tenure snapshot save`: a member's database in a file, which has its name only once it is whole.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use tenure::client::{Maintenance, SnapshotSummary};
use tokio::fs;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::json::object;
use crate::output::Output;

/// What `snapshot` is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Saves a snapshot of the one endpoint's database, for `etcdutl snapshot restore`.
    Save {
        /// The file; one that is there is replaced, once the snapshot is whole. Only its owner may read it.
        file: PathBuf,
    },
}

pub(crate) async fn run(arguments: &Arguments, etcd: &Connection, output: &Output) -> Result<(), Failure> {
    let Command::Save { file } = &arguments.command;
    let endpoints = etcd.endpoints().list();
    let [endpoint] = endpoints.as_slice() else {
        return Err("a snapshot is of one member: give one of the --endpoints alone".into());
    };
    let summary = save(&etcd.maintenance(endpoint)?, file).await?;
    if output.is_json() {
        let sha256: String = summary.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        return Ok(output.json(&object([
            ("file", file.to_string_lossy().into()),
            ("bytes", summary.bytes.into()),
            ("sha256", sha256.into()),
            ("version", summary.version.into()),
        ]))?);
    }
    output.line(format_args!("Snapshot saved at {}", file.display()))?;
    if let Some(version) = summary.version {
        output.line(format_args!("Server version {version}"))?;
    }
    Ok(())
}

/// Writes it beside the file first, so that no file of that name is ever half a snapshot.
async fn save(member: &Maintenance<'_>, file: &Path) -> Result<SnapshotSummary, Failure> {
    let file = &replaced(file).await?;
    let part = part(file);
    let saved = write(member, &part).await;
    let saved = match saved {
        Ok(summary) => fs::rename(&part, file).await.map(|()| summary).map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    if saved.is_err() {
        // It may not even have been there.
        let _ = fs::remove_file(&part).await;
    }
    saved
}

/// What it is written to in the end: behind links, and never in the place of a device or the like.
async fn replaced(file: &Path) -> Result<PathBuf, Failure> {
    match fs::metadata(file).await {
        Ok(there) if there.is_file() => Ok(fs::canonicalize(file).await?),
        Ok(_) => Err(format!(
            "{} is there, and is no file that could be replaced",
            file.display()
        )
        .into()),
        Err(_) => Ok(file.to_owned()),
    }
}

async fn write(member: &Maintenance<'_>, part: &Path) -> Result<SnapshotSummary, Failure> {
    // It has all values, and what passwords are checked with.
    let created = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(part)
        .await;
    let mut file = created.map_err(|cause| format!("cannot write {}: {cause}", part.display()))?;
    let bar = bar();
    let snapshot = member.snapshot().write_with_progress(&mut file, |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.bytes);
    });
    let summary = snapshot.await;
    bar.finish_and_clear();
    let summary = summary?;
    file.sync_all().await?;
    Ok(summary)
}

fn part(file: &Path) -> PathBuf {
    let mut part = OsString::from(file);
    part.push(".part");
    PathBuf::from(part)
}

/// On stderr, and only where that is a terminal.
fn bar() -> ProgressBar {
    const TEMPLATE: &str =
        "{bar:40} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(TEMPLATE);
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
