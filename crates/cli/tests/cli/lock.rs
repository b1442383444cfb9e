//! `tenure lock`, beside flock(1) and `etcdctl lock`: exit status, environment, and what becomes of
//! the lock and of the command when the other one, or the server, goes.

use rustix::process::Signal;
use tenure_etcd::{Binary, Cluster, Options};

use crate::run::{End, Run, bare, end, endpoint, heedful, queued, send, tenure, until};

/// With a second of grace it leaves five, in which it is renewed three times: a machine may stand still for two.
const TTL_KEPT: &str = "6";
/// The same with this grace.
const GRACE_LONG: [&str; 4] = ["--ttl", "14", "--grace", "8"];

/// A command that ignores TERM and tells its own number and that of tenure.
const STUBBORN: &str = "trap '' TERM; echo $$ $PPID; while :; do sleep 1 >/dev/null 2>&1; done";

fn lock(name: &str, options: &[&str], command: &[&str]) -> Run {
    Run::of(tenure(&["lock", name]).args(options).arg("--").args(command))
}

/// Somebody else has to wait for it: until then it is a zombie.
fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn take_by_force(endpoint: &str, name: &str) {
    let taken = end(bare().args(["--endpoints", endpoint, "unlock", "--force", name]));
    assert!(taken.out.contains("was taken from"), "{taken:?}");
}

fn is_free(name: &str) -> bool {
    lock(name, &["--nonblock"], &["true"]).end().status == 0
}

#[test]
fn the_exit_status_is_the_commands_as_with_flock() {
    for (script, status) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
    ] {
        let ours = lock("status", &[], &["sh", "-c", script]).end();
        assert_eq!(ours.status, status, "{script}: {ours:?}");
        assert_eq!((ours.out.as_str(), ours.errors.as_str()), ("", ""), "{script}");
        let mut flock = std::process::Command::new("flock");
        let theirs = end(flock.arg("/").args(["sh", "-c", script]));
        assert_eq!(theirs.status, status, "{script}: {theirs:?}");
        assert!(is_free("status"), "{script}");
    }
}

#[test]
fn what_cannot_be_run_has_a_status_of_its_own() {
    let End { status, errors, .. } = lock("run", &[], &["/nonexistent/command"]).end();
    assert_eq!(status, 127, "{errors}");
    assert!(
        errors.starts_with("tenure: cannot run \"/nonexistent/command\": "),
        "{errors}"
    );
    assert_eq!(lock("run", &[], &["/"]).end().status, 126);
    let mut unreachable = bare();
    unreachable.args(["--endpoints", "127.0.0.1:1", "lock", "run", "--", "true"]);
    assert_eq!(end(&mut unreachable).status, 125);
    assert_eq!(
        end(&mut tenure(&[
            "lock", "run", "--ttl", "2", "--grace", "2", "--", "true"
        ]))
        .status,
        125
    );
    assert!(is_free("run"));
}

#[test]
fn the_command_is_told_of_the_lock_and_can_fence_with_it() {
    let script = r#"echo "$TOKEN $TENURE_LOCK_CREATED $TENURE_LOCK_LEASE $ETCD_LOCK_REV"
        test "$TENURE_LOCK_KEY" = "told/$TENURE_LOCK_LEASE" && test "$ETCD_LOCK_KEY" = "$TENURE_LOCK_KEY" || exit 3
        printf 'create("%s") = "%s"\n\nput told-result %s\n\n\n' "$TENURE_LOCK_KEY" "$TENURE_LOCK_CREATED" "$TOKEN" | "$0" txn"#;
    let told = || {
        let ended = lock(
            "told",
            &["--token-env", "TOKEN"],
            &["sh", "-c", script, env!("CARGO_BIN_EXE_tenure")],
        )
        .end();
        assert_eq!(ended.status, 0, "{ended:?}");
        let mut lines = ended.out.lines();
        let words = lines.next().unwrap().split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lines.next(), Some("SUCCESS"), "{ended:?}");
        let number = |at: usize| words[at].parse::<i64>().unwrap();
        assert!(number(0) == number(1) && number(3) >= number(1), "{words:?}");
        (words[0].clone(), words[2].clone())
    };
    let (first, lease) = told();
    let (second, _) = told();
    assert!(first.parse::<i64>().unwrap() < second.parse().unwrap());
    // What the first holder still sends finds its key gone.
    let mut late = Run::of(&mut tenure(&["txn"]));
    late.write(format!("create(\"told/{lease}\") = \"{first}\"\n\nput told-result late\n\n\n").as_bytes());
    assert_eq!(late.end().out, "FAILURE\n");
    assert_eq!(
        end(&mut tenure(&["get", "--print-value-only", "told-result"])).out,
        format!("{second}\n")
    );
}

#[test]
fn without_a_command_the_key_is_printed_and_held_until_a_signal() {
    let mut holder = lock("idle", &[], &[]);
    let key = holder.line();
    assert!(key.starts_with("idle/"), "{key}");
    assert!(!is_free("idle"));
    holder.signal(Signal::TERM);
    let ended = holder.end();
    assert_eq!((ended.status, ended.errors.as_str()), (0, ""));
    assert!(is_free("idle"));
}

#[test]
fn the_lock_of_a_killed_parent_is_free_after_the_ttl() {
    let mut holder = lock("orphan", &["--ttl", TTL_KEPT], &["sh", "-c", STUBBORN]);
    holder.line();
    holder.signal(Signal::KILL);
    let next = lock("orphan", &["--wait", "30"], &["echo", "mine"]).end();
    assert_eq!((next.status, next.out.as_str()), (0, "mine\n"), "{next:?}");
}

#[test]
fn a_command_whose_parent_was_killed_is_gone_at_once() {
    let mut holder = lock("alone", &["--ttl", "3600"], &["sh", "-c", STUBBORN]);
    let pids = holder.line();
    let (command, parent) = pids.split_once(' ').expect("two numbers");
    assert_eq!(parent.parse(), Ok(holder.pid()));
    holder.signal(Signal::KILL);
    let command = command.parse().expect("a number");
    until("the end of the command", || !lives(command));
}

#[test]
fn a_revoked_lease_ends_the_command_politely_and_then_at_all_costs() {
    let polite = "trap 'echo TERM; exit 0' TERM; echo $TENURE_LOCK_LEASE; sleep 60 >/dev/null 2>&1 & wait";
    let stubborn = "trap '' TERM; echo $TENURE_LOCK_LEASE; while :; do sleep 1 >/dev/null 2>&1; done";
    for (name, options, script, said) in [
        ("polite", &GRACE_LONG[..], polite, "TERM\n"),
        ("stubborn", &["--grace", "0.5"], stubborn, ""),
    ] {
        let mut holder = lock(name, options, &["sh", "-c", script]);
        let lease = holder.line();
        let next = lock(name, &[], &["echo", "mine"]);
        until("a second one in the queue", || queued(name) == 2);
        assert_eq!(end(&mut tenure(&["lease", "revoke", &lease])).status, 0);
        let ended = holder.end();
        assert_eq!((ended.status, ended.out.as_str()), (123, said), "{ended:?}");
        assert!(
            ended.errors.starts_with(&format!("tenure: lock {name:?} was lost: ")),
            "{ended:?}"
        );
        assert_eq!(ended.errors.lines().count(), 1, "{ended:?}");
        assert_eq!(next.end().out, "mine\n");
    }
}

#[test]
fn a_lock_taken_by_force_ends_the_command() {
    let mut holder = lock("forced", &[], &["sh", "-c", "echo ready; exec sleep 60"]);
    holder.line();
    let taken = end(&mut tenure(&["unlock", "--force", "forced"]));
    assert!(taken.out.starts_with("\"forced\" was taken from "), "{taken:?}");
    let ended = holder.end();
    assert_eq!(ended.status, 123, "{ended:?}");
    assert!(ended.errors.contains("somebody deleted its key"), "{ended:?}");
}

#[test]
fn a_server_that_freezes_takes_the_lock_and_the_command_along() {
    let cluster =
        Cluster::start(&Binary::find().expect("an etcd"), 1, Options::default()).expect("it starts");
    let mut command = bare();
    command.args([
        "--endpoints",
        &cluster.endpoints()[0],
        "lock",
        "frozen",
        "--ttl",
        TTL_KEPT,
        "--",
    ]);
    let mut holder = Run::of(command.args(["sh", "-c", "echo ready; exec sleep 60"]));
    holder.line();
    cluster.member(0).pause().expect("it stands still");
    let ended = holder.end();
    assert_eq!(ended.status, 123, "{ended:?}");
    assert!(ended.errors.contains("not renewed in time"), "{ended:?}");
}

#[test]
fn a_stopped_command_hears_of_its_end_too() {
    let script = "trap 'echo TERM; exit' TERM; echo $$; sleep 60 >/dev/null 2>&1 & wait";
    let mut holder = lock("stopped", &GRACE_LONG, &["sh", "-c", script]);
    let pid: i32 = holder.line().parse().expect("a pid");
    send(pid, Signal::STOP);
    let taken = end(&mut tenure(&["unlock", "--force", "stopped"]));
    assert_eq!(taken.status, 0, "{taken:?}");
    let ended = holder.end();
    assert_eq!((ended.status, ended.out.as_str()), (123, "TERM\n"), "{ended:?}");
}

/// In the foreground of a script, a child of its own that heeds TERM, and below that one that does not; both
/// tell their numbers.
const FAMILY: &str =
    r#"sh -c 'echo $$; sh -c "$0" & wait' "trap '' TERM; echo \$\$; while :; do sleep 1; done"; echo more"#;

#[test]
fn what_a_script_has_begun_ends_with_the_lock() {
    let mut embedded = Run::of(bare().args(["dev", "--listen", "127.0.0.1:0"]));
    for endpoint in [endpoint(), embedded.line()] {
        let mut command = bare();
        command.args(["--endpoints", &endpoint, "lock", "family", "--grace", "0.5", "--"]);
        let mut holder = Run::of(command.args(["sh", "-c", FAMILY]));
        let pids = [(); 2].map(|()| holder.line().parse::<i32>().expect("a number"));
        assert!(pids.iter().all(|pid| lives(*pid)));
        take_by_force(&endpoint, "family");
        let ended = holder.end();
        assert_eq!((ended.status, ended.out.as_str()), (123, ""), "{ended:?}");
        assert!(!pids.iter().any(|pid| lives(*pid)), "{pids:?}");
    }
}

#[test]
fn what_a_script_begins_at_its_end_has_the_grace_and_no_more() {
    // It has lost its parent by the time it is looked for again.
    let stays = r#"trap 'sh -c "trap \"\" TERM; echo \$\$; while :; do sleep 1; done" & exit' TERM
        echo ready; sleep 60 & wait"#;
    let mut holder = lock("newborn", &["--grace", "3"], &["sh", "-c", stays]);
    holder.line();
    take_by_force(&endpoint(), "newborn");
    let pid = holder.line().parse().expect("a number");
    assert_eq!(holder.end().status, 123);
    assert!(!lives(pid));
    // Whose end it waits for is there by the time that it is heard: nobody would end it, else.
    let tidies = "trap 'sleep 0.1 && echo tidy' TERM; sh -c 'echo ready; exec sleep 60'; :";
    let mut holder = lock("tidy", &GRACE_LONG, &["sh", "-c", tidies]);
    holder.line();
    take_by_force(&endpoint(), "tidy");
    let ended = holder.end();
    assert_eq!((ended.status, ended.out.as_str()), (123, "tidy\n"), "{ended:?}");
}

#[test]
fn what_is_not_the_commands_any_more_or_never_was_goes_on() {
    let script = r#"sleep 60 >/dev/null 2>&1 & echo $!
        exec "$0" lock others -- sh -c '(sleep 60 >/dev/null 2>&1 & echo $!); echo ready; exec sleep 60'"#;
    let mut command = heedful("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_tenure")])
        .env("ETCDCTL_ENDPOINTS", endpoint());
    let mut holder = Run::of(&mut command);
    let pids = [(); 2].map(|()| holder.line().parse().expect("a number"));
    assert_eq!(holder.line(), "ready");
    take_by_force(&endpoint(), "others");
    assert_eq!(holder.end().status, 123);
    for pid in pids {
        assert!(lives(pid), "{pid}");
        send(pid, Signal::KILL);
    }
}
