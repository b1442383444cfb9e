//! How a byte stream to an endpoint is opened: over TCP or a unix socket, or by
//! whatever the caller hands in.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::addresses::Hosts;
use super::endpoint::Endpoint;
use super::race::{Either, race};
use super::resolver::Resolver;

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

    /// A server spoke on the stream that was opened last to `endpoint`: HTTP/2, and
    /// inside TLS where that was asked for. A dial that knows several ways there may take
    /// this one again first.
    fn reached(&self, endpoint: &Endpoint) {
        let _ = endpoint;
    }
}

impl<F> Dial for F
where
    F: Fn(&Endpoint) -> Dialing + Send + Sync + 'static,
{
    fn dial(&self, endpoint: &Endpoint) -> Dialing {
        self(endpoint)
    }
}

/// Dials what the endpoint says: TCP, where small frames are sent at once, or a
/// unix socket.
#[derive(Debug, Default)]
pub(crate) struct Socket {
    resolver: Arc<Resolver>,
    hosts: Arc<Hosts>,
}

/// How long one address of a host has to itself before the next is tried beside
/// it (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

impl Dial for Socket {
    fn dial(&self, endpoint: &Endpoint) -> Dialing {
        #[cfg(unix)]
        if let Some(path) = endpoint.path() {
            let path = path.to_owned();
            return Box::pin(async move {
                let stream = tokio::net::UnixStream::connect(path).await?;
                Ok(Box::new(stream) as Box<dyn Io>)
            });
        }
        let (host, port) = (endpoint.host().to_owned(), endpoint.port());
        let (resolver, hosts, name) = (self.resolver.clone(), self.hosts.clone(), endpoint.shared_name());
        Box::pin(async move {
            let mut addresses = in_turn(resolver.resolve(host, port).await?);
            hosts.sort(&name, &mut addresses);
            let has_several = addresses.len() > 1;
            let stream = first_of(addresses).await?;
            stream.set_nodelay(true)?;
            if has_several {
                hosts.connected(name, stream.peer_addr()?);
            }
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }

    fn reached(&self, endpoint: &Endpoint) {
        self.hosts.reached(endpoint.name());
    }
}

/// The families of addresses in turn, so that a whole family that leads nowhere
/// costs one wait. The resolver's first choice stays the first.
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut other = other.into_iter();
    let mut turn = Vec::new();
    for address in first {
        turn.push(address);
        turn.extend(other.next());
    }
    turn.extend(other);
    turn
}

/// The first of the addresses that takes the connection. One that is silent does
/// not keep the others waiting. The others' attempts end when this returns.
async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    loop {
        let next = addresses.next();
        if let Some(address) = next {
            attempts.spawn(TcpStream::connect(address));
        }
        let patience = async {
            match addresses.len() {
                0 => std::future::pending().await,
                _ => tokio::time::sleep(NEXT_ADDRESS).await,
            }
        };
        match race(attempts.join_next(), patience).await {
            Either::Left(Some(Ok(Ok(stream)))) => return Ok(stream),
            Either::Left(Some(Ok(Err(error)))) => failure = error,
            Either::Left(Some(Err(panic))) => failure = io::Error::other(panic),
            Either::Left(None) if next.is_none() => return Err(failure),
            Either::Left(None) | Either::Right(()) => {}
        }
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
    use std::sync::atomic::{AtomicU16, Ordering};

    use tokio::net::TcpListener;

    use super::*;

    /// The port of the second address of the one host with two.
    static TWIN: AtomicU16 = AtomicU16::new(0);

    #[test]
    fn the_families_of_addresses_take_turns() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        assert_eq!(
            in_turn(addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"])),
            addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"])
        );
        assert_eq!(
            in_turn(addresses(&["1.1.1.1:1", "[::1]:1"])),
            addresses(&["1.1.1.1:1", "[::1]:1"])
        );
    }

    #[tokio::test]
    async fn an_address_that_refuses_gives_way_to_the_next() {
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = first_of(vec![dead, live.local_addr().unwrap()]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live.local_addr().unwrap());
        let error = first_of(vec![dead]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = first_of(Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn an_address_of_a_host_that_led_to_no_server_gives_way_to_the_next() {
        let listeners = (
            TcpListener::bind("127.0.0.1:0").await,
            TcpListener::bind("127.0.0.1:0").await,
        );
        let (first, second) = (listeners.0.unwrap(), listeners.1.unwrap());
        let ports = [&first, &second].map(|listener| listener.local_addr().unwrap().port());
        let socket = Socket {
            resolver: Arc::new(Resolver::new(|_, port| {
                Ok([port, TWIN.load(Ordering::SeqCst)]
                    .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
                    .to_vec())
            })),
            hosts: Arc::default(),
        };
        TWIN.store(ports[1], Ordering::SeqCst);
        let endpoint = Endpoint::parse(&format!("http://twins.example:{}", ports[0])).unwrap();
        let dial = async || drop(socket.dial(&endpoint).await.unwrap());
        let came_to = async |listener: &TcpListener| {
            tokio::time::timeout(Duration::from_secs(20), listener.accept()).await.unwrap().unwrap()
        };
        dial().await;
        came_to(&first).await;
        dial().await;
        came_to(&second).await;
        socket.reached(&endpoint);
        dial().await;
        came_to(&second).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_does_not_keep_the_next_waiting() {
        // A full backlog drops the handshake of whoever comes next, as a black hole does.
        let silent = tokio::net::TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = silent.listen(0).unwrap();
        let silent = silent.local_addr().map(|address| (silent, address)).unwrap();
        let _fills_it: Vec<_> =
            (0..4).map(|_| std::net::TcpStream::connect_timeout(&silent.1, NEXT_ADDRESS)).collect();
        let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = first_of(vec![silent.1, live.local_addr().unwrap()]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live.local_addr().unwrap());
    }
}
