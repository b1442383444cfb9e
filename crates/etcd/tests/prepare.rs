//! The command that makes servers ready.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tenure_etcd::Binary;

/// A machine without Go, apt and etcd on which nothing was prepared yet.
struct Bare {
    dir: PathBuf,
}

impl Bare {
    fn new(test: &str) -> Bare {
        let dir = std::env::temp_dir().join(format!("tenure-prepare-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Bare { dir }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenure-etcd"));
        command.env_remove("TENURE_ETCD").env_remove("CI");
        command.env("TENURE_CACHE", self.dir.join("cache")).env("PATH", &self.dir);
        command
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn etcd() -> Binary {
    Binary::find().expect("an etcd to test with")
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn link(etcd: &Path, dir: &Path) {
    std::os::unix::fs::symlink(etcd, dir.join("etcd")).unwrap();
}

#[test]
fn without_anything_each_line_says_why_and_the_command_fails() {
    let bare = Bare::new("bare");
    let output = bare.command().arg("prepare").output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
    for line in ["3.4", "3.5", "3.6", "3.7"] {
        assert!(stdout.contains(&format!("{line}  unavailable: ")), "{stdout}");
    }
    assert!(stdout.contains("no `go` on PATH; it needs Go 1."), "{stdout}");
    assert!(stdout.contains("no `apt-get` on PATH"), "{stdout}");
}

#[test]
fn the_named_etcd_is_the_only_one_and_enough_for_ci() {
    let bare = Bare::new("named");
    let output = bare
        .command()
        .args(["prepare", "--lines"])
        .env("TENURE_ETCD", etcd().path())
        .env("CI", "true")
        .output()
        .unwrap();
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stdout, format!("{}\n", etcd().line()));
    assert!(stderr.contains(&etcd().version().to_string()), "{stderr}");
}

#[test]
fn an_etcd_on_path_is_enough_except_for_ci() {
    let bare = Bare::new("path");
    link(etcd().path(), &bare.dir);
    let run = |ci: &str| bare.command().args(["prepare", "--lines"]).env("CI", ci).output().unwrap();
    let (stdout, stderr) = texts(&run(""));
    assert_eq!(stdout, format!("{}\n", etcd().line()), "{stderr}");
    let output = run("true");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(texts(&output).0, stdout, "only that line is there");
}

#[test]
fn a_named_etcd_that_is_none_is_an_error() {
    let bare = Bare::new("none");
    let output = bare.command().arg("prepare").env("TENURE_ETCD", "/nowhere/etcd").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        texts(&output).1.contains("$TENURE_ETCD: /nowhere/etcd"),
        "{output:?}"
    );
}
