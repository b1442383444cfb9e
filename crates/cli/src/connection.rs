//! Which etcd to talk to, and how: etcdctl's flags and environment variables.

use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
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
        let mut endpoints = self.endpoints();
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

    /// With a scheme: as in Go's client, one that has none is TLS where files for that are given.
    fn endpoints(&self) -> Vec<String> {
        let given = self
            .endpoints
            .iter()
            .map(|endpoint| endpoint.trim())
            .filter(|endpoint| !endpoint.is_empty());
        let is_tls = self.cacert.is_some() || self.cert.is_some();
        let with_scheme =
            |endpoint: &str| match is_tls && !endpoint.contains("://") && !endpoint.starts_with("unix") {
                true => format!("https://{endpoint}"),
                false => endpoint.to_owned(),
            };
        given.map(with_scheme).collect()
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
        let mut config = Config::new().tls(tls);
        if let Some(timeout) = self.dial_timeout {
            config = config.connect_timeout(timeout);
        }
        if let Some(timeout) = self.command_timeout {
            config = config.call_timeout(timeout);
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
