//! How the command is used, and what is said to whoever uses it in another way.

use serde_json::Value;

use crate::run::{End, bare, end, tenure};

/// The one document on its stderr says what failed.
fn error(end: &End) -> String {
    let document: Value = serde_json::from_str(&end.errors).unwrap_or_else(|_| panic!("{end:?}"));
    document["error"].as_str().unwrap_or_else(|| panic!("{end:?}")).to_owned()
}

#[test]
fn the_step_between_a_lock_and_its_command_is_nobodys_to_see() {
    const STAGE: &str = "stage-of-lock";
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = end(bare().args(["completions", shell]));
        assert!(
            script.out.contains("unlock") && !script.out.contains(STAGE),
            "{shell}"
        );
    }
    for arguments in [
        &[][..],
        &["stage-of-lokc"],
        &["help", STAGE],
        &["--help"],
        &["--json", STAGE],
    ] {
        for run in [end(bare().args(arguments)), end(&mut tenure(arguments))] {
            let advice = [run.out.as_str(), &run.errors].concat().replace(&format!("'{STAGE}'"), "");
            assert!(
                !advice.is_empty() && !advice.contains(STAGE),
                "{arguments:?}: {run:?}"
            );
        }
    }
}

#[test]
fn what_a_variable_says_is_not_shown_as_if_it_were_required() {
    for (arguments, usage) in [
        (&["get"][..], "tenure get [OPTIONS] <KEY> [RANGE_END]"),
        (&["unlock", "a"], "tenure unlock [OPTIONS] --force <NAME>"),
        (&["lease", "revoke"], "tenure lease revoke [OPTIONS] <ID>"),
        (&["frobnicate"], "tenure [OPTIONS] <COMMAND>"),
    ] {
        let told = end(&mut tenure(arguments));
        assert_eq!(told.status, 2, "{told:?}");
        let line = told.errors.lines().find_map(|line| line.strip_prefix("Usage: "));
        assert_eq!(line, Some(usage), "{told:?}");
    }
}

#[test]
fn wrong_usage_is_told_in_json_where_that_is_asked_for() {
    for (arguments, said) in [
        (
            &["--json", "frobnicate"][..],
            "unrecognized subcommand 'frobnicate'",
        ),
        (
            &["get", "-w", "json"],
            "the following required arguments were not provided: <KEY>",
        ),
        (
            &["lock", "a", "--ttl", "x", "--json"],
            "invalid value 'x' for '--ttl <TIME>': not a time: 10, 0.5, 500ms or 1m30s",
        ),
        (&["--json"], "a command is missing"),
    ] {
        let told = end(bare().args(arguments));
        assert_eq!((told.status, told.out.as_str()), (2, ""), "{told:?}");
        assert_eq!(error(&told), said, "{arguments:?}");
    }
    for (arguments, said) in [(&["get"][..], "<KEY>"), (&[], "a command is missing")] {
        let told = end(bare().env("ETCDCTL_WRITE_OUT", "json").args(arguments));
        assert!(told.status == 2 && error(&told).contains(said), "{told:?}");
    }
    let theirs = end(bare().args(["lock", "a", "--ttl", "x", "--", "jq", "--json"]));
    assert!(theirs.errors.starts_with("error: "), "{theirs:?}");
    let help = end(bare().args(["--json", "--help"]));
    assert!(help.status == 0 && help.out.contains("Usage: "), "{help:?}");
}

#[test]
fn what_cannot_be_run_is_told_in_json_where_that_is_asked_for() {
    for (command, status) in [("/nonexistent/command", 127), ("/", 126)] {
        let told = end(&mut tenure(&["lock", "run-json", "--json", "--", command]));
        assert_eq!((told.status, told.out.as_str()), (status, ""), "{told:?}");
        assert!(
            error(&told).starts_with(&format!("cannot run {command:?}: ")),
            "{told:?}"
        );
    }
    // What is the command's is not read for this.
    let theirs = end(&mut tenure(&[
        "lock",
        "run-json",
        "--",
        "/nonexistent/command",
        "--json",
    ]));
    assert!(
        theirs.status == 127 && theirs.errors.starts_with("tenure: cannot run"),
        "{theirs:?}"
    );
}
