//! SRV records (RFC 2782), asked of the system's DNS servers or of one that is named.

use std::net::SocketAddr;

use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::name_server::TokioConnectionProvider;
use hickory_resolver::proto::xfer::Protocol;
use hickory_resolver::{ResolveError, Resolver, TokioResolver};

/// A host and a port, and its place among the others.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    priority: u16,
    /// Turned round: the heaviest first.
    weight: u16,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Who is asked.
pub(crate) struct Dns(TokioResolver);

impl Dns {
    /// # Errors
    ///
    /// The system does not say which servers it uses.
    pub(crate) fn new(server: Option<SocketAddr>) -> Result<Dns, ResolveError> {
        let Some(server) = server else {
            return Ok(Dns(Resolver::builder_tokio()?.build()));
        };
        let mut config = ResolverConfig::new();
        config.add_name_server(NameServerConfig::new(server, Protocol::Udp));
        config.add_name_server(NameServerConfig::new(server, Protocol::Tcp));
        let provider = TokioConnectionProvider::default();
        Ok(Dns(Resolver::builder_with_config(config, provider).build()))
    }

    /// The records of `name`, the first choice first; none where there is no such name.
    ///
    /// # Errors
    ///
    /// Nobody answers, or somebody answers something else.
    pub(crate) async fn lookup(&self, name: &str) -> Result<Vec<Record>, ResolveError> {
        let found = match self.0.srv_lookup(name).await {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let record = |srv: &hickory_resolver::proto::rr::rdata::SRV| Record {
            priority: srv.priority(),
            weight: u16::MAX - srv.weight(),
            host: srv.target().to_ascii().trim_end_matches('.').to_owned(),
            port: srv.port(),
        };
        // A target of `.` says that the service is not offered here.
        let mut records: Vec<_> = found.iter().map(record).filter(|record| !record.host.is_empty()).collect();
        records.sort();
        Ok(records)
    }
}
