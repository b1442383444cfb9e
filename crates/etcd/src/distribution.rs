//! What the distribution packages, for Debian and its kin: its etcd for the tests, and servers of
//! other kinds for comparison. Unpacked into the cache, never installed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::apt::{self, Reach};
use crate::cache::Cache;

/// The package of the server; its name begins the name of each entry.
const SERVER: &str = "etcd-server";
const CLIENT: &str = "etcd-client";

/// A server of another kind, as the distribution packages it, with all that it needs.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// What the package is called.
    pub name: &'static str,
}

impl Package {
    /// The directory that it is unpacked in, as if that were `/`: from the cache, or fetched now.
    ///
    /// What it depends on and the system has installed is not there.
    ///
    /// # Errors
    ///
    /// There is no apt, or it has no such package and cannot fetch it.
    pub fn root(&self) -> Result<PathBuf, Error> {
        let cache = Cache::of_environment()?;
        let prefix = format!("{}_", self.name);
        let find = || cache.entry(&newest(&cache, &prefix)?);
        let make = |dir: &Path| apt::unpack(dir, &[self.name], Reach::WithDependencies);
        Ok(cache.entry_or_make(self.name, find, make)?.join("root"))
    }
}

/// The directory of the unpacked etcd servers, if they were unpacked before.
pub(crate) fn cached(cache: &Cache) -> Option<PathBuf> {
    cache.entry(&newest(cache, SERVER)?)
}

/// The directory of the unpacked etcd servers, fetching them first if need be.
pub(crate) fn fetch(cache: &Cache) -> Result<PathBuf, Error> {
    cache.entry_or_make(SERVER, || cached(cache), fetch_to)
}

fn newest(cache: &Cache, prefix: &str) -> Option<String> {
    cache.names(prefix).into_iter().max()
}

fn fetch_to(dir: &Path) -> Result<String, Error> {
    let name = apt::unpack(dir, &[SERVER, CLIENT], Reach::Alone)?;
    let finish = || -> io::Result<()> {
        for program in ["etcd", "etcdctl"] {
            fs::rename(dir.join("root/usr/bin").join(program), dir.join(program))?;
        }
        fs::remove_dir_all(dir.join("root"))
    };
    finish().map_err(|cause| Error::io(format_args!("unpacking {SERVER}"), &cause))?;
    Ok(name)
}
