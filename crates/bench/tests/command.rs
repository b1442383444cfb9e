//! The command as it is started, on the etcd in memory and with a handful of samples.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

fn bench(suite: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenure-bench"));
    command.args([suite, "--rounds", "2", "--server", "embedded"]);
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
    for name in ["tenure", "h2 by hand"] {
        let row = drawn.lines().find(|line| line.starts_with(&format!("| {name} "))).unwrap_or_default();
        assert_eq!(count_in(row), Some("40"), "{drawn}{told}");
    }
    assert!(drawn.contains(" x that of h2 by hand"), "{drawn}{told}");
    let missing = "System calls were not counted: there is no `strace`.";
    assert_eq!(drawn.matches(missing).count(), 1, "{drawn}{told}");
    let chart = charts.join("free-lock-locked-and-unlocked-on-the-etcd-in-memory.svg");
    let chart = fs::read_to_string(chart).unwrap();
    assert_eq!(chart.matches("<polyline").count(), 2, "{chart}");
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
    let mut command = bench("keepalive");
    command.args([
        "--leases",
        "3",
        "--seconds",
        "3",
        "--ttl",
        "2",
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
        assert!(
            row["of_a_core"]["user"].as_f64().is_some_and(|share| share > 0.0),
            "{row}"
        );
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
    // Two rounds of three seconds, three leases of two: some ten of each, and never so few.
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
fn a_failover_counts_what_a_reset_costs_on_real_members() {
    let path = scratch("failover.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenure-bench"));
    command.args([
        "failover",
        "--rounds",
        "1",
        "--window",
        "2",
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
