//! etcdctl's flags and variables for TLS, on a real etcd that wants a certificate of its clients.

use tenure_etcd::{Binary, Cluster, Options};

use crate::authority::{Authority, HERE, Validity};
use crate::run::{End, bare, end};

struct Etcd {
    cluster: Cluster,
    authority: Authority,
}

impl Etcd {
    fn start() -> Etcd {
        let authority = Authority::new();
        let options = Options {
            listen: vec!["https://127.0.0.1:0".to_owned()],
            arguments: authority.flags_of_etcd(true),
            ..Options::default()
        };
        let binary = Binary::find().expect("an etcd");
        let cluster = Cluster::start(&binary, 1, options).expect("a cluster");
        Etcd { cluster, authority }
    }

    /// As etcdctl is mostly told of it.
    fn without_scheme(&self) -> String {
        self.cluster.member(0).listens_at()[0].replace("https://", "")
    }

    /// The command with these of the settings, by their names as variables.
    fn run(&self, settings: &[&str], arguments: &[&str]) -> End {
        let (certificate, key) = self.authority.issue_files("client", HERE, Validity::Now);
        let mut command = bare();
        command.env("ETCDCTL_ENDPOINTS", self.without_scheme()).args(arguments);
        for setting in settings {
            let file = match *setting {
                "ETCDCTL_CACERT" => self.authority.ca_file(),
                "ETCDCTL_CERT" => certificate.clone(),
                _ => key.clone(),
            };
            command.env(setting, file);
        }
        end(&mut command)
    }
}

#[test]
fn certificates_are_taken_from_flags_and_from_etcdctls_variables() {
    let etcd = Etcd::start();
    let (certificate, key) = etcd.authority.issue_files("flags", HERE, Validity::Now);
    let mut put = bare();
    put.args(["--endpoints", &etcd.without_scheme()]);
    put.arg("--cacert").arg(etcd.authority.ca_file());
    put.arg("--cert").arg(certificate).arg("--key").arg(key);
    let put = end(put.args(["put", "key", "value"]));
    assert_eq!(put.status, 0, "{put:?}");
    let all = ["ETCDCTL_CACERT", "ETCDCTL_CERT", "ETCDCTL_KEY"];
    let got = etcd.run(&all, &["get", "key"]);
    assert_eq!((got.status, got.out.as_str()), (0, "key\nvalue\n"), "{got:?}");
}

#[test]
fn who_is_not_trusted_is_told_whose_fault_it_is() {
    let etcd = Etcd::start();
    let nobody = etcd.run(&["ETCDCTL_CACERT"], &["get", "key"]);
    assert_eq!((nobody.status, nobody.out.as_str()), (1, ""), "{nobody:?}");
    assert!(nobody.errors.contains("ertificate"), "{nobody:?}");
    // The system's authorities did not sign the server's.
    let stranger = etcd.run(&["ETCDCTL_CERT", "ETCDCTL_KEY"], &["get", "key"]);
    assert_eq!((stranger.status, stranger.out.as_str()), (1, ""), "{stranger:?}");
    assert!(stranger.errors.contains("ertificate"), "{stranger:?}");
    let half = etcd.run(&["ETCDCTL_CACERT", "ETCDCTL_CERT"], &["get", "key"]);
    assert_eq!((half.status, half.out.as_str()), (2, ""), "{half:?}");
    assert!(half.errors.contains("--key"), "{half:?}");
    let all = ["ETCDCTL_CACERT", "ETCDCTL_CERT", "ETCDCTL_KEY"];
    let blind = etcd.run(&all, &["--insecure-skip-tls-verify", "get", "key"]);
    assert_ne!(blind.status, 0, "{blind:?}");
    assert!(blind.errors.contains("--cacert"), "{blind:?}");
}
