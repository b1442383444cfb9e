//! A program under measurement, in a process of its own. It prints a line for each
//! measure and ends when its standard input does, be it that it shall stop or that
//! this process is gone.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{self, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::Failure;
use crate::stop::Stop;
use crate::tally::Round;
use tenure_bench_worker::Cost;

/// How often the wish to stop is looked at while the program runs.
const POLL: Duration = Duration::from_millis(50);

/// Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Child {
    process: process::Child,
    lines: Receiver<String>,
}

impl Child {
    pub(crate) fn start(command: &mut Command) -> Result<Child, Failure> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Out of reach of Ctrl-C, of which it is told by the end of its input.
            .process_group(0)
            .spawn()?;
        let output = process.stdout.take().ok_or("no standard output")?;
        let (line, lines) = mpsc::channel();
        thread::spawn(move || {
            let printed = BufReader::new(output).lines().map_while(Result::ok);
            printed.map(|text| line.send(text)).take_while(Result::is_ok).for_each(drop);
        });
        Ok(Child { process, lines })
    }

    /// Waits until it prints that it is ready.
    pub(crate) fn wait_ready(&mut self, within: Duration) -> Result<(), Failure> {
        match self.wait_line(within)?.as_str() {
            "ready" => Ok(()),
            line => Err(unexpected(line)),
        }
    }

    /// Waits for the next line that it prints.
    pub(crate) fn wait_line(&mut self, within: Duration) -> Result<String, Failure> {
        match self.lines.recv_timeout(within) {
            Ok(line) => error_in(&line).map_or(Ok(line), Err),
            Err(RecvTimeoutError::Timeout) => Err(format!("not ready within {within:?}").into()),
            Err(RecvTimeoutError::Disconnected) => {
                self.ended()?;
                Err("the program ended and had printed nothing".into())
            }
        }
    }

    /// Tells it that it is enough.
    pub(crate) fn end_input(&mut self) {
        drop(self.process.stdin.take());
    }

    /// Reads what it prints until it ends by itself, or is told to by a stop.
    pub(crate) fn read(
        mut self,
        stop: &Stop,
        mut read: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        loop {
            match self.lines.recv_timeout(POLL) {
                Ok(line) => match error_in(&line) {
                    Some(error) => return Err(error),
                    None => read(&line)?,
                },
                Err(RecvTimeoutError::Disconnected) => return self.ended(),
                Err(RecvTimeoutError::Timeout) if stop.is_set() => self.end_input(),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Reads the figures of a turn, to its end or a stop.
    pub(crate) fn round(self, stop: &Stop) -> Result<Round, Failure> {
        let mut figures = Figures::default();
        self.read(stop, |line| figures.read(line))?;
        Ok(figures.into_round())
    }

    /// Its output is at an end.
    fn ended(&mut self) -> Result<(), Failure> {
        self.end_input();
        let status = self.process.wait()?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("the program ended with {status}").into()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The figures of one turn, as they are printed line by line.
#[derive(Debug, Default)]
struct Figures {
    latencies: Vec<Duration>,
    operations: u64,
    elapsed: Duration,
    cost: Cost,
    server: Option<Duration>,
    lost: Option<u64>,
}

impl Figures {
    fn read(&mut self, line: &str) -> Result<(), Failure> {
        let (what, text) = line.split_once(' ').unwrap_or((line, ""));
        let number: u64 = text.parse().map_err(|_| unexpected(line))?;
        match what {
            "latency" => self.latencies.push(Duration::from_nanos(number)),
            "operations" => self.operations = number,
            "elapsed" => self.elapsed = Duration::from_nanos(number),
            "user" => self.cost.user = Duration::from_nanos(number),
            "system" => self.cost.system = Duration::from_nanos(number),
            "allocations" => self.cost.allocations = number,
            "bytes" => self.cost.allocated_bytes = number,
            "lost" => self.lost = Some(number),
            "server" => self.server = Some(Duration::from_nanos(number)),
            _ => return Err(unexpected(line)),
        }
        Ok(())
    }

    fn into_round(self) -> Round {
        Round {
            latencies: self.latencies,
            pace: Some((self.operations, self.elapsed)),
            cost: Some(self.cost),
            server: self.server,
            lost: self.lost,
        }
    }
}

pub(crate) fn unexpected(line: &str) -> Failure {
    format!("the program printed {line:?}").into()
}

fn error_in(line: &str) -> Option<Failure> {
    line.strip_prefix("error ").map(Failure::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Child {
        Child::start(Command::new("/bin/sh").args(["-c", script])).unwrap()
    }

    fn round(child: Child) -> Result<Round, Failure> {
        child.round(&Stop::default())
    }

    #[test]
    fn reads_what_the_program_prints() {
        let lines = "latency 1500\nlatency 2500\noperations 3\nelapsed 4000\nuser 700\nsystem 200\n\
                     allocations 80\nbytes 900\nserver 600\nlost 1";
        let round = round(shell(&format!("echo '{lines}'"))).unwrap();
        assert_eq!(round.latencies, [1500, 2500].map(Duration::from_nanos));
        assert_eq!(round.pace, Some((3, Duration::from_nanos(4000))));
        assert_eq!(round.server, Some(Duration::from_nanos(600)));
        assert_eq!(round.lost, Some(1));
        let cost = round.cost.unwrap();
        assert_eq!((cost.user.as_nanos(), cost.system.as_nanos()), (700, 200));
        assert_eq!((cost.allocations, cost.allocated_bytes), (80, 900));
    }

    #[test]
    fn the_programs_error_is_the_rounds() {
        let failure = |script: &str| round(shell(script)).unwrap_err().to_string();
        assert_eq!(failure("echo error out of luck"), "out of luck");
        assert!(failure("echo latency soon").contains("latency soon"));
        assert!(failure("exit 3").contains("exit status: 3"));
    }

    #[test]
    fn a_stop_ends_its_input_and_its_last_words_are_heard() {
        let mut child = shell("echo ready; cat; echo operations 7");
        child.wait_ready(Duration::from_secs(20)).unwrap();
        let (stop, mut figures) = (Stop::default(), Figures::default());
        stop.set();
        child.read(&stop, |line| figures.read(line)).unwrap();
        assert_eq!(figures.operations, 7);
    }
}
