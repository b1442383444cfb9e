//! One member's state: store, leases and watches put together. It answers requests,
//! and it is told the time. Which member sees a request, and when, the
//! [`Cluster`](crate::cluster::Cluster) says; IO, clock and tasks are the
//! [`server`](crate::Server)'s.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::error::Error;
use crate::lease::Leases;
use crate::pb::{
    CompactionRequest, DeleteRequest, DeleteResponse, Header, HeaderResponse, LeaseGrantRequest,
    LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, Member, MemberListResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, TxnRequest, TxnResponse, WatchCommand,
};
use crate::store::{Store, Write, check_delete, check_put, check_range, check_txn};
use crate::watch::{StreamId, Watches};

/// How often leases are looked through for those that are over.
const EXPIRY_SCAN_INTERVAL: Duration = Duration::from_millis(500);
/// The largest write, encoded; etcd's default.
const REQUEST_BYTES_MAX: usize = 1_572_864;
/// What etcd puts around a write before it compares it with that bound, about.
const REQUEST_ENVELOPE_BYTES: usize = 16;

/// What of a server may be set.
#[derive(Clone, Debug)]
pub struct Options {
    /// A lease's TTL is raised to this; etcd's default, with whole seconds counting.
    pub ttl_min: Duration,
    /// How often a quiet watch that asked for it is told of the progress.
    pub progress_interval: Duration,
    /// A watch's answer is cut into fragments from this size on, in bytes, if it asked for that.
    pub fragment_bytes: usize,
    /// The cluster's id in every header.
    pub cluster_id: u64,
    /// The member's id in every header; followers have the ids behind it.
    pub member_id: u64,
    /// Where its time comes from.
    pub clock: Clock,
}

/// Where a server's time comes from: that of leases, of etcd's loops, and of all that
/// comes later on demand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// It is tokio's clock. A runtime whose clock is paused, or simulated, drives it.
    #[default]
    Tokio,
    /// It stands still but for [`Server::advance`](crate::Server::advance), on any runtime.
    ByHand,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            ttl_min: Duration::from_secs(2),
            progress_interval: Duration::from_secs(600),
            fragment_bytes: 2 << 20,
            cluster_id: 0x7e57_c105_7e52_0001,
            member_id: 0x7e57_3e3b_e520_0001,
            clock: Clock::default(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Etcd {
    identity: Header,
    store: Store,
    leases: Leases,
    watches: Watches,
    /// The leader comes first.
    members: Vec<Member>,
    fragment_bytes: usize,
    progress_interval: Duration,
    next_expiry_scan: Duration,
    next_progress: Duration,
}

impl Etcd {
    pub(crate) fn new(options: &Options) -> Etcd {
        let identity = Header {
            cluster_id: options.cluster_id,
            member_id: options.member_id,
            revision: 0,
            raft_term: 2,
        };
        let ttl_min = i64::try_from(options.ttl_min.as_secs()).unwrap_or(i64::MAX);
        Etcd {
            store: Store::new(),
            leases: Leases::new(ttl_min),
            watches: Watches::new(identity.clone(), options.fragment_bytes),
            identity,
            members: Vec::new(),
            fragment_bytes: options.fragment_bytes,
            progress_interval: options.progress_interval,
            next_expiry_scan: EXPIRY_SCAN_INTERVAL,
            next_progress: options.progress_interval,
        }
    }

    /// Another member of the same state, which nobody watches yet.
    pub(crate) fn fork(&self, member_id: u64) -> Etcd {
        let identity = Header {
            member_id,
            ..self.identity.clone()
        };
        Etcd {
            watches: Watches::new(identity.clone(), self.fragment_bytes),
            identity,
            store: self.store.clone(),
            leases: self.leases.clone(),
            members: self.members.clone(),
            ..*self
        }
    }

    /// Lets the state know of a member of its cluster.
    pub(crate) fn add_member(&mut self, member: Member) {
        self.members.push(member);
    }

    /// The header of an answer at the present revision.
    pub(crate) fn header(&self) -> Option<Header> {
        Some(Header {
            revision: self.store.revision(),
            ..self.identity.clone()
        })
    }

    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        check_range(request)?;
        let response = self.store.range(request)?;
        Ok(RangeResponse {
            header: self.header(),
            ..response
        })
    }

    pub(crate) fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Error> {
        check_put(request)?;
        check_size(request)?;
        let response = self.write(|write, known| write.put(request, known))?;
        Ok(PutResponse {
            header: self.header(),
            ..response
        })
    }

    pub(crate) fn delete(&mut self, request: &DeleteRequest) -> Result<DeleteResponse, Error> {
        check_delete(request)?;
        check_size(request)?;
        let response = self.write(|write, _| Ok(write.delete(request)))?;
        Ok(DeleteResponse {
            header: self.header(),
            ..response
        })
    }

    pub(crate) fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        check_txn(request)?;
        if !request.is_read_only() {
            check_size(request)?;
        }
        let response = self.write(|write, known| write.txn(request, known))?;
        Ok(TxnResponse {
            header: self.header(),
            ..response
        })
    }

    pub(crate) fn compact(&mut self, request: &CompactionRequest) -> Result<HeaderResponse, Error> {
        self.store.compact(request.revision)?;
        Ok(HeaderResponse {
            header: self.header(),
        })
    }

    pub(crate) fn lease_grant(
        &mut self,
        now: Duration,
        request: &LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse, Error> {
        let (id, ttl) = self.leases.grant(now, request.id, request.ttl)?;
        Ok(LeaseGrantResponse {
            header: self.header(),
            id,
            ttl,
            error: String::new(),
        })
    }

    pub(crate) fn lease_revoke(&mut self, request: &LeaseId) -> Result<HeaderResponse, Error> {
        let keys = self.leases.revoke(request.id)?;
        self.delete_keys(&keys);
        Ok(HeaderResponse {
            header: self.header(),
        })
    }

    pub(crate) fn lease_keep_alive(&mut self, now: Duration, request: &LeaseId) -> LeaseKeepAliveResponse {
        LeaseKeepAliveResponse {
            header: self.header(),
            id: request.id,
            ttl: self.leases.keep_alive(now, request.id),
        }
    }

    pub(crate) fn lease_time_to_live(
        &self,
        now: Duration,
        request: &LeaseTimeToLiveRequest,
    ) -> LeaseTimeToLiveResponse {
        let mut response = LeaseTimeToLiveResponse {
            header: self.header(),
            id: request.id,
            ttl: -1,
            ..LeaseTimeToLiveResponse::default()
        };
        if let Some(left) = self.leases.time_to_live(now, request.id) {
            response.ttl = left.ttl;
            response.granted_ttl = left.granted_ttl;
            if request.keys {
                response.keys = left.keys;
            }
        }
        response
    }

    pub(crate) fn lease_leases(&self) -> LeaseLeasesResponse {
        let leases = self.leases.list().into_iter().map(|id| LeaseId { id });
        LeaseLeasesResponse {
            header: self.header(),
            leases: leases.collect(),
        }
    }

    pub(crate) fn lease_count(&self) -> usize {
        self.leases.count()
    }

    pub(crate) fn members(&self) -> MemberListResponse {
        MemberListResponse {
            header: self.header(),
            members: self.members.clone(),
        }
    }

    pub(crate) fn handle_watch_command(&mut self, stream: StreamId, command: &WatchCommand) {
        match command {
            WatchCommand::Create(create) => self.watches.create(stream, create, &self.store),
            WatchCommand::Cancel(cancel) => {
                self.watches.cancel(stream, cancel.watch_id, self.store.revision());
            }
            WatchCommand::Progress(_) => self.watches.progress(stream, self.store.revision()),
        }
    }

    /// Opens, closes and empties watch streams.
    pub(crate) fn watches(&mut self) -> &mut Watches {
        &mut self.watches
    }

    /// The leases that are over, where it is time to look; the leader revokes them.
    pub(crate) fn expired(&mut self, now: Duration) -> Vec<i64> {
        if now < self.next_expiry_scan {
            return Vec::new();
        }
        self.next_expiry_scan = now + EXPIRY_SCAN_INTERVAL;
        self.leases.expired(now)
    }

    /// What is due: to be called every 100 ms, which is etcd's own step for watches.
    pub(crate) fn handle_tick(&mut self, now: Duration) {
        if now >= self.next_progress {
            self.next_progress = now + self.progress_interval;
            self.watches.handle_progress_tick(self.store.revision());
        }
        self.watches.handle_tick(&self.store);
    }

    fn delete_keys(&mut self, keys: &[Bytes]) {
        let deleted = self.write(|write, _| {
            keys.iter().for_each(|key| write.delete_key(key));
            Ok(())
        });
        debug_assert!(deleted.is_ok(), "a deletion cannot be refused");
    }

    /// Makes one revision of what `body` writes, and shows it to leases and watches.
    fn write<T>(
        &mut self,
        body: impl FnOnce(&mut Write<'_>, &dyn Fn(i64) -> bool) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let leases = &self.leases;
        let mut write = Write::new(&mut self.store);
        let response = body(&mut write, &|id| leases.contains(id))?;
        let events = write.commit();
        if !events.is_empty() {
            self.leases.handle_events(&events);
            let revision = self.store.revision();
            self.watches.handle_events(&self.store, revision, &events);
        }
        Ok(response)
    }
}

fn check_size(request: &impl Message) -> Result<(), Error> {
    let bytes = request.encoded_len() + REQUEST_ENVELOPE_BYTES;
    if bytes > REQUEST_BYTES_MAX {
        Err(Error::RequestTooLarge)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
