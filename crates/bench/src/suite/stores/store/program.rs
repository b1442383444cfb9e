//! Where a server's program is: on this machine, or unpacked from the distribution's package.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tenure_etcd::Package;

use crate::Failure;

/// Where Debian has what runs on Java.
const JARS: &str = "usr/share/java";
/// ZooKeeper's server, and what it asks for without TLS and its web server.
const ZOOKEEPER: [&str; 16] = [
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "slf4j-log4j12",
    "log4j-1.2",
    "metrics-core",
    "netty-buffer",
    "netty-codec",
    "netty-common",
    "netty-handler",
    "netty-resolver",
    "netty-transport",
    "netty-transport-native-epoll",
    "netty-transport-native-unix-common",
    "snappy-java",
    "commons-io",
];
/// Of those, what there is no server without.
const ZOOKEEPER_MIN: usize = 5;

/// A program of the machine's, or of an unpacked package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    path: PathBuf,
    /// What stands for `/`, where that is another directory.
    root: Option<PathBuf>,
}

/// The jars of a server.
#[derive(Debug)]
pub(super) struct Jars {
    pub(super) paths: Vec<PathBuf>,
    pub(super) version: String,
}

impl Program {
    /// The program of this name on `PATH` or in these directories, else that of the package.
    pub(super) fn find(name: &str, places: &[&str], package: &'static str) -> Result<Program, Failure> {
        let places = on_path().chain(places.iter().map(PathBuf::from));
        if let Some(path) = places.map(|place| place.join(name)).find(|path| path.is_file()) {
            return Ok(Program { path, root: None });
        }
        let root = Package { name: package }.root()?;
        let places = ["usr/bin", "usr/sbin"].map(|place| root.join(place).join(name));
        let path = places.into_iter().find(|path| path.is_file());
        let path = path.ok_or_else(|| format!("the package {package} has no {name}"))?;
        Ok(Program {
            path,
            root: Some(root),
        })
    }

    /// The one in the newest of several versions that may be installed side by side, each in a directory
    /// with its number in `versions`, else that of the package.
    pub(super) fn find_newest(
        name: &str,
        versions: &str,
        below: &str,
        package: &'static str,
    ) -> Result<Program, Failure> {
        let found = |root: &Path| newest(&root.join(versions)).map(|version| version.join(below).join(name));
        if let Some(path) = found(Path::new("/")).filter(|path| path.is_file()) {
            return Ok(Program { path, root: None });
        }
        let root = Package { name: package }.root()?;
        let path = found(&root).filter(|path| path.is_file());
        let path = path.ok_or_else(|| format!("the package {package} has no {name}"))?;
        Ok(Program {
            path,
            root: Some(root),
        })
    }

    /// The machine's, or that which came with ZooKeeper.
    pub(super) fn java() -> Result<Program, Failure> {
        if let Some(path) = on_path().map(|place| place.join("java")).find(|path| path.is_file()) {
            return Ok(Program { path, root: None });
        }
        let root = zookeeper_package()?;
        let machines = fs::read_dir(root.join("usr/lib/jvm"))?.flatten();
        let path = machines.map(|entry| entry.path().join("bin/java")).find(|path| path.is_file());
        let path = path.ok_or("no `java` on PATH, and none with ZooKeeper's package")?;
        Ok(Program {
            path,
            root: Some(root),
        })
    }

    /// Another one in its directory.
    pub(super) fn beside(&self, name: &str) -> Program {
        Program {
            path: self.path.with_file_name(name),
            root: self.root.clone(),
        }
    }

    pub(super) fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        if let Some(root) = &self.root {
            let machine = format!("usr/lib/{}-linux-gnu", env::consts::ARCH);
            let places = [machine.as_str(), "usr/lib", "lib"].map(|place| root.join(place));
            let places = places.map(|place| place.display().to_string());
            command.env("LD_LIBRARY_PATH", places.join(":"));
        }
        command
    }

    /// The version that it reports.
    pub(super) fn version(&self) -> Result<String, Failure> {
        let output = self.command().arg("--version").output();
        let output = output.map_err(|cause| format!("{}: {cause}", self.path.display()))?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let version = version_in(&printed).ok_or_else(|| format!("{} names no version", self.path.display()));
        Ok(version?.to_owned())
    }
}

/// ZooKeeper's, of the machine or unpacked; what the machine has of them is not unpacked.
pub(super) fn jars() -> Result<Jars, Failure> {
    let installed = Path::new("/").join(JARS);
    let mut places = vec![installed.clone()];
    if !installed.join("zookeeper.jar").is_file() {
        places.insert(0, zookeeper_package()?.join(JARS));
    }
    let found = |name: &str| {
        let file = format!("{name}.jar");
        places.iter().map(|place| place.join(&file)).find(|path| path.is_file())
    };
    for name in &ZOOKEEPER[..ZOOKEEPER_MIN] {
        found(name).ok_or_else(|| format!("no {name}.jar in {JARS}"))?;
    }
    let paths: Vec<PathBuf> = ZOOKEEPER.iter().filter_map(|name| found(name)).collect();
    let version = paths[0].parent().and_then(|place| version_beside(place, "zookeeper-"));
    Ok(Jars {
        version: version.unwrap_or_else(|| "of unknown version".to_owned()),
        paths,
    })
}

/// The version in the name of a file that begins so and goes on with one: Debian has each jar
/// under two names.
fn version_beside(place: &Path, begin: &str) -> Option<String> {
    let names = fs::read_dir(place)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let versions = names.filter_map(|name| {
        let rest = name.strip_prefix(begin)?;
        let is_numbered = rest.starts_with(|first: char| first.is_ascii_digit());
        version_in(rest).filter(|_| is_numbered).map(str::to_owned)
    });
    versions.max()
}

fn zookeeper_package() -> Result<PathBuf, Failure> {
    Ok(Package { name: "zookeeper" }.root()?)
}

fn on_path() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

/// The directory with the greatest number for a name.
fn newest(versions: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(versions).ok()?.flatten();
    let numbered = entries.filter_map(|entry| {
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((number, entry.path()))
    });
    numbered.max().map(|(_, path)| path)
}

/// The first thing in a text that looks like a version: numbers with dots between them, which do
/// not go on a word.
fn version_in(text: &str) -> Option<&str> {
    let mut starts = text.char_indices().filter(|(at, first)| {
        let before = text[..*at].chars().next_back();
        first.is_ascii_digit()
            && !before.is_some_and(|before| before.is_ascii_alphanumeric() || before == '.')
    });
    starts.find_map(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|next: char| !next.is_ascii_digit() && next != '.').unwrap_or(rest.len());
        let version = rest[..end].trim_end_matches('.');
        version.contains('.').then_some(version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_each_server_prints() {
        let cases = [
            (
                "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64",
                "7.0.15",
            ),
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", "15.18"),
            (
                "mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64",
                "10.11.19",
            ),
            ("3.8.0.jar", "3.8.0"),
        ];
        for (text, version) in cases {
            assert_eq!(version_in(text), Some(version), "{text}");
        }
        assert_eq!(version_in("build 64 of x86.64"), None);
    }

    #[test]
    fn the_version_of_a_jar_is_in_its_other_name() {
        let place = env::temp_dir().join(format!("tenure-jars-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        for name in ["zookeeper.jar", "zookeeper-it-9.9.jar", "zookeeper-3.8.0.jar"] {
            fs::write(place.join(name), "").unwrap();
        }
        let version = version_beside(&place, "zookeeper-");
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(version.as_deref(), Some("3.8.0"));
    }

    #[test]
    fn of_versions_side_by_side_the_greatest_number_is_the_newest() {
        let place = env::temp_dir().join(format!("tenure-versions-{}", std::process::id()));
        for name in ["9", "15", "common"] {
            fs::create_dir_all(place.join(name)).unwrap();
        }
        let found = newest(&place);
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(found, Some(place.join("15")));
        assert_eq!(newest(&place), None);
    }
}
