//! A certificate authority for a test, and the files that it issues.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// The names of a server on loopback.
pub(crate) const HERE: &[&str] = &["127.0.0.1", "localhost"];

/// Issues certificates into a directory, which goes with it.
pub(crate) struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// When a certificate holds.
#[derive(Clone, Copy)]
pub(crate) enum Validity {
    Now,
    Past,
    Future,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("tenure-tls-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).expect("a certificate").pem();
        fs::write(dir.join("ca.pem"), &pem).expect("a file");
        Authority {
            dir,
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Issues a certificate for these names, and gives it and its key in PEM.
    pub(crate) fn issue(&self, names: &[&str], validity: Validity) -> (String, String) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, "tenure");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        (params.not_before, params.not_after) = match validity {
            Validity::Now => (date_time_ymd(2020, 1, 1), date_time_ymd(2200, 1, 1)),
            Validity::Past => (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1)),
            Validity::Future => (date_time_ymd(2199, 1, 1), date_time_ymd(2200, 1, 1)),
        };
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// Issues a certificate for a server on loopback, and gives the flags by which etcd takes it. With `mutual`
    /// it wants one of its clients, from this authority.
    pub(crate) fn flags_of_etcd(&self, mutual: bool) -> Vec<String> {
        let (certificate, key) = self.issue_files("server", HERE, Validity::Now);
        let mut flags = vec![
            format!("--cert-file={}", certificate.display()),
            format!("--key-file={}", key.display()),
        ];
        if mutual {
            flags.push("--client-cert-auth".to_owned());
            flags.push(format!("--trusted-ca-file={}", self.ca_file().display()));
        }
        flags
    }

    /// Issues into `<stem>.pem` and `<stem>-key.pem`, in place of what was there.
    pub(crate) fn issue_files(&self, stem: &str, names: &[&str], validity: Validity) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.issue(names, validity);
        let paths = (
            self.dir.join(format!("{stem}.pem")),
            self.dir.join(format!("{stem}-key.pem")),
        );
        replace(&paths.0, &certificate);
        replace(&paths.1, &key);
        paths
    }
}

/// As whoever renews certificates does: the file is there at every moment.
pub(crate) fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).expect("a file");
    fs::rename(&new, path).expect("a file in its place");
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
