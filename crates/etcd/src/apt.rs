//! Packages of Debian and its kin: fetched with apt and unpacked, never installed.
//!
//! No root is needed, and nothing outside of the given directory is written. Where the
//! system has no package lists, lists are fetched into that directory as well.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;

/// How much is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The packages alone.
    Alone,
    /// And what they depend on, as far as it is not installed.
    WithDependencies,
}

/// Unpacks packages below `dir`, into `dir/root`, and returns the first one's name with its version.
pub(crate) fn unpack(dir: &Path, packages: &[&str], reach: Reach) -> Result<String, Error> {
    let first = packages.first().copied().unwrap_or_default();
    let what = format!("fetching the distribution's {first}");
    crate::notice(&format!("{what}, once"));
    let at = |cause: io::Error| Error::io(&what, &cause);
    let (fetched, own) = (dir.join("packages"), dir.join("apt"));
    fs::create_dir(&fetched).map_err(at)?;
    if let Err(first) = download(&fetched, &[], packages, reach) {
        let lists = private_lists(&own).map_err(at)?;
        apt(&fetched, &lists, ["update"])
            .and_then(|()| download(&fetched, &lists, packages, reach))
            .map_err(|second| {
                Error::new(format!("{what}:\n{first}\nand with lists of its own:\n{second}"))
            })?;
    }
    let root = dir.join("root");
    let mut name = None;
    for entry in fs::read_dir(&fetched).map_err(at)? {
        let package = entry.map_err(at)?.path();
        if package.extension() != Some(OsStr::new("deb")) {
            continue;
        }
        run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root))?;
        let stem = package.file_stem().and_then(OsStr::to_str);
        let is_first = |stem: &&str| stem.split('_').next() == Some(first);
        name = name.or(stem.filter(is_first).map(str::to_owned));
    }
    let name = name.ok_or_else(|| Error::new(format!("{what}: apt-get brought no {first}")))?;
    keep_links_below(&root, &root).map_err(at)?;
    fs::remove_dir_all(&fetched).map_err(at)?;
    if own.exists() {
        fs::remove_dir_all(&own).map_err(at)?;
    }
    Ok(name)
}

fn download(dir: &Path, options: &[OsString], packages: &[&str], reach: Reach) -> Result<(), Error> {
    match reach {
        Reach::Alone => apt(dir, options, [&["download"], packages].concat()),
        Reach::WithDependencies => {
            let mut archives = OsString::from("Dir::Cache::archives=");
            archives.push(dir);
            fs::create_dir_all(dir.join("partial")).map_err(|cause| Error::io(dir.display(), &cause))?;
            let mut options = options.to_vec();
            // Whoever fetches locks nothing of the system's, and need not be root.
            for option in [
                "Debug::NoLocking=1".into(),
                "APT::Sandbox::User=".into(),
                archives,
            ] {
                options.extend([OsString::from("-o"), option]);
            }
            let install = ["install", "--yes", "--download-only", "--no-install-recommends"];
            apt(dir, &options, [install.as_slice(), packages].concat())
        }
    }
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

fn apt<'a>(
    dir: &Path,
    options: &[OsString],
    arguments: impl IntoIterator<Item = &'a str>,
) -> Result<(), Error> {
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

/// Turns absolute links to what was unpacked into links to where it lies: they begin at `/`,
/// where it would be if it were installed.
fn keep_links_below(root: &Path, dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            keep_links_below(root, &path)?;
        } else if kind.is_symlink() {
            if let Some(unpacked) = unpacked(root, &fs::read_link(&path)?) {
                fs::remove_file(&path)?;
                symlink(to_root(root, &path).join(unpacked), &path)?;
            }
        }
    }
    Ok(())
}

/// The path from `root` of what an absolute link shows to, if that is there.
fn unpacked(root: &Path, target: &Path) -> Option<PathBuf> {
    let below = target.strip_prefix("/").ok()?;
    let is_there = fs::symlink_metadata(root.join(below)).is_ok();
    is_there.then(|| below.to_owned())
}

/// `..` as often as it takes from the directory of `path` up to `root`, for the whole is renamed.
fn to_root(root: &Path, path: &Path) -> PathBuf {
    let below = path.strip_prefix(root).unwrap_or(path);
    std::iter::repeat_n("..", below.components().count().saturating_sub(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_links_lead_to_what_was_unpacked_wherever_that_is_moved() {
        let scratch = std::env::temp_dir().join(format!("tenure-apt-{}", std::process::id()));
        let root = scratch.join("root");
        fs::create_dir_all(root.join("usr/lib/jvm")).unwrap();
        fs::create_dir_all(root.join("etc/java")).unwrap();
        fs::write(root.join("etc/java/security"), "settings").unwrap();
        symlink("/etc/java", root.join("usr/lib/jvm/conf")).unwrap();
        symlink("/etc/no-such-file", root.join("usr/elsewhere")).unwrap();
        keep_links_below(&root, &root).unwrap();
        let moved = scratch.join("moved");
        fs::rename(&root, &moved).unwrap();
        let read = fs::read_to_string(moved.join("usr/lib/jvm/conf/security"));
        let elsewhere = fs::read_link(moved.join("usr/elsewhere"));
        fs::remove_dir_all(&scratch).unwrap();
        assert_eq!(read.unwrap(), "settings");
        assert_eq!(elsewhere.unwrap(), Path::new("/etc/no-such-file"));
    }
}
