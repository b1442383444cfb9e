//! The `tenure-etcd` command: makes ready the servers that tests run on.

use std::env;
use std::process::{Command, ExitCode};

use tenure_etcd::{Binary, Cluster, Error, Line, Options};

const USAGE: &str = "\
usage: tenure-etcd prepare [--lines]
       tenure-etcd run COMMAND [ARGUMENT ..]

Prepares every line of etcd that this machine can run, and prints for each the
version and the path, or why there is none. With --lines, standard output has
just the lines that are there, such as `3.4 3.5 3.6 3.7`, and standard error
has the rest.

An etcd at $TENURE_ETCD is used alone, and one on PATH too, unless CI=true.
Exits with 1 when there is none, and with CI=true unless each line is there or
$TENURE_ETCD is set.

`run` starts a server of the line that $TENURE_ETCD_LINE names, or of the newest,
for as long as a command runs, which finds it in $ETCD_ENDPOINTS. Exits as the
command does.";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["prepare"] => prepare(false),
        ["prepare", "--lines"] => prepare(true),
        ["run", program, ref arguments @ ..] => match run(program, arguments) {
            Ok(code) => code,
            Err(cause) => {
                eprintln!("tenure-etcd: {cause}");
                ExitCode::FAILURE
            }
        },
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn prepare(only_lines: bool) -> ExitCode {
    let ci = env::var_os("CI").is_some_and(|ci| ci == "true");
    let prepared = match preparations(ci) {
        Ok(prepared) => prepared,
        Err(cause) => {
            eprintln!("{cause}");
            return ExitCode::FAILURE;
        }
    };
    let mut lines = Vec::new();
    for (line, outcome) in &prepared.outcomes {
        let story = match outcome {
            Ok(binary) => {
                lines.push(line.to_string());
                format!("{line}  {}  {}", binary.version(), binary.path().display())
            }
            Err(cause) => format!("{line}  unavailable: {cause}"),
        };
        if only_lines {
            eprintln!("{story}");
        } else {
            println!("{story}");
        }
    }
    if only_lines {
        println!("{}", lines.join(" "));
    }
    let has = |line: &Line| lines.contains(&line.to_string());
    if lines.is_empty() || (ci && !prepared.named && !Line::ALL.iter().all(has)) {
        eprintln!("tenure-etcd: not every line of etcd that has to be there is");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(program: &str, arguments: &[&str]) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let cluster = Cluster::start(&Binary::find()?, 1, Options::default())?;
    let endpoints = cluster.endpoints().join(",");
    let status = Command::new(program).args(arguments).env("ETCD_ENDPOINTS", endpoints).status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

struct Prepared {
    /// Whether `$TENURE_ETCD` decided.
    named: bool,
    outcomes: Vec<(Line, Result<Binary, Error>)>,
}

fn preparations(ci: bool) -> Result<Prepared, Error> {
    if let Some(binary) = Binary::from_env()? {
        return Ok(Prepared {
            named: true,
            outcomes: vec![(binary.line(), Ok(binary))],
        });
    }
    if let Some(binary) = Binary::on_path().ok().flatten().filter(|_| !ci) {
        return Ok(Prepared {
            named: false,
            outcomes: vec![(binary.line(), Ok(binary))],
        });
    }
    let outcomes = Line::ALL.into_iter().map(|line| (line, Binary::of_line(line))).collect();
    Ok(Prepared {
        named: false,
        outcomes,
    })
}
