//! What cargo builds and counts for the suites: packages of this repository's workspace, and
//! those of the Rust peers, a workspace of their own, some of whose builds ask for a protoc.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");
/// Of what a failed build printed, the end is quoted.
const QUOTED_LINES: usize = 12;

/// Packages that are built together, and where to.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    directory: &'static str,
    target: PathBuf,
    protoc: Option<PathBuf>,
}

impl Workspace {
    /// This repository's. It is built beside what this program was built into, for its own
    /// target directory belongs to the cargo that runs this one.
    pub(crate) fn root() -> Result<Workspace, Failure> {
        Ok(Workspace {
            directory: ROOT,
            target: beside("root")?,
            protoc: None,
        })
    }

    /// The peers'.
    pub(crate) fn peers() -> Result<Workspace, Failure> {
        Ok(Workspace {
            directory: PEERS,
            target: beside("peers")?,
            protoc: None,
        })
    }

    /// The same with a protoc, which is built first, for those who ask for one.
    pub(crate) fn with_protoc(self) -> Result<Workspace, Failure> {
        let protoc = self.build("protoc", "release", None)?;
        Ok(Workspace {
            protoc: Some(protoc),
            ..self
        })
    }

    /// The same, built elsewhere.
    pub(crate) fn built_into(&self, target: &Path) -> Workspace {
        Workspace {
            target: target.to_owned(),
            ..self.clone()
        }
    }

    /// Builds the program of a package, which can take minutes, and returns where it is. `triple`:
    /// for another machine.
    ///
    /// # Errors
    ///
    /// It cannot be built here.
    pub(crate) fn build(
        &self,
        package: &str,
        profile: &str,
        triple: Option<&str>,
    ) -> Result<PathBuf, Failure> {
        let for_triple = triple.map_or_else(|| self.target.clone(), |triple| self.target.join(triple));
        let built = for_triple.join(profile).join(package);
        if !built.exists() {
            eprintln!("tenure-bench: building {package}, once; this can take minutes");
        }
        let mut arguments = vec!["build", "--profile", profile, "--package", package];
        arguments.extend(triple.iter().flat_map(|triple| ["--target", triple]));
        self.cargo(package, &arguments)?;
        Ok(built)
    }

    /// How many crates the program of a package is made of, itself left out: with these kinds
    /// of edges, as `cargo tree` calls them.
    pub(crate) fn count_crates(&self, package: &str, edges: &str) -> Result<usize, Failure> {
        let arguments = [
            "tree",
            "--package",
            package,
            "--edges",
            edges,
            "--prefix",
            "none",
            "--no-dedupe",
        ];
        let printed = self.cargo(package, &arguments)?;
        let names = printed.lines().map(|line| line.split(" (").next().unwrap_or(line));
        let crates: BTreeSet<&str> = names.filter(|name| !name.is_empty()).collect();
        Ok(crates.len().saturating_sub(1))
    }

    fn cargo(&self, package: &str, arguments: &[&str]) -> Result<String, Failure> {
        let mut cargo = Command::new("cargo");
        cargo.args(arguments).arg("--locked");
        cargo.arg("--manifest-path").arg(Path::new(self.directory).join("Cargo.toml"));
        // What the cargo that runs this one has set is about another workspace.
        cargo.env("CARGO_TARGET_DIR", &self.target).env_remove("PROTOC").env_remove("RUSTFLAGS");
        if let Some(protoc) = &self.protoc {
            cargo.env("PROTOC", protoc);
        }
        let output = cargo.output().map_err(|cause| match cause.kind() {
            std::io::ErrorKind::NotFound => format!("building {package}: no `cargo` on PATH"),
            _ => format!("building {package}: {cause}"),
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let printed = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = printed.lines().collect();
        let end = lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n");
        Err(format!("building {package}: {}\n{end}", output.status).into())
    }
}

fn beside(name: &str) -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).ok_or("this program is nowhere")?.join(name))
}
