//! The members together: a leader, which carries out every write at once, and
//! followers, which carry out the same requests later, each as its [`Lag`] says. It
//! owns the log between them and says which member answers what; it decides nothing
//! about keys, leases or watches. The [`server`](crate::Server) drives it.
//!
//! ```text
//!   a write to any member --> leader --> log --> follower, when its lag lets it
//!                               |                   |
//!        asked at the leader: answered   asked there: answered
//! ```
//!
//! As in etcd, a follower answers serializable reads, watches, and the list of leases
//! out of what it has applied, and says its own revision in every header. A
//! linearizable read waits there until all that was written before it is applied. A
//! write is carried out by the leader, and is answered once the follower has applied it
//! too. The leader alone ends leases, renews them, and knows how much of one is left.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::error::Error;
use crate::etcd::{Etcd, Options};
use crate::pb::{
    LeaseId, LeaseKeepAliveResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, Member, RangeRequest,
    TxnRequest,
};
use crate::service::{self, Status, decode, reply};

/// etcd's step for watches that are behind.
const TICK_INTERVAL: Duration = Duration::from_millis(100);
/// What a follower may be behind, in requests, before it refuses writes.
const BEHIND_MAX: usize = 5000;

/// How far a follower is behind the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    /// It applies a write so much later, by the server's clock.
    By(Duration),
    /// It applies nothing but by [`Follower::apply`](crate::Follower::apply).
    Held,
}

/// Names a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MemberId(usize);

/// The member that every cluster has.
pub(crate) const LEADER: MemberId = MemberId(0);

/// An answer, or for when to ask again.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done(Result<Bytes, Status>),
    /// Until the member has applied this.
    Waiting(Wait),
}

/// What a follower has to apply before it answers a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) member: MemberId,
    index: u64,
    /// Else it is a read.
    pub(crate) is_write: bool,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    leader: Etcd,
    followers: Vec<Follower>,
    /// How many writes there were.
    index: u64,
    next_tick: Duration,
    /// The log has grown, or was applied, since somebody asked.
    moved: bool,
}

#[derive(Debug)]
struct Follower {
    etcd: Etcd,
    lag: Lag,
    log: VecDeque<Entry>,
    applied: u64,
    /// The answers that somebody waits for here.
    wanted: HashMap<u64, Option<Result<Bytes, Status>>>,
}

/// A write that the leader has carried out.
#[derive(Clone, Debug)]
struct Entry {
    index: u64,
    committed: Duration,
    path: String,
    body: Bytes,
}

impl Cluster {
    pub(crate) fn new(options: &Options, endpoint: &str) -> Cluster {
        let mut leader = Etcd::new(options);
        leader.add_member(member(options.member_id, "embedded".to_owned(), endpoint));
        Cluster {
            leader,
            followers: Vec::new(),
            index: 0,
            next_tick: Duration::ZERO,
            moved: false,
        }
    }

    /// Adds a follower that has applied all there is, and does so at once from here on.
    pub(crate) fn add_follower(&mut self, endpoint: &str) -> MemberId {
        let number = self.followers.len() + 1;
        let leader_id = self.leader.header().map_or(0, |header| header.member_id);
        let id = leader_id.wrapping_add(number as u64);
        let mut etcd = self.leader.fork(id);
        let added = member(id, format!("follower-{number}"), endpoint);
        etcd.add_member(added.clone());
        self.leader.add_member(added.clone());
        for follower in &mut self.followers {
            follower.etcd.add_member(added.clone());
        }
        self.followers.push(Follower {
            etcd,
            lag: Lag::By(Duration::ZERO),
            log: VecDeque::new(),
            applied: self.index,
            wanted: HashMap::new(),
        });
        MemberId(number)
    }

    pub(crate) fn set_lag(&mut self, id: MemberId, now: Duration, lag: Lag) {
        if let Some(follower) = self.follower(id) {
            follower.lag = lag;
        }
        self.catch_up(now);
        self.moved = true;
    }

    /// Applies the next so many writes at a follower, and tells how many there were.
    pub(crate) fn apply(&mut self, id: MemberId, now: Duration, count: usize) -> usize {
        self.moved = true;
        let Some(follower) = self.follower(id) else {
            return 0;
        };
        (0..count).take_while(|_| follower.apply_next(now)).count()
    }

    /// How many writes a member has not applied yet.
    pub(crate) fn behind(&mut self, id: MemberId) -> usize {
        self.follower(id).map_or(0, |follower| follower.log.len())
    }

    /// Answers one request to a unary method at a member, or says what to wait for.
    pub(crate) fn request(&mut self, id: MemberId, now: Duration, path: &str, body: &Bytes) -> Outcome {
        match path {
            service::LEASE_TIME_TO_LIVE => Outcome::Done(self.lease_time_to_live(id, now, body)),
            service::MAINTENANCE_STATUS => {
                let leading = self.leader.header().unwrap_or_default();
                let answer = service::status(self.member(id), &leading);
                Outcome::Done(reply(Ok(answer)))
            }
            _ => match Kind::of(path, body) {
                Kind::Write => self.write(id, now, path, body),
                Kind::Read if self.behind(id) > 0 => Outcome::Waiting(Wait {
                    member: id,
                    index: self.index,
                    is_write: false,
                }),
                Kind::Read | Kind::Local => Outcome::Done(self.answer(id, now, path, body)),
            },
        }
    }

    /// The answer to a request that had to wait, once it has come to it.
    pub(crate) fn resume(
        &mut self,
        wait: Wait,
        now: Duration,
        path: &str,
        body: &Bytes,
    ) -> Option<Result<Bytes, Status>> {
        let follower = self.follower(wait.member)?;
        if follower.applied < wait.index {
            return None;
        }
        if wait.is_write {
            return follower.wanted.remove(&wait.index)?;
        }
        Some(self.answer(wait.member, now, path, body))
    }

    /// Nobody waits any more.
    pub(crate) fn forget(&mut self, wait: Wait) {
        if let Some(follower) = self.follower(wait.member) {
            follower.wanted.remove(&wait.index);
        }
    }

    /// Renews a lease at the leader; the header is of the member that was asked.
    pub(crate) fn lease_keep_alive(
        &mut self,
        id: MemberId,
        now: Duration,
        request: &LeaseId,
    ) -> LeaseKeepAliveResponse {
        LeaseKeepAliveResponse {
            header: self.member(id).header(),
            ..self.leader.lease_keep_alive(now, request)
        }
    }

    /// A member's own state, for its watches.
    pub(crate) fn member(&mut self, id: MemberId) -> &mut Etcd {
        match id.0.checked_sub(1).and_then(|index| self.followers.get_mut(index)) {
            Some(follower) => &mut follower.etcd,
            None => &mut self.leader,
        }
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = MemberId> + use<> {
        (0..=self.followers.len()).map(MemberId)
    }

    /// Whether waiting requests may go on, or a timer be earlier, since somebody asked.
    pub(crate) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// When something is due.
    pub(crate) fn poll_timeout(&self) -> Duration {
        let due = self.followers.iter().filter_map(Follower::due).min();
        due.map_or(self.next_tick, |due| due.min(self.next_tick))
    }

    /// Does what is due: what followers apply, leases that end, and watches that are behind.
    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        self.catch_up(now);
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK_INTERVAL;
        for id in self.leader.expired(now) {
            let body = LeaseId { id }.encode_to_vec().into();
            self.write(LEADER, now, service::LEASE_REVOKE, &body);
        }
        for id in self.members() {
            self.member(id).handle_tick(now);
        }
    }

    fn write(&mut self, id: MemberId, now: Duration, path: &str, body: &Bytes) -> Outcome {
        if self.behind(id) > BEHIND_MAX {
            return Outcome::Done(Err(Error::TooManyRequests.into()));
        }
        let answer = service::answer(&mut self.leader, now, path, body.clone());
        // What is refused changes nothing: nobody has to apply it.
        if answer.is_err() || self.followers.is_empty() {
            return Outcome::Done(answer);
        }
        self.index += 1;
        let index = self.index;
        let wait = Wait {
            member: id,
            index,
            is_write: true,
        };
        let waits = self.follower(id).map(|follower| follower.wanted.insert(index, None)).is_some();
        for follower in &mut self.followers {
            follower.log.push_back(Entry {
                index,
                committed: now,
                path: path.to_owned(),
                body: body.clone(),
            });
        }
        self.moved = true;
        self.catch_up(now);
        match self.resume(wait, now, path, body) {
            Some(answer) => Outcome::Done(answer),
            None if waits => Outcome::Waiting(wait),
            None => Outcome::Done(answer),
        }
    }

    fn answer(&mut self, id: MemberId, now: Duration, path: &str, body: &Bytes) -> Result<Bytes, Status> {
        service::answer(self.member(id), now, path, body.clone())
    }

    fn lease_time_to_live(&mut self, id: MemberId, now: Duration, body: &Bytes) -> Result<Bytes, Status> {
        let request = decode::<LeaseTimeToLiveRequest>(body.clone())?;
        let answer = self.leader.lease_time_to_live(now, &request);
        reply(Ok(LeaseTimeToLiveResponse {
            header: self.member(id).header(),
            ..answer
        }))
    }

    fn catch_up(&mut self, now: Duration) {
        for follower in &mut self.followers {
            while follower.due().is_some_and(|due| due <= now) {
                self.moved |= follower.apply_next(now);
            }
        }
    }

    fn follower(&mut self, id: MemberId) -> Option<&mut Follower> {
        self.followers.get_mut(id.0.checked_sub(1)?)
    }
}

impl Follower {
    /// When it applies its next write.
    fn due(&self) -> Option<Duration> {
        match self.lag {
            Lag::By(lag) => Some(self.log.front()?.committed + lag),
            Lag::Held => None,
        }
    }

    fn apply_next(&mut self, now: Duration) -> bool {
        let Some(entry) = self.log.pop_front() else {
            return false;
        };
        let answer = service::answer(&mut self.etcd, now, &entry.path, entry.body);
        debug_assert!(answer.is_ok(), "the leader has done it: {answer:?}");
        self.applied = entry.index;
        if let Some(wanted) = self.wanted.get_mut(&entry.index) {
            *wanted = Some(answer);
        }
        true
    }
}

/// What a request needs of the member that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It is the leader's, and is applied by all.
    Write,
    /// Only a member that has applied everything may answer it.
    Read,
    /// Any member may answer, however old what it knows.
    Local,
}

impl Kind {
    fn of(path: &str, body: &Bytes) -> Kind {
        match path {
            service::RANGE => match RangeRequest::decode(body.clone()) {
                Ok(request) if !request.serializable => Kind::Read,
                _ => Kind::Local,
            },
            service::TXN => match TxnRequest::decode(body.clone()) {
                Ok(request) if !request.is_read_only() => Kind::Write,
                Ok(request) if !request.is_serializable() => Kind::Read,
                _ => Kind::Local,
            },
            service::PUT
            | service::DELETE_RANGE
            | service::COMPACT
            | service::LEASE_GRANT
            | service::LEASE_REVOKE => Kind::Write,
            _ => Kind::Local,
        }
    }
}

fn member(id: u64, name: String, endpoint: &str) -> Member {
    Member {
        id,
        name,
        peer_urls: Vec::new(),
        client_urls: vec![endpoint.to_owned()],
    }
}

#[cfg(test)]
mod tests;
