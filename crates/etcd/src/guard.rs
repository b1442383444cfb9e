//! The directory of a cluster, and the shell that outlives this process to
//! clean up after it.
//!
//! Servers are children of this process, so that their pids are theirs for as
//! long as somebody here may send a signal. What must also hold is that they
//! die with this process, however it ends: killed, or exiting without running
//! the destructors of its statics. So a shell waits for the end of file on a
//! pipe whose other end only this process holds:
//!
//! ```text
//!   this process ──pipe── guard: read; mv DIR DIR.gone; kill -KILL each pid; rm -rf
//!        │
//!        ├── sh: touch DIR/pid.$$ && exec etcd      (same pid before and after)
//!        └── ...
//! ```
//!
//! A server writes its own pid down before it is etcd. Had it not done so by
//! the time of the rename, it cannot any more, and never becomes etcd: none is
//! missed. All run in process groups of their own, out of reach of Ctrl-C.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Pid;

const GUARD: &str = r#"
trap '' HUP INT TERM
read -r _
mv "$1" "$1.gone"
for file in "$1.gone"/pid.*; do
    if [ -e "$file" ]; then kill -KILL "${file##*.}"; fi
done
rm -rf "$1.gone" || { sleep 1; rm -rf "$1.gone"; }
"#;

const LAUNCH: &str = r#": >"$0/pid.$$" && exec "$@""#;

/// A directory that goes away, with the servers in it, when this is dropped or this process ends.
#[derive(Debug)]
pub(crate) struct Guard {
    dir: PathBuf,
    shell: Child,
}

impl Guard {
    /// Creates a directory below `parent` and guards it.
    pub(crate) fn new(parent: &Path) -> io::Result<Guard> {
        let dir = create_dir_in(parent)?;
        let shell = Command::new("/bin/sh")
            .args(["-c", GUARD, "tenure-etcd-guard"])
            .arg(&dir)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match shell {
            Ok(shell) => Ok(Guard { dir, shell }),
            Err(cause) => fs::remove_dir(&dir).and(Err(cause)),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// A process that a [`Guard`] kills at its end.
#[derive(Debug)]
pub(crate) struct Guarded {
    child: Child,
    pid_file: PathBuf,
}

impl Guarded {
    /// Starts the server that `server` describes, with its environment, in the guarded directory
    /// `dir`, with both outputs appended to `log`.
    pub(crate) fn spawn(dir: &Path, server: &Command, log: fs::File) -> io::Result<Guarded> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", LAUNCH]).arg(dir).arg(server.get_program()).args(server.get_args());
        for (name, value) in server.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn()?;
        let pid_file = dir.join(format!("pid.{}", child.id()));
        Ok(Guarded { child, pid_file })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Whether the process is there, stopped or not.
    pub(crate) fn is_running(&mut self) -> bool {
        let running = matches!(self.child.try_wait(), Ok(None));
        if !running {
            // From here on the pid may be somebody else's.
            let _ = fs::remove_file(&self.pid_file);
        }
        running
    }

    /// Kills the process and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = fs::remove_file(&self.pid_file);
        let _ = self.child.wait();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}

fn create_dir_in(parent: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("tenure-etcd-{}-{number}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            created => return created.map(|()| dir),
        }
    }
}
