//! The command as it is started, on the etcd in memory and with a handful of samples.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn bench(suite: &str) -> Command {
    bench_rounds(suite, "2")
}

fn bench_rounds(suite: &str, rounds: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenure-bench"));
    command.args([suite, "--rounds", rounds, "--server", "embedded"]);
    command
}

fn printed(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// How many operations a row of a table has.
fn count_in(row: &str) -> Option<&str> {
    row.split('|').nth(2).map(str::trim)
}

/// Starts it, waits until it tells of a whole turn, and has it stop as Ctrl-C does.
fn stopped_after_a_round(command: &mut Command) -> (Option<i32>, String, String) {
    let mut bench = command
        .env("PATH", "/nonexistent")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    let mut lines = BufReader::new(bench.stderr.take().unwrap());
    while !told.contains("  round 1/") {
        assert!(lines.read_line(&mut told).unwrap() > 0, "{told}");
    }
    kill_process(Pid::from_child(&bench), Signal::INT).unwrap();
    lines.read_to_string(&mut told).unwrap();
    let output = bench.wait_with_output().unwrap();
    (output.status.code(), printed(&output).0, told)
}

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn watch_start_draws_a_table_tells_its_progress_and_writes_json() {
    let path = scratch("watch-start.json");
    let output = bench("watch-start").args(["--samples", "3", "--json"]).arg(&path).output().unwrap();
    let (drawn, told) = printed(&output);
    assert!(output.status.success(), "{drawn}{told}");
    assert!(drawn.contains("| start at now (0) "), "{drawn}");
    assert!(told.contains("round 2/2"), "{told}");
    let report: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let rows = report["tables"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    for row in rows {
        assert_eq!(row["count"], 6, "{row}");
        assert!(row["p50_ns"].as_u64().is_some_and(|ns| ns > 1000), "{row}");
    }
}

#[test]
fn without_go_the_handoff_says_so_and_runs_the_rest() {
    let cache = scratch("no-go-cache");
    let mut command = bench("handoff");
    command.args(["--handoffs", "10", "--contenders", "2,3"]);
    let output = command.env("PATH", "/nonexistent").env("TENURE_CACHE", &cache).output().unwrap();
    let (drawn, told) = printed(&output);
    assert!(
        !output.status.success(),
        "half a comparison looks like a whole one:\n{drawn}"
    );
    assert_eq!(drawn.matches("no `go` on PATH").count(), 2, "{drawn}{told}");
    let tenure: Vec<&str> = drawn.lines().filter(|line| line.starts_with("| tenure ")).collect();
    assert_eq!(tenure.len(), 2, "{drawn}{told}");
    for line in tenure {
        assert_eq!(count_in(line), Some("10"), "{line}");
    }
}

#[test]
fn a_hand_off_takes_two() {
    let output = bench("handoff").args(["--contenders", "1"]).output().unwrap();
    let (drawn, told) = printed(&output);
    assert!(
        !output.status.success() && told.contains("takes two contenders"),
        "{drawn}{told}"
    );
}

#[test]
fn without_the_peers_the_watch_throughput_says_so_and_runs_the_rest() {
    let mut command = bench("watch-throughput");
    command.args(["--events", "300"]).env("PATH", "/nonexistent");
    let output = command.env("TENURE_CACHE", scratch("no-go-cache")).output().unwrap();
    let (drawn, told) = printed(&output);
    assert!(!output.status.success(), "{drawn}{told}");
    for reason in ["no `go` on PATH", "no `cargo` on PATH"] {
        assert_eq!(drawn.matches(reason).count(), 2, "{drawn}{told}");
    }
    let tenure: Vec<&str> = drawn.lines().filter(|line| line.starts_with("| tenure ")).collect();
    assert_eq!(tenure.len(), 2, "{drawn}{told}");
    assert!(
        tenure.iter().all(|line| count_in(line) == Some("600")),
        "{drawn}{told}"
    );
}

#[test]
fn from_a_put_to_its_event_there_is_a_table_for_each_number_of_watches() {
    let mut command = bench("watch-latency");
    command.args(["--events", "60", "--watches", "1,7"]).env("PATH", "/nonexistent");
    let output = command.env("TENURE_CACHE", scratch("no-go-cache")).output().unwrap();
    let (drawn, told) = printed(&output);
    let tenure: Vec<&str> = drawn.lines().filter(|line| line.starts_with("| tenure ")).collect();
    assert_eq!(tenure.len(), 2, "{drawn}{told}");
    assert!(
        tenure.iter().all(|line| count_in(line) == Some("120")),
        "{drawn}{told}"
    );
    assert!(
        drawn.contains(" 1 watch, on") && drawn.contains(" 7 watches, on"),
        "{drawn}{told}"
    );
    for reason in ["no `go` on PATH", "no `cargo` on PATH"] {
        assert_eq!(drawn.matches(reason).count(), 2, "{drawn}{told}");
    }
}

#[test]
fn a_floor_is_under_the_calls() {
    let mut command = bench("unary");
    command.args(["--calls", "50", "--in-flight", "1,3"]).env("PATH", "/nonexistent");
    let output = command.env("TENURE_CACHE", scratch("no-go-cache")).output().unwrap();
    let (drawn, told) = printed(&output);
    let own_thread = concat!("tenure ", env!("CARGO_PKG_VERSION"), ", own thread");
    // Put, get and txn, with 1 and 3 in flight.
    for (name, count) in [("tenure", 12), (own_thread, 6), ("h2 by hand", 6)] {
        let rows = drawn.lines().filter(|line| line.starts_with(&format!("| {name} ")));
        assert_eq!(
            rows.filter(|line| count_in(line) == Some("100")).count(),
            count,
            "{drawn}{told}"
        );
    }
}

#[test]
fn a_free_lock_is_measured_against_its_own_two_transactions() {
    let mut command = bench("lock");
    let charts = scratch("free-lock");
    command
        .args(["--calls", "20", "--strace", "--svg"])
        .arg(&charts)
        .env("PATH", "/nonexistent");
    let output = command.env("TENURE_CACHE", scratch("no-go-cache")).output().unwrap();
    let (drawn, told) = printed(&output);
    for name in ["tenure", "h2 by hand", "h2 by hand, a timer set"] {
        let row = drawn.lines().find(|line| line.starts_with(&format!("| {name} "))).unwrap_or_default();
        assert_eq!(count_in(row), Some("40"), "{drawn}{told}");
    }
    assert!(drawn.contains(" x that of h2 by hand"), "{drawn}{told}");
    let missing = "System calls were not counted: there is no `strace`.";
    assert_eq!(drawn.matches(missing).count(), 1, "{drawn}{told}");
    let chart = charts.join("free-lock-locked-and-unlocked-on-the-etcd-in-memory.svg");
    let chart = fs::read_to_string(chart).unwrap();
    // tenure, and by hand without and with a timer.
    assert_eq!(chart.matches("<polyline").count(), 3, "{chart}");
}

#[test]
fn where_no_store_can_be_had_each_says_why_and_tenure_runs() {
    let path = scratch("stores.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenure-bench"));
    command.args([
        "stores",
        "--rounds",
        "2",
        "--calls",
        "20",
        "--handoffs",
        "10",
        "--contenders",
        "2,3",
    ]);
    let output = command.arg("--json").arg(&path).env("PATH", "/nonexistent").output().unwrap();
    let (drawn, told) = printed(&output);
    assert!(!output.status.success(), "{drawn}{told}");
    let report: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let tables = report["tables"].as_array().unwrap();
    for (table, count) in tables.iter().zip([40, 10, 10]) {
        let rows = table["rows"].as_array().unwrap();
        assert!(
            rows[0]["name"].as_str().unwrap().starts_with("tenure on etcd 3."),
            "{table}"
        );
        assert_eq!(rows[0]["count"], count, "{table} {told}");
        assert_eq!(rows[0]["failure"], Value::Null);
        for (row, name) in rows[1..].iter().zip(["Redis", "ZooKeeper", "PostgreSQL", "MariaDB"]) {
            assert_eq!(row["name"], name);
            assert!(
                row["failure"].as_str().unwrap().contains("no `cargo` on PATH"),
                "{row}"
            );
        }
    }
    assert_eq!(tables.len(), 3);
    assert!(tables[1]["rows"][0]["locks_each"].as_f64().is_some_and(|locks| locks >= 1.0));
}

#[test]
fn what_is_idle_is_weighed_where_nothing_can_be_built() {
    let mut command = bench("footprint");
    command.args(["--count", "5", "--without-builds"]).env("PATH", "/nonexistent");
    let (drawn, told) = printed(&command.output().unwrap());
    for thing in [
        "a client, connected",
        "a watch",
        "one who waits for a lock",
        "a lease, kept alive",
    ] {
        let row = drawn
            .lines()
            .find(|line| line.starts_with(&format!("| {thing} ")) && line.contains("tenure"));
        let heap = row.and_then(|row| row.split('|').nth(3)).unwrap_or_default().trim();
        assert!(
            heap.ends_with("KB") && !heap.starts_with("0.00"),
            "{thing}: {drawn}{told}"
        );
    }
    assert!(drawn.contains("no `cargo` on PATH"), "{drawn}{told}");
}

#[test]
fn leases_are_kept_by_each_client_that_can_be_had_and_none_is_lost() {
    let path = scratch("keepalive.json");
    let mut command = bench_rounds("keepalive", "1");
    command.args([
        "--leases",
        "3",
        "--seconds",
        "6",
        "--ttl",
        "6",
        "--own-thread",
        "--json",
    ]);
    command.arg(&path).env("PATH", "/nonexistent").env("TENURE_CACHE", scratch("no-go-cache"));
    let (drawn, told) = printed(&command.output().unwrap());
    let report: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let rows = report["tables"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4, "{drawn}{told}");
    for row in &rows[..2] {
        assert_eq!(
            (&row["lost"], &row["failure"]),
            (&Value::from(0), &Value::Null),
            "{drawn}{told}"
        );
        // How it is shared between the two is a matter of samples.
        let share = |of| row["of_a_core"][of].as_f64().unwrap();
        assert!(share("user") + share("system") > 0.0, "{row}");
        assert!(
            row["per_second_of_rounds"]["min"].as_f64().is_some_and(|rate| rate > 0.0),
            "{row}"
        );
    }
    for (row, reason) in rows[2..].iter().zip(["no `go` on PATH", "no `cargo` on PATH"]) {
        assert!(row["failure"].as_str().unwrap().contains(reason), "{row}");
    }
    let name = concat!("| tenure ", env!("CARGO_PKG_VERSION"), " ");
    let row = drawn.lines().find(|line| line.starts_with(name)).unwrap();
    // A round as long as a TTL, three leases renewed each third of one: some nine, and never so few.
    assert!(
        count_in(row).unwrap().parse::<u64>().unwrap() >= 6,
        "{drawn}{told}"
    );
    assert!(
        drawn.contains("of a core") && drawn.contains("none lost: met"),
        "{drawn}{told}"
    );
}

#[test]
fn small_reads_at_a_pace_are_measured_alone_and_beside_the_rest() {
    let mut command = bench("tail");
    command.args([
        "--calls",
        "40",
        "--leases",
        "2",
        "--writes",
        "50",
        "--large-bytes",
        "4096",
    ]);
    command.env("PATH", "/nonexistent").env("TENURE_CACHE", scratch("no-go-cache"));
    let (drawn, told) = printed(&command.output().unwrap());
    let own_thread = concat!("tenure ", env!("CARGO_PKG_VERSION"), ", own thread");
    for (name, count) in [("tenure", 4), (own_thread, 2)] {
        let rows = drawn.lines().filter(|line| line.starts_with(&format!("| {name} ")));
        let whole = rows.filter(|line| count_in(line) == Some("80")).count();
        assert_eq!(whole, count, "{drawn}{told}");
    }
    assert!(
        drawn.contains("alone") && drawn.contains("beside 2 leases, a watch"),
        "{drawn}{told}"
    );
    assert_eq!(drawn.matches("other keys a second").count(), 2, "{drawn}{told}");
}

#[test]
fn locks_without_a_request_have_a_row_for_each_number_of_tasks() {
    let mut command = bench("local");
    command.args(["--locks", "60", "--tasks", "2,3"]);
    let (drawn, told) = printed(&command.output().unwrap());
    let names = [
        "again while it lingers",
        "passed on between 2 tasks",
        "passed on between 3 tasks",
    ];
    for name in names {
        let row = drawn.lines().find(|line| line.starts_with(&format!("| {name} "))).unwrap_or_default();
        assert_eq!(count_in(row), Some("120"), "{drawn}{told}");
    }
}

#[test]
fn a_ladder_has_a_rung_for_each_number_of_tasks_and_a_table_for_each_of_processes() {
    let path = scratch("ladder.json");
    let mut command = bench("ladder");
    command.args(["--tasks", "4,6", "--processes", "1,2", "--seconds", "1", "--json"]);
    let output = command.arg(&path).output().unwrap();
    let (drawn, told) = printed(&output);
    assert!(output.status.success(), "{drawn}{told}");
    let report: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let tables = report["tables"].as_array().unwrap();
    assert_eq!(tables.len(), 2, "{drawn}{told}");
    for table in tables {
        let rungs = table["rungs"].as_array().unwrap();
        let tasks: Vec<_> = rungs.iter().map(|rung| rung["tasks"].as_u64().unwrap()).collect();
        assert_eq!(tasks, [4, 6]);
        for rung in rungs {
            assert_eq!(
                rung["per_second_of_rounds"].as_array().unwrap().len(),
                2,
                "{rung}"
            );
            assert!(rung["locks"].as_u64().is_some_and(|locks| locks > 0), "{rung}");
            assert_eq!(rung["errors"], 0, "{rung}");
        }
    }
}

#[test]
fn each_suite_that_is_stopped_prints_what_there_is() {
    let suites: [(&str, &[&str], &str); 6] = [
        (
            "keepalive",
            &["--leases", "2", "--seconds", "1", "--ttl", "2", "--alone"],
            "| tenure ",
        ),
        (
            "tail",
            &["--calls", "20", "--leases", "1", "--large-bytes", "0"],
            "| tenure ",
        ),
        (
            "local",
            &["--locks", "20", "--tasks", "2"],
            "| again while it lingers ",
        ),
        (
            "ladder",
            &["--tasks", "2", "--processes", "1,2", "--seconds", "1"],
            "| 2 ",
        ),
        ("watch-throughput", &["--events", "60"], "| tenure "),
        ("watch-latency", &["--events", "20"], "| tenure "),
    ];
    for (suite, options, row) in suites {
        // Far more rounds than it will come to.
        let mut command = bench_rounds(suite, "1000");
        command.args(options).env("TENURE_CACHE", scratch("no-go-cache"));
        let (status, drawn, told) = stopped_after_a_round(&mut command);
        assert_eq!(status, Some(130), "{suite}: {drawn}{told}");
        let row = drawn.lines().find(|line| line.starts_with(row)).unwrap_or_default();
        assert!(
            count_in(row).is_some_and(|count| count != "0"),
            "{suite}: {drawn}{told}"
        );
        // No table for what had not begun.
        let tables = drawn.lines().filter(|line| line.starts_with("|-")).count();
        let notes = drawn.matches("It was stopped").count();
        assert_eq!((tables, notes), (1, 1), "{suite}: {drawn}{told}");
    }
}

#[test]
fn a_failover_that_is_stopped_has_no_table_for_a_fault_that_did_not_come() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenure-bench"));
    command.args(["failover", "--rounds", "100", "--window", "8"]);
    command.args(["--faults", "connections-reset,cut-off-from-follower"]);
    let (status, drawn, told) = stopped_after_a_round(&mut command);
    assert_eq!(status, Some(130), "{drawn}{told}");
    assert_eq!(drawn.matches("Failover: ").count(), 1, "{drawn}{told}");
    assert!(
        drawn.contains("all connections are reset") && drawn.contains("It was stopped"),
        "{drawn}{told}"
    );
}

#[test]
fn a_failover_counts_what_a_reset_costs_on_real_members() {
    let path = scratch("failover.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenure-bench"));
    command.args([
        "failover",
        "--rounds",
        "1",
        "--window",
        "8",
        "--faults",
        "connections-reset",
        "--json",
    ]);
    // Neither Go nor cargo, and the servers are built already or there.
    let output = command.arg(&path).env("PATH", "/nonexistent").output().unwrap();
    let (drawn, told) = printed(&output);
    let report: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let row = &report["tables"][0]["rows"][0]["rounds"][0];
    for kind in ["gets", "puts"] {
        let first = row[kind]["first_after_leader_ns"].as_u64();
        assert!(first.is_some_and(|ns| ns > 0), "{row} {drawn}{told}");
    }
    assert!(drawn.contains("| tenure "), "{drawn}{told}");
}
