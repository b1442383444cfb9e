//! The addresses of a host's name, as the system has them. A resolver that hangs takes one
//! thread for a name and not one for each dial. `net/dial` asks.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError, Weak};

type Lookup = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// Asks the system, which blocks, on a thread for such work.
#[derive(Debug)]
pub(super) struct Resolver {
    lookup: Lookup,
    turns: Mutex<BTreeMap<String, Weak<Turn>>>,
}

/// Of asking for a name. Who asks holds it until the system answers, even if nobody waits
/// for that any more.
type Turn = tokio::sync::Mutex<()>;

impl Default for Resolver {
    fn default() -> Resolver {
        Resolver::new(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }
}

impl Resolver {
    pub(super) fn new(lookup: Lookup) -> Resolver {
        Resolver {
            lookup,
            turns: Mutex::default(),
        }
    }

    /// The host's addresses, the system's first choice first.
    pub(super) async fn resolve(&self, host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let turn = self.turn(&host).lock_owned().await;
        let lookup = self.lookup;
        let asked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            lookup(&host, port)
        });
        asked.await.map_err(io::Error::other)?
    }

    fn turn(&self, host: &str) -> Arc<Turn> {
        // A panic while this lock was held cannot leave it half changed.
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(host).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Turn::default());
        turns.insert(host.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    static ASKED: AtomicUsize = AtomicUsize::new(0);
    static HANGING: Mutex<()> = Mutex::new(());

    fn hang(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if host == "hangs.example" {
            ASKED.fetch_add(1, Ordering::SeqCst);
            drop(HANGING.lock());
        }
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
    }

    #[test]
    fn a_resolver_that_hangs_takes_one_thread_for_a_name_and_other_names_are_found() {
        const DIALS: usize = 3;
        let resolver = Arc::new(Resolver::new(hang));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(1)
            .max_blocking_threads(2)
            .build()
            .unwrap();
        let resolve = |host: &str, port| {
            let (resolver, host) = (resolver.clone(), host.to_owned());
            runtime.spawn(async move {
                let patience = Duration::from_secs(if host == "hangs.example" { 0 } else { 20 });
                tokio::time::timeout(patience, resolver.resolve(host, port)).await
            })
        };
        let hanging = HANGING.lock().unwrap();
        for _ in 0..DIALS {
            assert!(runtime.block_on(resolve("hangs.example", 1)).unwrap().is_err());
        }
        let other = runtime.block_on(resolve("other.example", 2)).unwrap();
        drop(hanging);
        assert_eq!(other.expect("a thread for it").unwrap()[0].port(), 2);
        assert_eq!(ASKED.load(Ordering::SeqCst), 1);
        let found = runtime.block_on(resolver.resolve("hangs.example".to_owned(), 3)).unwrap();
        assert_eq!(found[0].port(), 3);
    }

    #[tokio::test]
    async fn an_address_is_nobody_s_name() {
        let resolver = Resolver::new(|_, _| Err(io::Error::other("asked")));
        for (host, address) in [("127.0.0.1", "127.0.0.1:7"), ("::1", "[::1]:7")] {
            let found = resolver.resolve(host.to_owned(), 7).await.unwrap();
            assert_eq!(found, [address.parse().unwrap()]);
        }
        assert!(resolver.resolve("localhost".to_owned(), 7).await.is_err());
    }
}
