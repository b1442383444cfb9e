//! The door: the port that clients dial, listened on or not.
//!
//! A socket that is bound and never listens keeps the port while nobody listens,
//! so that it is refused and not somebody else's.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::Door;

const BACKLOG: u32 = 1024;
/// On loopback whoever is let in is in within microseconds.
const FILLED_AFTER: Duration = Duration::from_millis(50);
/// A backlog of zero holds one; more is room for clients that dial meanwhile.
const FILLERS_MAX: usize = 16;
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// A [`Door`] as it is.
#[derive(Debug)]
pub(crate) enum Entrance {
    Open(TcpListener),
    Refusing,
    Full {
        _listener: TcpListener,
        _fillers: Vec<TcpStream>,
    },
}

/// A free port, what keeps it, and its door, which is open.
pub(crate) fn reserve() -> io::Result<(TcpSocket, SocketAddr, Entrance)> {
    let reserved = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = reserved.local_addr()?;
    let listener = bind(address)?.listen(BACKLOG)?;
    Ok((reserved, address, Entrance::Open(listener)))
}

impl Entrance {
    pub(crate) async fn new(address: SocketAddr, door: Door) -> io::Result<Entrance> {
        match door {
            Door::Open => Ok(Entrance::Open(bind(address)?.listen(BACKLOG)?)),
            Door::Refusing => Ok(Entrance::Refusing),
            Door::Full => Ok(Entrance::Full {
                _listener: bind(address)?.listen(0)?,
                _fillers: fill(address).await?,
            }),
        }
    }

    /// The next connection; waits for ever where nobody comes in.
    pub(crate) async fn accept(&self) -> TcpStream {
        let Entrance::Open(listener) = self else {
            return std::future::pending().await;
        };
        loop {
            match listener.accept().await {
                Ok((near, _)) => return near,
                // Too many files, or a client that was gone before: it passes.
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
            }
        }
    }
}

/// Dials until nobody gets in any more.
async fn fill(address: SocketAddr) -> io::Result<Vec<TcpStream>> {
    let mut fillers = Vec::new();
    for _ in 0..FILLERS_MAX {
        match tokio::time::timeout(FILLED_AFTER, TcpStream::connect(address)).await {
            Ok(filler) => fillers.push(filler?),
            Err(_) => return Ok(fillers),
        }
    }
    Err(io::Error::other("the backlog does not fill"))
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}
