//! Clusters of real servers: started, killed, frozen, brought back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use tenure_etcd::{Binary, Cluster, Options};

mod common;
use common::eventually;

/// Long enough for anything here on a busy machine.
const EVENTUALLY: Duration = Duration::from_secs(60);
/// A question this short is not answered by a frozen server.
const SHORT: Duration = Duration::from_millis(300);

fn cluster(members: usize) -> Cluster {
    let binary = Binary::find().expect("an etcd to test with");
    Cluster::start(&binary, members, Options::default()).expect("a cluster that starts")
}

/// What the gateway of the member answers to `body`, head and all.
fn post(endpoint: &str, path: &str, body: &str) -> String {
    let address = endpoint.strip_prefix("http://").expect("a plain endpoint");
    let mut stream = TcpStream::connect(address).expect("a server that listens");
    stream.set_read_timeout(Some(EVENTUALLY)).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer
}

/// Keys and values of the gateway are base64; `cQ==` is q.
fn put(endpoint: &str) {
    post(endpoint, "/v3/kv/put", r#"{"key":"cQ==","value":"cQ=="}"#);
}

fn has_key(endpoint: &str) -> bool {
    post(endpoint, "/v3/kv/range", r#"{"key":"cQ=="}"#).contains("cQ==")
}

#[test]
fn one_member_starts_and_leads() {
    let cluster = cluster(1);
    assert_eq!(cluster.endpoints(), [cluster.member(0).endpoint()]);
    assert!(cluster.member(0).is_running());
    assert!(cluster.member(0).is_healthy(EVENTUALLY));
    assert_eq!(cluster.leader_index().unwrap(), 0);
}

#[test]
fn the_members_of_a_cluster_are_one_etcd() {
    let cluster = cluster(3);
    assert_eq!(cluster.members().len(), 3);
    put(&cluster.endpoints()[0]);
    for endpoint in cluster.endpoints() {
        assert!(has_key(&endpoint), "{endpoint}");
    }
}

#[test]
fn a_killed_member_comes_back_with_its_data_at_its_address() {
    let cluster = cluster(1);
    let member = cluster.member(0);
    let (endpoint, pid) = (member.endpoint(), member.pid());
    put(&endpoint);
    member.kill();
    assert!(!member.is_running());
    assert!(!member.is_healthy(SHORT));
    member.restart().unwrap();
    assert_ne!(member.pid(), pid);
    assert_eq!(member.endpoint(), endpoint);
    assert!(has_key(&endpoint));
}

#[test]
fn a_member_that_is_asked_to_end_does_and_comes_back_with_its_data() {
    let cluster = cluster(1);
    let member = cluster.member(0);
    put(&member.endpoint());
    assert_eq!(member.watch_count(), Some(0));
    member.terminate().unwrap();
    assert!(!member.is_running());
    assert_eq!(member.watch_count(), None);
    assert!(member.terminate().is_err(), "it does not run");
    member.restart().unwrap();
    assert!(has_key(&member.endpoint()));
}

#[test]
fn restart_also_replaces_a_server_that_runs_or_is_paused() {
    let cluster = cluster(1);
    let member = cluster.member(0);
    for pause in [false, true] {
        let pid = member.pid();
        if pause {
            member.pause().unwrap();
        }
        member.restart().unwrap();
        assert_ne!(member.pid(), pid);
        assert!(member.is_healthy(EVENTUALLY));
    }
}

#[test]
fn all_members_come_back_after_all_were_killed() {
    let cluster = cluster(3);
    put(&cluster.endpoints()[0]);
    for member in cluster.members() {
        member.kill();
    }
    for member in cluster.members() {
        member.start().unwrap();
    }
    cluster.wait_ready().unwrap();
    assert!(cluster.members().iter().all(|member| has_key(&member.endpoint())));
}

#[test]
fn a_paused_member_is_there_and_answers_nothing_until_it_resumes() {
    let cluster = cluster(1);
    let member = cluster.member(0);
    for _ in 0..3 {
        member.pause().unwrap();
        assert!(member.is_running());
        assert!(!member.is_healthy(SHORT));
        member.resume().unwrap();
        assert!(member.is_healthy(EVENTUALLY));
    }
}

#[test]
fn another_member_leads_while_the_leader_is_frozen() {
    // Patient with one another, so that a machine that stands still for a while elects nobody.
    let options = Options {
        heartbeat: Some(Duration::from_millis(300)),
        election: Some(Duration::from_secs(3)),
        ..Options::default()
    };
    let cluster = Cluster::start(&Binary::find().expect("an etcd to test with"), 3, options).unwrap();
    let old = cluster.leader_index().unwrap();
    cluster.member(old).pause().unwrap();
    let new = cluster.leader_index().unwrap();
    assert_ne!(new, old);
    cluster.member(old).resume().unwrap();
    cluster.member(old).wait_ready().unwrap();
    assert_eq!(cluster.leader_index().unwrap(), new);
}

#[test]
fn what_is_dead_cannot_be_paused_or_resumed() {
    let cluster = cluster(1);
    let member = cluster.member(0);
    member.kill();
    assert!(member.pause().is_err());
    assert!(member.resume().is_err());
    assert!(member.pid().is_none());
    member.kill();
}

#[test]
fn a_server_killed_by_somebody_else_is_seen_to_be_gone() {
    let cluster = cluster(1);
    let member = cluster.member(0);
    let pid = member.pid().expect("a running server").to_string();
    assert!(Command::new("/bin/sh").args(["-c", "kill -KILL $0", &pid]).status().unwrap().success());
    eventually(EVENTUALLY, "the server is gone", || !member.is_running());
    assert!(member.wait_ready().is_err());
    member.restart().unwrap();
}

#[test]
fn a_dropped_cluster_leaves_nothing() {
    let cluster = cluster(3);
    let (dir, endpoint) = (cluster.dir().to_owned(), cluster.endpoints().remove(0));
    cluster.member(1).pause().unwrap();
    cluster.member(2).kill();
    assert!(dir.join("m0").is_dir());
    drop(cluster);
    assert!(!dir.exists());
    assert!(!dir.with_extension("gone").exists());
    assert!(TcpStream::connect(endpoint.strip_prefix("http://").unwrap()).is_err());
}

#[test]
fn a_server_that_refuses_its_arguments_is_an_error_with_its_log() {
    let binary = Binary::find().expect("an etcd to test with");
    let options = Options {
        arguments: vec!["--no-such-flag".to_owned()],
        ..Options::default()
    };
    let started = Instant::now();
    let error = Cluster::start(&binary, 1, options).unwrap_err().to_string();
    assert!(error.contains("no-such-flag"), "{error}");
    assert!(
        started.elapsed() < EVENTUALLY,
        "it waited for a server that had ended"
    );
    assert!(Cluster::start(&binary, 0, Options::default()).is_err());
}

#[test]
fn options_reach_the_server() {
    let binary = Binary::find().expect("an etcd to test with");
    let options = Options {
        fsync: true,
        heartbeat: Some(Duration::from_millis(20)),
        election: Some(Duration::from_millis(200)),
        arguments: vec!["--max-txn-ops=7".to_owned()],
        ..Options::default()
    };
    let cluster = Cluster::start(&binary, 1, options).unwrap();
    let pid = cluster.member(0).pid().expect("a running server");
    let arguments = Command::new("ps").args(["-o", "args=", "-ww", "-p", &pid.to_string()]).output().unwrap();
    let arguments = String::from_utf8_lossy(&arguments.stdout).into_owned();
    for flag in [
        "--heartbeat-interval=20",
        "--election-timeout=200",
        "--max-txn-ops=7",
    ] {
        assert!(arguments.contains(flag), "{arguments}");
    }
    assert!(!arguments.contains("no-fsync"), "{arguments}");
}

#[test]
fn etcdctl_beside_the_binary_talks_to_it() {
    let binary = Binary::find().expect("an etcd to test with");
    let Some(etcdctl) = binary.etcdctl() else {
        // Only an etcd that was not built here may come without one.
        assert!(Binary::from_env().unwrap().is_some() || Binary::on_path().unwrap().is_some());
        return;
    };
    let cluster = Cluster::start(&binary, 1, Options::default()).unwrap();
    let ctl = |arguments: &[&str]| {
        let output = Command::new(&etcdctl)
            .arg("--endpoints")
            .args(cluster.endpoints())
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    ctl(&["put", "q", "v"]);
    assert_eq!(ctl(&["get", "q", "--print-value-only"]), "v\n");
}

#[test]
fn the_shared_server_is_one_for_all_threads() {
    let first = tenure_etcd::shared();
    let other = std::thread::spawn(tenure_etcd::shared).join().unwrap();
    assert!(std::ptr::eq(first, other));
    put(&first.endpoints()[0]);
}

#[test]
fn a_member_is_removed_and_another_added() {
    let mut cluster = cluster(3);
    let before = cluster.endpoints();
    put(&before[0]);
    cluster.remove(1).unwrap();
    assert_eq!(cluster.endpoints(), [before[0].clone(), before[2].clone()]);
    cluster.add().unwrap();
    let after = cluster.endpoints();
    assert_eq!(after.len(), 3);
    assert!(!before.contains(&after[2]));
    assert!(has_key(&after[2]));
    // It counts: with it there is a quorum without the first.
    cluster.member(0).kill();
    eventually(EVENTUALLY, "the rest is healthy", || {
        cluster.member(2).is_healthy(EVENTUALLY / 10)
    });
}
