//! A command that runs: its lines as they come, its signals, and how it ended.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(50);
const POLL: Duration = Duration::from_millis(5);

/// `tenure` on the server that the tests share.
pub(crate) fn tenure<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Command {
    let mut command = bare();
    command.env("ETCDCTL_ENDPOINTS", endpoint()).args(arguments);
    command
}

/// `tenure` without a word about where etcd is.
pub(crate) fn bare() -> Command {
    let mut command = heedful(env!("CARGO_BIN_EXE_tenure"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCDCTL_") {
            command.env_remove(name);
        }
    }
    command
}

/// A program that has every signal as it is by default: whoever runs the tests in the background of a
/// shell, or under nohup, has them begin with some ignored.
pub(crate) fn heedful(program: &str) -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=INT,QUIT,HUP", program]);
    command
}

pub(crate) fn endpoint() -> String {
    tenure_etcd::shared().endpoints().remove(0)
}

/// A process that is killed with its value.
pub(crate) struct Run {
    child: Child,
    lines: Receiver<String>,
    errors: Option<thread::JoinHandle<String>>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct End {
    /// 128 and more: by a signal, as a shell has it.
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) errors: String,
}

impl Run {
    pub(crate) fn of(command: &mut Command) -> Run {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|cause| panic!("{command:?}: {cause}"));
        let (told, lines) = channel();
        let stdout = child.stdout.take().expect("a pipe");
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = Vec::new();
            while stdout.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                let text = String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned();
                if told.send(text).is_err() {
                    break;
                }
            }
        });
        let mut stderr = child.stderr.take().expect("a pipe");
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Run {
            child,
            lines,
            errors: Some(errors),
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// The next line that it prints, without its end.
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line.trim_end_matches(['\r', '\n']).to_owned(),
            Err(_) => panic!("no line came: {:?}", self.kill()),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("it reads");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits until all that has its stdout is gone, and what it said until then.
    pub(crate) fn silence(&mut self) -> String {
        let until = Instant::now() + PATIENCE;
        let mut out = String::new();
        while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            out.push_str(&line);
        }
        assert!(
            Instant::now() < until,
            "somebody still has its stdout, and said {out:?}"
        );
        out
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_some()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> End {
        use std::os::unix::process::ExitStatusExt;
        drop(self.child.stdin.take());
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                break status;
            }
            if Instant::now() > until {
                panic!("it has not ended: {:?}", self.kill());
            }
            thread::sleep(POLL);
        };
        End {
            status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            out: self.silence(),
            errors: self.errors(),
        }
    }

    fn kill(&mut self) -> (String, String) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        (self.lines.try_iter().collect(), self.errors())
    }

    fn errors(&mut self) -> String {
        self.errors.take().map(|errors| errors.join().expect("a reader")).unwrap_or_default()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn send(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("a pid");
    kill_process(pid, signal).expect("it is there");
}

/// To its end.
pub(crate) fn end(command: &mut Command) -> End {
    Run::of(command).end()
}

/// Asks again and again until it is so.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < until, "{what} has not happened");
        thread::sleep(POLL);
    }
}

/// How many have the lock or wait for it.
pub(crate) fn queued(name: &str) -> usize {
    let answer = end(&mut tenure(&["--json", "who", name]));
    let who: serde_json::Value = serde_json::from_str(&answer.out).unwrap_or_else(|_| panic!("{answer:?}"));
    usize::from(!who["holder"].is_null()) + who["queue"].as_array().map_or(0, Vec::len)
}
