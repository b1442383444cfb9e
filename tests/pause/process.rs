//! A child: this test program again, in a role of its own, as a process that can
//! be stopped and killed. It speaks in lines.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::child::{ENDPOINT, MARK, NAME, ROLE, Role, TEST, THREADS};
use crate::signals::{self, pid};
use crate::support::patiently;

/// It is killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    name: String,
    /// What it said last.
    last: String,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts a child that reaches the server at `endpoint`. `threads` of 0 stands
    /// for a runtime on the one thread that it is.
    pub(crate) fn start(role: Role, endpoint: &str, name: &str, threads: usize) -> Process {
        let program = std::env::current_exe().expect("the path of this program");
        let mut child = Command::new(program)
            .args([TEST, "--exact", "--ignored", "--nocapture"])
            .env(ROLE, role.to_string())
            .env(ENDPOINT, endpoint)
            .env(NAME, name)
            .env(THREADS, threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let stdout = child.stdout.take().expect("its output");
        Process {
            child,
            name: name.to_owned(),
            last: String::new(),
            lines: BufReader::new(stdout).lines(),
        }
    }

    /// Its next line that begins with this word, without the word.
    pub(crate) async fn says(&mut self, word: &str) -> String {
        loop {
            let line = self.line().await.unwrap_or_else(|| panic!("a child ended before it said {word:?}"));
            if let Some((first, rest)) = line.split_once(' ') {
                if first == word {
                    return rest.to_owned();
                }
            }
        }
    }

    /// Its next line; `None` once it has ended.
    pub(crate) async fn line(&mut self) -> Option<String> {
        loop {
            let what = format!("a line of the child of {} after {:?}", self.name, self.last);
            let line = patiently(&what, self.lines.next_line()).await.expect("a line")?;
            // The test harness talks in between, and on the same line.
            if let Some((_, said)) = line.split_once(MARK) {
                said.clone_into(&mut self.last);
                return Some(said.to_owned());
            }
        }
    }

    /// Tells it that there is nothing more to come.
    pub(crate) fn finish(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Freezes it; returns when it stands still.
    pub(crate) fn stop(&self) {
        signals::stop(pid(&self.child));
    }

    pub(crate) fn go_on(&self) {
        signals::go_on(pid(&self.child));
    }

    /// Kills it with SIGKILL; it does nothing more when this returns.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("a signal");
    }
}
