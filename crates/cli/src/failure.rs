//! Why a command failed: the exit status, and what is said about it on stderr, in one line.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};
use std::sync::Arc;

use clap::builder::styling::{AnsiColor, Effects, Style};
use serde_json::json;

/// Of a command that failed, but for those below.
pub(crate) const FAILED: u8 = 1;
/// Of every command: it was told what it cannot be told.
pub(crate) const WRONG: u8 = 2;
/// Of `lock` and `elect`: it was not ours within `--wait` (`EX_TEMPFAIL` of sysexits).
pub(crate) const NOT_OURS: u8 = 75;
/// Of `lock` and `elect`: it was ours, and was lost.
pub(crate) const LOST: u8 = 123;
/// Of `lock`: tenure itself failed, as with `env`, `timeout` and `nohup`.
pub(crate) const OWN: u8 = 125;
/// Of `lock`: the command is there and cannot be run.
pub(crate) const NOT_RUNNABLE: u8 = 126;
/// Of `lock`: there is no such command.
pub(crate) const NOT_FOUND: u8 = 127;
/// A shell's word for "ended by signal n" is this and n.
pub(crate) const SIGNALLED: u8 = 128;
/// As if by SIGPIPE, whose number is 13.
const BROKEN_PIPE: u8 = SIGNALLED + 13;

const ERROR: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);

/// What goes out with which exit status.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    cause: Box<dyn Error + Send + Sync>,
}

impl Failure {
    pub(crate) fn new(status: u8, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        let cause = cause.into();
        Failure { status, cause }
    }

    pub(crate) fn status(&self) -> u8 {
        self.status
    }

    /// The same failure of a command that has a status of its own for it.
    pub(crate) fn with_status(mut self, status: u8) -> Failure {
        if !self.is_broken_pipe() {
            self.status = status;
        }
        self
    }

    /// Says it on stderr, unless whoever read our output has left. The exit status.
    pub(crate) fn tell(&self, as_json: bool) -> u8 {
        if self.is_broken_pipe() {
            return BROKEN_PIPE;
        }
        let line = self.line();
        // There is nobody left to tell where this fails.
        let _ = match as_json {
            true => writeln!(io::stderr(), "{}", json!({ "error": line })),
            false => writeln!(anstream::stderr(), "{ERROR}tenure:{ERROR:#} {line}"),
        };
        self.status
    }

    /// The cause, its cause and so on.
    fn line(&self) -> String {
        let mut line = one_line(&self.cause.to_string());
        let mut source = self.cause.source();
        while let Some(cause) = source {
            // What else our own errors have to tell, the first of them has told.
            let shared = || cause.downcast_ref::<Arc<tenure::Error>>().map(Arc::as_ref);
            let text = match cause.downcast_ref::<tenure::Error>().or_else(shared) {
                Some(error) => one_line(error.message()),
                None => one_line(&cause.to_string()),
            };
            // Some repeat their source, and once is enough.
            if !line.contains(&text) {
                let _ = write!(line, ": {text}");
            }
            source = cause.source();
        }
        line
    }

    fn is_broken_pipe(&self) -> bool {
        let io = self.cause.downcast_ref::<io::Error>();
        io.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(cause: E) -> Failure {
        Failure::new(FAILED, cause)
    }
}

/// Without what would begin another line, or speak to the terminal.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.trim_end().chars() {
        match letter.is_control() {
            true => line.extend(letter.escape_default()),
            false => line.push(letter),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_each_cause_once_and_in_one_line() {
        let inner = io::Error::other("refused\nby the \u{1b}[31mserver");
        let failure = Failure::from(io::Error::other(inner));
        assert_eq!(failure.line(), "refused\\nby the \\u{1b}[31mserver");
        assert_eq!(failure.with_status(OWN).status, OWN);
    }

    #[test]
    fn a_reader_who_left_is_told_nothing() {
        let failure = Failure::from(io::Error::from(ErrorKind::BrokenPipe)).with_status(OWN);
        assert_eq!(failure.tell(false), 141);
    }
}
