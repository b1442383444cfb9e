//! What is built from Go here: programs that run beside a test, and the lines of
//! etcd that have a module, `go/v3.5` and on.
//!
//! Such a line's module is a `go.mod` that pins etcd, and a `main.go` that runs
//! etcd's own main function, or etcdctl's when it is started as `etcdctl`.
//! The files are part of this library, so a build needs no source tree.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::Cache;
use crate::{Error, Line};

/// The module whose version in `go.mod` is the version of etcd.
const SERVER: &str = "go.etcd.io/etcd/server/v3 v";

/// A Go program of one file, with its module: a peer to measure or to share a lock with.
#[derive(Clone, Copy, Debug)]
pub struct GoProgram {
    /// What it is called in the cache and in errors; a word, such as `mutex`.
    pub name: &'static str,
    /// The text of `go.mod`.
    pub go_mod: &'static str,
    /// The text of `go.sum`.
    pub go_sum: &'static str,
    /// The text of `main.go`.
    pub main_go: &'static str,
}

impl GoProgram {
    /// The path of the built program, from the cache, or building it now: that
    /// needs Go, the first time also the network, and can take a minute.
    ///
    /// # Errors
    ///
    /// There is no Go, or it is too old, or the build fails: the text says which.
    pub fn build(&self) -> Result<PathBuf, Error> {
        let key = format!("go-{}-{:016x}", self.name, self.hash());
        let cache = Cache::of_environment()?;
        let make = |dir: &Path| {
            self.build_in(dir, &format!("the Go program `{}`", self.name), self.name)?;
            Ok(key.clone())
        };
        let dir = cache.entry_or_make(&key, || cache.entry(&key), make)?;
        Ok(dir.join(self.name))
    }

    /// Changes with anything that the build is made of.
    fn hash(&self) -> u64 {
        fnv1a([self.go_mod, self.go_sum, self.main_go].concat().as_bytes())
    }

    /// Leaves the program in `dir`, called `file`.
    fn build_in(&self, dir: &Path, title: &str, file: &str) -> Result<(), Error> {
        let what = format!("building {title}");
        let at = |cause: io::Error| Error::io(&what, &cause);
        let go_version = go_version().map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => Error::new(format!("{what}: no `go` on PATH; {}", self.needs())),
            _ => at(cause),
        })?;
        crate::notice(&format!("{what} with Go, once; this can take minutes"));
        let source = dir.join("source");
        self.write_to(&source).map_err(at)?;
        let output = go()
            .args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"])
            .arg(dir.join(file))
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

/// One Go module that makes an etcd.
#[derive(Debug)]
pub(crate) struct Module {
    line: Line,
    program: GoProgram,
}

macro_rules! module {
    ($line:expr, $dir:literal) => {
        Module {
            line: $line,
            program: GoProgram {
                name: "etcd",
                go_mod: include_str!(concat!("../go/", $dir, "/go.mod")),
                go_sum: include_str!(concat!("../go/", $dir, "/go.sum")),
                main_go: include_str!(concat!("../go/", $dir, "/main.go")),
            },
        }
    };
}

static MODULES: [Module; 3] = [
    module!(Line::V3_5, "v3.5"),
    module!(Line::V3_6, "v3.6"),
    module!(Line::V3_7, "v3.7"),
];

impl Module {
    /// The module of this line, if there is one.
    pub(crate) fn of(line: Line) -> Option<&'static Module> {
        MODULES.iter().find(|module| module.line == line)
    }

    /// The directory of the built servers, if they were built before.
    pub(crate) fn cached(&self, cache: &Cache) -> Option<PathBuf> {
        cache.entry(&self.key())
    }

    /// The directory of the built servers, building them first if need be.
    pub(crate) fn build(&self, cache: &Cache) -> Result<PathBuf, Error> {
        let key = self.key();
        cache.entry_or_make(
            &key,
            || cache.entry(&key),
            |dir| self.build_in(dir).map(|()| key.clone()),
        )
    }

    /// Changes with the version and with anything else that the build is made of.
    fn key(&self) -> String {
        format!("{}-{:016x}", self.version(), self.program.hash())
    }

    fn version(&self) -> &'static str {
        word_after(self.program.go_mod, SERVER)
    }

    fn build_in(&self, dir: &Path) -> Result<(), Error> {
        let title = format!("etcd {}", self.version());
        self.program.build_in(dir, &title, "etcd")?;
        symlink("etcd", dir.join("etcdctl")).map_err(|cause| Error::io(title, &cause))
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

    #[test]
    fn each_module_pins_server_and_etcdctl_at_one_version_of_its_line() {
        for module in &MODULES {
            let version = module.version();
            assert!(version.starts_with(&format!("{}.", module.line)), "{version}");
            let program = &module.program;
            assert!(program.go_mod.contains(&format!("go.etcd.io/etcd/etcdctl/v3 v{version}\n")));
            assert!(program.needs().contains("Go 1."), "{}", program.needs());
        }
    }

    #[test]
    fn the_cache_key_changes_with_go_mod() {
        let module = Module::of(Line::V3_5).unwrap();
        let go_mod = module.program.go_mod;
        let bumped: &'static str = go_mod.replace("server/v3 v3.5.", "server/v3 v3.5.9").leak();
        let other_dependency: &'static str = format!("{go_mod}\n").leak();
        for go_mod in [bumped, other_dependency] {
            let program = GoProgram {
                go_mod,
                ..module.program
            };
            assert_ne!(Module { program, ..*module }.key(), module.key());
        }
        assert!(module.key().starts_with(&format!("{}-", module.version())));
    }
}
