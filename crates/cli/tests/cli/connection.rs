//! The flags and variables about the connection, as etcdctl has them.

use std::process::Command;

use tenure_etcd::{Binary, Cluster, Options};

use crate::run::{End, bare, end};

/// Reads a key there.
fn get(endpoint: &str, arguments: &[&str], variables: &[(&str, &str)]) -> End {
    let mut command = bare();
    command.args(["--endpoints", endpoint, "get", "a"]).args(arguments);
    end(command.envs(variables.iter().copied()))
}

#[test]
fn a_user_is_told_by_flags_or_variables() {
    let binary = Binary::find().expect("an etcd");
    let etcd = Cluster::start(&binary, 1, Options::default()).expect("it starts");
    let endpoint = &etcd.endpoints()[0];
    assert_eq!(
        end(bare().args(["--endpoints", endpoint, "put", "a", "b"])).status,
        0
    );
    for arguments in [&["user", "add", "root:open sesame"][..], &["auth", "enable"]] {
        let mut etcdctl = Command::new(binary.etcdctl().expect("an etcdctl"));
        let made = end(etcdctl.env("ETCDCTL_API", "3").args(["--endpoints", endpoint]).args(arguments));
        assert_eq!(made.status, 0, "{made:?}");
    }
    for (arguments, variables) in [
        (&["--user", "root:open sesame"][..], &[][..]),
        (&["--user", "root", "--password", "open sesame"], &[]),
        (&[], &[("ETCDCTL_USER", "root:open sesame")]),
        (
            &[],
            &[("ETCDCTL_USER", "root"), ("ETCDCTL_PASSWORD", "open sesame")],
        ),
    ] {
        assert_eq!(
            get(endpoint, arguments, variables).out,
            "a\nb\n",
            "{arguments:?} {variables:?}"
        );
    }
    assert_eq!(get(endpoint, &[], &[]).status, 1);
    let refused = get(endpoint, &["--user", "root:hunter2"], &[]);
    assert!(
        refused.status == 1 && !refused.errors.contains("hunter2"),
        "{refused:?}"
    );
    let help = end(bare()
        .env("ETCDCTL_PASSWORD", "hunter2")
        .env("ETCDCTL_USER", "root:hunter2")
        .arg("--help"));
    assert!(help.status == 0 && !help.out.contains("hunter2"), "{help:?}");
}
