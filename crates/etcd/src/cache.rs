//! Where built and unpacked programs are kept between runs, outside of the
//! source tree: `$TENURE_CACHE`, else `$XDG_CACHE_HOME/tenure`, else
//! `~/.cache/tenure`.
//!
//! An entry is a directory with `etcd` and `etcdctl`, or with another program.
//! It appears by a rename, whole or not at all, and never changes; a lock file
//! keeps two processes from making the same entry at once.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::Error;

/// The directory of all entries for this kind of machine.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// The cache that the environment names; nothing is created yet.
    pub(crate) fn of_environment() -> Result<Cache, Error> {
        let root =
            root(|name| std::env::var_os(name).filter(|value| !value.is_empty())).ok_or_else(|| {
                Error::new("no place for a cache: none of TENURE_CACHE, XDG_CACHE_HOME and HOME is set")
            })?;
        let root = std::path::absolute(&root)
            .map_err(|cause| Error::io(format_args!("cache {}", root.display()), &cause))?;
        Ok(Cache::at(&root))
    }

    /// The cache below `root`.
    pub(crate) fn at(root: &Path) -> Cache {
        let machine = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
        Cache {
            dir: root.join("etcd").join(machine),
        }
    }

    /// The entry of this name, if it was made.
    pub(crate) fn entry(&self, name: &str) -> Option<PathBuf> {
        let entry = self.dir.join(name);
        entry.is_dir().then_some(entry)
    }

    /// The names of all entries that begin with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with(prefix))
            .collect()
    }

    /// Makes an entry unless `find` sees it once the lock named `lock` is held.
    ///
    /// `make` is given an empty directory, fills it and returns the name that
    /// the entry shall have.
    pub(crate) fn entry_or_make(
        &self,
        lock: &str,
        find: impl Fn() -> Option<PathBuf>,
        make: impl FnOnce(&Path) -> Result<String, Error>,
    ) -> Result<PathBuf, Error> {
        if let Some(entry) = find() {
            return Ok(entry);
        }
        let at = |cause: io::Error| Error::io(format_args!("cache {}", self.dir.display()), &cause);
        fs::create_dir_all(&self.dir).map_err(at)?;
        // Not removed afterwards: a lock file that goes away locks nothing.
        let file = File::create(self.dir.join(format!(".{lock}.lock"))).map_err(at)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|errno| at(errno.into()))?;
        if let Some(entry) = find() {
            return Ok(entry);
        }
        // A compiler may outlive the maker that was killed, and still write to
        // where that worked: never work in the same place.
        let prefix = format!(".{lock}.unfinished-");
        for left in self.names(&prefix) {
            remove_dir_if_there(&self.dir.join(left)).map_err(at)?;
        }
        let unfinished = self.dir.join(format!("{prefix}{}", std::process::id()));
        fs::create_dir(&unfinished).map_err(at)?;
        let made = make(&unfinished).and_then(|name| {
            let entry = self.dir.join(name);
            fs::rename(&unfinished, &entry).map_err(at)?;
            Ok(entry)
        });
        if made.is_err() {
            remove_dir_if_there(&unfinished).map_err(at)?;
        }
        made
    }
}

fn root(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(cache) = var("TENURE_CACHE") {
        return Some(cache.into());
    }
    if let Some(cache) = var("XDG_CACHE_HOME") {
        return Some(Path::new(&cache).join("tenure"));
    }
    var("HOME").map(|home| Path::new(&home).join(".cache/tenure"))
}

fn remove_dir_if_there(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A directory of its own for one test, removed afterwards.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Scratch {
            let dir = std::env::temp_dir().join(format!("tenure-cache-{test}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Scratch(dir)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_environment_is_asked_in_order() {
        let with = |names: &'static [&str]| {
            move |name: &str| names.contains(&name).then(|| OsString::from(format!("/{name}")))
        };
        assert_eq!(
            root(with(&["TENURE_CACHE", "XDG_CACHE_HOME", "HOME"])),
            Some(PathBuf::from("/TENURE_CACHE"))
        );
        assert_eq!(
            root(with(&["XDG_CACHE_HOME", "HOME"])),
            Some(PathBuf::from("/XDG_CACHE_HOME/tenure"))
        );
        assert_eq!(root(with(&["HOME"])), Some(PathBuf::from("/HOME/.cache/tenure")));
        assert_eq!(root(with(&[])), None);
    }

    #[test]
    fn makers_at_once_make_an_entry_once() {
        let scratch = Scratch::new("once");
        let cache = Cache::at(&scratch.0);
        let made = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let make = |dir: &Path| {
                        made.fetch_add(1, Ordering::Relaxed);
                        fs::write(dir.join("etcd"), "half").unwrap();
                        std::thread::yield_now();
                        fs::write(dir.join("etcd"), "whole").unwrap();
                        Ok("entry".to_owned())
                    };
                    let entry = cache.entry_or_make("entry", || cache.entry("entry"), make).unwrap();
                    assert_eq!(fs::read_to_string(entry.join("etcd")).unwrap(), "whole");
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
        assert_eq!(cache.names("ent"), ["entry"]);
    }

    #[test]
    fn what_a_killed_maker_left_is_removed_and_not_worked_in() {
        let scratch = Scratch::new("left");
        let cache = Cache::at(&scratch.0);
        let left = cache.dir.join(".entry.unfinished-0");
        fs::create_dir_all(&left).unwrap();
        let make = |dir: &Path| {
            assert_ne!(dir, left);
            assert!(!left.exists());
            Ok("entry".to_owned())
        };
        cache.entry_or_make("entry", || cache.entry("entry"), make).unwrap();
    }

    #[test]
    fn a_failed_make_leaves_no_entry_and_can_be_tried_again() {
        let scratch = Scratch::new("again");
        let cache = Cache::at(&scratch.0);
        let find = || cache.entry("entry");
        let failed = cache.entry_or_make("entry", find, |dir| {
            fs::write(dir.join("etcd"), "half").unwrap();
            Err(Error::new("out of luck"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "out of luck");
        assert_eq!(find(), None);
        let entry = cache
            .entry_or_make("entry", find, |dir| {
                assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
                Ok("entry".to_owned())
            })
            .unwrap();
        assert_eq!(find(), Some(entry));
    }
}
