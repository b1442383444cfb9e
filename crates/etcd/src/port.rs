//! Loopback ports for servers, each held for as long as a cluster lives.
//!
//! A server that is down holds no port, and whatever took it meanwhile would
//! answer in its place or keep it from coming back. So ports are taken from
//! below the range that the kernel gives to outgoing connections (where a
//! client that keeps dialing a dead server can even connect to itself), and a
//! lock file for each keeps this crate's other processes off.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// The lowest port that is taken.
const PORT_MIN: u16 = 10_000;
/// Fewer than this below the kernel's range, and its own choice is taken.
const PORTS_MIN: u16 = 4_000;
const TRIES_MAX: u32 = 1_000;

/// A port of 127.0.0.1 that no other [`Port`] of this machine's user has.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Takes a port that nobody listens on.
    pub(crate) fn take() -> io::Result<Port> {
        let locks = lock_dir();
        fs::create_dir_all(&locks)?;
        let range = ephemeral_min().saturating_sub(PORT_MIN);
        let random = RandomState::new().build_hasher().finish();
        for attempt in 0..u64::from(TRIES_MAX) {
            let wanted = match range {
                0..PORTS_MIN => 0,
                _ => PORT_MIN + (random.wrapping_add(attempt) % u64::from(range)) as u16,
            };
            let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)) else {
                continue;
            };
            let number = listener.local_addr()?.port();
            let lock = File::create(locks.join(number.to_string()))?;
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Port { number, _lock: lock }),
                Err(Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port"))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }
}

/// One for each user, since a user's files cannot be locked by another.
fn lock_dir() -> PathBuf {
    std::env::temp_dir().join(format!(
        "tenure-etcd-ports-{}",
        rustix::process::getuid().as_raw()
    ))
}

/// The first port that the kernel may choose for an outgoing connection.
fn ephemeral_min() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_whitespace().next().and_then(|min| min.parse().ok()).unwrap_or(32_768)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ports_that_are_held_are_different_and_free() {
        let ports: Vec<Port> = (0..50).map(|_| Port::take().unwrap()).collect();
        let numbers: HashSet<u16> = ports.iter().map(|port| port.number).collect();
        assert_eq!(numbers.len(), ports.len());
        for port in &ports {
            TcpListener::bind(port.address()).unwrap();
        }
    }
}
