//! The Go client's lock, in a Go program that is built once: `go/handoff`. It is
//! started for each round, measures by itself and prints its figures.

use std::path::PathBuf;
use std::process::Command;

use tenure_etcd::GoProgram;

use super::{PATIENCE, Race};
use crate::Failure;
use crate::child::Child;
use crate::contest::Competitor;
use crate::contest::Setting;
use crate::tally::Round;

const PROGRAM: GoProgram = GoProgram {
    name: "tenure-bench-handoff",
    go_mod: include_str!("../../../go/go.mod"),
    go_sum: include_str!("../../../go/go.sum"),
    main_go: include_str!("../../../go/handoff/main.go"),
};

#[derive(Debug)]
pub(super) struct Go {
    race: Race,
    endpoint: String,
    /// Built before the first turn.
    program: Option<PathBuf>,
}

impl Go {
    pub(super) fn new(race: Race, endpoint: String) -> Go {
        Go {
            race,
            endpoint,
            program: None,
        }
    }

    fn start(&self) -> Result<Child, Failure> {
        let program = self.program.as_ref().ok_or("it was not built")?;
        let race = &self.race;
        Child::start(
            Command::new(program)
                .arg(format!("-endpoint={}", self.endpoint))
                .arg(format!("-name={}", race.name))
                .arg(format!("-contenders={}", race.contenders))
                .arg(format!("-handoffs={}", race.handoffs))
                .arg(format!("-hold={}us", race.hold.as_micros()))
                .arg(format!("-patience={}s", PATIENCE.as_secs())),
        )
    }
}

impl Competitor for Go {
    fn name(&self) -> String {
        format!("Go clientv3 {}", PROGRAM.version_of("go.etcd.io/etcd/client/v3"))
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        self.program = Some(PROGRAM.build()?);
        Ok(())
    }

    fn run_round(&mut self, setting: &Setting) -> Result<Round, Failure> {
        self.start()?.round(&setting.stop)
    }
}
