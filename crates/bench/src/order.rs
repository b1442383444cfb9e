//! A competitor that is a process for each of its turns: a peer, and the order that it is given.

use std::process::Command;

use crate::Failure;
use crate::child::Child;
use crate::contest::{Competitor, Setting};
use crate::peer::Peer;
use crate::probe::{Counts, Probes};
use crate::tally::Round;

/// Operations that a peer does, so many a turn.
#[derive(Clone, Debug)]
pub(crate) struct Ordered {
    pub(crate) peer: Peer,
    /// What to do, and with which options but the number.
    pub(crate) order: Vec<String>,
    /// Operations a turn.
    pub(crate) calls: u64,
    /// What is counted after all turns.
    pub(crate) probes: Probes,
}

impl Ordered {
    /// One for each of these peers.
    pub(crate) fn all(
        peers: &[Peer],
        order: &[String],
        calls: u64,
        probes: &Probes,
    ) -> Vec<Box<dyn Competitor>> {
        let ordered = |peer: &Peer| -> Box<dyn Competitor> {
            Box::new(Ordered {
                peer: *peer,
                order: order.to_vec(),
                calls,
                probes: probes.clone(),
            })
        };
        peers.iter().map(ordered).collect()
    }

    fn command(&self, calls: u64) -> Result<Command, Failure> {
        let mut command = self.peer.command()?;
        command.args(&self.order).arg(format!("--calls={calls}"));
        Ok(command)
    }
}

impl Competitor for Ordered {
    fn name(&self) -> String {
        self.peer.name()
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        self.peer.prepare()
    }

    fn run_round(&mut self, setting: &Setting) -> Result<Round, Failure> {
        Child::start(&mut self.command(self.calls)?)?.round(&setting.stop)
    }

    fn count(&mut self, setting: &Setting) -> (Counts, Vec<String>) {
        self.probes.count(&self.name(), |calls| self.command(calls), &setting.stop)
    }
}
