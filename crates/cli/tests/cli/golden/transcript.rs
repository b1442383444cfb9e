//! What a test did with the command, taken down as one would see it in a shell.

use std::fs;
use std::path::PathBuf;

use tenure_etcd::{Binary, Cluster, Options};

use super::normal::normal;
use crate::run::{Run, bare};

/// An etcd of one test alone, whose revisions are the same each time, and what was done with it.
pub(super) struct Transcript {
    name: &'static str,
    pub(super) etcd: Option<Cluster>,
    text: String,
}

impl Transcript {
    pub(super) fn new(name: &'static str) -> Transcript {
        let binary = Binary::find().expect("an etcd");
        let etcd = Cluster::start(&binary, 1, Options::default()).expect("it starts");
        Transcript {
            etcd: Some(etcd),
            ..Transcript::without_etcd(name)
        }
    }

    pub(super) fn without_etcd(name: &'static str) -> Transcript {
        Transcript {
            name,
            etcd: None,
            text: String::new(),
        }
    }

    pub(super) fn start(&self, arguments: &[&str]) -> Run {
        let mut command = bare();
        if let Some(etcd) = &self.etcd {
            command.env("ETCDCTL_ENDPOINTS", etcd.endpoints().join(","));
        }
        Run::of(command.env("COLUMNS", "100").args(arguments))
    }

    /// Runs it with this for its stdin; what it printed.
    pub(super) fn run_with(&mut self, arguments: &[&str], input: &str) -> String {
        let mut running = self.start(arguments);
        if !input.is_empty() {
            running.write(input.as_bytes());
        }
        self.take_down(arguments, running)
    }

    pub(super) fn run(&mut self, arguments: &[&str]) -> String {
        self.run_with(arguments, "")
    }

    /// Waits for its end, and notes what it did.
    pub(super) fn take_down(&mut self, arguments: &[&str], running: Run) -> String {
        let ended = running.end();
        self.note(arguments, &ended.out);
        for line in ended.errors.lines() {
            self.text.push_str(&format!("! {line}\n"));
        }
        if ended.status != 0 {
            self.text.push_str(&format!("exit status {}\n", ended.status));
        }
        ended.out
    }

    pub(super) fn note(&mut self, arguments: &[&str], out: &str) {
        let quoted =
            arguments.iter().map(
                |argument| match argument.contains([' ', '"']) || argument.is_empty() {
                    true => format!("'{argument}'"),
                    false => (*argument).to_owned(),
                },
            );
        self.text.push_str(&format!(
            "$ tenure {}\n{out}",
            quoted.collect::<Vec<_>>().join(" ")
        ));
    }

    /// Compares it with what is kept.
    pub(super) fn check(self) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{}.txt", self.name));
        let text = normal(&self.text);
        if std::env::var("TENURE_GOLDEN").as_deref() == Ok("renew") {
            fs::write(&path, text).expect("the golden file");
            return;
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            text,
            kept,
            "{} differs: see the head of tests/cli/golden.rs",
            path.display()
        );
    }
}
