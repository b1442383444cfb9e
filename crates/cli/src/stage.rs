//! The step between `tenure lock` and its command: this program once more, which asks the kernel
//! to be killed when its parent ends (prctl(2), PR_SET_PDEATHSIG), and then becomes the command. The
//! wish outlives the exec, but not that of a set-user-id program. Done between fork and exec it
//! would take `unsafe`.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::Parser;
use rustix::process::getppid;

use crate::failure::{Failure, NOT_FOUND, NOT_RUNNABLE, OWN};

/// The first word of its command line. It is no command of those that people are shown.
pub(crate) const NAME: &str = "stage-of-lock";

/// What the stage is told.
#[derive(Debug, Parser)]
pub(crate) struct Stage {
    /// Whether failures are said in JSON.
    #[arg(long)]
    json: bool,
    /// Who is to live on.
    parent: i32,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// This program, also where its file was replaced since.
pub(crate) fn program() -> io::Result<PathBuf> {
    match cfg!(target_os = "linux") {
        true => Ok(PathBuf::from("/proc/self/exe")),
        false => std::env::current_exe(),
    }
}

impl Stage {
    /// What it is told, if this process is one.
    pub(crate) fn told() -> Option<Stage> {
        let words = || std::env::args_os().skip(1);
        (words().next()? == NAME).then(|| Stage::parse_from(words()))
    }

    /// Returns only where the command could not be begun: the exit status.
    pub(crate) fn run(&self) -> u8 {
        self.begin().tell(self.json)
    }

    fn begin(&self) -> Failure {
        if let Err(cause) = end_with_parent() {
            return Failure::new(OWN, cause);
        }
        // It may have ended before that.
        if getppid().is_none_or(|parent| parent.as_raw_pid() != self.parent) {
            return Failure::new(OWN, "the process that has the lock has ended");
        }
        let Some((program, arguments)) = self.command.split_first() else {
            return Failure::new(OWN, "no command");
        };
        let cause = Command::new(program).args(arguments).exec();
        let status = match cause.kind() {
            ErrorKind::NotFound => NOT_FOUND,
            _ => NOT_RUNNABLE,
        };
        let program = program.to_string_lossy();
        Failure::new(status, format!("cannot run {program:?}: {cause}"))
    }
}

#[cfg(target_os = "linux")]
fn end_with_parent() -> io::Result<()> {
    let killed = rustix::process::Signal::KILL;
    Ok(rustix::process::set_parent_process_death_signal(Some(killed))?)
}

/// Elsewhere a child lives on.
#[cfg(not(target_os = "linux"))]
fn end_with_parent() -> io::Result<()> {
    Ok(())
}
