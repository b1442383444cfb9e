//! Leases: who has one, until when, and which keys hang on it. Time is a
//! parameter, counted from the server's start. It deletes no key itself: it says
//! which, and [`Etcd`](crate::etcd::Etcd) deletes them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;

use crate::error::Error;
use crate::pb::{Event, event};

/// etcd's bound, in seconds: more would overflow its clock.
const TTL_SECONDS_MAX: i64 = 9_000_000_000;
/// How many leases end in one scan; the others wait for the next, as in etcd.
const EXPIRED_PER_SCAN_MAX: usize = 500;
/// Ids that the server chooses count from here. Any id that is not 0 would do.
const ID_FIRST: i64 = 0x694d_8a5c_0000_0001;

#[derive(Clone, Debug)]
pub(crate) struct Leases {
    ttl_min: i64,
    next_id: i64,
    leases: BTreeMap<i64, Lease>,
    holders: HashMap<Bytes, i64>,
}

#[derive(Clone, Debug)]
struct Lease {
    /// As granted, in seconds.
    ttl: i64,
    expiry: Duration,
    keys: BTreeSet<Bytes>,
}

/// What is left of a lease.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) ttl: i64,
    pub(crate) granted_ttl: i64,
    /// In the order of the keys.
    pub(crate) keys: Vec<Bytes>,
}

impl Leases {
    /// `ttl_min` in seconds: a shorter TTL is raised to it.
    pub(crate) fn new(ttl_min: i64) -> Leases {
        Leases {
            ttl_min,
            next_id: ID_FIRST,
            leases: BTreeMap::new(),
            holders: HashMap::new(),
        }
    }

    pub(crate) fn contains(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    pub(crate) fn count(&self) -> usize {
        self.leases.len()
    }

    /// Grants a lease of `id`, or of a new one for 0, and tells its id and TTL.
    ///
    /// # Errors
    ///
    /// `LeaseTtlTooLarge` and `LeaseExists`.
    pub(crate) fn grant(&mut self, now: Duration, id: i64, ttl: i64) -> Result<(i64, i64), Error> {
        if ttl > TTL_SECONDS_MAX {
            return Err(Error::LeaseTtlTooLarge);
        }
        let id = if id == 0 { self.new_id() } else { id };
        if self.contains(id) {
            return Err(Error::LeaseExists);
        }
        let ttl = ttl.max(self.ttl_min);
        let lease = Lease {
            ttl,
            expiry: now + seconds(ttl),
            keys: BTreeSet::new(),
        };
        self.leases.insert(id, lease);
        Ok((id, ttl))
    }

    /// Ends a lease and tells its keys, in their order.
    ///
    /// # Errors
    ///
    /// `LeaseNotFound`.
    pub(crate) fn revoke(&mut self, id: i64) -> Result<Vec<Bytes>, Error> {
        let lease = self.leases.remove(&id).ok_or(Error::LeaseNotFound)?;
        for key in &lease.keys {
            self.holders.remove(key);
        }
        Ok(lease.keys.into_iter().collect())
    }

    /// Renews a lease and tells its TTL: 0 for one that is not there, or that is
    /// over and only waits for the next scan.
    pub(crate) fn keep_alive(&mut self, now: Duration, id: i64) -> i64 {
        match self.leases.get_mut(&id).filter(|lease| lease.expiry > now) {
            Some(lease) => {
                lease.expiry = now + seconds(lease.ttl);
                lease.ttl
            }
            None => 0,
        }
    }

    pub(crate) fn time_to_live(&self, now: Duration, id: i64) -> Option<Left> {
        let lease = self.leases.get(&id)?;
        let left = lease.expiry.saturating_sub(now).as_secs();
        Some(Left {
            ttl: i64::try_from(left).unwrap_or(i64::MAX),
            granted_ttl: lease.ttl,
            keys: lease.keys.iter().cloned().collect(),
        })
    }

    /// The ids, the one that expires first at the front.
    pub(crate) fn list(&self) -> Vec<i64> {
        let mut ids: Vec<_> = self.leases.iter().map(|(id, lease)| (lease.expiry, *id)).collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// The leases that are over, the oldest first, at most as many as end in one scan.
    pub(crate) fn expired(&self, now: Duration) -> Vec<i64> {
        let over = self.leases.iter().filter(|(_, lease)| lease.expiry <= now);
        let mut over: Vec<_> = over.map(|(id, lease)| (lease.expiry, *id)).collect();
        over.sort_unstable();
        over.into_iter().map(|(_, id)| id).take(EXPIRED_PER_SCAN_MAX).collect()
    }

    /// Hangs keys on leases, and takes them off, as one write made it.
    pub(crate) fn handle_events(&mut self, events: &[Event]) {
        for event in events {
            let Some(kv) = &event.kv else { continue };
            if let Some(lease) = self.holders.remove(&kv.key).and_then(|id| self.leases.get_mut(&id)) {
                lease.keys.remove(&kv.key);
            }
            let holder = self.leases.get_mut(&kv.lease).filter(|_| event.kind == event::PUT);
            if let Some(lease) = holder {
                lease.keys.insert(kv.key.clone());
                self.holders.insert(kv.key.clone(), kv.lease);
            }
        }
    }

    fn new_id(&mut self) -> i64 {
        while self.contains(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::KeyValue;

    const START: Duration = Duration::from_secs(100);

    fn leases() -> Leases {
        Leases::new(2)
    }

    fn put(key: &'static str, lease: i64) -> Event {
        let kv = KeyValue {
            key: key.into(),
            lease,
            ..KeyValue::default()
        };
        Event {
            kv: Some(kv),
            ..Event::default()
        }
    }

    #[test]
    fn a_short_ttl_is_raised_and_a_long_one_refused() {
        let mut leases = leases();
        assert_eq!(leases.grant(START, 7, 1), Ok((7, 2)));
        assert_eq!(leases.grant(START, 8, -5), Ok((8, 2)));
        assert_eq!(leases.grant(START, 9, 60), Ok((9, 60)));
        assert_eq!(leases.grant(START, 9, 60), Err(Error::LeaseExists));
        let most = leases.grant(START, 10, TTL_SECONDS_MAX);
        assert_eq!(most, Ok((10, TTL_SECONDS_MAX)));
        let too_long = leases.grant(START, 11, TTL_SECONDS_MAX + 1);
        assert_eq!(too_long, Err(Error::LeaseTtlTooLarge));
    }

    #[test]
    fn an_id_that_the_server_chooses_is_free() {
        let mut leases = leases();
        leases.grant(START, ID_FIRST, 5).unwrap();
        assert_eq!(leases.grant(START, 0, 5), Ok((ID_FIRST + 1, 5)));
        assert_eq!(leases.grant(START, 0, 5), Ok((ID_FIRST + 2, 5)));
    }

    #[test]
    fn a_lease_expires_after_its_ttl_unless_it_is_renewed() {
        let mut leases = leases();
        for id in [1, 2] {
            leases.grant(START, id, 10).unwrap();
        }
        let later = START + Duration::from_secs(4);
        assert_eq!(leases.keep_alive(later, 2), 10);
        assert_eq!(leases.time_to_live(later, 1).unwrap().ttl, 6);
        assert_eq!(leases.list(), [1, 2]);
        let end = START + Duration::from_secs(10);
        assert_eq!(leases.expired(end - Duration::from_nanos(1)), [0; 0]);
        assert_eq!(leases.expired(end), [1]);
        assert_eq!(leases.keep_alive(end, 1), 0, "over, also before the scan");
        assert_eq!(leases.keep_alive(end, 3), 0, "unknown");
    }

    #[test]
    fn one_scan_ends_no_more_than_its_bound() {
        let mut leases = leases();
        for id in 1..=600 {
            leases.grant(START, id, 5).unwrap();
        }
        let expired = leases.expired(START + Duration::from_secs(60));
        assert_eq!(expired, (1..=500).collect::<Vec<_>>());
    }

    #[test]
    fn a_key_hangs_on_the_lease_of_its_last_put() {
        let mut leases = leases();
        for id in [1, 2] {
            leases.grant(START, id, 10).unwrap();
        }
        leases.handle_events(&[put("b", 1), put("a", 1), put("c", 1), put("d", 1)]);
        leases.handle_events(&[put("b", 2), put("c", 0)]);
        let mut deletion = put("d", 0);
        deletion.kind = event::DELETE;
        leases.handle_events(&[deletion]);
        assert_eq!(leases.time_to_live(START, 1).unwrap().keys, ["a"]);
        assert_eq!(leases.revoke(2).unwrap(), ["b"]);
        assert_eq!(leases.revoke(2), Err(Error::LeaseNotFound));
        leases.handle_events(&[put("b", 1)]);
        assert_eq!(leases.revoke(1).unwrap(), ["a", "b"]);
    }
}
