//! An etcd with users, roles and short-lived tokens. It is set up through its JSON
//! gateway, which knows nothing of the client under test.

use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use tenure::{Auth, Client, Config, Error};
use tenure_etcd::{Binary, Cluster, Options};

pub(crate) const PASSWORD: &str = "correct-horse-battery";

/// Etcd looks once a second, and a machine may stand still for two.
pub(crate) const TOKEN_TTL: Duration = Duration::from_secs(4);
/// For tokens that are to be gone soon.
const TOKEN_TTL_SHORT: Duration = Duration::from_secs(2);
/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Etcd {
    pub(crate) cluster: Cluster,
}

impl Etcd {
    /// With a user `root`, and authentication disabled.
    pub(crate) fn start() -> Etcd {
        Etcd::start_with(1, vec![token_ttl(TOKEN_TTL)])
    }

    /// Of three members.
    pub(crate) fn start_three() -> Etcd {
        Etcd::start_with(3, vec![token_ttl(TOKEN_TTL)])
    }

    /// With authentication enabled, and tokens that nobody has for long.
    pub(crate) fn start_forgetful() -> Etcd {
        let etcd = Etcd::start_with(1, vec![token_ttl(TOKEN_TTL_SHORT)]);
        etcd.enable();
        etcd
    }

    /// With tokens that are signed (RFC 7519), by a key in `dir`.
    pub(crate) fn start_signing(dir: &Path) -> Etcd {
        let key = rcgen::KeyPair::generate().expect("a key");
        let (public, private) = (dir.join("public.pem"), dir.join("private.pem"));
        std::fs::write(&public, key.public_key_pem()).expect("a file");
        std::fs::write(&private, key.serialize_pem()).expect("a file");
        let token = format!(
            "--auth-token=jwt,pub-key={},priv-key={},sign-method=ES256,ttl={}s",
            public.display(),
            private.display(),
            TOKEN_TTL.as_secs()
        );
        Etcd::start_with(1, vec![token])
    }

    fn start_with(members: usize, arguments: Vec<String>) -> Etcd {
        let options = Options {
            arguments,
            ..Options::default()
        };
        let binary = Binary::find().expect("an etcd");
        let cluster = Cluster::start(&binary, members, options).expect("a cluster");
        let etcd = Etcd { cluster };
        etcd.post(
            "auth/user/add",
            &format!(r#"{{"name":"root","password":"{PASSWORD}"}}"#),
            None,
        );
        etcd.post("auth/role/add", r#"{"name":"root"}"#, None);
        etcd.post("auth/user/grant", r#"{"user":"root","role":"root"}"#, None);
        etcd
    }

    /// With authentication enabled.
    pub(crate) fn start_enabled() -> Etcd {
        let etcd = Etcd::start();
        etcd.enable();
        etcd
    }

    pub(crate) fn enable(&self) {
        self.post("auth/enable", "{}", None);
    }

    /// A token of root's, not the client's.
    pub(crate) fn token(&self) -> String {
        let question = format!(r#"{{"name":"root","password":"{PASSWORD}"}}"#);
        let answer = self.post("auth/authenticate", &question, None);
        let (_, token) = answer.split_once(r#""token":""#).expect("a token");
        token.split('"').next().expect("a string").to_owned()
    }

    /// The body of the answer.
    pub(crate) fn post(&self, path: &str, body: &str, token: Option<&str>) -> String {
        let authorization = token.map(|token| format!("Authorization: {token}\r\n")).unwrap_or_default();
        let length = body.len();
        let (head, body) = self.http(
            0,
            &format!("POST /v3/{path} HTTP/1.0\r\nContent-Length: {length}\r\n{authorization}\r\n{body}"),
        );
        assert!(head.contains(" 200 "), "{path}: {head} {body}");
        body
    }

    /// How often anybody authenticated, with success or without.
    pub(crate) fn authenticates(&self) -> u64 {
        let members = 0..self.cluster.members().len();
        members.map(|member| self.authenticates_at(member)).sum()
    }

    fn authenticates_at(&self, member: usize) -> u64 {
        let (_, metrics) = self.http(member, "GET /metrics HTTP/1.0\r\n\r\n");
        let is_count = |line: &&str| {
            line.starts_with("grpc_server_handled_total{") && line.contains(r#"grpc_method="Authenticate""#)
        };
        let counts = metrics.lines().filter(is_count);
        counts
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().expect("a count") as u64)
            .sum()
    }

    /// Long enough that no token that nobody uses is left.
    pub(crate) async fn forget_tokens(&self) {
        tokio::time::sleep(TOKEN_TTL + Duration::from_millis(2500)).await;
    }

    pub(crate) async fn connect(&self, auth: Auth) -> Result<Client, Error> {
        Client::connect_with(self.cluster.endpoints(), Config::new().auth(auth)).await
    }

    pub(crate) async fn root(&self) -> Client {
        self.connect(Auth::password("root", PASSWORD)).await.expect("root may connect")
    }

    /// Head and body of the answer.
    fn http(&self, member: usize, request: &str) -> (String, String) {
        let endpoint = self.cluster.member(member).endpoint();
        let mut stream =
            TcpStream::connect(endpoint.trim_start_matches("http://")).expect("the server listens");
        stream.write_all(request.as_bytes()).expect("the server reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the server answers");
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.to_owned(), body.to_owned())
    }
}

fn token_ttl(ttl: Duration) -> String {
    format!("--auth-token-ttl={}", ttl.as_secs())
}

pub(crate) async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    let bounded = tokio::time::timeout(PATIENCE, future).await;
    bounded.unwrap_or_else(|_| panic!("{what} has not happened"))
}
