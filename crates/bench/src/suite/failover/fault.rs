//! What happens, and how it is undone.

use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use tenure_proxy::Ending;

use super::Stage;
use super::leader::{self, Reported};
use crate::Failure;

/// What happens to members or to the ways to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    LeaderKilled,
    LeaderFrozen,
    LeaderCutOff,
    FollowerFrozen,
    CutOffFromLeader,
    CutOffFromFollower,
    ConnectionsReset,
}

impl Fault {
    pub(super) fn story(self) -> &'static str {
        match self {
            Fault::LeaderKilled => "the leader is killed",
            Fault::LeaderFrozen => "the leader is frozen (SIGSTOP)",
            Fault::LeaderCutOff => "the leader is cut off from the other members (black hole)",
            Fault::FollowerFrozen => "a follower is frozen (SIGSTOP)",
            Fault::CutOffFromLeader => "the client is cut off from the leader (black hole)",
            Fault::CutOffFromFollower => "the client is cut off from a follower (black hole)",
            Fault::ConnectionsReset => "all connections are reset",
        }
    }

    /// Whether another leader is elected.
    pub(super) fn deposes(self) -> bool {
        matches!(
            self,
            Fault::LeaderKilled | Fault::LeaderFrozen | Fault::LeaderCutOff
        )
    }

    /// Lets it happen. Returns when, and when a live member knew a leader, which
    /// takes an election where it was the leader's fault.
    pub(super) fn strike(
        self,
        stage: &Stage,
        round: u32,
        within: Duration,
    ) -> Result<(SystemTime, Reported), Failure> {
        let leader = stage.cluster.leader_index()?;
        // Not the same in every round.
        let follower = (leader + 1 + round as usize % 2) % stage.proxies.len();
        let (members, proxies) = (stage.cluster.members(), &stage.proxies);
        let deposed = members[leader].id().ok_or("the leader does not say who it is")?;
        let at = SystemTime::now();
        match self {
            Fault::LeaderKilled => members[leader].kill(),
            Fault::LeaderFrozen => members[leader].pause()?,
            Fault::LeaderCutOff => {
                let process = members[leader].pid().ok_or("the leader does not run")?;
                stage.between.cut_off(leader, process);
            }
            Fault::FollowerFrozen => members[follower].pause()?,
            Fault::CutOffFromLeader => proxies[leader].black_hole(),
            Fault::CutOffFromFollower => proxies[follower].black_hole(),
            Fault::ConnectionsReset => proxies.iter().for_each(|proxy| proxy.cut(Ending::Reset)),
        }
        let reported = match self.deposes() {
            true => leader::wait_for_another(members, leader, deposed, within)?,
            false => Reported { unled: at, led: at },
        };
        Ok((at, reported))
    }

    pub(super) fn undo(self, stage: &Stage) -> Result<(), Failure> {
        stage.proxies.iter().for_each(tenure_proxy::Proxy::heal);
        stage.between.heal();
        for member in stage.cluster.members() {
            if !member.is_running() {
                member.restart()?;
            } else if matches!(self, Fault::LeaderFrozen | Fault::FollowerFrozen) {
                member.resume()?;
            }
        }
        Ok(())
    }
}
