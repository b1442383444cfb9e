//! The lines of etcd that are built from their Go modules, `go/v3.5` and on.
//!
//! Such a module is a `go.mod` that pins etcd, and a `main.go` that runs
//! etcd's own main function, or etcdctl's when it is started as `etcdctl`.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::cache::Cache;
use crate::program::GoProgram;
use crate::{Error, Line};

/// The module whose version in `go.mod` is the version of etcd.
const SERVER: &str = "go.etcd.io/etcd/server/v3";

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
        let what = format!("building etcd {}", self.version());
        self.program.entry_or_build(cache, &self.key(), &what, |dir| {
            symlink("etcd", dir.join("etcdctl"))
        })
    }

    /// Changes with the version and with anything else that the build is made of.
    fn key(&self) -> String {
        self.program.key(self.version())
    }

    fn version(&self) -> &'static str {
        self.program.version_of(SERVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_module_pins_server_and_etcdctl_at_one_version_of_its_line() {
        for module in &MODULES {
            let version = module.version();
            assert!(version.starts_with(&format!("{}.", module.line)), "{version}");
            assert_eq!(module.program.version_of("go.etcd.io/etcd/etcdctl/v3"), version);
        }
    }
}
