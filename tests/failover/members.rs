//! What happens to members: they die, freeze, and are restarted one by one.

use crate::stage::play;

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
            member.terminate().expect("it stops");
            stage.load.goes_on("a member is down");
            member.restart().expect("it starts");
            stage.load.goes_on("a member is back");
        }
    });
}
