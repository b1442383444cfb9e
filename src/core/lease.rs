//! Keeping many leases alive over one stream: when to renew which, until when
//! each is proven, and when the stream is given up. `net/lease_driver` drives it;
//! it owns no stream, no clock and no handle.
//!
//! A reply proves that the server had the lease when the request was *sent*, not
//! when the reply came, so a lease is valid until send time + TTL - margin. What
//! is not proven by then ends, with no help from the network. A reply belongs to
//! the request of its lease that has been out the longest, since a server, and
//! a proxy too, answers the requests of one lease in order. One renewal per lease is
//! out at a time, and any number over all.
//!
//! ```text
//!  a lease             due, TTL/3          Renew
//!    kept ──▶ waiting ────────▶ ready ────────────▶ in flight
//!                ▲                ▲ ◀── stream lost ──┘ │
//!                └────────────────┼── reply, TTL > 0 ───┤
//!                                 │                     │
//!    ended ◀── deadline, or given up by the user ───────┴─ reply, TTL 0
//!
//!  the stream           a lease is ready and the wait is over
//!    down until t ──────────────────────────────────────────▶ opening
//!       ▲  ▲                                                   │   │
//!       │  └──── failed, or not there within the patience ─────┘   │ opened
//!       └─────── lost, silent, or no lease left ──── open ◀────────┘
//! ```
//!
//! The patience is a third of the shortest TTL: a stream that is silent for so
//! long while renewals are out leaves time for another one.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use super::backoff::Backoff;
use super::jitter::Jitter;
use super::slot_heap::SlotHeap;
use super::time::Instant;
use crate::types::LeaseId;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// A renewal is due when this part of the TTL has passed: two further attempts
/// fit in, and the load is that of etcd's own client.
const RENEWALS_PER_TTL: u32 = 3;

/// A renewal is up to this part of its interval early, so that leases granted
/// together drift apart instead of renewing in one burst.
const RENEWAL_SPREAD: u32 = 4;

/// Renewals fall due on multiples of this, so that of many leases those of one
/// tick share a wake of the task and a write to the socket. With 100,000 leases
/// that takes less than half the time of the processor.
const RENEWAL_TICK_NANOS: u64 = 20_000_000;

/// What lies between the deadline and the earliest end on the server: first the time from a check
/// to its effect, up to a second where the TTL leaves room for that; then the
/// drift between two clocks, which NTP slews by at most 500 ppm each.
const EFFECT_TTL_DIVISOR: u32 = 10;
const EFFECT_MAX: Duration = Duration::from_secs(1);
const DRIFT_TTL_DIVISOR: u32 = 1000;

/// A new stream after a lost one. The first wait is short, since the shortest
/// leases live for two seconds; the cap keeps a dead cluster from being hammered.
const BACKOFF_BASE: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Renewals of given-up leases that may be out, beside one for each lease kept. With more,
/// a server that never answers would make us remember without bound.
const ABANDONED_MAX: usize = 1024;

/// Why a lease is no longer kept alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaseEnd {
    /// Its deadline passed without a proof that the server still has it.
    Expired,
    /// It was revoked through its handle.
    Revoked,
    /// The server answered a renewal that it has no such lease: it expired there, or
    /// somebody revoked it.
    UnknownToServer,
    /// Its handle was dropped or told to forget it. The server keeps the lease
    /// until it runs out.
    Closed,
}

impl fmt::Display for LeaseEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LeaseEnd::Expired => "the lease was not renewed in time",
            LeaseEnd::Revoked => "the lease was revoked",
            LeaseEnd::UnknownToServer => "the server no longer has the lease",
            LeaseEnd::Closed => "the lease is no longer kept alive",
        })
    }
}

impl std::error::Error for LeaseEnd {}

/// Until when a lease of this TTL is valid after a request that was sent at
/// `sent` and granted or renewed it.
#[must_use]
pub fn valid_until(sent: Instant, ttl: Duration) -> Instant {
    let effect = (ttl / EFFECT_TTL_DIVISOR).min(EFFECT_MAX);
    let drift = ttl / DRIFT_TTL_DIVISOR;
    sent + (ttl - effect - drift)
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a stream, and say [`Leases::handle_opened`] or [`Leases::handle_closed`].
    Open,
    /// Drop the stream, or the attempt to open one. Nothing more is heard of it.
    Close,
    /// Send a renewal, and say [`Leases::handle_sent`] when the stream has taken
    /// it. The next renewal waits for that, other actions do not.
    Renew(LeaseId),
    /// The lease is proven until the instant.
    Extend(LeaseId, Instant),
    /// The lease is over, and was told so once.
    End(LeaseId, LeaseEnd),
}

/// The leases that one client keeps alive.
#[derive(Debug)]
pub struct Leases {
    now: Instant,
    stream: Stream,
    /// The open stream has not yet taken the last renewal.
    sending: bool,
    /// When the stream last proved that it works, or was first asked to.
    heard: Instant,
    /// Renewals out, those of given-up leases included.
    in_flight: usize,
    abandoned: usize,
    table: Table,
    /// Waiting leases by the time of their renewal.
    waiting: SlotHeap<Instant>,
    /// Leases to renew now, the one that ends first at the front.
    ready: SlotHeap<Instant>,
    /// Every kept lease by its deadline.
    deadlines: SlotHeap<Instant>,
    /// Every kept lease by its TTL.
    ttls: SlotHeap<Duration>,
    actions: VecDeque<Action>,
    backoff: Backoff,
    jitter: Jitter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Down { until: Instant },
    Opening { since: Instant },
    Open,
}

impl Leases {
    /// Keeps nothing yet. The seed decides how renewals and reconnects spread.
    #[must_use]
    pub fn new(seed: u64) -> Leases {
        let mut jitter = Jitter::new(seed);
        let backoff_seed = jitter.next_u64();
        Leases {
            now: Instant::default(),
            stream: Stream::Down {
                until: Instant::default(),
            },
            sending: false,
            heard: Instant::default(),
            in_flight: 0,
            abandoned: 0,
            table: Table::default(),
            waiting: SlotHeap::new(),
            ready: SlotHeap::new(),
            deadlines: SlotHeap::new(),
            ttls: SlotHeap::new(),
            actions: VecDeque::new(),
            backoff: Backoff::new(BACKOFF_BASE, BACKOFF_MAX, backoff_seed),
            jitter,
        }
    }

    /// Whether no lease is kept. A stream is closed then.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deadlines.is_empty()
    }

    /// Keeps this lease alive from now on. A request sent at `sent` granted or
    /// renewed it for `ttl`.
    pub fn handle_kept(&mut self, now: Instant, id: LeaseId, sent: Instant, ttl: Duration) {
        self.advance(now);
        let slot = self.table.keep(id);
        self.prove(slot, sent.min(self.now), ttl);
        self.settle();
    }

    /// The user gave the lease up.
    pub fn handle_given_up(&mut self, now: Instant, id: LeaseId, end: LeaseEnd) {
        self.advance(now);
        if let Some(slot) = self.table.kept(id) {
            self.end(slot, end);
        }
        self.settle();
    }

    /// The stream that [`Action::Open`] asked for is open.
    pub fn handle_opened(&mut self, now: Instant) {
        self.advance(now);
        if let Stream::Opening { .. } = self.stream {
            self.stream = Stream::Open;
        }
        self.settle();
    }

    /// The stream ended, or could not be opened.
    pub fn handle_closed(&mut self, now: Instant) {
        self.advance(now);
        if !matches!(self.stream, Stream::Down { .. }) {
            self.drop_stream();
        }
        self.settle();
    }

    /// The stream took the last renewal; it can take another.
    pub fn handle_sent(&mut self, now: Instant) {
        self.advance(now);
        self.sending = false;
        self.settle();
    }

    /// The server answered a renewal. A TTL of 0, in seconds, says that the lease is gone.
    pub fn handle_reply(&mut self, now: Instant, id: LeaseId, ttl_seconds: i64) {
        // Ends what is due first: a reply after the deadline revives nothing.
        self.advance(now);
        if let Some(reply) = self.table.take_reply(id) {
            self.heard = self.now;
            self.backoff.reset();
            self.in_flight -= 1;
            match (reply, u64::try_from(ttl_seconds)) {
                (Reply::Abandoned, _) => self.abandoned -= 1,
                (Reply::Proof { slot, sent }, Ok(ttl @ 1..)) => {
                    self.prove(slot, sent, Duration::from_secs(ttl))
                }
                (Reply::Proof { slot, .. }, _) => self.end(slot, LeaseEnd::UnknownToServer),
            }
        }
        self.settle();
    }

    /// The time that [`Leases::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        if self.stream_timeout().is_some_and(|at| at <= self.now) {
            self.actions.push_back(Action::Close);
            self.drop_stream();
        }
        self.settle();
    }

    /// The next thing to do; drained after every input.
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if self.stream != Stream::Open || self.sending {
            return None;
        }
        let (_, slot) = self.ready.first()?;
        self.ready.remove(slot);
        if self.in_flight == 0 {
            self.heard = self.now;
        }
        self.in_flight += 1;
        self.sending = true;
        let entry = &mut self.table.entries[slot as usize];
        entry.sent = Some(self.now);
        Some(Action::Renew(entry.id))
    }

    /// When to call [`Leases::handle_timeout`], whatever else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|first| first.0);
        let renewal = self.waiting.first().map(|first| first.0);
        let reopening = match self.stream {
            Stream::Down { until } if !self.ready.is_empty() => Some(until),
            _ => None,
        };
        [deadline, renewal, reopening, self.stream_timeout()].into_iter().flatten().min()
    }

    /// Panics if the machine contradicts itself.
    pub fn check(&self) {
        let heaps = [&self.waiting, &self.ready, &self.deadlines];
        heaps.into_iter().for_each(SlotHeap::check);
        self.ttls.check();
        let (mut kept, mut in_flight, mut abandoned) = (0, 0, 0);
        for (slot, entry) in (0..).zip(&self.table.entries) {
            let out = usize::from(entry.sent.is_some());
            let places =
                usize::from(self.waiting.key(slot).is_some()) + usize::from(self.ready.key(slot).is_some());
            assert_eq!(
                places + out,
                usize::from(entry.kept),
                "{entry:?} has not one place"
            );
            assert_eq!(
                self.deadlines.key(slot).is_some(),
                entry.kept,
                "{entry:?} and its deadline"
            );
            assert_eq!(self.ttls.key(slot).is_some(), entry.kept, "{entry:?} and its TTL");
            kept += usize::from(entry.kept);
            in_flight += out + entry.abandoned as usize;
            abandoned += entry.abandoned as usize;
        }
        assert_eq!(
            (self.in_flight, self.abandoned),
            (in_flight, abandoned),
            "renewals out"
        );
        assert!(abandoned <= ABANDONED_MAX + kept, "too many abandoned renewals");
        assert!(self.stream == Stream::Open || (in_flight == 0 && !self.sending));
        assert!(kept > 0 || matches!(self.stream, Stream::Down { .. }));
        assert!(self.deadlines.first().is_none_or(|first| first.0 > self.now));
        assert!(self.waiting.first().is_none_or(|first| first.0 > self.now));
        self.table.check();
    }

    /// Lets the time come: leases end, and others become ready.
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        while let Some((deadline, slot)) = self.deadlines.first() {
            if deadline > self.now {
                break;
            }
            self.end(slot, LeaseEnd::Expired);
        }
        while let Some((due, slot)) = self.waiting.first() {
            if due > self.now {
                break;
            }
            self.waiting.remove(slot);
            self.make_ready(slot);
        }
    }

    /// Opens or closes the stream as the leases need it.
    fn settle(&mut self) {
        let up = !matches!(self.stream, Stream::Down { .. });
        if up && (self.is_empty() || self.abandoned > ABANDONED_MAX + self.deadlines.len()) {
            self.actions.push_back(Action::Close);
            self.drop_stream();
        }
        if let Stream::Down { until } = self.stream {
            if until <= self.now && !self.ready.is_empty() {
                self.stream = Stream::Opening { since: self.now };
                self.actions.push_back(Action::Open);
            }
        }
    }

    fn prove(&mut self, slot: u32, sent: Instant, ttl: Duration) {
        let entry = &mut self.table.entries[slot as usize];
        // A lease that is kept a second time may bring a later proof than the reply that is out.
        let sent = sent.max(entry.proven);
        entry.proven = sent;
        let deadline = valid_until(sent, ttl);
        if deadline <= self.now {
            return self.end(slot, LeaseEnd::Expired);
        }
        self.deadlines.set(slot, deadline);
        self.ttls.set(slot, ttl);
        self.actions.push_back(Action::Extend(entry.id, deadline));
        if entry.sent.is_some() {
            return;
        }
        self.ready.remove(slot);
        let interval = ttl / RENEWALS_PER_TTL;
        let due = sent + (interval - self.jitter.below(interval / RENEWAL_SPREAD));
        let due = Instant(due.0 - due.0 % RENEWAL_TICK_NANOS);
        if due > self.now {
            self.waiting.set(slot, due);
        } else {
            self.waiting.remove(slot);
            self.make_ready(slot);
        }
    }

    fn end(&mut self, slot: u32, end: LeaseEnd) {
        self.waiting.remove(slot);
        self.ready.remove(slot);
        self.deadlines.remove(slot);
        self.ttls.remove(slot);
        let id = self.table.entries[slot as usize].id;
        self.abandoned += usize::from(self.table.let_go(slot));
        self.actions.push_back(Action::End(id, end));
    }

    fn make_ready(&mut self, slot: u32) {
        if let Some(deadline) = self.deadlines.key(slot) {
            self.ready.set(slot, deadline);
        }
    }

    /// Forgets what was out, which proves nothing now, and lets it be sent again.
    fn drop_stream(&mut self) {
        let wait = self.backoff.next_wait().min(self.patience());
        self.stream = Stream::Down {
            until: self.now + wait,
        };
        self.sending = false;
        for slot in 0..self.table.slots() {
            if self.table.forget_renewals(slot) {
                self.make_ready(slot);
            }
        }
        self.in_flight = 0;
        self.abandoned = 0;
    }

    /// When the stream has kept us waiting for too long.
    fn stream_timeout(&self) -> Option<Instant> {
        match self.stream {
            Stream::Opening { since } => Some(since + self.patience()),
            Stream::Open if self.in_flight > 0 => Some(self.heard + self.patience()),
            _ => None,
        }
    }

    fn patience(&self) -> Duration {
        let shortest = self.ttls.first().map_or(Duration::ZERO, |first| first.0);
        shortest / RENEWALS_PER_TTL
    }
}

/// The entries and how they are found: storage that is reused, so that a renewal
/// allocates nothing.
#[derive(Debug, Default)]
struct Table {
    entries: Vec<Entry>,
    free: Vec<u32>,
    by_id: BTreeMap<LeaseId, u32>,
}

/// One that is neither kept nor awaits a reply is free.
#[derive(Debug)]
struct Entry {
    id: LeaseId,
    kept: bool,
    /// When the latest request that proved the lease was sent.
    proven: Instant,
    /// When the renewal that is out was sent.
    sent: Option<Instant>,
    /// Renewals out from before the lease was given up: as many replies are not
    /// for the lease that may be kept under this ID by now.
    abandoned: u32,
}

enum Reply {
    Proof { slot: u32, sent: Instant },
    Abandoned,
}

impl Table {
    fn slots(&self) -> u32 {
        // Slots are handed out as u32.
        self.entries.len() as u32
    }

    fn kept(&self, id: LeaseId) -> Option<u32> {
        let slot = *self.by_id.get(&id)?;
        self.entries[slot as usize].kept.then_some(slot)
    }

    /// The slot of this lease, which is kept from now on if it was not.
    fn keep(&mut self, id: LeaseId) -> u32 {
        if let Some(&slot) = self.by_id.get(&id) {
            self.entries[slot as usize].kept = true;
            return slot;
        }
        let entry = Entry {
            id,
            kept: true,
            proven: Instant::default(),
            sent: None,
            abandoned: 0,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot as usize] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                self.slots() - 1
            }
        };
        self.by_id.insert(id, slot);
        slot
    }

    /// The request that a reply for this lease answers; `None` if none is out.
    fn take_reply(&mut self, id: LeaseId) -> Option<Reply> {
        let slot = *self.by_id.get(&id)?;
        let entry = &mut self.entries[slot as usize];
        if entry.abandoned > 0 {
            entry.abandoned -= 1;
            self.release_unused(slot);
            return Some(Reply::Abandoned);
        }
        let sent = entry.sent.take()?;
        Some(Reply::Proof { slot, sent })
    }

    /// No longer keeps the lease; whether a renewal of it is still out.
    fn let_go(&mut self, slot: u32) -> bool {
        let entry = &mut self.entries[slot as usize];
        entry.kept = false;
        let out = entry.sent.take().is_some();
        entry.abandoned += u32::from(out);
        self.release_unused(slot);
        out
    }

    /// Nothing that is out for this slot will be answered; whether a kept lease
    /// waited for that.
    fn forget_renewals(&mut self, slot: u32) -> bool {
        let entry = &mut self.entries[slot as usize];
        let out = entry.sent.take().is_some();
        if std::mem::take(&mut entry.abandoned) > 0 {
            self.release_unused(slot);
        }
        out
    }

    fn release_unused(&mut self, slot: u32) {
        let entry = &self.entries[slot as usize];
        if !entry.kept && entry.abandoned == 0 {
            self.by_id.remove(&entry.id);
            self.free.push(slot);
        }
    }

    fn check(&self) {
        for (id, &slot) in &self.by_id {
            let entry = &self.entries[slot as usize];
            assert!(
                entry.id == *id && (entry.kept || entry.abandoned > 0),
                "{entry:?}"
            );
        }
        assert_eq!(
            self.by_id.len() + self.free.len(),
            self.entries.len(),
            "a slot is lost"
        );
    }
}
