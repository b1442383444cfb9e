//! The command that runs under a lock. It is begun by way of this program itself (`stage`), so
//! that it ends with this process, whatever ends that.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::time::timeout;

use crate::descendants::Descendants;
use crate::failure::SIGNALLED;
use crate::stage;

/// Of a signal, should none be told.
const UNTOLD: i32 = 127;

#[derive(Debug)]
pub(crate) struct Child(tokio::process::Child);

impl Child {
    /// Begins the command, with these variables beside our own; that it cannot be begun is said by itself, in
    /// JSON or not. To be called on the thread that the process began on: it is that one's end that the
    /// kernel tells the child of.
    pub(crate) fn spawn(
        command: &[OsString],
        variables: &[(&str, OsString)],
        as_json: bool,
    ) -> io::Result<Child> {
        let mut staged = Command::new(stage::program()?);
        staged.arg(stage::NAME).args(as_json.then_some("--json"));
        staged.arg(std::process::id().to_string()).arg("--").args(command);
        staged.envs(variables.iter().map(|(name, value)| (name, value)));
        staged.spawn().map(Child)
    }

    /// Waits for its end. Dropped before it completes, nothing was waited for.
    pub(crate) async fn wait(&mut self) -> io::Result<u8> {
        self.0.wait().await.map(code)
    }

    /// Sends it a signal. One that has ended by itself needs none.
    pub(crate) fn send(&self, signal: Signal) -> io::Result<()> {
        match self.pid().map(|pid| kill_process(pid, signal)) {
            Some(Err(cause)) if cause != Errno::SRCH => Err(cause.into()),
            _ => Ok(()),
        }
    }

    /// Asks it and all that descends from it to end, and after this time does not ask any more.
    pub(crate) async fn end(&mut self, grace: Duration) -> io::Result<u8> {
        // Before the first signal: by that some lose the parent that they are known by.
        let mut descendants = Descendants::of(self.pid());
        self.look(&mut descendants);
        if let Err(cause) = self.send(Signal::TERM) {
            // As what sudo(8) has become.
            eprintln!("tenure: the lock is lost, and the command goes on: {cause}");
        }
        descendants.send(Signal::TERM);
        // A stopped one hears nothing before it goes on.
        let _ = self.send(Signal::CONT);
        descendants.send(Signal::CONT);
        if let Ok(ended) = timeout(grace, self.ended(&mut descendants)).await {
            return ended;
        }
        let _ = self.send(Signal::KILL);
        let mut is_any = true;
        while is_any {
            // Until all are dead, those that live may have begun more.
            is_any = self.look(&mut descendants);
            descendants.send(Signal::KILL);
            descendants.ended().await;
        }
        self.wait().await
    }

    /// Waits until none of them is left.
    async fn ended(&mut self, descendants: &mut Descendants) -> io::Result<u8> {
        let status = self.wait().await?;
        loop {
            descendants.ended().await;
            if !self.look(descendants) {
                return Ok(status);
            }
        }
    }

    /// Whether there are any that can be ended.
    fn look(&self, descendants: &mut Descendants) -> bool {
        descendants.look(self.pid()).unwrap_or_else(|cause| {
            eprintln!("tenure: what the command has begun may go on: {cause}");
            false
        })
    }

    /// `None` once it was waited for.
    fn pid(&self) -> Option<Pid> {
        self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    }
}

/// As a shell has it in `$?`.
fn code(status: ExitStatus) -> u8 {
    let signalled = || i32::from(SIGNALLED) + status.signal().unwrap_or(UNTOLD);
    let code = status.code().unwrap_or_else(signalled);
    u8::try_from(code).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_the_shells() {
        for (raw, status) in [(0, 0), (7 << 8, 7), (9, 137), (15, 143)] {
            assert_eq!(code(ExitStatus::from_raw(raw)), status);
        }
    }
}
