//! What is refused before anything is done: input that is half of what somebody meant.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use crate::run::{End, Run, bare, end, tenure};

/// With these bytes on stdin, and its end behind them.
fn fed(command: &mut Command, input: &str) -> End {
    let mut run = Run::of(command.stdin(Stdio::piped()));
    run.write(input.as_bytes());
    run.end()
}

fn value_of(key: &str) -> String {
    end(&mut tenure(&["get", "--print-value-only", key])).out
}

#[test]
fn endpoints_that_name_none_are_a_mistake_and_no_wish_for_an_etcd_in_memory() {
    for endpoints in ["", " ", ","] {
        for arguments in [
            &["lock", "nobody-sees-it", "--", "echo", "ran"][..],
            &["put", "a", "b"],
        ] {
            let run = end(bare().env("ETCDCTL_ENDPOINTS", endpoints).args(arguments));
            assert!(run.status != 0 && run.out.is_empty(), "{endpoints:?}: {run:?}");
            assert!(run.errors.contains("names no endpoint"), "{run:?}");
        }
    }
}

#[test]
fn a_token_goes_into_a_variable_that_can_be() {
    for name in ["", "A=B"] {
        let run = end(&mut tenure(&[
            "lock",
            "input/lock",
            "--token-env",
            name,
            "--",
            "echo",
            "ran",
        ]));
        assert!(run.status == 2 && run.out.is_empty(), "{name:?}: {run:?}");
    }
}

#[test]
fn a_value_that_never_came_is_not_written() {
    assert_eq!(end(&mut tenure(&["put", "input/put", "kept"])).status, 0);
    let empty = fed(&mut tenure(&["put", "input/put"]), "");
    assert!(empty.status == 1 && empty.errors.contains("stdin"), "{empty:?}");
    assert_eq!(value_of("input/put"), "kept\n");
    assert_eq!(end(&mut tenure(&["put", "input/put", ""])).status, 0);
    assert_eq!(value_of("input/put"), "\n");
    assert_eq!(fed(&mut tenure(&["put", "input/put"]), "read").status, 0);
    assert_eq!(value_of("input/put"), "read\n");
}

#[test]
fn a_transaction_that_is_cut_off_is_not_carried_out() {
    let whole = "ver(\"input/txn\") = \"0\"\n\nput input/txn done\n\n\n";
    for end in 0..whole.len() {
        let cut = fed(&mut tenure(&["txn"]), &whole[..end]);
        assert!(
            cut.status == 1 && cut.errors.contains("cut off"),
            "{end}: {cut:?}"
        );
    }
    assert_eq!(value_of("input/txn"), "");
    assert_eq!(fed(&mut tenure(&["txn"]), whole).out, "SUCCESS\n\nOK\n");
    assert_eq!(value_of("input/txn"), "done\n");
}

#[test]
fn a_snapshot_is_its_owners_and_replaces_nothing_but_files() {
    let dir = std::env::temp_dir().join(format!("tenure-snapshot-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (file, link) = (dir.join("db"), dir.join("latest"));
    std::fs::File::create(&file).unwrap().write_all(b"old").unwrap();
    symlink(&file, &link).unwrap();
    let saved = end(tenure(&["snapshot", "save"]).arg(&link));
    assert_eq!(saved.status, 0, "{saved:?}");
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    let database = std::fs::metadata(&file).unwrap();
    assert_eq!(database.permissions().mode() & 0o777, 0o600);
    assert!(database.len() > 3);
    let refused = end(tenure(&["snapshot", "save"]).arg(&dir));
    assert!(
        refused.status == 1 && refused.errors.contains("no file"),
        "{refused:?}"
    );
    assert_eq!(
        std::fs::read_dir(&dir).unwrap().count(),
        2,
        "and nothing half done beside it"
    );
    std::fs::remove_dir_all(&dir).unwrap();
}
