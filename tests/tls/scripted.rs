//! Servers that no etcd is: one that knows no ALPN, one that is silent, one that
//! hangs up in the middle of the handshake.

use std::sync::Arc;
use std::time::Duration;

use tenure::{Client, Code, Config, Delivery, Error, Tls, TlsFailure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::authority::{Authority, Validity};

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!(
        "https://localhost:{}",
        listener.local_addr().expect("an address").port()
    );
    (listener, endpoint)
}

async fn failure(endpoint: String, authority: &Authority) -> Error {
    let config = Config::new()
        .tls(Tls::new().ca_pem(authority.ca_pem()))
        .connect_timeout(Duration::from_secs(3));
    Client::connect_with([endpoint], config)
        .await
        .map(drop)
        .expect_err("no connection can be had")
}

fn acceptor(authority: &Authority, alpn: &[&[u8]]) -> TlsAcceptor {
    let (chain, key) = authority.issue(&["localhost"], Validity::Now);
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .expect("a chain");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a configuration");
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn a_server_that_does_not_agree_to_http2_is_named() {
    let authority = Authority::new();
    for alpn in [&[][..], &[&b"http/1.1"[..]][..]] {
        let (listener, endpoint) = listener().await;
        let acceptor = acceptor(&authority, alpn);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = stream.read(&mut [0; 64]).await;
                }
            }
        });
        let error = failure(endpoint, &authority).await;
        assert_eq!(error.tls(), Some(TlsFailure::NoHttp2), "{error:?}");
        server.abort();
    }
}

#[tokio::test]
async fn a_handshake_that_stalls_ends_with_the_connect_timeout() {
    let authority = Authority::new();
    let (listener, endpoint) = listener().await;
    let _silent = tokio::spawn(async move {
        let mut streams = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            streams.push(stream);
        }
    });
    let error = failure(endpoint, &authority).await;
    let cause = std::error::Error::source(&error).expect("the failed dial").to_string();
    assert_eq!(
        (error.code(), error.delivery()),
        (Code::Unavailable, Delivery::NotSent),
        "{error:?}"
    );
    assert!(cause.contains("connect timeout"), "{cause}");
}

#[tokio::test]
async fn a_server_that_hangs_up_or_talks_nonsense_in_the_handshake_is_named() {
    async fn hangs_up(mut stream: TcpStream) {
        let _ = stream.read(&mut [0; 16]).await;
    }
    async fn speaks_plainly(mut stream: TcpStream) {
        // The SETTINGS of an HTTP/2 server that expected no TLS.
        let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.read(&mut [0; 4096]).await;
    }
    let authority = Authority::new();
    for (name, expected) in [("hangs up", TlsFailure::Closed), ("plain", TlsFailure::NotTls)] {
        let (listener, endpoint) = listener().await;
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match expected {
                    TlsFailure::Closed => hangs_up(stream).await,
                    _ => speaks_plainly(stream).await,
                }
            }
        });
        let error = failure(endpoint, &authority).await;
        assert_eq!(error.tls(), Some(expected), "{name}: {error:?}");
        server.abort();
    }
}

#[tokio::test]
async fn a_configuration_of_the_callers_own_is_used_as_it_is() {
    let authority = Authority::new();
    let (listener, endpoint) = listener().await;
    let acceptor = acceptor(&authority, &[b"h2"]);
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let stream = acceptor.accept(stream).await.expect("a handshake");
        stream.get_ref().1.alpn_protocol() == Some(b"h2")
    });
    let mut roots = tokio_rustls::rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).expect("a CA"))
        .expect("a root");
    let config =
        tokio_rustls::rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
    let config = Config::new().tls(Tls::custom(Arc::new(config)));
    let client = tokio::spawn(Client::connect_with([endpoint], config));
    assert!(server.await.expect("a server"));
    client.abort();
}
