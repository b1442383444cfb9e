//! What happens to the members: one is frozen or killed at a time, now and then two,
//! so that there is no quorum for a while, at times for longer than a lease lives.

use std::time::{Duration, Instant};

use fastrand::Rng;
use tenure_etcd::Cluster;

use crate::support::up_to;

/// How long all members are left alone at least, between two faults.
const CALM_MIN: Duration = Duration::from_millis(300);

/// Breaks members until `end`, then mends them all; what was done, in words.
pub(crate) fn rage(cluster: &Cluster, dice: &mut Rng, end: Instant) -> String {
    let (mut frozen, mut killed, mut without_quorum) = (0, 0, 0);
    while Instant::now() < end {
        let first = dice.usize(..3);
        let second = (first + 1 + dice.usize(..2)) % 3;
        let both = dice.u64(..5) == 0;
        let most = if both && dice.u64(..3) == 0 { 6000 } else { 1000 };
        let broken: Vec<usize> = [first].into_iter().chain(both.then_some(second)).collect();
        for index in &broken {
            if dice.u64(..3) == 0 {
                cluster.member(*index).kill();
                killed += 1;
            } else {
                cluster.member(*index).pause().expect("a member that runs");
                frozen += 1;
            }
        }
        without_quorum += usize::from(both);
        std::thread::sleep(up_to(dice, Duration::from_millis(most)));
        mend(cluster, &broken);
        std::thread::sleep(CALM_MIN + up_to(dice, Duration::from_millis(800)));
    }
    cluster.wait_ready().expect("a whole cluster");
    format!("members: {frozen} times frozen, {killed} killed, {without_quorum} times two at once")
}

/// Resumes what is frozen and starts what was killed, without waiting until it serves.
fn mend(cluster: &Cluster, broken: &[usize]) {
    for index in broken {
        let member = cluster.member(*index);
        if member.is_running() {
            member.resume().expect("a member that was frozen");
        } else {
            member.start().expect("a member that was killed");
        }
    }
}
