//! Members that are removed and added.

use crate::stage::{play, play_synced};

#[test]
fn a_member_is_removed_and_another_added() {
    play(|stage, round| {
        let follower = stage.follower(round);
        stage.cluster.remove(follower).expect("the others agree");
        stage.load.goes_on("a member is removed");
        stage.cluster.add().expect("the others agree");
        stage.load.goes_on("a member is added");
    });
}

/// In the end no endpoint is left that the clients were given.
#[test]
fn all_members_are_replaced_one_by_one() {
    play_synced(|stage, _| {
        for _ in 0..3 {
            stage.cluster.remove(0).expect("the others agree");
            stage.load.goes_on("a member is removed");
            stage.cluster.add().expect("the others agree");
            stage.load.goes_on("a member is added");
        }
    });
}
