//! What goes to stdout: lines as etcdctl has them, tables for people, or JSON.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};

use clap::builder::BoolishValueParser;
use clap::builder::styling::{Effects, Style};
use clap::{Args, ValueEnum};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

/// The variable with the format.
const WRITE_OUT: &str = "ETCDCTL_WRITE_OUT";

const HEAD: Style = Style::new().effects(Effects::BOLD);

/// The options about the output.
#[derive(Clone, Debug, Args)]
pub(crate) struct Output {
    /// JSON, a document a line: etcd's answers as `etcdctl -w json` has them, with keys and values
    /// in base64.
    #[arg(long, global = true, help_heading = "Output")]
    json: bool,
    /// The same as etcdctl says it.
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Output",
        value_name = "FORMAT",
        env = WRITE_OUT,
        hide_env_values = true,
        default_value = "simple",
        hide_default_value = true
    )]
    write_out: Format,
    /// Print keys and values as hexadecimal escapes.
    #[arg(long, global = true, help_heading = "Output", env = "ETCDCTL_HEX", hide_env_values = true, value_parser = BoolishValueParser::new())]
    hex: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Lines, or a table.
    Simple,
    /// As `simple`, which draws tables where there is something for one.
    Table,
    /// As `--json`.
    Json,
}

/// Whether a command line that cannot be read asks for JSON. What is behind `--` is another's.
pub(crate) fn asks_for_json(words: impl Iterator<Item = OsString>) -> bool {
    let words = words.map(|word| word.to_string_lossy().into_owned());
    let mut words = words.take_while(|word| word != "--");
    let mut format = std::env::var(WRITE_OUT).unwrap_or_default();
    while let Some(word) = words.next() {
        let value = word.strip_prefix("--write-out").or_else(|| word.strip_prefix("-w"));
        match value.map(|value| value.trim_start_matches('=')) {
            _ if word == "--json" => return true,
            Some("") => format = words.next().unwrap_or_default(),
            Some(value) => value.clone_into(&mut format),
            None => {}
        }
    }
    format == "json"
}

impl Output {
    pub(crate) fn is_json(&self) -> bool {
        self.json || self.write_out == Format::Json
    }

    /// A line of text.
    pub(crate) fn line(&self, text: impl Display) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }

    /// A key or a value, as it is or in hexadecimal, and the end of the line.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.hex {
            for byte in bytes {
                write!(out, "\\x{byte:02x}")?;
            }
        } else {
            out.write_all(bytes)?;
        }
        out.write_all(b"\n")
    }

    /// A document, in one line.
    pub(crate) fn json(&self, value: &Value) -> io::Result<()> {
        self.line(value)
    }

    /// Columns, each as wide as it has to be, whatever the terminal.
    pub(crate) fn table(&self, head: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header(head).add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let text = table.to_string();
        let mut out = anstream::stdout().lock();
        for (row, line) in text.lines().enumerate() {
            let line = line.trim_end();
            match row {
                0 => writeln!(out, "{HEAD}{line}{HEAD:#}")?,
                _ => writeln!(out, "{line}")?,
            }
        }
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_asked_for_in_the_ways_of_the_command_line() {
        for (line, is_json) in [
            ("get --json", true),
            ("-w json get", true),
            ("-w=json get", true),
            ("-wjson get", true),
            ("get --write-out json", true),
            ("get --write-out=json", true),
            ("get -w simple", false),
            ("get -w", false),
            ("lock a --ttl x -- jq --json", false),
            ("get json", false),
        ] {
            let words = line.split(' ').map(OsString::from);
            assert_eq!(asks_for_json(words), is_json, "{line}");
        }
    }
}
