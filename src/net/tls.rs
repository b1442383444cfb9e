//! TLS around a dialled stream: the configuration of rustls, renewed when files
//! change, the handshake, and what each of its failures is called.
//!
//! It wraps whatever was dialled, so a tunnel or a simulation is encrypted as TCP is.

use std::fs;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as RustlsError, InvalidMessage, PeerIncompatible,
    RootCertStore,
};

use super::dial::{Dial, Dialing, Io};
use super::endpoint::Endpoint;
use super::race::{Either, race};
use crate::config::{Pem, Tls};
use crate::error::{TlsError, TlsFailure};

const ALPN: &[u8] = b"h2";

/// How long files may take before a connection is made with what they held last.
const READ_PATIENCE: Duration = Duration::from_secs(1);

/// Dials, and encrypts what the endpoint wants encrypted.
pub(crate) struct Secured<D> {
    dial: D,
    tls: Arc<Secrets>,
}

impl<D: Dial> Secured<D> {
    pub(crate) fn new(dial: D, tls: Tls) -> Secured<D> {
        Secured {
            dial,
            tls: Arc::new(Secrets {
                options: tls,
                turn: Arc::default(),
                last: Mutex::new(None),
            }),
        }
    }
}

impl<D: Dial> Dial for Secured<D> {
    fn dial(&self, endpoint: &Endpoint) -> Dialing {
        let dialing = self.dial.dial(endpoint);
        if !endpoint.scheme().is_tls() {
            return dialing;
        }
        let tls = self.tls.clone();
        let name = tls.options.server_name.as_deref().unwrap_or(endpoint.host()).to_owned();
        Box::pin(async move {
            let name = ServerName::try_from(name)
                .map_err(|error| TlsError::new(TlsFailure::InvalidName).with_source(error))?;
            let config = tls.renewed().await?;
            let stream = TlsConnector::from(config).connect(name, dialing.await?).await.map_err(named)?;
            if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
                return Err(TlsError::new(TlsFailure::NoHttp2).into());
            }
            let encrypted = Encrypted {
                stream,
                is_accepted: false,
            };
            Ok(Box::new(encrypted) as Box<dyn Io>)
        })
    }

    fn reached(&self, endpoint: &Endpoint) {
        self.dial.reached(endpoint);
    }
}

/// The options, and the configuration that was last made of them.
struct Secrets {
    options: Tls,
    /// Of reading the files: a file system that hangs takes one thread and not one for
    /// each dial.
    turn: Arc<tokio::sync::Mutex<()>>,
    last: Mutex<Option<(Material, Arc<ClientConfig>)>>,
}

/// What the configuration is made of, as it was read.
#[derive(PartialEq, Eq)]
struct Material {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Secrets {
    /// The configuration for the next connection: the last one while the files are
    /// the same, which keeps the server's session tickets, and also while they
    /// cannot be used or take their time. Without one the connect timeout bounds it.
    async fn renewed(self: Arc<Self>) -> io::Result<Arc<ClientConfig>> {
        let secrets = self.clone();
        let reading = async move {
            let turn = secrets.turn.clone().lock_owned().await;
            let read = tokio::task::spawn_blocking(move || {
                // The turn is over when the file system answers, whoever still waits for it.
                let _turn = turn;
                secrets.config()
            });
            read.await.map_err(io::Error::other)?.map_err(io::Error::from)
        };
        let Some(last) = self.last() else {
            return reading.await;
        };
        match race(reading, tokio::time::sleep(READ_PATIENCE)).await {
            Either::Left(config) => config,
            Either::Right(()) => Ok(last),
        }
    }

    fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let material = match self.read() {
            Ok(material) => material,
            Err(error) => return self.last().ok_or(error),
        };
        let is_same = |(read, _): &&(Material, _)| *read == material;
        if let Some((_, config)) = self.lock().as_ref().filter(is_same) {
            return Ok(config.clone());
        }
        match self.build(&material) {
            Ok(config) => {
                *self.lock() = Some((material, config.clone()));
                Ok(config)
            }
            Err(error) => self.last().ok_or(error),
        }
    }

    fn last(&self) -> Option<Arc<ClientConfig>> {
        self.lock().as_ref().map(|(_, config)| config.clone())
    }

    /// A panic while this lock was held cannot leave it half changed.
    fn lock(&self) -> MutexGuard<'_, Option<(Material, Arc<ClientConfig>)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Result<Material, TlsError> {
        let identity = match &self.options.identity {
            Some(identity) => Some((read(&identity.chain)?, read(&identity.key)?)),
            None => None,
        };
        Ok(Material {
            ca: self.options.ca.as_ref().map(read).transpose()?,
            identity,
        })
    }

    fn build(&self, material: &Material) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(custom) = &self.options.custom {
            let mut config = custom.clone();
            if config.alpn_protocols.is_empty() {
                Arc::make_mut(&mut config).alpn_protocols = vec![ALPN.to_vec()];
            }
            return Ok(config);
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_root_certificates(roots(material.ca.as_deref())?);
        let mut config = match &material.identity {
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key).map_err(unusable)?;
                builder.with_client_auth_cert(certificates(chain)?, key).map_err(unusable)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Arc::new(config))
    }
}

fn read(pem: &Pem) -> Result<Vec<u8>, TlsError> {
    match pem {
        Pem::Bytes(bytes) => Ok(bytes.to_vec()),
        Pem::File(path) => fs::read(path).map_err(|error| {
            unusable(io::Error::new(
                error.kind(),
                format!("{}: {error}", path.display()),
            ))
        }),
    }
}

fn roots(ca: Option<&[u8]>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            for certificate in certificates(pem)? {
                roots.add(certificate).map_err(unusable)?;
            }
        }
        None => {
            let native = rustls_native_certs::load_native_certs();
            // Systems come with certificates that nothing can read.
            roots.add_parsable_certificates(native.certs);
            if let (true, Some(error)) = (roots.is_empty(), native.errors.into_iter().next()) {
                return Err(unusable(error));
            }
        }
    }
    match roots.is_empty() {
        true => Err(unusable("no certificate to trust was found")),
        false => Ok(roots),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates =
        CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(unusable)?;
    match certificates.is_empty() {
        true => Err(unusable("no certificate in the PEM")),
        false => Ok(certificates),
    }
}

fn unusable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TlsError {
    TlsError::new(TlsFailure::Files).with_source(source)
}

/// An encrypted stream whose errors have names. In TLS 1.3 the server's verdict on
/// our certificate comes after the handshake, with the first bytes read.
struct Encrypted {
    stream: TlsStream<Box<dyn Io>>,
    /// Whether the verdict was good: something was read.
    is_accepted: bool,
}

impl Encrypted {
    /// A server that refuses us says why and hangs up. Where writing notices that
    /// first, the reason is waited for; the connect timeout bounds it.
    fn reason<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Poll::Ready(Err(error)) = written else {
            return written;
        };
        if self.is_accepted {
            return Poll::Ready(Err(named_if_tls(error)));
        }
        let mut rest = [0; 1024];
        Pin::new(&mut self.stream)
            .poll_read(cx, &mut ReadBuf::new(&mut rest))
            .map(|read| match read {
                Err(reason) if rustls_error(&reason).is_some() => Err(named_if_tls(reason)),
                _ => Err(named_if_tls(error)),
            })
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf).map_err(named_if_tls);
        self.is_accepted |= buf.filled().len() > before;
        read
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.reason(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.reason(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.reason(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The name of what went wrong in the handshake.
fn named(error: io::Error) -> io::Error {
    let hung_up = matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    );
    if hung_up && rustls_error(&error).is_none() {
        return TlsError::new(TlsFailure::Closed).with_source(error).into();
    }
    named_if_tls(error)
}

fn named_if_tls(error: io::Error) -> io::Error {
    match rustls_error(&error) {
        Some(rustls) => TlsError::new(failure(rustls)).with_source(error).into(),
        None => error,
    }
}

fn rustls_error(error: &io::Error) -> Option<&RustlsError> {
    error.get_ref()?.downcast_ref()
}

fn failure(error: &RustlsError) -> TlsFailure {
    match error {
        RustlsError::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFailure::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsFailure::NotYetValid
            }
            CertificateError::UnknownIssuer => TlsFailure::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsFailure::WrongName
            }
            CertificateError::Revoked => TlsFailure::Revoked,
            _ => TlsFailure::BadCertificate,
        },
        RustlsError::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => TlsFailure::ClientCertificateRequired,
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => TlsFailure::ClientCertificateRefused,
            AlertDescription::NoApplicationProtocol => TlsFailure::NoHttp2,
            _ => TlsFailure::Protocol,
        },
        RustlsError::NoApplicationProtocol => TlsFailure::NoHttp2,
        RustlsError::InvalidMessage(InvalidMessage::InvalidContentType)
        | RustlsError::InvalidMessage(InvalidMessage::UnknownProtocolVersion)
        | RustlsError::InvalidMessage(InvalidMessage::InvalidEmptyPayload)
        | RustlsError::InvalidMessage(InvalidMessage::MessageTooLarge) => TlsFailure::NotTls,
        RustlsError::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon) => {
            TlsFailure::ClientCertificateRefused
        }
        _ => TlsFailure::Protocol,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Command;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// A pipe that nobody writes to hangs whoever reads it, as a broken file system does.
    #[test]
    fn files_that_hang_take_one_thread_and_what_they_held_last_goes_on() {
        const DIALS: usize = 3;
        let ca = std::env::temp_dir().join(format!("tenure-tls-{}.pem", std::process::id()));
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        fs::write(&ca, certificate.pem()).unwrap();
        let secured = Secured::new(crate::net::dial::Socket::default(), Tls::new().ca_file(&ca));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(1)
            .max_blocking_threads(DIALS - 1)
            .build()
            .unwrap();
        let first = runtime.block_on(secured.tls.clone().renewed()).unwrap();
        fs::remove_file(&ca).unwrap();
        assert!(Command::new("mkfifo").arg(&ca).status().unwrap().success());
        let dials: Vec<_> = (0..DIALS).map(|_| runtime.spawn(secured.tls.clone().renewed())).collect();
        for dial in dials {
            let config = runtime.block_on(dial).unwrap().unwrap();
            assert!(Arc::ptr_eq(&config, &first));
        }
        let other = runtime.spawn_blocking(|| 7);
        let other = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), other).await });
        // Lets the reader go, or the runtime could not.
        let writer = fs::OpenOptions::new().write(true).open(&ca);
        drop(writer.unwrap());
        fs::remove_file(&ca).unwrap();
        assert_eq!(other.expect("a thread for others").unwrap(), 7);
    }
}
