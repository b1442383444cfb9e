//! `tenure bench`: what it measures, draws and leaves behind, and how it ends.

use std::fs;
use std::path::{Path, PathBuf};

use roxmltree::Document;
use rustix::process::Signal;
use serde_json::Value;
use tenure_etcd::{Binary, Cluster, Options};

use crate::run::{End, Run, bare, end, until};

/// Renewed every two seconds, so that a machine may stand still for as long.
const TTL_KEPT: &str = "6";
/// Longer than any test waits.
const LONG: &str = "600";

/// An etcd that nobody else writes to.
struct Etcd(Cluster);

impl Etcd {
    fn start() -> Etcd {
        let binary = Binary::find().expect("an etcd");
        Etcd(Cluster::start(&binary, 1, Options::default()).expect("it starts"))
    }

    fn begin(&self, arguments: &[&str]) -> Run {
        Run::of(bare().env("ETCDCTL_ENDPOINTS", &self.0.endpoints()[0]).args(arguments))
    }

    fn run(&self, arguments: &[&str]) -> End {
        self.begin(arguments).end()
    }

    fn queue(&self, name: &str) -> Value {
        document(&self.run(&["who", name, "--json"]))
    }

    /// Waits until the lock has gone round: its key was given back, and there is another one.
    fn gone_round(&self, name: &str) {
        let key = || self.queue(name)["holder"]["created"].as_i64();
        let mut first = None;
        until("another key", || {
            let seen = key();
            first = first.or(seen);
            seen > first
        });
    }

    fn has_nothing(&self) {
        assert_eq!(self.run(&["get", "", "--prefix", "--keys-only"]).out, "");
        assert_eq!(self.run(&["lease", "list"]).out, "found 0 leases\n");
    }
}

fn document(end: &End) -> Value {
    serde_json::from_str(&end.out).unwrap_or_else(|_| panic!("{end:?}"))
}

/// A file that is not there yet.
fn file(name: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_file(&file);
    file
}

#[test]
fn a_ladder_is_a_document_and_a_chart_and_leaves_nothing_behind() {
    let etcd = Etcd::start();
    let svg = file("ladder.svg");
    let path = svg.display().to_string();
    let ended = etcd.run(&[
        "bench",
        "--json",
        "--rungs",
        "1,4,30",
        "--seconds",
        "0.3",
        "--svg",
        &path,
    ]);
    // Nothing is live in a pipe.
    assert_eq!((ended.status, ended.errors.as_str()), (0, ""), "{ended:?}");
    let ladder = document(&ended);
    assert_eq!(
        (&ladder["name"], &ladder["interrupted"]),
        (&"bench".into(), &false.into())
    );
    let rungs = ladder["rungs"].as_array().expect("rungs");
    let tasks: Vec<_> = rungs.iter().map(|rung| rung["tasks"].as_u64().expect("a number")).collect();
    assert_eq!(tasks, [1, 4, 30]);
    for rung in rungs {
        let number = |name: &str| rung[name].as_f64().unwrap_or_else(|| panic!("{name}: {rung}"));
        assert!(number("locks") > 0.0 && number("seconds") > 0.0, "{rung}");
        let rate = number("locks") / number("seconds");
        assert!((number("locks_per_second") / rate - 1.0).abs() < 1e-9, "{rung}");
        let waits = ["wait_p50_ns", "wait_p99_ns", "wait_max_ns"].map(number);
        assert!(
            waits.is_sorted() && (1.0..=waits[2]).contains(&number("wait_mean_ns")),
            "{rung}"
        );
        assert_eq!(
            (number("errors"), &rung["first_error"]),
            (0.0, &Value::Null),
            "{rung}"
        );
    }
    let text = fs::read_to_string(svg).expect("the chart");
    let chart = Document::parse(&text).expect("XML");
    let curves = chart.descendants().filter(|node| node.has_tag_name("polyline"));
    let points = curves.map(|curve| curve.attribute("points").expect("points").split(' ').count());
    assert_eq!(points.collect::<Vec<_>>(), [3, 3, 3]);
    let named: Vec<_> = chart.descendants().filter_map(|node| node.text()).collect();
    for name in ["locks per second", "wait, p50", "wait, p99", "tasks, logarithmic"] {
        assert!(named.contains(&name), "{name}: {named:?}");
    }
    etcd.has_nothing();
}

#[test]
fn an_interrupt_ends_the_rung_and_gives_the_lock_back() {
    let etcd = Etcd::start();
    for as_json in [false, true] {
        let svg = file("interrupted.svg");
        let path = svg.display().to_string();
        let mut arguments = vec!["bench", "--rungs", "40,50", "--seconds", LONG, "--svg", &path];
        arguments.extend(as_json.then_some("--json"));
        let measuring = etcd.begin(&arguments);
        etcd.gone_round("bench");
        measuring.signal(Signal::INT);
        let ended = measuring.end();
        assert_eq!((ended.status, ended.errors.as_str()), (130, ""), "{ended:?}");
        if as_json {
            let ladder = document(&ended);
            assert_eq!(ladder["interrupted"], true, "{ladder}");
            assert_eq!(ladder["rungs"].as_array().map(Vec::len), Some(1), "{ladder}");
            assert_eq!(
                (&ladder["rungs"][0]["tasks"], &ladder["rungs"][0]["errors"]),
                (&40.into(), &0.into())
            );
        } else {
            let lines: Vec<_> = ended.out.lines().collect();
            assert!(lines.len() == 2 && lines[1].starts_with("40 "), "{ended:?}");
        }
        assert!(svg.exists(), "what there is is drawn");
        etcd.has_nothing();
    }
}

#[test]
fn a_second_interrupt_ends_it_although_etcd_says_nothing() {
    let etcd = Etcd::start();
    let mut measuring = etcd.begin(&[
        "bench",
        "--rungs",
        "5",
        "--seconds",
        LONG,
        "--ttl",
        LONG,
        "--command-timeout",
        LONG,
    ]);
    etcd.gone_round("bench");
    etcd.0.member(0).pause().expect("it stands still");
    until("its end", || {
        // Two that come at once may be one.
        measuring.has_ended() || {
            measuring.signal(Signal::INT);
            false
        }
    });
    let ended = measuring.end();
    assert_eq!(ended.status, 130, "{ended:?}");
    assert!(ended.errors.contains("lease"), "{ended:?}");
}

#[test]
fn an_etcd_that_dies_in_the_middle_is_told_of_and_ends_it() {
    let etcd = Etcd::start();
    let measuring = etcd.begin(&[
        "bench",
        "--json",
        "--rungs",
        "7,8",
        "--seconds",
        LONG,
        "--ttl",
        TTL_KEPT,
        "--command-timeout",
        "4s",
    ]);
    etcd.gone_round("bench");
    etcd.0.member(0).kill();
    let ended = measuring.end();
    assert_eq!(ended.status, 1, "{ended:?}");
    assert!(
        ended.errors.contains("7 tasks: the session was lost"),
        "{ended:?}"
    );
    let ladder = document(&ended);
    let [rung] = ladder["rungs"].as_array().expect("rungs").as_slice() else {
        panic!("there is no second rung without an etcd: {ladder}");
    };
    // Each task once, and perhaps a task whose lock was on its way before that.
    assert!(rung["errors"].as_u64() >= Some(7), "{rung}");
    assert!(rung["first_error"].is_string(), "{rung}");
    etcd.0.member(0).start().and_then(|()| etcd.0.wait_ready()).expect("it is there again");
    until("the end of the lease", || {
        etcd.run(&["lease", "list"]).out == "found 0 leases\n"
    });
    etcd.has_nothing();
}

#[test]
fn a_lock_that_somebody_else_has_is_left_to_them() {
    let etcd = Etcd::start();
    let mut holder = etcd.begin(&["lock", "taken", "--value", "somebody else"]);
    holder.line();
    let svg = file("nothing.svg");
    let path = svg.display().to_string();
    let ended = etcd.run(&[
        "bench",
        "--name",
        "taken",
        "--rungs",
        "3,4",
        "--seconds",
        "0.2",
        "--svg",
        &path,
    ]);
    assert_eq!((ended.status, ended.out.lines().count()), (1, 2), "{ended:?}");
    assert!(ended.errors.contains("3 tasks: nobody had the lock"), "{ended:?}");
    let row: Vec<_> = ended.out.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row, ["3", "0", "0", "-", "-", "-", "-", "0"]);
    assert!(!svg.exists());
    let queue = etcd.queue("taken");
    assert_eq!(queue["holder"]["value"], "somebody else");
    assert_eq!(queue["queue"].as_array().map(Vec::len), Some(0));
    holder.signal(Signal::TERM);
    assert_eq!(holder.end().status, 0);
    etcd.has_nothing();
}

#[test]
fn without_endpoints_it_is_the_etcd_in_memory() {
    let ended = end(bare().args(["bench", "--rungs", "5,50", "--seconds", "0.2"]));
    assert_eq!((ended.status, ended.out.lines().count()), (0, 3), "{ended:?}");
    assert!(
        ended.errors.contains("in memory") && ended.errors.lines().count() == 1,
        "{ended:?}"
    );
}
