//! A cluster of which a member is gone, and a reader who has left.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use tenure_etcd::{Binary, Cluster, Options};

use crate::run::{bare, end, tenure};

#[test]
fn members_that_no_endpoint_leads_to_are_asked_too_and_one_that_is_gone_is_told_of() {
    let cluster =
        Cluster::start(&Binary::find().expect("an etcd"), 3, Options::default()).expect("it starts");
    let endpoints = cluster.endpoints();
    // A machine may stand still for two seconds of these.
    let status = || end(bare().args(["--endpoints", &endpoints[0], "status", "--within", "6"]));
    let whole = status();
    assert_eq!((whole.status, whole.out.lines().count()), (0, 4), "{whole:?}");
    assert_eq!(whole.out.matches(" leader ").count(), 1, "{whole:?}");
    assert_eq!(whole.out.matches(" yes ").count(), 3, "{whole:?}");
    assert_eq!(whole.errors, "");
    // One that the others can do without.
    let leader = cluster.leader_index().expect("a leader");
    let gone = if leader == 2 { 1 } else { 2 };
    cluster.member(gone).kill();
    let broken = status();
    assert_eq!((broken.status, broken.out.lines().count()), (1, 4), "{broken:?}");
    assert_eq!(broken.out.matches(" yes ").count(), 2, "{broken:?}");
    let row = broken.out.lines().find(|line| line.starts_with(&endpoints[gone])).expect("its row");
    assert!(row.ends_with(" no"), "{row:?}");
    let why = broken
        .errors
        .lines()
        .find(|line| line.starts_with(&format!("tenure: {}: ", endpoints[gone])));
    assert!(
        why.is_some_and(|why| why.contains("Connection refused")),
        "{broken:?}"
    );
    assert!(broken.out.lines().all(|line| line.len() < 200), "{broken:?}");
}

#[test]
fn whoever_stops_reading_is_no_reason_to_panic() {
    for arguments in [
        &["status"][..],
        &["member", "list"],
        &["completions", "bash"],
        &["who", "x", "--json"],
    ] {
        let (reader, writer) = UnixStream::pair().expect("a pair");
        drop(reader);
        let mut command = tenure(arguments);
        let output = command.stdout(Stdio::from(OwnedFd::from(writer))).output().expect("it runs");
        assert_eq!(output.status.code(), Some(141), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}
