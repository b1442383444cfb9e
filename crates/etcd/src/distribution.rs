//! The etcd that the distribution packages, for Debian and its kin: fetched
//! with apt, unpacked into the cache, never installed.
//!
//! No root is needed, and nothing outside of the cache is written. Where the
//! system has no package lists, lists are fetched into the cache as well.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::cache::Cache;

/// The package of the server; its name begins the name of each entry.
const SERVER: &str = "etcd-server";
const CLIENT: &str = "etcd-client";

/// The directory of the unpacked servers, if they were unpacked before.
pub(crate) fn cached(cache: &Cache) -> Option<PathBuf> {
    let newest = cache.names(SERVER).into_iter().max()?;
    cache.entry(&newest)
}

/// The directory of the unpacked servers, fetching them first if need be.
pub(crate) fn fetch(cache: &Cache) -> Result<PathBuf, Error> {
    cache.entry_or_make(SERVER, || cached(cache), fetch_to)
}

fn fetch_to(dir: &Path) -> Result<String, Error> {
    crate::notice("fetching the distribution's etcd-server, once");
    let packages = dir.join("packages");
    let what = "fetching the distribution's etcd-server";
    let at = |cause: io::Error| Error::io(what, &cause);
    fs::create_dir(&packages).map_err(at)?;
    if let Err(first) = download(&packages, &[]) {
        let lists = private_lists(&dir.join("apt")).map_err(at)?;
        apt(&packages, &lists, &["update"])
            .and_then(|()| download(&packages, &lists))
            .map_err(|second| {
                Error::new(format!("{what}:\n{first}\nand with lists of its own:\n{second}"))
            })?;
    }
    let mut name = None;
    for package in fs::read_dir(&packages).map_err(at)? {
        let package = package.map_err(at)?.path();
        run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(dir.join("root")))?;
        let stem = package.file_stem().and_then(|stem| stem.to_str());
        name = name.or(stem.filter(|stem| stem.starts_with(SERVER)).map(str::to_owned));
    }
    let finish = || {
        for program in ["etcd", "etcdctl"] {
            fs::rename(dir.join("root/usr/bin").join(program), dir.join(program))?;
        }
        fs::remove_dir_all(dir.join("root"))?;
        fs::remove_dir_all(&packages)?;
        fs::remove_dir_all(dir.join("apt")).or_else(|cause| match cause.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(cause),
        })
    };
    finish().map_err(at)?;
    name.ok_or_else(|| Error::new(format!("{what}: apt-get brought no {SERVER}")))
}

fn download(packages: &Path, options: &[OsString]) -> Result<(), Error> {
    apt(packages, options, &["download", SERVER, CLIENT])
}

/// Options that make apt keep lists below `dir`, which anyone may do.
fn private_lists(dir: &Path) -> io::Result<Vec<OsString>> {
    let mut options = vec![OsString::from("-o"), OsString::from("APT::Sandbox::User=")];
    for (key, name) in [("Dir::State::lists", "lists"), ("Dir::Cache", "cache")] {
        let own = dir.join(name);
        fs::create_dir_all(own.join("partial"))?;
        let mut option = OsString::from(format!("{key}="));
        option.push(own);
        options.extend([OsString::from("-o"), option]);
    }
    Ok(options)
}

fn apt(dir: &Path, options: &[OsString], arguments: &[&str]) -> Result<(), Error> {
    run(Command::new("apt-get").arg("-q").args(options).args(arguments).current_dir(dir))
}

fn run(command: &mut Command) -> Result<(), Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.env("LC_ALL", "C").output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(Error::output(program, &output)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            Err(Error::new(format!("no `{program}` on PATH")))
        }
        Err(cause) => Err(Error::io(program, &cause)),
    }
}
