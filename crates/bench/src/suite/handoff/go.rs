//! The Go client's lock, in a Go program that is built once: `go/handoff`.
//!
//! It is started for each round, measures by itself and prints its figures. It ends
//! when its standard input does, be it that the round shall stop or that this process
//! is gone.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tenure_etcd::GoProgram;

use super::{PATIENCE, Race};
use crate::Failure;
use crate::contest::Competitor;
use crate::contest::Setting;
use crate::cost::Cost;
use crate::tally::Round;

const PROGRAM: GoProgram = GoProgram {
    name: "tenure-bench-handoff",
    go_mod: include_str!("../../../go/handoff/go.mod"),
    go_sum: include_str!("../../../go/handoff/go.sum"),
    main_go: include_str!("../../../go/handoff/main.go"),
};

/// How often the wish to stop is looked at while the program runs.
const POLL: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Go {
    race: Race,
    /// Built in the first turn.
    program: Option<PathBuf>,
}

impl Go {
    pub(super) fn new(race: Race) -> Go {
        Go { race, program: None }
    }

    fn start(&mut self) -> Result<Child, Failure> {
        let program = match &self.program {
            Some(program) => program,
            None => self.program.insert(PROGRAM.build()?),
        };
        let race = &self.race;
        Ok(Command::new(program)
            .arg(format!("-endpoint={}", race.endpoint))
            .arg(format!("-name={}", race.name))
            .arg(format!("-contenders={}", race.contenders))
            .arg(format!("-handoffs={}", race.handoffs))
            .arg(format!("-hold={}us", race.hold.as_micros()))
            .arg(format!("-patience={}s", PATIENCE.as_secs()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Out of reach of Ctrl-C, of which it is told by the end of its input.
            .process_group(0)
            .spawn()?)
    }
}

impl Competitor for Go {
    fn name(&self) -> String {
        format!("Go clientv3 {}", PROGRAM.version_of("go.etcd.io/etcd/client/v3"))
    }

    fn run_round(&mut self, setting: &Setting) -> Result<Round, Failure> {
        let mut child = self.start()?;
        let output = child.stdout.take().ok_or("no standard output")?;
        let (line, lines) = mpsc::channel();
        thread::spawn(move || {
            let printed = BufReader::new(output).lines().map_while(Result::ok);
            printed.map(|text| line.send(text)).take_while(Result::is_ok).for_each(drop);
        });
        let mut figures = Figures::default();
        let mut outcome = Ok(());
        while outcome.is_ok() {
            match lines.recv_timeout(POLL) {
                Ok(text) => outcome = figures.read(&text),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if setting.stop.is_set() => drop(child.stdin.take()),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        // Waits for it, with its input at an end.
        let status = child.wait()?;
        outcome?;
        if !status.success() {
            return Err(format!("the program ended with {status}").into());
        }
        Ok(figures.into_round())
    }
}

/// What the program prints, line by line.
#[derive(Debug, Default)]
struct Figures {
    latencies: Vec<Duration>,
    grants: u64,
    elapsed: Duration,
    cost: Cost,
}

impl Figures {
    fn read(&mut self, line: &str) -> Result<(), Failure> {
        let (what, text) = line.split_once(' ').unwrap_or((line, ""));
        if what == "error" {
            return Err(text.into());
        }
        let number: u64 = text.parse().map_err(|_| format!("the program printed {line:?}"))?;
        match what {
            "handoff" => self.latencies.push(Duration::from_nanos(number)),
            "grants" => self.grants = number,
            "elapsed" => self.elapsed = Duration::from_nanos(number),
            "cpu" => self.cost.cpu = Duration::from_nanos(number),
            "allocations" => self.cost.allocations = number,
            "bytes" => self.cost.allocated_bytes = number,
            _ => return Err(format!("the program printed {line:?}").into()),
        }
        Ok(())
    }

    fn into_round(self) -> Round {
        Round {
            latencies: self.latencies,
            pace: Some((self.grants, self.elapsed)),
            cost: Some(self.cost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Round, Failure> {
        let mut figures = Figures::default();
        lines.iter().try_for_each(|line| figures.read(line))?;
        Ok(figures.into_round())
    }

    #[test]
    fn reads_what_the_program_prints() {
        let round = read(&[
            "handoff 1500",
            "handoff 2500",
            "grants 3",
            "elapsed 4000",
            "cpu 700",
            "allocations 80",
            "bytes 900",
        ]);
        let round = round.unwrap();
        assert_eq!(round.latencies, [1500, 2500].map(Duration::from_nanos));
        assert_eq!(round.pace, Some((3, Duration::from_nanos(4000))));
        let cost = round.cost.unwrap();
        assert_eq!(
            (cost.cpu.as_nanos(), cost.allocations, cost.allocated_bytes),
            (700, 80, 900)
        );
    }

    #[test]
    fn the_programs_error_is_the_rounds() {
        assert_eq!(
            read(&["error out of luck"]).unwrap_err().to_string(),
            "out of luck"
        );
        assert!(read(&["handoff soon"]).is_err());
        assert!(read(&["a panic"]).is_err());
    }

    #[test]
    fn the_module_pins_the_client() {
        let version = PROGRAM.version_of("go.etcd.io/etcd/client/v3");
        assert!(version.starts_with("3."), "{version}");
    }
}
