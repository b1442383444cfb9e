//! Where a member is reached: the address as a user writes it, taken apart once,
//! and the URI of a call made from the parts for nothing.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use http::uri::{Authority, InvalidUriParts, Parts, PathAndQuery, Scheme as UriScheme, Uri};

use crate::error::Error;

/// etcd's own client port.
const PORT_DEFAULT: u16 = 2379;
/// What gRPC sends as `:authority` where a socket has no host.
const AUTHORITY_OF_SOCKETS: &str = "localhost";

/// Where a member of the cluster is reached.
///
/// | written as | reached by |
/// |---|---|
/// | `host:port`, `http://host:port` | TCP |
/// | `https://host:port` | TLS over TCP |
/// | `unix:///path`, `unix:path` | a unix socket |
/// | `unixs:///path`, `unixs:path` | TLS over a unix socket |
///
/// The port may be left out: it is 2379 then. An IPv6 address stands in brackets. A
/// host name may stand for several addresses: they are tried in turn, first the one that
/// answered last, and behind the others the one that did not. As with etcd's
/// own client, `unix://name` is the socket `name` in the working directory, also
/// where the name looks like a host and a port.
#[derive(Clone)]
pub struct Endpoint {
    name: Arc<str>,
    scheme: Scheme,
    authority: Authority,
    /// Where the path of the socket begins in `name`; its length without a socket.
    path_at: usize,
}

/// How an [`Endpoint`] is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// TCP.
    Http,
    /// TLS over TCP.
    Https,
    /// A unix socket.
    Unix,
    /// TLS over a unix socket.
    Unixs,
}

impl Scheme {
    /// Whether the bytes are encrypted.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Unixs)
    }

    fn is_socket(self) -> bool {
        matches!(self, Scheme::Unix | Scheme::Unixs)
    }
}

impl Endpoint {
    /// # Errors
    ///
    /// [`Code::InvalidArgument`](crate::Code::InvalidArgument) where the text is no
    /// such address, or asks for what this build cannot do.
    pub(crate) fn parse(text: &str) -> Result<Endpoint, Error> {
        // What stands before an `@` may be a password, and errors end in logs.
        let shown = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
        let invalid = |why: &str| Error::invalid(format!("endpoint {shown:?}: {why}"));
        let (scheme, rest) = split(text).ok_or_else(|| invalid("not http, https, unix or unixs"))?;
        if scheme.is_tls() && cfg!(not(feature = "tls")) {
            return Err(invalid("this build has no TLS, it lacks the feature `tls`"));
        }
        if scheme.is_socket() {
            return Endpoint::socket(scheme, rest).map_err(invalid);
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
        let name: Arc<str> = match scheme {
            Scheme::Https => format!("https://{authority}").into(),
            _ => format!("http://{authority}").into(),
        };
        Ok(Endpoint {
            path_at: name.len(),
            name,
            scheme,
            authority,
        })
    }

    fn socket(scheme: Scheme, path: &str) -> Result<Endpoint, &'static str> {
        if cfg!(not(unix)) {
            return Err("there are no unix sockets on this platform");
        }
        if path.is_empty() || path.contains('\0') {
            return Err("not the path of a socket");
        }
        let prefix = if scheme.is_tls() { "unixs://" } else { "unix://" };
        Ok(Endpoint {
            name: format!("{prefix}{path}").into(),
            scheme,
            authority: Authority::from_static(AUTHORITY_OF_SOCKETS),
            path_at: prefix.len(),
        })
    }

    /// The endpoint's address as errors and logs name it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is reached.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host name or address, an IPv6 address without its brackets; `localhost`
    /// for a socket.
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

    /// The path of the unix socket, where it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.scheme.is_socket().then(|| Path::new(&self.name[self.path_at..]))
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// The URI of a call. It shares all its parts, so nothing is allocated.
    pub(crate) fn uri(&self, path: PathAndQuery) -> Result<Uri, InvalidUriParts> {
        let scheme = match self.scheme.is_tls() {
            true => UriScheme::HTTPS,
            false => UriScheme::HTTP,
        };
        let mut parts = Parts::default();
        parts.scheme = Some(scheme);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        Uri::from_parts(parts)
    }
}

/// However it is written: in capitals or not, with the default port or without.
impl PartialEq for Endpoint {
    fn eq(&self, other: &Endpoint) -> bool {
        let address = |endpoint: &Endpoint| endpoint.host().parse::<IpAddr>().ok();
        let is_same_host = self.host().eq_ignore_ascii_case(other.host())
            || address(self).is_some_and(|own| address(other) == Some(own));
        is_same_host && (self.scheme, self.port(), self.path()) == (other.scheme, other.port(), other.path())
    }
}

impl Eq for Endpoint {}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The scheme and what follows it. gRPC's `unix:path` has no slashes.
fn split(text: &str) -> Option<(Scheme, &str)> {
    let (scheme, rest) = match text.split_once("://") {
        Some(parts) => parts,
        None => match text.split_once(':') {
            Some((scheme @ ("unix" | "unixs"), path)) => (scheme, path),
            _ => ("http", text),
        },
    };
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        "unix" => Scheme::Unix,
        "unixs" => Scheme::Unixs,
        _ => return None,
    };
    Some((scheme, rest))
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
                (endpoint.name(), endpoint.host(), endpoint.port(), endpoint.path()),
                (name, host, port, None)
            );
        }
        for text in [
            "",
            "http://",
            "ftp://a:1",
            "http://a:1/path",
            "a b",
            "http://u:p@a:1",
            "a:99999",
            "a:http",
            "a:",
            "[::1]:70000",
            "[]:1",
            "unix:",
            "unix://",
            "unix://a\0b",
        ] {
            let error = Endpoint::parse(text).unwrap_err();
            assert_eq!(error.code(), crate::Code::InvalidArgument, "{text}");
            assert!(!format!("{error:?}").contains("u:p"), "{error:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_has_a_path_and_no_port_to_parse() {
        for (text, name, path) in [
            ("unix:///run/etcd.sock", "unix:///run/etcd.sock", "/run/etcd.sock"),
            ("unix:/run/etcd.sock", "unix:///run/etcd.sock", "/run/etcd.sock"),
            ("unix://localhost:1234", "unix://localhost:1234", "localhost:1234"),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!((endpoint.name(), endpoint.path()), (name, Some(Path::new(path))));
            assert_eq!((endpoint.scheme(), endpoint.host()), (Scheme::Unix, "localhost"));
        }
    }

    #[test]
    fn one_address_in_two_spellings_is_one_endpoint() {
        let parse = |text| Endpoint::parse(text).unwrap();
        for (one, other) in [
            ("a", "http://A:2379/"),
            ("[::1]:7", "http://[0:0::1]:7"),
            ("unix:/run/etcd.sock", "unix:///run/etcd.sock"),
        ] {
            assert_eq!(parse(one), parse(other));
        }
        for (one, other) in [
            ("a", "a:1"),
            ("a", "b"),
            ("unix:a", "unix:A"),
            ("unix:a", "localhost"),
        ] {
            assert_ne!(parse(one), parse(other));
        }
    }

    #[test]
    fn without_tls_nothing_encrypted_can_be_asked_for() {
        for (text, scheme) in [
            ("https://a:1", Scheme::Https),
            ("unixs:///run/etcd.sock", Scheme::Unixs),
        ] {
            let parsed = Endpoint::parse(text).map(|endpoint| endpoint.scheme());
            assert_eq!(parsed.ok(), cfg!(feature = "tls").then_some(scheme));
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
