//! Those who wait for a lock: with a bound, in their order, and beside etcdctl.

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use tenure_etcd::{Binary, Line};

use crate::run::{Run, end, endpoint, queued, tenure, until};

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
