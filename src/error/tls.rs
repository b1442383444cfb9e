//! Why no encrypted connection came about, as a value to branch on.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// Why TLS failed; [`Error::tls`](crate::Error::tls) finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The server's certificate is for another name.
    WrongName,
    /// The name that the server's certificate is to be for, configured or the endpoint's
    /// host, is neither a DNS name nor an address.
    InvalidName,
    /// The server's certificate has expired.
    Expired,
    /// The server's certificate is not valid yet. A wrong clock looks the same.
    NotYetValid,
    /// The server's certificate is signed by nobody we trust.
    UnknownIssuer,
    /// The server's certificate has been revoked.
    Revoked,
    /// The server's certificate is wrong in another way.
    BadCertificate,
    /// The server wants a certificate of ours, and none was configured.
    ClientCertificateRequired,
    /// The server does not accept our certificate.
    ClientCertificateRefused,
    /// The server speaks TLS, but did not agree to HTTP/2 in it (ALPN `h2`).
    NoHttp2,
    /// What the server speaks is not TLS.
    NotTls,
    /// The connection was closed in the middle of the handshake, as an etcd does that
    /// expects no TLS at this port.
    Closed,
    /// The certificates or the key on this side cannot be read or used.
    Files,
    /// The two sides have no version or cipher in common, or one broke the protocol.
    Protocol,
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsFailure::WrongName => "the server's certificate is for another name",
            TlsFailure::InvalidName => "the name to expect of the server is no DNS name or address",
            TlsFailure::Expired => "the server's certificate has expired",
            TlsFailure::NotYetValid => "the server's certificate is not valid yet",
            TlsFailure::UnknownIssuer => "the server's certificate is signed by nobody we trust",
            TlsFailure::Revoked => "the server's certificate has been revoked",
            TlsFailure::BadCertificate => "the server's certificate is bad",
            TlsFailure::ClientCertificateRequired => "the server wants a client certificate",
            TlsFailure::ClientCertificateRefused => "the server refuses our client certificate",
            TlsFailure::NoHttp2 => "the server did not agree to HTTP/2 (ALPN)",
            TlsFailure::NotTls => "the server does not speak TLS",
            TlsFailure::Closed => "the server hung up during the TLS handshake; it may expect none",
            TlsFailure::Files => "our certificates or key cannot be used",
            TlsFailure::Protocol => "the TLS handshake failed",
        })
    }
}

/// A [`TlsFailure`] and what is beneath it; it travels inside an [`io::Error`].
#[derive(Debug)]
pub(crate) struct TlsError {
    failure: TlsFailure,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl TlsError {
    pub(crate) fn new(failure: TlsFailure) -> TlsError {
        TlsError {
            failure,
            source: None,
        }
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> TlsError {
        self.source = Some(source.into());
        self
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> io::Error {
        let kind = match error.failure {
            TlsFailure::Closed => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl StdError for TlsError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
    }
}

/// The failure in a chain of causes. An [`io::Error`] shows what it carries to
/// those who ask for it, not in its chain.
pub(super) fn failure_in(error: &(dyn StdError + 'static)) -> Option<TlsFailure> {
    let mut link = Some(error);
    while let Some(error) = link {
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = match inside {
            Some(inside) => inside.downcast_ref::<TlsError>(),
            None => error.downcast_ref::<TlsError>(),
        };
        if let Some(tls) = tls {
            return Some(tls.failure);
        }
        link = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_found_beneath_an_io_error_and_beneath_other_causes() {
        let io = || io::Error::from(TlsError::new(TlsFailure::Expired).with_source("beneath"));
        assert_eq!(failure_in(&io()), Some(TlsFailure::Expired));
        let error = crate::Error::invalid("cannot connect").with_source(io());
        assert_eq!(error.tls(), Some(TlsFailure::Expired));
        let outer = crate::Error::invalid("no endpoint").with_source(std::sync::Arc::new(error));
        assert_eq!(outer.tls(), Some(TlsFailure::Expired));
        assert_eq!(failure_in(&io::Error::other("refused")), None);
    }
}
