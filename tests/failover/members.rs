//! What happens to members: they die, freeze, and are restarted one by one.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tenure_etcd::Member;

use crate::stage::play;

/// Longer than a server takes to stop, with calls and streams open.
const STOPPED_MAX: Duration = Duration::from_secs(30);

#[test]
fn a_leader_is_killed() {
    play(|stage, _| {
        let leader = stage.leader();
        stage.cluster.member(leader).kill();
        stage.load.goes_on("the leader is killed");
        stage.cluster.member(leader).restart().expect("it starts");
    });
}

#[test]
fn a_leader_is_stopped() {
    play(|stage, _| {
        let leader = stage.leader();
        stage.cluster.member(leader).pause().expect("it runs");
        stage.load.goes_on("the leader is stopped");
        stage.cluster.member(leader).resume().expect("it runs");
    });
}

#[test]
fn a_follower_is_stopped() {
    play(|stage, round| {
        let follower = stage.follower(round);
        stage.cluster.member(follower).pause().expect("it runs");
        stage.load.goes_on("a follower is stopped");
        stage.cluster.member(follower).resume().expect("it runs");
    });
}

#[test]
fn all_members_are_restarted_one_by_one() {
    play(|stage, _| {
        for member in stage.cluster.members() {
            terminate(member);
            stage.load.goes_on("a member is down");
            member.restart().expect("it starts");
            stage.load.goes_on("a member is back");
        }
    });
}

/// As an operator stops it: with SIGTERM, on which it says goodbye.
fn terminate(member: &Member) {
    let pid = member.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).expect("it runs");
    kill_process(pid, Signal::TERM).expect("it runs");
    let asked = Instant::now();
    while member.is_running() {
        assert!(
            asked.elapsed() < STOPPED_MAX,
            "it does not stop: {}",
            member.log_tail()
        );
        sleep(Duration::from_millis(10));
    }
}
