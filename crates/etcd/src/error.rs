//! The one error of this crate: a text for whoever reads a failed test.

use std::fmt;
use std::io;
use std::process::Output;

/// Lines of a command's output or of a server's log that an error quotes.
const TAIL_LINES: usize = 25;

/// Why there is no etcd, or why it did not do as told.
///
/// `Debug` prints the same text as `Display`, so that an `expect` in a test
/// reads well, over several lines if need be.
pub struct Error(String);

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Error {
        Error(message.into())
    }

    /// An error of the system while doing `what`.
    pub(crate) fn io(what: impl fmt::Display, cause: &io::Error) -> Error {
        Error(format!("{what}: {cause}"))
    }

    /// A command that ran and failed, with the tail of what it printed.
    pub(crate) fn output(what: impl fmt::Display, output: &Output) -> Error {
        let printed = [
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        ]
        .concat();
        Error(format!("{what}: {}\n{}", output.status, tail(&printed)))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// The last lines of `text`, indented.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    shown.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_end_of_a_long_text() {
        let text: String = (0..100).map(|n| format!("{n}\n")).collect();
        let tail = tail(&text);
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert!(tail.ends_with("    99"), "{tail}");
    }
}
