//! The program that connects, locks and unlocks, without TLS: its crates, its size with
//! `--profile small`, and the time that a clean release build of it takes.

use std::fs;
use std::time::{Duration, Instant};

use super::Arguments;
use super::sheet::Sheet;
use crate::Failure;
use crate::cargo::Workspace;
use crate::contest::Setting;
use crate::peer::Peer;
use crate::report::show;

/// What the program of a client shall be at most, of tenure.
const CRATES_GOAL: usize = 36;
const SMALL_BYTES_GOAL: u64 = 740_000;

/// Of the program; macros, which are not linked, among them. And with them what only builds use.
const NORMAL: &str = "normal";
const BUILT: &str = "normal,build";

pub(super) fn weigh(arguments: &Arguments, setting: &Setting) -> Sheet {
    let mut sheet = Sheet {
        title: "A program that connects, locks and unlocks, without TLS".to_owned(),
        head: vec![
            "",
            "crates",
            "with those that build",
            "small binary",
            "clean release build",
        ],
        rows: Vec::new(),
        notes: Vec::new(),
        failures: 0,
    };
    let programs = [
        (Peer::Tenure, "tenure-small", Workspace::root()),
        (
            Peer::EtcdClient,
            "tenure-bench-small",
            Workspace::peers().and_then(Workspace::with_protoc),
        ),
    ];
    for (peer, package, workspace) in programs {
        match workspace {
            Ok(workspace) => weigh_one(arguments, setting, &mut sheet, peer, package, &workspace),
            Err(cause) => {
                sheet.failures += 1;
                sheet.notes.push(format!("{}: {cause}", peer.name()));
            }
        }
    }
    sheet.notes.push(format!(
        "Goals of {}: at most {CRATES_GOAL} crates, {} KB.",
        Peer::Tenure.name(),
        SMALL_BYTES_GOAL / 1000
    ));
    sheet
}

fn weigh_one(
    arguments: &Arguments,
    setting: &Setting,
    sheet: &mut Sheet,
    peer: Peer,
    package: &str,
    workspace: &Workspace,
) {
    let name = peer.name();
    let number = |count: usize| count.to_string();
    let mut row = vec![
        name.clone(),
        sheet.cell(
            &format!("{name}, crates"),
            workspace.count_crates(package, NORMAL),
            number,
        ),
        sheet.cell(
            &format!("{name}, crates with those that build"),
            workspace.count_crates(package, BUILT),
            number,
        ),
    ];
    let is_built = || !arguments.without_builds && !setting.stop.is_set();
    if is_built() {
        row.push(sheet.cell(
            &format!("{name}, small"),
            small_bytes(workspace, package, None),
            kilobytes,
        ));
    }
    if is_built() {
        let took = clean_build(workspace, package);
        row.push(sheet.cell(&format!("{name}, clean build"), took, show));
    }
    row.resize(sheet.head.len(), "-".to_owned());
    sheet.rows.push(row);
    for triple in arguments.target.iter().filter(|_| is_built()) {
        let what = format!("{name}, {triple}");
        let size = sheet.cell(&what, small_bytes(workspace, package, Some(triple)), kilobytes);
        sheet.rows.push(vec![what, "-".to_owned(), "-".to_owned(), size, "-".to_owned()]);
    }
}

fn small_bytes(workspace: &Workspace, package: &str, triple: Option<&str>) -> Result<u64, Failure> {
    let built = workspace.build(package, "small", triple)?;
    Ok(fs::metadata(built)?.len())
}

/// From nothing to the program; what a protoc takes is not counted.
fn clean_build(workspace: &Workspace, package: &str) -> Result<Duration, Failure> {
    let target = std::env::temp_dir().join(format!("tenure-bench-{}-clean", std::process::id()));
    let begun = Instant::now();
    let built = workspace.built_into(&target).build(package, "release", None);
    let took = begun.elapsed();
    let _ = fs::remove_dir_all(&target);
    built.map(|_| took)
}

fn kilobytes(bytes: u64) -> String {
    format!("{:.0} KB", bytes as f64 / 1000.0)
}
