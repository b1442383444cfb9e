//! A server of another kind, to compare etcd with: a process in a directory of its own that goes
//! away with it, and a loopback port.
//!
//! Where this process is root, the server is not: some refuse to be, and none has to be. It is
//! then `nobody`, and the directory is; it may go where root may, for its programs may be root's.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, geteuid, kill_process};

use crate::Error;
use crate::error::tail;
use crate::guard::{Guard, Guarded};
use crate::port::Port;

/// The longest that a server may take until it serves.
const READY_MAX: Duration = Duration::from_secs(60);
/// The longest that it may take to stop before it is killed.
const STOPPED_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
/// What Linux knows as `nobody`, whatever the machine calls it.
const NOBODY: u32 = 65534;

/// A server that is stopped when this is dropped, and killed when this process ends before.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    process: Option<Guarded>,
    port: Port,
    // After the process, which it would kill, and which is to stop by itself.
    guard: Guard,
}

impl Daemon {
    /// A directory and a port for a server, which is not started yet.
    ///
    /// # Errors
    ///
    /// The directory cannot be made, or no port is free.
    pub fn new(name: &str) -> Result<Daemon, Error> {
        let at = |cause| Error::io(format_args!("a place for {name}"), &cause);
        let guard = Guard::new(&std::env::temp_dir()).map_err(at)?;
        if geteuid().is_root() {
            // What asks whether it may write, as Java does, is answered without regard to capabilities.
            chown(guard.dir(), Some(NOBODY), Some(NOBODY)).map_err(at)?;
        }
        Ok(Daemon {
            name: name.to_owned(),
            process: None,
            port: Port::take().map_err(at)?,
            guard,
        })
    }

    /// Where its data go.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.guard.dir()
    }

    /// Where it shall listen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The process id of the server, if it was started.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Guarded::id)
    }

    /// Runs a program to its end that has to run before the server.
    ///
    /// # Errors
    ///
    /// It cannot be started, or fails; the text has the end of what it printed.
    pub fn prepare(&self, program: &Command) -> Result<(), Error> {
        let what = || format!("preparing {}", self.name);
        let output = unprivileged(program)?.current_dir(self.dir()).output();
        let output = output.map_err(|cause| Error::io(what(), &cause))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(Error::output(what(), &output)),
        }
    }

    /// Starts the server, and waits until `is_ready` says that it serves.
    ///
    /// # Errors
    ///
    /// It cannot be started, ends, or does not serve within a minute; the text has the tail of its log.
    pub fn start(&mut self, server: &Command, is_ready: impl Fn(SocketAddr) -> bool) -> Result<(), Error> {
        let at = |cause| Error::io(format_args!("starting {}", self.name), &cause);
        let log = File::options().create(true).append(true).open(self.log_path()).map_err(at)?;
        let process = Guarded::spawn(self.dir(), &unprivileged(server)?, log).map_err(at)?;
        let process = self.process.insert(process);
        let deadline = Instant::now() + READY_MAX;
        while !is_ready(self.port.address()) {
            let what = match (process.is_running(), Instant::now() < deadline) {
                (true, true) => {
                    thread::sleep(POLL);
                    continue;
                }
                (true, false) => "does not serve",
                (false, _) => "ended",
            };
            let name = &self.name;
            return Err(Error::new(format!(
                "{name} {what}; its log ends with\n{}",
                self.log_tail()
            )));
        }
        Ok(())
    }

    fn log_tail(&self) -> String {
        let mut text = Vec::new();
        match File::open(self.log_path()).and_then(|mut log| log.read_to_end(&mut text)) {
            Ok(_) => tail(&String::from_utf8_lossy(&text)),
            Err(cause) => cause.to_string(),
        }
    }

    fn log_path(&self) -> std::path::PathBuf {
        self.dir().join("log")
    }
}

impl Drop for Daemon {
    /// Some leave shared memory behind where they are killed, so that they are asked first.
    fn drop(&mut self) {
        let Some(process) = &mut self.process else { return };
        let asked = process.is_running() && kill_process(process.pid(), Signal::TERM).is_ok();
        let deadline = Instant::now() + STOPPED_MAX;
        while asked && process.is_running() && Instant::now() < deadline {
            thread::sleep(POLL);
        }
    }
}

/// The same as somebody who is not root.
fn unprivileged(program: &Command) -> Result<Command, Error> {
    if !geteuid().is_root() {
        return Ok(again(Command::new(program.get_program()), program));
    }
    let mut command = Command::new("setpriv");
    command.args([
        &format!("--reuid={NOBODY}"),
        &format!("--regid={NOBODY}"),
        "--clear-groups",
        "--inh-caps=-all,+dac_override",
        "--ambient-caps=-all,+dac_override",
        "--",
    ]);
    let is_there = Command::new("setpriv").arg("--version").output().is_ok();
    if !is_there {
        return Err(Error::new(
            "a server that may not be root needs `setpriv` on PATH",
        ));
    }
    command.arg(program.get_program());
    Ok(again(command, program))
}

/// `command` with the arguments and the environment of `program`.
fn again(mut command: Command, program: &Command) -> Command {
    command.args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::process::Stdio;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_server_is_not_root_writes_where_it_shall_and_is_asked_before_it_is_killed() {
        let mut daemon = Daemon::new("a shell").unwrap();
        let told = std::env::temp_dir().join(format!("tenure-daemon-{}", std::process::id()));
        let place = daemon.dir().join("uid");
        let script = format!(
            "trap 'echo stopped >{}; exit' TERM; id -u >{}; while :; do sleep 0.01; done",
            told.display(),
            place.display()
        );
        let is_ready = |_| std::fs::read_to_string(&place).is_ok_and(|text| text.ends_with('\n'));
        daemon.start(&shell(&script), is_ready).unwrap();
        let uid = std::fs::read_to_string(&place).unwrap().trim().to_owned();
        assert_ne!(uid, "0");
        assert_eq!(std::fs::metadata(daemon.dir()).unwrap().uid().to_string(), uid);
        let (pid, dir) = (daemon.pid().unwrap(), daemon.dir().to_owned());
        drop(daemon);
        let stopped = std::fs::read_to_string(&told);
        let _ = std::fs::remove_file(&told);
        assert_eq!(stopped.unwrap(), "stopped\n");
        assert!(!dir.exists());
        let mut probe = Command::new("/bin/kill");
        assert!(!probe.args(["-0", &pid.to_string()]).stderr(Stdio::null()).status().unwrap().success());
    }

    #[test]
    fn one_that_ends_says_why() {
        let mut daemon = Daemon::new("a shell").unwrap();
        let error = daemon.start(&shell("echo out of luck; exit 3"), |_| false).unwrap_err();
        assert!(error.to_string().contains("a shell ended") && error.to_string().contains("out of luck"));
        let error = daemon.prepare(&shell("echo no table; exit 4")).unwrap_err();
        assert!(error.to_string().contains("preparing a shell") && error.to_string().contains("no table"));
    }
}
