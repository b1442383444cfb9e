//! The Go client's `concurrency.Mutex` and `concurrency.Election` as contenders: the
//! program in `go/mutex`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tenure_etcd::GoProgram;
use tenure_history::{Claim, Token};

const MUTEX: GoProgram = GoProgram {
    name: "mutex",
    go_mod: include_str!("go/mutex/go.mod"),
    go_sum: include_str!("go/mutex/go.sum"),
    main_go: include_str!("go/mutex/main.go"),
};

/// The path of the program, or `None` where it cannot be built; with `CI=true` that fails.
pub(crate) fn program() -> Option<PathBuf> {
    match MUTEX.build() {
        Ok(path) => Some(path),
        Err(cause) if std::env::var_os("CI").is_some_and(|ci| ci == "true") => panic!("{cause}"),
        Err(cause) => {
            eprintln!("the Go client's mutex DID NOT RUN in this test: {cause}");
            None
        }
    }
}

/// What the program takes part with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Recipe {
    Mutex,
    Election,
}

/// Locks or leads `name` so many times in a process of its own.
pub(crate) fn contend(
    program: &Path,
    recipe: Recipe,
    (endpoints, name): (&str, &str),
    hold: Duration,
    times: usize,
) -> Vec<Claim> {
    let output = Command::new(program)
        .args([
            endpoints,
            name,
            &times.to_string(),
            &format!("{}us", hold.as_micros()),
            match recipe {
                Recipe::Mutex => "mutex",
                Recipe::Election => "election",
            },
        ])
        .stderr(Stdio::inherit())
        .output()
        .expect("the Go program runs");
    assert!(output.status.success(), "the Go program: {}", output.status);
    let text = String::from_utf8(output.stdout).expect("lines of text");
    let claims: Vec<Claim> = text.lines().map(claim).collect();
    assert_eq!(claims.len(), times);
    claims
}

fn claim(line: &str) -> Claim {
    let words: Vec<&str> = line.split(' ').collect();
    let [key, created, revision, granted, released] = words[..] else {
        panic!("not a line of the Go program: {line:?}");
    };
    let number = |word: &str| word.parse::<i64>().expect("a number");
    let time = |word: &str| word.parse::<u64>().expect("a time");
    Claim {
        client: "Go".to_owned(),
        key: key.into(),
        token: Token {
            created: number(created),
            sequence: 0,
        },
        revisions: vec![number(revision)],
        held: Some(time(granted)..time(released)),
    }
}
