//! `etcdctl lock NAME COMMAND` as a contender: a process, a session and a lease for
//! each time.
//!
//! etcdctl hands its command the key and a revision at which the server showed it
//! to be held, and runs it under the lock. The command is a shell that prints both and
//! waits for a line in a pipe, so what is claimed is read off one clock here:
//!
//! ```text
//!   here     spawn etcdctl      read "KEY REVISION"; now     hold; now; write "\n"
//!   etcdctl  lock, run sh       .                            .          unlock, exit
//!   sh       .                  print, read the pipe         .          exit
//! ```

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tenure_history::{Claim, History, Token};

use crate::support::now;

const SCRIPT: &str = r#"echo "$ETCD_LOCK_KEY $ETCD_LOCK_REV"; read -r _ <"$0""#;

/// One time that etcdctl held the lock.
pub(crate) struct Hold {
    key: String,
    revision: i64,
    held: Range<u64>,
}

impl Hold {
    /// etcdctl does not tell the token, but no other process has its key.
    pub(crate) fn claim(&self, history: &History) -> Claim {
        let mut entries = history.entries().iter().filter(|entry| entry.key == self.key.as_bytes());
        let entry = entries.next().expect("the key of etcdctl in the history");
        assert_eq!(entries.next(), None, "a lease that two processes had");
        Claim {
            client: "etcdctl".to_owned(),
            key: entry.key.clone(),
            token: Token {
                created: entry.created,
                sequence: 0,
            },
            revisions: vec![self.revision],
            held: Some(self.held.clone()),
        }
    }
}

/// Where a worker finds the servers, and keeps its pipe.
#[derive(Clone, Debug)]
pub(crate) struct Etcdctl {
    pub(crate) program: PathBuf,
    pub(crate) endpoints: String,
    pub(crate) dir: PathBuf,
}

impl Etcdctl {
    /// Locks `name` so many times, one after the other.
    pub(crate) fn contend(&self, worker: usize, name: &str, hold: Duration, times: usize) -> Vec<Hold> {
        let path = self.dir.join(format!("etcdctl-{worker}"));
        let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
        assert!(made.success(), "{}", path.display());
        // Open in both directions, so that neither end waits for the other.
        let mut pipe = File::options().read(true).write(true).open(&path).expect("the pipe");
        (0..times).map(|_| self.lock(name, hold, &path, &mut pipe)).collect()
    }

    fn lock(&self, name: &str, hold: Duration, path: &Path, pipe: &mut File) -> Hold {
        let mut etcdctl = Command::new(&self.program)
            .args([
                "--endpoints",
                &self.endpoints,
                "lock",
                name,
                "--",
                "sh",
                "-c",
                SCRIPT,
            ])
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("etcdctl runs");
        let mut line = String::new();
        let stdout = etcdctl.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("what the command prints");
        let granted = now();
        std::thread::sleep(hold);
        let released = now();
        pipe.write_all(b"\n").expect("the pipe");
        let status = etcdctl.wait().expect("etcdctl ends");
        assert!(status.success(), "etcdctl lock: {status}");
        let (key, revision) = line.trim().split_once(' ').expect("a key and a revision");
        Hold {
            key: key.to_owned(),
            revision: revision.parse().expect("a revision"),
            held: granted..released,
        }
    }
}
