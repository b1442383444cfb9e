//! Endpoints, and how a byte stream to one is opened: over TCP, or by whatever
//! the caller hands in.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::error::Error;

/// Where a member of the cluster is reached: `http://host:port`, or `host:port`.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    name: Arc<str>,
    authority: Authority,
}

const PORT_DEFAULT: u16 = 2379;

impl Endpoint {
    /// # Errors
    ///
    /// [`Code::InvalidArgument`](crate::Code::InvalidArgument) where the text is no
    /// such address, or asks for what this version cannot do (`https`, `unix`).
    pub(crate) fn parse(text: &str) -> Result<Endpoint, Error> {
        let invalid = |why: &str| Error::invalid(format!("endpoint {text:?}: {why}"));
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if scheme != "http" {
            return Err(invalid("only http:// is supported"));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('/') {
            return Err(invalid("an endpoint has no path"));
        }
        let authority = Authority::try_from(rest.to_owned());
        let authority = authority.map_err(|error| invalid("not a host and port").with_source(error))?;
        let host = authority.host();
        let port = authority.as_str().strip_prefix(host).unwrap_or_default();
        if matches!(host, "" | "[]") || authority.as_str().contains('@') {
            return Err(invalid("not a host and port"));
        }
        if !port.is_empty() && authority.port_u16().is_none() {
            return Err(invalid("not a port"));
        }
        Ok(Endpoint {
            name: format!("http://{authority}").into(),
            authority,
        })
    }

    /// The endpoint's address as errors and logs name it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host name or address, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.authority.host();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The port; etcd's own, 2379, where the address has none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(PORT_DEFAULT)
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// The URI of a call. It shares all its parts, so nothing is allocated.
    pub(crate) fn uri(&self, path: PathAndQuery) -> Result<Uri, http::Error> {
        Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A byte stream that HTTP/2 can run on: anything that reads and writes.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// The byte stream that a [`Dial`] opens, once it is open.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

/// Opens byte streams to endpoints: the way to tunnel, to simulate, or to fuzz.
///
/// It is called again after each lost connection. The connect timeout applies; a
/// dial that takes longer is dropped.
pub trait Dial: Send + Sync + 'static {
    /// Begins to open a stream to `endpoint`.
    fn dial(&self, endpoint: &Endpoint) -> Dialing;
}

impl<F> Dial for F
where
    F: Fn(&Endpoint) -> Dialing + Send + Sync + 'static,
{
    fn dial(&self, endpoint: &Endpoint) -> Dialing {
        self(endpoint)
    }
}

/// Dials with TCP, and sends small frames at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tcp;

impl Dial for Tcp {
    fn dial(&self, endpoint: &Endpoint) -> Dialing {
        let (host, port) = (endpoint.host().to_owned(), endpoint.port());
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

/// Hands out the one stream that the caller brought; when that is lost, so is
/// the way to the server.
pub(crate) struct Once(Mutex<Option<Box<dyn Io>>>);

impl Once {
    pub(crate) fn new(io: impl Io) -> Once {
        Once(Mutex::new(Some(Box::new(io))))
    }
}

impl Dial for Once {
    fn dial(&self, _: &Endpoint) -> Dialing {
        let io = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let spent = || {
            io::Error::new(
                io::ErrorKind::NotConnected,
                "the stream that was handed in is spent",
            )
        };
        Box::pin(std::future::ready(io.ok_or_else(spent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_a_host_a_port_and_nothing_else() {
        for (text, name, host, port) in [
            ("http://a:1", "http://a:1", "a", 1),
            ("a.example:2379/", "http://a.example:2379", "a.example", 2379),
            ("10.0.0.1", "http://10.0.0.1", "10.0.0.1", 2379),
            ("http://[::1]:7", "http://[::1]:7", "::1", 7),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(
                (endpoint.name(), endpoint.host(), endpoint.port()),
                (name, host, port)
            );
        }
        for text in [
            "",
            "http://",
            "https://a:1",
            "unix:///tmp/x",
            "http://a:1/path",
            "a b",
            "http://u:p@a:1",
            "a:99999",
            "a:http",
            "a:",
            "[::1]:70000",
            "[]:1",
        ] {
            let error = Endpoint::parse(text).unwrap_err();
            assert_eq!(error.code(), crate::Code::InvalidArgument, "{text}");
        }
    }

    #[test]
    fn the_uri_of_a_call_shares_the_endpoint() {
        let uri = Endpoint::parse("a:1")
            .unwrap()
            .uri(PathAndQuery::from_static("/etcdserverpb.KV/Put"))
            .unwrap();
        assert_eq!(uri, "http://a:1/etcdserverpb.KV/Put");
    }
}
