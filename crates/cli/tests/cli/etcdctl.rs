//! What is said as etcdctl says it is compared with etcdctl itself.

use std::process::Command;

use serde_json::Value;
use tenure_etcd::{Binary, Cluster, Options};

use crate::run::{End, bare, end};

/// Both on an etcd that only they ask.
struct Both {
    etcd: Cluster,
    etcdctl: std::path::PathBuf,
}

impl Both {
    fn start() -> Both {
        let binary = Binary::find().expect("an etcd");
        let etcd = Cluster::start(&binary, 1, Options::default()).expect("it starts");
        let etcdctl = binary.etcdctl().expect("an etcdctl");
        Both { etcd, etcdctl }
    }

    fn ours(&self, arguments: &[&str]) -> End {
        end(bare().env("ETCDCTL_ENDPOINTS", &self.etcd.endpoints()[0]).args(arguments))
    }

    fn theirs(&self, arguments: &[&str]) -> End {
        let mut command = Command::new(&self.etcdctl);
        command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", &self.etcd.endpoints()[0]);
        end(command.args(arguments))
    }

    /// Both say the same, of what changes nothing.
    fn agree(&self, arguments: &[&str]) {
        let (ours, theirs) = (self.ours(arguments), self.theirs(arguments));
        assert_eq!(ours.status, theirs.status, "{arguments:?}: {ours:?} {theirs:?}");
        if arguments.contains(&"json") {
            let value =
                |end: &End| serde_json::from_str::<Value>(&end.out).unwrap_or_else(|_| panic!("{end:?}"));
            assert_eq!(value(&ours), value(&theirs), "{arguments:?}");
        } else {
            assert_eq!(ours.out, theirs.out, "{arguments:?}");
        }
    }
}

#[test]
fn what_both_have_they_say_in_the_same_words() {
    let both = Both::start();
    for arguments in [
        &["put", "k/1", "a"][..],
        &["put", "k/2", "b"],
        &["put", "k/1", "c"],
    ] {
        assert_eq!(both.ours(arguments).out, "OK\n");
    }
    let granted = both.ours(&["lease", "grant", "600"]).out;
    let id = granted.split(' ').nth(1).expect("an ID");
    both.ours(&["put", "k/3", "d", "--lease", id]);
    for arguments in [
        &["get", "k/1"][..],
        &["get", "nothing"],
        &["get", "--prefix", "k/"],
        &["get", "k/", "k/3", "--print-value-only"],
        &["get", "--prefix", "k/", "--sort-by=MODIFY", "--order=DESCEND"],
        &["get", "--from-key", "k/2", "--limit=1", "--hex"],
        &["get", "k/1", "--rev=2", "-w", "json"],
        &["get", "--prefix", "k/", "-w", "json"],
        &["get", "--prefix", "k/", "--keys-only"],
        &["get", "--prefix", "k/", "--keys-only", "--hex"],
        &["get", "--prefix", "k/", "--keys-only", "-w", "json"],
        &["get", "--prefix", "k/", "--limit=1", "-w", "json"],
        &["get", "k/1", "--consistency=s", "-w", "json"],
        &["lease", "list"],
        &["lease", "list", "-w", "json"],
        &["lease", "keep-alive", "--once", id],
        &["lease", "timetolive", "123"],
        &["member", "list"],
        &["member", "list", "-w", "json"],
        &["put", "k/1", "c"],
        &["put", "k/1", "c", "--prev-kv"],
        &["del", "nothing"],
    ] {
        both.agree(arguments);
    }
    let both_of = |arguments: &[&str]| (both.ours(arguments).out, both.theirs(arguments).out);
    let (ours, theirs) = both_of(&["lease", "timetolive", id, "--keys"]);
    // A second may have passed in between.
    let but_left = |text: &str| {
        text.split("remaining(")
            .map(|part| part.split_once(')').unwrap_or((part, "")).1.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(but_left(&ours), but_left(&theirs));
}

#[test]
fn a_transaction_is_read_as_etcdctl_reads_it() {
    let both = Both::start();
    let script = "value(\"a\") = \"x y\"\nmod(\"a\") > \"0\"\n\nget a\nput b \"q\\\"z\"\nget --prefix b\n\nput a \"x y\"\n\n";
    let run = |mut command: Command| {
        let mut running = crate::run::Run::of(command.env("ETCDCTL_ENDPOINTS", &both.etcd.endpoints()[0]));
        running.write(script.as_bytes());
        running.end().out
    };
    let ours = || {
        let mut command = bare();
        command.arg("txn");
        command
    };
    let theirs = || {
        let mut command = Command::new(&both.etcdctl);
        command.env("ETCDCTL_API", "3").arg("txn");
        command
    };
    assert_eq!(run(ours()), "FAILURE\n\nOK\n");
    assert_eq!(run(theirs()), run(ours()));
    assert_eq!(both.ours(&["get", "b", "--print-value-only"]).out, "q\"z\n");
}
