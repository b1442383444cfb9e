//! What is asked of TLS: whom to trust, who we are, and which name to expect.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::ClientConfig;

/// How `https` and `unixs` endpoints are encrypted and proven.
///
/// By default the server's certificate has to be signed by one of the system's
/// roots and to name the endpoint's host; no certificate is shown to the server.
///
/// Files are looked at again whenever a connection is opened, so certificates can
/// be renewed on disk without a restart. While a renewed file cannot be used, half
/// written for instance, connections are opened with what it held before.
///
/// ```
/// use tenure::{Config, Tls};
///
/// let tls = Tls::new()
///     .ca_file("/etc/etcd/ca.pem")
///     .identity_files("/etc/etcd/client.pem", "/etc/etcd/client-key.pem");
/// let config = Config::new().tls(tls);
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Tls {
    /// The system's roots without one.
    pub(crate) ca: Option<Pem>,
    pub(crate) identity: Option<Identity>,
    pub(crate) server_name: Option<String>,
    pub(crate) custom: Option<Arc<ClientConfig>>,
}

/// Certificates or a key in PEM (RFC 7468).
#[derive(Clone)]
pub(crate) enum Pem {
    File(PathBuf),
    Bytes(Arc<[u8]>),
}

/// Who we are: a chain of certificates, the own one first, and its key.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) chain: Pem,
    pub(crate) key: Pem,
}

impl Tls {
    /// The defaults.
    pub fn new() -> Tls {
        Tls::default()
    }

    /// Everything as this configuration of rustls has it: other providers, own
    /// verification, and so on. ALPN is set to `h2` where it names nothing. Of the
    /// other options only [`Tls::server_name`] counts then.
    pub fn custom(config: Arc<ClientConfig>) -> Tls {
        Tls {
            custom: Some(config),
            ..Tls::default()
        }
    }

    /// The file with the certificates, in PEM, of those who may sign the server's.
    /// The system's roots are not trusted then.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Tls {
        self.ca = Some(Pem::File(path.into()));
        self
    }

    /// As [`Tls::ca_file`], with the PEM itself.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Tls {
        self.ca = Some(Pem::Bytes(pem.into().into()));
        self
    }

    /// The files with our own certificate, those that lead to the server's root
    /// behind it, and with its key, in PEM: what `--client-cert-auth` of etcd asks
    /// for.
    pub fn identity_files(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Tls {
        self.identity = Some(Identity {
            chain: Pem::File(chain.into()),
            key: Pem::File(key.into()),
        });
        self
    }

    /// As [`Tls::identity_files`], with the PEM itself.
    pub fn identity_pem(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Tls {
        self.identity = Some(Identity {
            chain: Pem::Bytes(chain.into().into()),
            key: Pem::Bytes(key.into().into()),
        });
        self
    }

    /// The name, or the IP address, that the server's certificate has to be for.
    /// Default: the endpoint's host, `localhost` for a socket.
    pub fn server_name(mut self, name: impl Into<String>) -> Tls {
        self.server_name = Some(name.into());
        self
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("ca", &self.ca)
            .field("identity", &self.identity)
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// Never the bytes: they may be a key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pem::File(path) => path.fmt(f),
            Pem::Bytes(_) => f.write_str("PEM"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_shown() {
        let tls = Tls::new().ca_file("ca.pem").identity_pem("chain", "secret");
        let text = format!("{tls:?}");
        assert!(text.contains("ca.pem") && !text.contains("secret"), "{text}");
        assert!(!text.contains(&format!("{:?}", b"secret")), "{text}");
    }
}
