//! Hosts that stand for several addresses: which of them is dialled first. A kernel takes
//! connections for a process that is frozen, so an address is as good as its first
//! word. `net/dial` asks; nothing is kept of hosts with one address.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// More are forgotten: endpoints come and go for as long as a client lives.
const HOSTS_MAX: usize = 1024;

/// What became of the last connection to each host.
#[derive(Debug, Default)]
pub(super) struct Hosts(Mutex<BTreeMap<Arc<str>, Last>>);

#[derive(Clone, Copy, Debug)]
struct Last {
    address: SocketAddr,
    has_spoken: bool,
}

impl Hosts {
    /// Puts the address that spoke last in front; where the last one was silent, those
    /// behind it.
    pub(super) fn sort(&self, host: &str, addresses: &mut [SocketAddr]) {
        let Some(last) = self.lock().get(host).copied() else {
            return;
        };
        let at = addresses.iter().position(|address| *address == last.address);
        match at {
            Some(at) if last.has_spoken => addresses[..=at].rotate_right(1),
            Some(at) => addresses.rotate_left(at + 1),
            None => {}
        }
    }

    /// A connection to one of the host's addresses. It is silent until something is read.
    pub(super) fn connected(self: &Arc<Self>, host: Arc<str>, stream: TcpStream) -> io::Result<Hosted> {
        let address = stream.peer_addr()?;
        self.note(&host, address, false);
        Ok(Hosted {
            stream,
            silent: Some(Silent {
                hosts: self.clone(),
                host,
                address,
            }),
        })
    }

    fn note(&self, host: &Arc<str>, address: SocketAddr, has_spoken: bool) {
        let mut hosts = self.lock();
        if hosts.len() >= HOSTS_MAX {
            hosts.clear();
        }
        hosts.insert(host.clone(), Last { address, has_spoken });
    }

    /// A panic while this lock was held cannot leave it half changed.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Last>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A byte stream to one of a host's addresses.
pub(super) struct Hosted {
    stream: TcpStream,
    /// None once something was read.
    silent: Option<Silent>,
}

struct Silent {
    hosts: Arc<Hosts>,
    host: Arc<str>,
    address: SocketAddr,
}

impl AsyncRead for Hosted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            if let Some(silent) = self.silent.take() {
                silent.hosts.note(&silent.host, silent.address, true);
            }
        }
        read
    }
}

impl AsyncWrite for Hosted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn connect(hosts: &Arc<Hosts>, address: SocketAddr) -> Hosted {
        hosts.connected("h".into(), TcpStream::connect(address).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn silent_addresses_give_way_in_turn_until_one_speaks_and_that_stays_the_first() {
        let hosts = Arc::new(Hosts::default());
        let mut listeners = Vec::new();
        for _ in 0..3 {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let resolved: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let first = || {
            let mut addresses = resolved.clone();
            hosts.sort("h", &mut addresses);
            addresses[0]
        };
        for address in &resolved[..2] {
            assert_eq!(first(), *address);
            drop(connect(&hosts, *address).await);
        }
        assert_eq!(first(), resolved[2]);
        let mut stream = connect(&hosts, resolved[2]).await;
        let (mut peer, _) = listeners[2].accept().await.unwrap();
        peer.write_all(b"hello").await.unwrap();
        stream.read_exact(&mut [0; 5]).await.unwrap();
        for _ in 0..2 {
            assert_eq!(first(), resolved[2]);
        }
        drop(connect(&hosts, resolved[2]).await);
        assert_eq!(first(), resolved[0], "it is silent by now");
    }
}
