//! The flags and variables about the connection, as etcdctl has them.

use std::process::Command;

use tenure_etcd::{Binary, Cluster, Options};

use crate::run::{End, bare, end, endpoint, tenure};

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

#[test]
fn variables_of_etcdctl_that_are_set_for_all_its_commands_break_none_of_ours() {
    assert_eq!(end(&mut tenure(&["put", "variables", "\u{1}"])).status, 0);
    let got = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut get = tenure(&["get", "--print-value-only", "variables"]);
        end(get.args(arguments).envs(variables.iter().copied()))
    };
    let empty = [
        "CACERT",
        "CERT",
        "KEY",
        "USER",
        "PASSWORD",
        "DIAL_TIMEOUT",
        "COMMAND_TIMEOUT",
        "KEEPALIVE_TIME",
        "KEEPALIVE_TIMEOUT",
        "DISCOVERY_SRV",
        "DISCOVERY_SRV_NAME",
        "INSECURE_DISCOVERY",
        "INSECURE_TRANSPORT",
        "WRITE_OUT",
        "HEX",
        "INSECURE_SKIP_TLS_VERIFY",
    ];
    let empty = empty.map(|name| format!("ETCDCTL_{name}"));
    let empty: Vec<_> = empty.iter().map(|name| (name.as_str(), "")).collect();
    for (variables, arguments, out) in [
        (&empty[..], &[][..], "\u{1}\n"),
        (&[("ETCDCTL_HEX", "true")], &[], "\\x01\n"),
        (&[("ETCDCTL_HEX", "1")], &[], "\\x01\n"),
        (&[("ETCDCTL_HEX", "false")], &[], "\u{1}\n"),
        (&[("ETCDCTL_WRITE_OUT", "table")], &[], "\u{1}\n"),
        (
            &[
                ("ETCDCTL_DIAL_TIMEOUT", "20s"),
                ("ETCDCTL_COMMAND_TIMEOUT", "50s"),
            ],
            &[],
            "\u{1}\n",
        ),
        (
            &[
                ("ETCDCTL_KEEPALIVE_TIME", "2s"),
                ("ETCDCTL_KEEPALIVE_TIMEOUT", "6s"),
            ],
            &[],
            "\u{1}\n",
        ),
        (
            &[
                ("ETCDCTL_INSECURE_TRANSPORT", "true"),
                ("ETCDCTL_INSECURE_DISCOVERY", "true"),
            ],
            &[],
            "\u{1}\n",
        ),
    ] {
        let got = got(variables, arguments);
        assert_eq!((got.status, got.out.as_str()), (0, out), "{variables:?}: {got:?}");
    }
    for format in ["json", "simple", "table"] {
        let json = got(&[("ETCDCTL_WRITE_OUT", format)], &["--json"]);
        assert!(json.status == 0 && json.out.contains("\"kvs\""), "{json:?}");
    }
}

#[test]
fn transport_that_is_not_to_be_insecure_is_not() {
    let etcd = endpoint();
    let without_scheme = etcd.trim_start_matches("http://");
    assert_eq!(get(without_scheme, &[], &[]).status, 0);
    for (flags, variables) in [
        (&["--insecure-transport=false"][..], &[][..]),
        (&[], &[("ETCDCTL_INSECURE_TRANSPORT", "false")]),
    ] {
        // It speaks no TLS.
        assert_eq!(get(without_scheme, flags, variables).status, 1);
        let plain = get(&etcd, flags, variables);
        assert!(
            plain.status == 1 && plain.errors.contains("without TLS"),
            "{plain:?}"
        );
    }
}

#[test]
fn a_domain_is_asked_for_its_members_or_it_is_said_that_it_cannot_be() {
    // No name ends like that (RFC 6761, section 6.4).
    for (flags, variables) in [
        (&["--discovery-srv", "etcd.invalid"][..], &[][..]),
        (&[], &[("ETCDCTL_DISCOVERY_SRV", "etcd.invalid")]),
    ] {
        let got = get(&endpoint(), flags, variables);
        assert_eq!((got.status, got.out.as_str()), (1, ""), "{got:?}");
        assert!(
            got.errors.contains("\"etcd.invalid\"") && got.errors.contains("SRV records"),
            "{got:?}"
        );
    }
}
