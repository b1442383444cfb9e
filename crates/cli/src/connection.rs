//! Which etcd to talk to, and how: etcdctl's flags and environment variables.

use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};
use tenure::{Auth, Client, Config, Tls};
use tenure_testserver::Server;

use crate::duration;
use crate::failure::Failure;

/// The variable with the endpoints.
pub(crate) const ENDPOINTS: &str = "ETCDCTL_ENDPOINTS";

/// The options about the connection.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection (as in etcdctl)")]
pub(crate) struct Cluster {
    /// Where the members are reached, separated by commas. Without any, it is an etcd in memory
    /// that ends with the command.
    #[arg(
        long,
        global = true,
        env = ENDPOINTS,
        value_name = "ENDPOINTS",
        value_delimiter = ','
    )]
    endpoints: Vec<String>,
    /// Finds the members by the SRV records of this domain instead; only where tenure was built with the
    /// feature `srv`.
    #[arg(
        short = 'd',
        long,
        global = true,
        env = "ETCDCTL_DISCOVERY_SRV",
        value_name = "DOMAIN"
    )]
    discovery_srv: Option<String>,
    /// One of several clusters of that domain.
    #[arg(long, global = true, env = "ETCDCTL_DISCOVERY_SRV_NAME", value_name = "NAME")]
    discovery_srv_name: Option<String>,
    /// Whether members without TLS are taken from these records. Where they are not, a certificate has to be for
    /// the domain.
    #[arg(long, global = true, env = "ETCDCTL_INSECURE_DISCOVERY", value_name = "BOOL", default_value_t = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    insecure_discovery: bool,
    /// Whether endpoints without a scheme are without TLS, if no file for TLS is named.
    #[arg(long, global = true, env = "ETCDCTL_INSECURE_TRANSPORT", value_name = "BOOL", default_value_t = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    insecure_transport: bool,
    /// The name of the user, or NAME:PASSWORD.
    #[arg(
        long,
        global = true,
        env = "ETCDCTL_USER",
        hide_env_values = true,
        value_name = "NAME"
    )]
    user: Option<String>,
    /// The password of the user.
    #[arg(long, global = true, env = "ETCDCTL_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// The certificates, in PEM, of those who may sign the servers'. Default: the system's.
    #[arg(long, global = true, env = "ETCDCTL_CACERT", value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Our own certificate, in PEM.
    #[arg(
        long,
        global = true,
        env = "ETCDCTL_CERT",
        value_name = "FILE",
        requires = "key_file"
    )]
    cert: Option<PathBuf>,
    /// The key of our own certificate, in PEM.
    #[arg(
        id = "key_file",
        long = "key",
        global = true,
        env = "ETCDCTL_KEY",
        value_name = "FILE",
        requires = "cert"
    )]
    key: Option<PathBuf>,
    /// Refused: a server that nobody verifies may be anybody.
    #[arg(long, global = true, env = "ETCDCTL_INSECURE_SKIP_TLS_VERIFY", hide = true, value_parser = BoolishValueParser::new())]
    insecure_skip_tls_verify: bool,
    /// How long a connection may take, such as 2s. Default: 5s.
    #[arg(long, global = true, env = "ETCDCTL_DIAL_TIMEOUT", value_name = "TIME", value_parser = duration::parse)]
    dial_timeout: Option<Duration>,
    /// How long a call may take, such as 5s. Default: 8s.
    #[arg(long, global = true, env = "ETCDCTL_COMMAND_TIMEOUT", value_name = "TIME", value_parser = duration::parse)]
    command_timeout: Option<Duration>,
    /// The time between two HTTP/2 pings, such as 10s; 0 for none. Default: 10s.
    #[arg(long, global = true, env = "ETCDCTL_KEEPALIVE_TIME", value_name = "TIME", value_parser = duration::parse)]
    keepalive_time: Option<Duration>,
    /// How long the answer to a ping may take until the connection is given up. Default: 3s.
    #[arg(long, global = true, env = "ETCDCTL_KEEPALIVE_TIMEOUT", value_name = "TIME", value_parser = duration::parse)]
    keepalive_timeout: Option<Duration>,
}

/// A client, and the server behind it where that was started for it.
#[derive(Debug)]
pub(crate) struct Connection {
    client: Client,
    _embedded: Option<Server>,
}

impl Cluster {
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        let config = self.config()?;
        let mut endpoints = match self.domain() {
            Some(domain) => self.discovered(domain).await?,
            None => self.endpoints()?,
        };
        let mut embedded = None;
        if endpoints.is_empty() && !self.endpoints.is_empty() {
            // An empty variable is a mistake, and a lock that nobody else sees is none.
            return Err("--endpoints, or ETCDCTL_ENDPOINTS, names no endpoint".into());
        }
        if endpoints.is_empty() {
            eprintln!("tenure: no --endpoints: on an etcd in memory, which ends with this command");
            let server = Server::start().await?;
            endpoints.push(server.endpoint().to_owned());
            embedded = Some(server);
        }
        Ok(Connection {
            client: Client::connect_with(endpoints, config).await?,
            _embedded: embedded,
        })
    }

    /// With a scheme: as in Go's client, one that has none is TLS where files for that are given, or where
    /// transport is not to be insecure. Go's goes on without TLS at `http` then.
    fn endpoints(&self) -> Result<Vec<String>, Failure> {
        let given = self
            .endpoints
            .iter()
            .map(|endpoint| endpoint.trim())
            .filter(|endpoint| !endpoint.is_empty());
        let is_tls = self.cacert.is_some() || self.cert.is_some() || !self.insecure_transport;
        let with_scheme = |endpoint: &str| {
            if !self.insecure_transport && endpoint.starts_with("http://") {
                return Err(format!("{endpoint} is without TLS, and --insecure-transport=false").into());
            }
            match is_tls && !endpoint.contains("://") && !endpoint.starts_with("unix") {
                true => Ok(format!("https://{endpoint}")),
                false => Ok(endpoint.to_owned()),
            }
        };
        given.map(with_scheme).collect()
    }

    fn domain(&self) -> Option<&str> {
        self.discovery_srv.as_deref().filter(|domain| !domain.is_empty())
    }

    #[cfg(feature = "srv")]
    async fn discovered(&self, domain: &str) -> Result<Vec<String>, Failure> {
        let tls_only = !self.insecure_discovery || !self.insecure_transport;
        let mut discovery = tenure::client::Discovery::new(domain).tls_only(tls_only);
        if let Some(name) = &self.discovery_srv_name {
            discovery = discovery.name(name);
        }
        Ok(discovery.endpoints().await?)
    }

    /// It is asked for by name, and no other endpoint is meant.
    #[cfg(not(feature = "srv"))]
    #[allow(clippy::unused_async, reason = "it waits where it can")]
    async fn discovered(&self, domain: &str) -> Result<Vec<String>, Failure> {
        let name = self.discovery_srv_name.as_ref().map(|name| format!(", {name:?},")).unwrap_or_default();
        let message = "cannot be asked for its SRV records: this tenure was built without the feature `srv`";
        Err(format!("{domain:?}{name} {message}").into())
    }

    fn config(&self) -> Result<Config, Failure> {
        if self.insecure_skip_tls_verify {
            return Err(
                "--insecure-skip-tls-verify is not offered: name the servers' certificate with --cacert"
                    .into(),
            );
        }
        let mut tls = Tls::new();
        if let Some(file) = &self.cacert {
            tls = tls.ca_file(file);
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity_files(cert, key);
        }
        if let (Some(domain), false) = (self.domain(), self.insecure_discovery) {
            // As etcdctl does: whoever answers for the domain is not to say whom we trust.
            tls = tls.server_name(domain);
        }
        let mut config = Config::new().tls(tls);
        if let Some(timeout) = self.dial_timeout {
            config = config.connect_timeout(timeout);
        }
        if let Some(timeout) = self.command_timeout {
            config = config.call_timeout(timeout);
        }
        if let Some(time) = self.keepalive_time {
            config = config.ping_interval(Some(time).filter(|time| !time.is_zero()));
        }
        // To gRPC none at all is its own default.
        if let Some(timeout) = self.keepalive_timeout.filter(|timeout| !timeout.is_zero()) {
            config = config.ping_timeout(timeout);
        }
        if let Some(auth) = self.auth()? {
            config = config.auth(auth);
        }
        Ok(config)
    }

    fn auth(&self) -> Result<Option<Auth>, Failure> {
        let Some(user) = self.user.as_deref().filter(|user| !user.is_empty()) else {
            return Ok(None);
        };
        let (name, password) = match &self.password {
            Some(password) => (user, password.as_str()),
            None => user.split_once(':').ok_or("--user needs a password: NAME:PASSWORD or --password")?,
        };
        Ok(Some(Auth::password(name, password)))
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::Arguments;

    fn cluster(options: &[&str]) -> Cluster {
        let line = ["tenure"].iter().chain(options).chain(&["get", "a"]);
        Arguments::try_parse_from(line).expect("it can be read").cluster
    }

    #[test]
    fn times_of_keepalive_are_those_of_pings() {
        for (options, told) in [
            (&["--keepalive-time", "7s"][..], "ping_interval: Some(7s)"),
            (&["--keepalive-time=0"], "ping_interval: None"),
            (&[], "ping_interval: Some(10s)"),
            (&["--keepalive-timeout", "1500ms"], "ping_timeout: 1.5s"),
            (&["--keepalive-timeout", "0s"], "ping_timeout: 3s"),
        ] {
            let config = format!("{:?}", cluster(options).config().expect("a configuration"));
            assert!(config.contains(told), "{options:?}: {config}");
        }
    }

    #[test]
    fn what_has_no_scheme_is_tls_where_transport_is_not_insecure() {
        let endpoint = |options: &[&str], endpoint: &str| {
            let options = [options, &["--endpoints", endpoint]].concat();
            cluster(&options).endpoints().map(|all| all.join(","))
        };
        for (options, told) in [
            (&[][..], "a:1"),
            (&["--insecure-transport"], "a:1"),
            (&["--insecure-transport=true"], "a:1"),
            (&["--insecure-transport=false"], "https://a:1"),
            (&["--cacert", "ca.pem"], "https://a:1"),
        ] {
            assert_eq!(
                endpoint(options, "a:1").expect("an endpoint"),
                told,
                "{options:?}"
            );
        }
        let secure = ["--insecure-transport=false"];
        assert_eq!(
            endpoint(&secure, "https://a:1,unix:/a").expect("endpoints"),
            "https://a:1,unix:/a"
        );
        assert!(endpoint(&secure, "a:1,http://a:1").is_err());
    }

    #[test]
    fn whom_a_domain_names_is_believed_as_far_as_etcdctl_believes_it() {
        let named = |options: &[&str]| format!("{:?}", cluster(options).config().expect("a configuration"));
        let domain = ["-d", "example.com", "--insecure-discovery=false"];
        assert!(named(&domain).contains("example.com"), "{}", named(&domain));
        assert!(!named(&domain[..2]).contains("example.com"));
    }
}
