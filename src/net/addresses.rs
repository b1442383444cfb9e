//! Hosts that stand for several addresses: which of them is dialled first. A kernel takes
//! connections for a process that is frozen, and what answers may be no etcd, or one with
//! another's certificate: an address is as good as the settings that it sends. `net/dial`
//! asks; nothing is kept of hosts with one address.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

    /// There is a connection to this address of the host. It is silent until
    /// [`Hosts::reached`].
    pub(super) fn connected(&self, host: Arc<str>, address: SocketAddr) {
        let mut hosts = self.lock();
        if hosts.len() >= HOSTS_MAX {
            hosts.clear();
        }
        let has_spoken = false;
        hosts.insert(host, Last { address, has_spoken });
    }

    /// A server spoke on the last connection to the host.
    pub(super) fn reached(&self, host: &str) {
        if let Some(last) = self.lock().get_mut(host) {
            last.has_spoken = true;
        }
    }

    /// A panic while this lock was held cannot leave it half changed.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Last>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_addresses_give_way_in_turn_until_one_speaks_and_that_stays_the_first() {
        let hosts = Hosts::default();
        let resolved = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let first = || {
            let mut addresses = resolved;
            hosts.sort("h", &mut addresses);
            addresses[0]
        };
        for address in &resolved[..2] {
            assert_eq!(first(), *address);
            hosts.connected("h".into(), *address);
        }
        assert_eq!(first(), resolved[2]);
        hosts.connected("h".into(), resolved[2]);
        hosts.reached("h");
        for _ in 0..2 {
            assert_eq!(first(), resolved[2]);
        }
        hosts.connected("h".into(), resolved[2]);
        assert_eq!(first(), resolved[0], "it is silent by now");
    }
}
