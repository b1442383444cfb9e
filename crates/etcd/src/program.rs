//! A program that is built from Go source, once on a machine, and kept in the cache.
//!
//! Its files are part of whoever names it, so a build needs no source tree, and
//! they pin every dependency, so that all builds are of the same source.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::cache::Cache;

/// A Go program of one file, with the text of each file that it is built from.
#[derive(Clone, Copy, Debug)]
pub struct GoProgram {
    /// What the built file is called.
    pub name: &'static str,
    /// Its `go.mod`.
    pub go_mod: &'static str,
    /// Its `go.sum`.
    pub go_sum: &'static str,
    /// Its `main.go`.
    pub main_go: &'static str,
}

impl GoProgram {
    /// The path of the built program, from the cache or built now, which takes
    /// minutes the first time.
    ///
    /// # Errors
    ///
    /// There is no Go, or none that is new enough, or the build fails.
    pub fn build(&self) -> Result<PathBuf, Error> {
        let cache = Cache::of_environment()?;
        let what = format!("building {}", self.name);
        let dir = self.entry_or_build(&cache, &self.key(self.name), &what, |_| Ok(()))?;
        Ok(dir.join(self.name))
    }

    /// The version at which `go.mod` pins this module, without the `v`, or `unknown`.
    #[must_use]
    pub fn version_of(&self, module: &str) -> &'static str {
        word_after(self.go_mod, &format!("{module} v"))
    }

    /// The name of the entry in the cache: it changes with anything that the build is made of.
    pub(crate) fn key(&self, stem: &str) -> String {
        let sources = [self.go_mod, self.go_sum, self.main_go].concat();
        format!("{stem}-{:016x}", fnv1a(sources.as_bytes()))
    }

    /// The directory of the built program; `finish` adds what else the entry shall have.
    pub(crate) fn entry_or_build(
        &self,
        cache: &Cache,
        key: &str,
        what: &str,
        finish: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<PathBuf, Error> {
        let make = |dir: &Path| {
            self.build_in(dir, what)?;
            finish(dir).map_err(|cause| Error::io(what, &cause))?;
            Ok(key.to_owned())
        };
        cache.entry_or_make(key, || cache.entry(key), make)
    }

    fn build_in(&self, dir: &Path, what: &str) -> Result<(), Error> {
        let at = |cause: io::Error| Error::io(what, &cause);
        let go_version = go_version().map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => Error::new(format!("{what}: no `go` on PATH; {}", self.needs())),
            _ => at(cause),
        })?;
        crate::notice(&format!("{what} with Go, once; this can take minutes"));
        let source = dir.join("source");
        self.write_to(&source).map_err(at)?;
        let output = go()
            .args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"])
            .arg(dir.join(self.name))
            .arg(".")
            .current_dir(&source)
            .output()
            .map_err(at)?;
        if !output.status.success() {
            let what = format!("{what}: {}, and this is {go_version}", self.needs());
            return Err(Error::output(what, &output));
        }
        fs::remove_dir_all(&source).map_err(at)
    }

    fn write_to(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("go.mod"), self.go_mod)?;
        fs::write(dir.join("go.sum"), self.go_sum)?;
        fs::write(dir.join("main.go"), self.main_go)
    }

    fn needs(&self) -> String {
        format!("it needs Go {} or newer", word_after(self.go_mod, "\ngo "))
    }
}

/// Go as a build here needs it, whatever the environment says.
fn go() -> Command {
    let mut command = Command::new("go");
    command
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env_remove("GOOS")
        .env_remove("GOARCH");
    command
}

fn go_version() -> io::Result<String> {
    let output = go().arg("version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn word_after(text: &'static str, mark: &str) -> &'static str {
    let rest = text.split_once(mark).map_or("", |(_, rest)| rest);
    rest.split_whitespace().next().unwrap_or("unknown")
}

/// FNV-1a: the same for every build of this crate, which the standard library's hasher is not.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: GoProgram = GoProgram {
        name: "program",
        go_mod: "module program\n\ngo 1.26.0\n\nrequire example.com/etcd v3.7.3\n",
        go_sum: "",
        main_go: "package main\n",
    };

    #[test]
    fn go_mod_says_what_a_build_is_made_of_and_needs() {
        assert_eq!(PROGRAM.version_of("example.com/etcd"), "3.7.3");
        assert_eq!(PROGRAM.version_of("example.com/other"), "unknown");
        assert_eq!(PROGRAM.needs(), "it needs Go 1.26.0 or newer");
    }

    #[test]
    fn the_cache_key_changes_with_each_file() {
        let key = PROGRAM.key("program");
        assert!(key.starts_with("program-"), "{key}");
        let bumped = "module program\n\ngo 1.26.0\n\nrequire example.com/etcd v3.7.4\n";
        for other in [
            GoProgram {
                go_mod: bumped,
                ..PROGRAM
            },
            GoProgram {
                go_sum: "a sum\n",
                ..PROGRAM
            },
            GoProgram {
                main_go: "package main\n\n",
                ..PROGRAM
            },
        ] {
            assert_ne!(other.key("program"), key);
        }
    }
}
