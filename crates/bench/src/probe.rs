//! What is counted and not timed, by a tool that the program runs under: system calls by
//! strace, instructions by callgrind. Both slow it down, so that nothing is timed then.
//!
//! The program runs twice, for fewer operations and for more. What the second run has more,
//! divided by the operations that it says it has more, is what one of them takes; to begin and to
//! end is in both.

use std::fs;
use std::path::Path;
use std::process::Command;

use clap::Args;

use crate::Failure;
use crate::child::Child;
use crate::stop::Stop;

/// How many operations, or for how long where it is time that is given.
pub(crate) const FEWER: u64 = 1_000;
const MORE: u64 = 2_000;

/// Which of them are wanted.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Probes {
    /// Count system calls, too: of all threads of the client, by strace.
    #[arg(long)]
    strace: bool,
    /// Count instructions, too: of all threads of the client and outside the kernel, by callgrind.
    #[arg(long)]
    callgrind: bool,
}

/// What was counted, for one operation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) system_calls: Option<f64>,
    pub(crate) instructions: Option<f64>,
    /// Locks that were granted, where an operation is more than one of them.
    pub(crate) locks: Option<f64>,
}

/// Of one run.
#[derive(Clone, Copy, Debug)]
struct Total {
    counted: f64,
    operations: u64,
}

#[derive(Clone, Copy, Debug)]
enum Probe {
    SystemCalls,
    Instructions,
}

impl Probes {
    /// Whether anything is to be counted.
    pub(crate) fn are_wanted(&self) -> bool {
        self.strace || self.callgrind
    }

    /// Counts what is wanted of the program of `who` that `command` makes for so many operations.
    /// What could not be counted is told as a text.
    pub(crate) fn count(
        &self,
        who: &str,
        command: impl Fn(u64) -> Result<Command, Failure>,
        stop: &Stop,
    ) -> (Counts, Vec<String>) {
        let mut told = Vec::new();
        let mut count = |is_wanted: bool, probe: Probe| {
            let counted = is_wanted.then(|| probe.each(&command, stop))?;
            counted.map_err(|uncounted| told.push(uncounted.told(probe, who))).ok()
        };
        let counts = Counts {
            system_calls: count(self.strace, Probe::SystemCalls),
            instructions: count(self.callgrind, Probe::Instructions),
            locks: None,
        };
        (counts, told)
    }
}

/// Why there is no number.
#[derive(Debug)]
enum Uncounted {
    /// The tool is missing, whoever is to be counted.
    NoTool,
    Stopped,
    Failed(Failure),
}

impl Uncounted {
    fn told(&self, probe: Probe, who: &str) -> String {
        let what = probe.what();
        match self {
            Uncounted::NoTool => format!("{what} were not counted: there is no `{}`.", probe.name()),
            Uncounted::Stopped => format!("{what} of {who} were not counted: it was stopped."),
            Uncounted::Failed(cause) => format!("{what} of {who} were not counted: {cause}."),
        }
    }
}

impl From<Failure> for Uncounted {
    fn from(cause: Failure) -> Uncounted {
        Uncounted::Failed(cause)
    }
}

impl Probe {
    fn each(self, command: impl Fn(u64) -> Result<Command, Failure>, stop: &Stop) -> Result<f64, Uncounted> {
        let fewer = self.total(&command(FEWER)?, stop)?;
        let more = self.total(&command(MORE)?, stop)?;
        match more.operations.saturating_sub(fewer.operations) {
            0 => Err(Failure::from("more of it was no more operations").into()),
            operations => Ok((more.counted - fewer.counted) / operations as f64),
        }
    }

    fn total(self, program: &Command, stop: &Stop) -> Result<Total, Uncounted> {
        let counted = std::env::temp_dir().join(format!("tenure-bench-{}.counted", std::process::id()));
        let mut command = self.tool(&counted);
        command.arg(program.get_program()).args(program.get_args());
        if let Probe::Instructions = self {
            // Callgrind fails on the signals by which Go takes the processor from its goroutines.
            command.env("GODEBUG", "asyncpreemptoff=1");
        }
        let child = Child::start(&mut command).map_err(|_| Uncounted::NoTool)?;
        let ran = child.round(stop);
        let text = fs::read_to_string(&counted).unwrap_or_default();
        let _ = fs::remove_file(&counted);
        if stop.is_set() {
            return Err(Uncounted::Stopped);
        }
        let round = ran.map_err(|cause| match self.complaint(&text) {
            Some(complaint) => format!("`{}` itself failed: {complaint}", self.name()).into(),
            None => cause,
        })?;
        let no_total = || Failure::from(format!("`{}` wrote no total", self.name()));
        Ok(Total {
            counted: self.read(&text).ok_or_else(no_total)?,
            operations: round.pace.map_or(0, |(operations, _)| operations),
        })
    }

    fn tool(self, counted: &Path) -> Command {
        let mut command = Command::new(self.name());
        match self {
            Probe::SystemCalls => command.args(["-f", "-qq", "-c", "-o"]).arg(counted),
            Probe::Instructions => command
                .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
                .arg(format!("--log-file={}", counted.display())),
        };
        command
    }

    fn name(self) -> &'static str {
        match self {
            Probe::SystemCalls => "strace",
            Probe::Instructions => "valgrind",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Probe::SystemCalls => "System calls",
            Probe::Instructions => "Instructions",
        }
    }

    /// What the tool wrote about a mistake of its own, which ended the program.
    fn complaint(self, text: &str) -> Option<&str> {
        match self {
            Probe::SystemCalls => None,
            Probe::Instructions => text.lines().find(|line| line.contains(": Assertion ")).map(str::trim),
        }
    }

    /// The total in what the tool wrote.
    fn read(self, text: &str) -> Option<f64> {
        match self {
            // time in percent, seconds, microseconds a call, calls, perhaps errors, `total`
            Probe::SystemCalls => {
                let line = text.lines().rfind(|line| line.ends_with(" total"))?;
                line.split_whitespace().nth(3)?.parse().ok()
            }
            // ==12345== Collected : 678
            Probe::Instructions => {
                let line = text.lines().rfind(|line| line.contains("Collected :"))?;
                line.split_whitespace().last()?.parse().ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_as_the_tools_write_them() {
        let strace = "% time     seconds  usecs/call     calls    errors syscall\n\
                      ------ ----------- ----------- --------- --------- ----------------\n \
                      60.00    0.000300           3       100         1 read\n\
                      ------ ----------- ----------- --------- --------- ----------------\n\
                      100.00    0.000500           2       250         1 total\n";
        assert_eq!(Probe::SystemCalls.read(strace), Some(250.0));
        let callgrind = "==7== Events    : Ir\n==7== Collected : 123456\n==7== \n";
        assert_eq!(Probe::Instructions.read(callgrind), Some(123_456.0));
        assert_eq!(Probe::SystemCalls.read(""), None);
    }

    #[test]
    fn a_tool_that_fails_itself_is_told_from_the_program_under_it() {
        let failed = "==7== For interactive control\n\n\
                      Callgrind: threads.c:247 (post_signal): Assertion 'sigNum == sig' failed.\n\n\
                      host stacktrace:\n";
        let complaint = Probe::Instructions.complaint(failed);
        assert!(
            complaint.is_some_and(|line| line.ends_with("'sigNum == sig' failed.")),
            "{complaint:?}"
        );
        assert_eq!(Probe::Instructions.complaint("==7== Collected : 1\n"), None);
    }
}
