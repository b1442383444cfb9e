//! Endpoints from DNS, as `etcdctl --discovery-srv` finds them.

use std::net::SocketAddr;

use crate::error::{Code, Delivery, Error, Origin};
use crate::net::srv::Dns;

/// Finds a cluster's endpoints in the SRV records of a domain:
/// `_etcd-client-ssl._tcp.<domain>` for `https`, `_etcd-client._tcp.<domain>` for
/// `http` ([etcd's clustering guide](https://etcd.io/docs/v3.6/op-guide/clustering/#dns-discovery)).
///
/// Whoever answers for the domain says where the client goes. Where that matters
/// let [`Discovery::tls_only`] be true: a certificate then has to be for the host.
///
/// ```no_run
/// # async fn example() -> Result<(), tenure::Error> {
/// use tenure::{Client, client::Discovery};
///
/// let endpoints = Discovery::new("example.com").tls_only(true).endpoints().await?;
/// let client = Client::connect(endpoints).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Discovery {
    domain: String,
    name: String,
    tls_only: bool,
    dns_server: Option<SocketAddr>,
}

impl Discovery {
    /// Endpoints of the cluster of this domain.
    pub fn new(domain: impl Into<String>) -> Discovery {
        Discovery {
            domain: domain.into(),
            name: String::new(),
            tls_only: false,
            dns_server: None,
        }
    }

    /// One of several clusters of the domain: etcd's `--discovery-srv-name`, which
    /// makes `_etcd-client-<name>._tcp.<domain>`. Default: none.
    pub fn name(mut self, name: impl Into<String>) -> Discovery {
        self.name = name.into();
        self
    }

    /// Whether `http` endpoints are left out. Default: no.
    pub fn tls_only(mut self, tls_only: bool) -> Discovery {
        self.tls_only = tls_only;
        self
    }

    /// The DNS server to ask. Default: those of the system.
    pub fn dns_server(mut self, server: SocketAddr) -> Discovery {
        self.dns_server = Some(server);
        self
    }

    /// Asks, and gives what [`Client::connect`](super::Client::connect) takes: `https`
    /// first, and among these the records of the lowest priority and highest weight.
    ///
    /// # Errors
    ///
    /// `NotFound`: the domain has no such record. `Unavailable`: no DNS server
    /// answered, in some ten seconds, or none is known; the source says which.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn endpoints(&self) -> Result<Vec<String>, Error> {
        let dns = Dns::new(self.dns_server).map_err(|error| self.failed(error))?;
        let mut endpoints = Vec::new();
        for (scheme, service) in [("https", "etcd-client-ssl"), ("http", "etcd-client")] {
            if self.tls_only && scheme == "http" {
                continue;
            }
            let found = dns.lookup(&self.record(service)).await.map_err(|error| self.failed(error))?;
            endpoints.extend(found.iter().map(|found| format!("{scheme}://{}:{}", found.host, found.port)));
        }
        if endpoints.is_empty() {
            let message = format!("{:?} has no SRV records of etcd", self.domain);
            return Err(Error::new(
                Code::NotFound,
                Origin::Caller,
                Delivery::NotSent,
                message,
            ));
        }
        Ok(endpoints)
    }

    fn record(&self, service: &str) -> String {
        let dash = if self.name.is_empty() { "" } else { "-" };
        let (name, domain) = (&self.name, self.domain.trim_end_matches('.'));
        format!("_{service}{dash}{name}._tcp.{domain}.")
    }

    fn failed(&self, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
        let message = format!("cannot look up the SRV records of {:?}", self.domain);
        Error::unsent(Origin::Transport, message).with_source(cause)
    }
}
