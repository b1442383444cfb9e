//! A child as its parent sees it: it is told, heard, stopped and continued.

use std::process::Stdio;

use rustix::process::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::child::{MARK, ORDERS, TEST};
use crate::note::Note;
use crate::signals;
use crate::support::patiently;

/// It is killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    /// What it says that is no note.
    said: mpsc::UnboundedReceiver<String>,
}

impl Process {
    /// Starts a child, and hears it from then on. To be called on a runtime.
    pub(crate) fn start(
        number: u64,
        seed: u64,
        endpoints: &[String],
        note: impl Fn(Note) + Send + 'static,
    ) -> Process {
        let program = std::env::current_exe().expect("the path of this program");
        let mut child = Command::new(program)
            .args([TEST, "--exact", "--ignored", "--nocapture"])
            .env(ORDERS, format!("{number} {seed} {}", endpoints.join(",")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let (say, said) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                // The test harness talks in between, and on the same line.
                let Some((_, line)) = line.split_once(MARK) else {
                    continue;
                };
                match Note::parse(line) {
                    Some(heard) => note(heard),
                    None => drop(say.send(line.to_owned())),
                }
            }
        });
        Process { child, said }
    }

    /// Waits for its line that begins with this word; what stands behind it.
    pub(crate) async fn says(&mut self, word: &str) -> String {
        let what = format!("{word:?} of a child");
        let line = patiently(&what, self.said.recv()).await;
        let line = line.unwrap_or_else(|| panic!("a child ended before it said {word:?}"));
        line.strip_prefix(word)
            .unwrap_or_else(|| panic!("not {word:?} but {line:?}"))
            .trim()
            .to_owned()
    }

    pub(crate) async fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("its input");
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("a child that listens");
        stdin.flush().await.expect("a child that listens");
    }

    pub(crate) fn pid(&self) -> Pid {
        signals::pid(&self.child)
    }
}
