//! What each command prints, kept in `tests/golden/`, a transcript for each test: the command, its
//! stdout, what it said on stderr behind `! `, and its exit status where that is not 0. What differs from run
//! to run is replaced.
//!
//! `TENURE_GOLDEN=renew` writes the files anew; look at them before they are committed.

mod normal;
mod transcript;

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::run::{bare, end, until};
use transcript::Transcript;

#[test]
fn keys() {
    let mut seen = Transcript::new("keys");
    for arguments in [
        &["put", "greeting", "hello"][..],
        &["put", "greeting", "hello, world", "--prev-kv"],
        &["--json", "put", "number", "-1", "--prev-kv"],
        &["get", "greeting"],
        &["get", "nothing"],
        &["get", "--json", "greeting"],
        &["get", "", "--prefix", "--keys-only"],
        &["get", "a", "z", "--print-value-only", "--order", "DESCEND"],
        &["get", "--from-key", "h", "--count-only"],
        &["get", "greeting", "--rev", "2", "--hex"],
        &["get", "greeting", "--rev", "99"],
        &[
            "get",
            "",
            "--prefix",
            "--sort-by",
            "modify",
            "--limit",
            "1",
            "-w",
            "json",
        ],
        &["get", ""],
        &["put", "gone", "x", "--lease", "7b"],
        &["del", "greeting", "--prev-kv"],
        &["del", "", "--prefix", "--json"],
        &["del", "nothing"],
    ] {
        seen.run(arguments);
    }
    seen.run_with(&["put", "from-stdin"], "two\nlines\n");
    seen.run(&["get", "from-stdin"]);
    seen.run(&["put", "from-stdin", "--prev-kv", "-2"]);
    seen.check();
}

#[test]
fn transactions() {
    let mut seen = Transcript::new("txn");
    let script =
        "create(\"seat\") = \"0\"\n\nput seat \"mine, all mine\"\nget seat\n\nget --prefix se\ndel seat\n\n";
    for _ in 0..2 {
        seen.run_with(&["txn"], script);
    }
    seen.run_with(
        &["txn", "--json"],
        "value(\"seat\") = \"\\x00\"\n\n\nget seat\n\n",
    );
    seen.run_with(&["txn", "--interactive"], "\nput a b --prev-kv\n\n\n");
    seen.run_with(&["txn"], "size(\"seat\") = \"0\"\n\n\n\n");
    seen.run_with(&["txn"], "\nwatch seat\n\n\n");
    seen.check();
}

#[test]
fn watches() {
    let mut seen = Transcript::new("watch");
    for arguments in [&["put", "a/1", "x"][..], &["put", "a/1", "y"], &["del", "a/1"]] {
        assert_eq!(seen.start(arguments).end().status, 0);
    }
    for (arguments, lines) in [
        (&["watch", "--prefix", "a/", "--rev", "2"][..], 9),
        (&["watch", "a/1", "--rev", "3", "--prev-kv"], 10),
        (&["watch", "a/1", "--rev", "2", "--json"], 1),
    ] {
        let mut watching = seen.start(arguments);
        let out: String = (0..lines).map(|_| watching.line() + "\n").collect();
        seen.note(arguments, &out);
        watching.signal(Signal::INT);
        assert_eq!(watching.end().status, 130);
    }
    seen.check();
}

#[test]
fn leases() {
    let mut seen = Transcript::new("lease");
    let granted = seen.run(&["lease", "grant", "600"]);
    let id = granted.split(' ').nth(1).expect("an ID").to_owned();
    seen.run(&["put", "on-lease", "x", "--lease", &id]);
    for arguments in [
        &["lease", "timetolive", &id, "--keys"][..],
        &["lease", "timetolive", &id, "--keys", "--json"],
        &["lease", "list"],
        &["lease", "list", "--json"],
        &["lease", "keep-alive", "--once", &id],
        &["lease", "keep-alive", "--once", &id, "--json"],
        &["lease", "revoke", &id],
        &["lease", "timetolive", &id],
        &["lease", "keep-alive", &id],
        &["lease", "revoke", &id],
        &["lease", "revoke", "seven"],
        &["lease", "grant", "0"],
        &["lease", "grant", "600", "--json"],
    ] {
        seen.run(arguments);
    }
    seen.check();
}

#[test]
fn members_and_their_status() {
    let mut seen = Transcript::new("member");
    let listed = seen.run(&["member", "list"]);
    let first = listed.split(',').next().expect("an ID").to_owned();
    seen.run(&["member", "list", "--json"]);
    seen.run(&["status"]);
    seen.run(&["status", "--json"]);
    let added = seen.run(&[
        "member",
        "add",
        "m1",
        "--peer-urls",
        "http://127.0.0.1:1",
        "--learner",
    ]);
    let id = added.split_whitespace().nth(1).expect("an ID").to_owned();
    for arguments in [
        &["member", "list"][..],
        &[
            "member",
            "update",
            &id,
            "--peer-urls",
            "http://127.0.0.1:2,http://127.0.0.1:3",
        ],
        &["member", "promote", &id],
        &["member", "remove", &id, "--json"],
        &["member", "remove", &id],
        &["member", "promote", &first],
    ] {
        seen.run(arguments);
    }
    seen.etcd.as_ref().expect("an etcd").member(0).pause().expect("it stands still");
    seen.run(&["status", "--within", "300ms"]);
    seen.check();
}

#[test]
fn snapshots() {
    let mut seen = Transcript::new("snapshot");
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("snapshots");
    fs::create_dir_all(&dir).expect("a directory");
    let file = dir.join("etcd.snapshot").display().to_string();
    seen.run(&["snapshot", "save", &file]);
    seen.run(&["snapshot", "save", &file, "--json"]);
    seen.run(&["snapshot", "save", "/nonexistent/file"]);
    seen.run(&[
        "--endpoints",
        "127.0.0.1:1,127.0.0.1:2",
        "snapshot",
        "save",
        &file,
    ]);
    let files = fs::read_dir(&dir).expect("the directory").count();
    assert_eq!(files, 1, "no part of one is left");
    seen.check();
}

#[test]
fn locks_and_elections() {
    let mut seen = Transcript::new("lock");
    seen.run(&["who", "jobs"]);
    seen.run(&["unlock", "--force", "jobs"]);
    let holds = ["lock", "jobs"];
    let mut holder = seen.start(&holds);
    seen.note(&holds, &(holder.line() + "\n"));
    // With the time that it says by itself it would say another one once it is granted.
    let waits = ["lock", "jobs", "--value", "the next", "--", "echo", "mine"];
    let waiting = seen.start(&waits);
    until("a second one in the queue", || {
        seen.start(&["who", "jobs"]).end().out.lines().count() == 3
    });
    seen.run(&["who", "jobs"]);
    seen.run(&["who", "jobs", "--json"]);
    seen.run(&["lock", "jobs", "--wait", "0", "--", "true"]);
    seen.run(&["unlock", "jobs"]);
    seen.run(&["unlock", "--force", "jobs"]);
    seen.take_down(&holds, holder);
    seen.take_down(&waits, waiting);
    seen.run(&[
        "lock",
        "jobs",
        "--",
        "sh",
        "-c",
        "echo $TENURE_LOCK_TOKEN $TENURE_LOCK_KEY; exit 7",
    ]);
    seen.run(&["lock", "jobs", "--", "no-such-command"]);
    seen.run(&["lock", "jobs/", "--ttl", "1", "--", "true"]);
    let stands = ["elect", "chair", "at 10.0.0.1"];
    let mut leader = seen.start(&stands);
    seen.note(&stands, &(leader.line() + "\n" + &leader.line() + "\n"));
    seen.run(&["elect", "chair", "at 10.0.0.2", "--wait", "0.1"]);
    let listens = ["elect", "--listen", "chair"];
    let mut listener = seen.start(&listens);
    seen.note(&listens, &(listener.line() + "\n" + &listener.line() + "\n"));
    leader.signal(Signal::INT);
    seen.take_down(&stands, leader);
    let mut held = seen.start(&["lock", "jobs", "--json"]);
    seen.note(&["lock", "jobs", "--json"], &(held.line() + "\n"));
    held.signal(Signal::TERM);
    assert_eq!(held.end().status, 0);
    seen.check();
}

#[test]
fn an_etcd_in_memory() {
    let mut seen = Transcript::without_etcd("dev");
    seen.run(&["put", "a", "b"]);
    seen.run(&["lock", "jobs", "--", "echo", "mine"]);
    let mut serving = seen.start(&["dev", "--listen", "127.0.0.1:0"]);
    let endpoint = serving.line();
    seen.note(&["dev", "--listen", "127.0.0.1:0"], &format!("{endpoint}\n"));
    for arguments in [
        &["--endpoints", &endpoint, "put", "a", "b"][..],
        &["--endpoints", &endpoint, "get", "a"],
        &["--endpoints", &endpoint, "member", "list"],
        &["--endpoints", &endpoint, "snapshot", "save", "/nonexistent/file"],
        &["dev", "--listen", endpoint.trim_start_matches("http://")],
    ] {
        seen.run(arguments);
    }
    serving.signal(Signal::TERM);
    assert_eq!(serving.end().status, 0);
    seen.check();
}

#[test]
fn ladders() {
    let mut seen = Transcript::new("bench");
    for arguments in [
        &["bench", "--rungs", "1,20", "--seconds", "0.2"][..],
        &[
            "bench",
            "--rungs",
            "3",
            "--seconds",
            "200ms",
            "--name",
            "jobs",
            "--json",
        ],
        &[
            "bench",
            "--rungs",
            "3",
            "--seconds",
            "0.1",
            "--svg",
            "/nonexistent/ladder.svg",
        ],
        &["bench", "--rungs", "100,0"],
        &["bench", "--seconds", "0"],
        &["bench", "--ttl", "0"],
        &["bench", "--name", "", "--rungs", "2"],
        &["--endpoints", "127.0.0.1:1", "--command-timeout", "1s", "bench"],
    ] {
        seen.run(arguments);
    }
    seen.check();
}

#[test]
fn the_command_line() {
    let mut seen = Transcript::without_etcd("usage");
    for arguments in [
        &["--help"][..],
        &["frobnicate"],
        &["--json", "frobnicate"],
        &["--endpoints", "ftp://a", "get", "a"],
        &[
            "--endpoints",
            "127.0.0.1:1",
            "--command-timeout",
            "1s",
            "get",
            "a",
        ],
        &["--endpoints", "127.0.0.1:1", "--json", "get", "a"],
        &["--endpoints", "a", "--insecure-skip-tls-verify", "get", "a"],
        &["--endpoints", "a", "--user", "root", "get", "a"],
        &["--endpoints", "a", "--cacert", "/nonexistent/ca.pem", "get", "a"],
        &["--endpoints", "a", "--cert", "c.pem", "get", "a"],
    ] {
        seen.run(arguments);
    }
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = end(bare().args(["completions", shell]));
        assert!(
            script.status == 0 && script.out.contains("snapshot"),
            "{script:?}"
        );
    }
    seen.check();
}

/// But for the options that all have, which are in the help of the command itself.
#[test]
fn the_help_of_each_command() {
    let mut seen = Transcript::without_etcd("help");
    let mut paths = commands(&seen, &[]);
    let mut next = 0;
    while let Some(path) = paths.get(next).cloned() {
        paths.splice(next + 1..next + 1, commands(&seen, &path));
        next += 1;
        let mut arguments: Vec<_> = path.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = seen.start(&arguments).end();
        assert_eq!(help.status, 0, "{help:?}");
        seen.note(&arguments, &own(&help.out));
    }
    assert!(paths.len() > 25, "{paths:?}");
    seen.check();
}

/// Those below one, from its help.
fn commands(seen: &Transcript, path: &[String]) -> Vec<Vec<String>> {
    let arguments: Vec<_> = path.iter().map(String::as_str).chain(["-h"]).collect();
    let help = seen.start(&arguments).end().out;
    let list = help.split_once("\nCommands:\n").map_or("", |(_, list)| list);
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(|name| [path, &[name.to_owned()]].concat())
        .collect()
}

fn own(help: &str) -> String {
    let mut is_own = true;
    let mut own = String::new();
    for line in help.lines() {
        if !line.is_empty() && !line.starts_with(' ') {
            is_own = !line.starts_with("Connection (") && line != "Output:";
        }
        if is_own {
            own.push_str(line.trim_end());
            own.push('\n');
        }
    }
    own
}
