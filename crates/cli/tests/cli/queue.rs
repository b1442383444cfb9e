//! Those who wait for a lock: with a bound, in their order, and beside etcdctl.

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tenure_etcd::{Binary, Line};

use crate::run::{Run, bare, end, endpoint, queued, tenure, until};

/// Holds the lock until a line comes.
fn holder(name: &str) -> Run {
    let mut holder = Run::of(&mut tenure(&[
        "lock",
        name,
        "--",
        "sh",
        "-c",
        "echo ready; read -r _",
    ]));
    assert_eq!(holder.line(), "ready");
    holder
}

#[test]
fn in_a_full_queue_a_bound_has_its_status_as_with_flock() {
    let holder = holder("full");
    let waiting: Vec<_> = (2..5)
        .map(|place| {
            let waits = Run::of(&mut tenure(&["lock", "full", "--", "echo", &format!("{place}")]));
            until("one more in the queue", || queued("full") == place);
            waits
        })
        .collect();
    for (options, status) in [
        (vec!["--nonblock"], 75),
        (vec!["-n", "-E", "9"], 9),
        (vec!["--wait", "0"], 75),
        (vec!["--wait", "0.2"], 75),
        (vec!["--wait", "200ms", "--conflict-exit-code", "0"], 0),
    ] {
        let tried = end(tenure(&["lock", "full"]).args(&options).args(["--", "echo", "mine"]));
        assert_eq!(
            (tried.status, tried.out.as_str(), tried.errors.as_str()),
            (status, "", ""),
            "{options:?}"
        );
        // Its place is given up when it says so.
        assert_eq!(queued("full"), 4, "{options:?}");
    }
    // Its stdin is closed: the command reads the end.
    assert_eq!(holder.end().status, 1);
    for (place, waits) in (2..).zip(waiting) {
        assert_eq!(waits.end().out, format!("{place}\n"));
    }
}

#[test]
fn flock_has_the_same_habits() {
    let file = format!("{}/flock", env!("CARGO_TARGET_TMPDIR"));
    let mut holder = Run::of(Command::new("flock").args([&file, "sh", "-c", "echo ready; read -r _"]));
    holder.line();
    for options in [&["-n", "-E", "9"][..], &["-w", "0.2", "-E", "9"]] {
        assert_eq!(
            end(Command::new("flock").args(options).args([&file, "true"])).status,
            9
        );
    }
}

#[test]
fn a_signal_while_it_waits_gives_the_place_up() {
    let _holder = holder("given-up");
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let waits = Run::of(&mut tenure(&["lock", "given-up", "--", "echo", "mine"]));
        until("a second one in the queue", || queued("given-up") == 2);
        waits.signal(signal);
        let ended = waits.end();
        assert_eq!(
            (ended.status, ended.out.as_str(), ended.errors.as_str()),
            (status, "", "")
        );
        assert_eq!(queued("given-up"), 1);
    }
}

#[test]
fn etcdctl_waits_in_the_same_queue_and_we_wait_behind_it() {
    let binary = Binary::find().expect("an etcd");
    let etcdctl = binary.etcdctl().expect("an etcdctl");
    let theirs = |script: &str| {
        let mut command = Command::new(&etcdctl);
        command.env("ETCDCTL_API", "3").args([
            "--endpoints",
            &endpoint(),
            "lock",
            "mixed",
            "--",
            "sh",
            "-c",
            script,
        ]);
        command
    };
    let holder = holder("mixed");
    // Its command has no stdin.
    let enough = format!("{}/enough-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let script = format!("echo theirs; until test -e '{enough}'; do sleep 0.01; done");
    let mut second = Run::of(&mut theirs(&script));
    until("etcdctl in the queue", || queued("mixed") == 2);
    let third = Run::of(&mut tenure(&["lock", "mixed", "--", "echo", "ours"]));
    until("a third one in the queue", || queued("mixed") == 3);
    assert_eq!(holder.end().status, 1);
    assert_eq!(second.line(), "theirs");
    assert_eq!(
        end(&mut tenure(&["lock", "mixed", "-n", "--", "true"])).status,
        75
    );
    fs::write(&enough, "").expect("a file");
    assert_eq!(second.end().status, 0);
    fs::remove_file(&enough).expect("the file");
    assert_eq!(third.end().out, "ours\n");
    // What etcdctl passes on, we pass on. That of 3.4 passes nothing on.
    if binary.line() > Line::V3_4 {
        let script = "exit 7";
        let ours = end(&mut tenure(&["lock", "mixed", "--", "sh", "-c", script]));
        assert_eq!(end(&mut theirs(script)).status, ours.status);
    }
}

/// Of the holder, and of those that wait.
fn entries(endpoint: &str, name: &str) -> Vec<Value> {
    let answer = end(bare().args(["--endpoints", endpoint, "--json", "who", name]));
    let mut who: Value = serde_json::from_str(&answer.out).unwrap_or_else(|_| panic!("{answer:?}"));
    let waiting = who["queue"].as_array_mut().map(std::mem::take).unwrap_or_default();
    [who["holder"].take()]
        .into_iter()
        .filter(|entry| !entry.is_null())
        .chain(waiting)
        .collect()
}

/// A time as RFC 3339 has it, in one form: as text it is in the order of time.
fn since(entry: &Value) -> String {
    let value = entry["value"].as_str().expect("a text");
    value.rsplit_once(" since ").expect(value).1.to_owned()
}

#[test]
fn who_waits_says_since_when_and_who_has_it_since_when_it_has_it() {
    let mut embedded = Run::of(bare().args(["dev", "--listen", "127.0.0.1:0"]));
    let etcdctl = Binary::find().expect("an etcd").etcdctl().expect("an etcdctl");
    // Another client waits, too, behind who writes its key anew.
    for (endpoint, theirs) in [(endpoint(), Command::new(etcdctl)), (embedded.line(), bare())] {
        let wants = |mut command: Command, script: &str| {
            command.env("ETCDCTL_API", "3").args(["--endpoints", &endpoint]);
            Run::of(command.args(["lock", "since", "--", "sh", "-c", script]))
        };
        let mut first = wants(bare(), "echo ready; read -r _");
        first.line();
        let mut second = wants(bare(), "echo ready; read -r _");
        until("a second one in the queue", || {
            entries(&endpoint, "since").len() == 2
        });
        let third = wants(theirs, "echo third");
        until("a third one in the queue", || {
            entries(&endpoint, "since").len() == 3
        });
        let waited = entries(&endpoint, "since");
        let asked = since(&waited[1]);
        // Times are to the second, and who has waited for less has not waited.
        let last = waited[..2].iter().map(since).max().expect("two");
        until("a second that is over", || {
            let over = end(Command::new("date").args(["-u", "-d", "1 second ago", "+%FT%TZ"]));
            over.out.trim() > last.as_str()
        });
        assert_eq!(first.end().status, 1);
        second.line();
        let holding = entries(&endpoint, "since");
        assert_eq!(holding.len(), 2, "{holding:?}");
        assert!(since(&holding[0]) > asked, "{holding:?} {waited:?}");
        assert_eq!(holding[1], waited[2], "it waits as before");
        for same in ["key", "created", "lease"] {
            assert_eq!(holding[0][same], waited[1][same]);
        }
        second.write(b"\n");
        assert_eq!(second.end().status, 0);
        assert_eq!(third.end().out, "third\n");
        assert!(entries(&endpoint, "since").is_empty());
    }
}

#[test]
fn what_a_holder_is_to_say_of_itself_it_says_and_nothing_else() {
    let holder = holder("own-value");
    let mut second = Run::of(&mut tenure(&[
        "lock",
        "own-value",
        "--value",
        "text",
        "--",
        "sh",
        "-c",
        "echo ready; read -r _",
    ]));
    until("a second one in the queue", || queued("own-value") == 2);
    assert_eq!(holder.end().status, 1);
    second.line();
    let entries = entries(&endpoint(), "own-value");
    assert_eq!(entries[0]["value"], "text");
}
