//! Which etcd a test runs on: one that the machine has, else a cached one,
//! else one that is built or fetched now.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::Cache;
use crate::golang::Module;
use crate::{Error, Line, Version, distribution};

/// The variable with the path of an etcd to use.
const ETCD: &str = "TENURE_ETCD";
/// The variable with the line that [`Binary::find`] shall find.
const ETCD_LINE: &str = "TENURE_ETCD_LINE";

/// An etcd program that runs on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    path: PathBuf,
    version: Version,
}

impl Binary {
    /// The etcd for this run of the tests.
    ///
    /// If `$TENURE_ETCD_LINE` is set, that line, by [`Binary::of_line`]. Else
    /// the first of these that can be had: the program at `$TENURE_ETCD`;
    /// `etcd` on `PATH`; the newest line in the cache; the newest line, built
    /// now; the distribution's. Where it has to build, it takes minutes.
    ///
    /// # Errors
    ///
    /// None of them can be had, and the text says what was tried; or a
    /// variable names what does not exist.
    pub fn find() -> Result<Binary, Error> {
        if let Some(line) = variable(ETCD_LINE) {
            let line = line.to_string_lossy().parse();
            return Binary::of_line(line.map_err(|cause| Error::new(format!("${ETCD_LINE}: {cause}")))?);
        }
        if let Some(binary) = Binary::from_env()? {
            return Ok(binary);
        }
        first_of(
            "no etcd to test with",
            &[
                &|| found(Binary::on_path()?, "PATH"),
                &newest_cached,
                &|| built(NEWEST),
                &distributed,
            ],
        )
    }

    /// An etcd of this line.
    ///
    /// The first of these: the program at `$TENURE_ETCD`, and `etcd` on
    /// `PATH`, if they are of this line; the line as this crate builds it,
    /// from the cache or now, for 3.5 and newer; the distribution's, if that
    /// is of this line. Where it has to build, it takes minutes.
    ///
    /// # Errors
    ///
    /// None of them can be had, and the text says what was tried; or
    /// `$TENURE_ETCD` names what does not exist.
    pub fn of_line(line: Line) -> Result<Binary, Error> {
        let named = Binary::from_env()?;
        let check = |binary: Binary, from: &str| match binary.line() == line {
            true => Ok(binary),
            false => Err(Error::new(format!("the etcd of {from} is {}", binary.version()))),
        };
        first_of(
            &format!("no etcd of line {line}"),
            &[
                &|| {
                    found(named.clone(), "$TENURE_ETCD is not set")
                        .and_then(|binary| check(binary, "$TENURE_ETCD"))
                },
                &|| found(Binary::on_path()?, NOT_ON_PATH).and_then(|binary| check(binary, "PATH")),
                &|| built(line),
                &|| distributed().and_then(|binary| check(binary, "the distribution")),
            ],
        )
    }

    /// The program at `$TENURE_ETCD`, if that is set.
    ///
    /// # Errors
    ///
    /// There is no etcd at that path.
    pub fn from_env() -> Result<Option<Binary>, Error> {
        let named = variable(ETCD).map(|path| Binary::at(Path::new(&path)));
        named.transpose().map_err(|cause| Error::new(format!("${ETCD}: {cause}")))
    }

    /// `etcd` on `PATH`, if there is one.
    ///
    /// # Errors
    ///
    /// There is one, and it is no etcd or does not run.
    pub fn on_path() -> Result<Option<Binary>, Error> {
        program_on_path("etcd").map(|path| Binary::at(&path)).transpose()
    }

    /// The program at this path, which is asked for its version.
    ///
    /// # Errors
    ///
    /// It does not run, or prints no version.
    pub fn at(path: &Path) -> Result<Binary, Error> {
        let what = path.display();
        let path = std::path::absolute(path).map_err(|cause| Error::io(&what, &cause))?;
        let output = Command::new(&path).arg("--version").output();
        let output = output.map_err(|cause| Error::io(&what, &cause))?;
        match Version::in_output(&String::from_utf8_lossy(&output.stdout)) {
            Some(version) if output.status.success() => Ok(Binary { path, version }),
            _ => Err(Error::output(format_args!("{what} --version"), &output)),
        }
    }

    /// The path of the program, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The version that it reports.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The line that it is of.
    #[must_use]
    pub fn line(&self) -> Line {
        self.version.line
    }

    /// The `etcdctl` beside it, else one on `PATH`; what this crate builds or fetches has one.
    #[must_use]
    pub fn etcdctl(&self) -> Option<PathBuf> {
        let beside = self.path.with_file_name("etcdctl");
        if is_program(&beside) {
            Some(beside)
        } else {
            program_on_path("etcdctl")
        }
    }
}

/// The line that is built when any will do.
const NEWEST: Line = Line::ALL[Line::ALL.len() - 1];

const NOT_ON_PATH: &str = "no etcd on PATH";

/// The first that can be had, else all the reasons why not.
fn first_of(what: &str, sources: &[&dyn Fn() -> Result<Binary, Error>]) -> Result<Binary, Error> {
    let mut text = format!("{what}; tried:");
    for source in sources {
        match source() {
            Ok(binary) => return Ok(binary),
            Err(cause) => text.push_str(&format!("\n  - {}", cause.to_string().replace('\n', "\n    "))),
        }
    }
    Err(Error::new(text))
}

fn found(binary: Option<Binary>, otherwise: &str) -> Result<Binary, Error> {
    binary.ok_or_else(|| Error::new(otherwise))
}

fn newest_cached() -> Result<Binary, Error> {
    let cache = Cache::of_environment()?;
    let built = Line::ALL
        .into_iter()
        .rev()
        .filter_map(Module::of)
        .find_map(|module| module.cached(&cache));
    match built.or_else(|| distribution::cached(&cache)) {
        Some(dir) => Binary::at(&dir.join("etcd")),
        None => Err(Error::new("no etcd in the cache")),
    }
}

fn built(line: Line) -> Result<Binary, Error> {
    let Some(module) = Module::of(line) else {
        return Err(Error::new(format!(
            "{line} is no line that is built from Go here"
        )));
    };
    Binary::at(&module.build(&Cache::of_environment()?)?.join("etcd"))
}

fn distributed() -> Result<Binary, Error> {
    Binary::at(&distribution::fetch(&Cache::of_environment()?)?.join("etcd"))
}

fn variable(name: &str) -> Option<std::ffi::OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn program_on_path(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name.as_ref())).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_an_etcd_that_runs() {
        let binary = Binary::find().expect("an etcd to test with");
        assert_eq!(Binary::at(binary.path()).unwrap(), binary);
        assert_eq!(Binary::of_line(binary.line()).unwrap().line(), binary.line());
    }

    #[test]
    fn what_prints_no_version_is_no_etcd() {
        let error = Binary::at(Path::new("/bin/sh")).unwrap_err();
        assert!(error.to_string().contains("/bin/sh --version"), "{error}");
        assert!(Binary::at(Path::new("/nowhere/etcd")).is_err());
    }

    #[test]
    fn the_error_names_everything_that_was_tried() {
        let no = |text: &'static str| move || Err(Error::new(text));
        let error = first_of("no etcd", &[&no("one\nmore of one"), &no("two")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no etcd; tried:\n  - one\n    more of one\n  - two"
        );
    }
}
