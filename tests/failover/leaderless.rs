//! A member that has lost the others: it answers pings, and nothing that takes a leader.

use std::time::{Duration, Instant};

use tenure::{Client, EtcdError};

use crate::stage::{cluster, runtime};

/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(120);
/// Less than the seven seconds for which a server keeps a write that it cannot propose.
const TIMEOUT: Duration = Duration::from_secs(3);

#[test]
fn a_member_without_a_leader_leaves_no_write_in_doubt_and_serves_what_it_has() {
    let (cluster, runtime) = (cluster(3), runtime());
    let client = runtime.block_on(Client::connect([cluster.member(0).endpoint()])).expect("a client");
    let put = || runtime.block_on(client.put("key", "").timeout(TIMEOUT).into_future());
    let begun = Instant::now();
    while put().is_err() {
        assert!(begun.elapsed() < PATIENCE, "a cluster that is well");
    }
    for other in 1..3 {
        cluster.member(other).pause().expect("it runs");
    }
    // Until it has noticed, writes go to a leader that is not there.
    while put().expect_err("two of three are gone").etcd() != Some(EtcdError::NoLeader) {
        assert!(begun.elapsed() < PATIENCE, "it has not noticed");
    }
    for _ in 0..5 {
        let error = put().expect_err("two of three are gone");
        assert_eq!(error.etcd(), Some(EtcdError::NoLeader), "{error}");
        assert!(!error.may_be_applied() && error.attempts() > 1, "{error}");
    }
    let read = client.get("key").serializable().timeout(TIMEOUT).into_future();
    assert_eq!(runtime.block_on(read).expect("what it has").kvs.len(), 1);
    for other in 1..3 {
        cluster.member(other).resume().expect("it runs");
    }
    let put = client.put("key", "").timeout(PATIENCE).into_future();
    runtime.block_on(put).expect("a leader again");
}
