//! Keeping many leases alive over one stream, and over a second one while that is
//! needed: when to renew which, until when each is proven, and when a stream is given
//! up. `net/lease_driver` drives it; it owns no stream, no clock and no handle.
//!
//! A reply proves that the server had the lease when the request was *sent*, not
//! when the reply came, so a lease is valid until send time + TTL - margin. What
//! is not proven by then ends, with no help from the network. A reply belongs to
//! the request of its lease that has been out the longest on its stream, since a server, and
//! a proxy too, answers the requests of one lease in order. Of one lease a few renewals
//! are out on a stream at most, and any number over all.
//!
//! ```text
//!  a lease             due, TTL/3           Renew
//!    kept ──▶ looked at ────────▶ ready ───────────▶ out, and looked at in TTL/3
//!              later ▲              ▲                  │        │      │
//!                    └── reply ─────┼──────────────────┘        │      │ not answered
//!                       TTL > 0     │ room on another stream,   │      ▼
//!                                   └─ or one that is new ──────┼── starved
//!    ended ◀── deadline, given up by the user, reply with TTL 0 ┘
//!
//!  a stream                  a lease is starved, the wait is over
//!    down ───────────────────────────────────────────▶ opening
//!     ▲ ▲                                               │   │
//!     │ └───── failed, or not there within TTL/3 ───────┘   │ opened
//!     │                                                     ▼
//!     └── lost, no lease left, or: spare and idle, ──────── open
//!         spare and silent for a TTL, or in the way
//!         of another one
//! ```
//!
//! Renewals go to the stream that was opened last. A lease that is not answered
//! there for a third of its TTL, or the stream of which is silent for a third of the
//! shortest TTL, is starved: it is renewed once more on the first stream, and on another one, of
//! another member, as soon as that is open. What comes late counts from when it was asked
//! for, so that a round trip may be longer than that third. With both streams in use the
//! one that is silent for two thirds is closed, to make room for another.

use std::collections::VecDeque;
use std::time::Duration;

use super::backoff::Backoff;
use super::jitter::Jitter;
use super::slot_heap::SlotHeap;
use super::time::Instant;
use crate::error::Code;
use crate::types::LeaseId;

mod end;
mod rules;
#[cfg(test)]
mod seconds;
#[cfg(test)]
mod simulation;
mod stream;
mod table;
#[cfg(test)]
mod tests;

pub use end::{LeaseEnd, Term, valid_until};
use rules::{Rule, Rules};
use stream::{State, Stream};
use table::{Reply, Table};

/// How many streams there are at a time: numbers below this name them.
pub const STREAMS_MAX: usize = 2;

/// A renewal is due when this part of the TTL has passed: two further attempts
/// fit in, and the load is that of etcd's own client.
const RENEWALS_PER_TTL: u32 = 3;

/// A renewal is up to this part of its interval early, so that leases granted
/// together drift apart instead of renewing in one burst.
const RENEWAL_SPREAD: u32 = 4;

/// Renewals fall due on so many ticks of an interval, so that of many leases those of one
/// tick share a wake of the task and a write to the socket. With 100,000 leases
/// that takes less than half the time of the processor.
const RENEWAL_TICKS: u32 = 128;
const RENEWAL_TICK_MIN: Duration = Duration::from_millis(20);

/// The least time between two renewals of a lease, whatever the server calls its TTL.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// A new stream after a lost one. The first wait is short, since the shortest
/// leases live for two seconds; the cap keeps a dead cluster from being hammered.
const BACKOFF_BASE: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Renewals of given-up leases that may be out on a stream, beside one for each lease
/// kept. With more, a server that never answers would make us remember without bound.
const ABANDONED_MAX: usize = 1024;

/// What the driver is to do. Streams have numbers below [`STREAMS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open this stream, on another member than the other one's where there is one, and
    /// say [`Leases::handle_opened`] or [`Leases::handle_closed`].
    Open(usize),
    /// Drop this stream, or the attempt to open it. Nothing more is heard of it.
    Close(usize),
    /// Send a renewal on this stream, and say [`Leases::handle_sent`] when that has
    /// taken it. The stream's next renewal waits for that, other actions do not.
    Renew(usize, LeaseId),
    /// The lease is proven until the instant.
    Extend(LeaseId, Instant),
    /// The lease is over, and was told so once.
    End(LeaseId, LeaseEnd),
}

/// The leases that one client keeps alive.
#[derive(Debug)]
pub struct Leases {
    now: Instant,
    rules: Rules,
    streams: [Stream; STREAMS_MAX],
    /// The stream that was opened last; the other one is spare.
    current: usize,
    /// No stream is opened before.
    reopen_at: Instant,
    /// Why the last stream was refused, unless a renewal was answered since.
    refusal: Option<Code>,
    table: Table,
    /// When to look at a lease: it is due, or was to be answered by then.
    looks: SlotHeap<Instant>,
    /// Leases that are due, and no stream that is sure to answer; the one that ends
    /// first at the front. They may wait for an answer all the same.
    starved: SlotHeap<Instant>,
    /// Every kept lease by its deadline.
    deadlines: SlotHeap<Instant>,
    /// Every kept lease by its TTL.
    ttls: SlotHeap<Duration>,
    actions: VecDeque<Action>,
    backoff: Backoff,
    jitter: Jitter,
}

impl Leases {
    /// Keeps nothing yet. The seed decides how renewals and reconnects spread.
    #[must_use]
    pub fn new(seed: u64) -> Leases {
        let mut jitter = Jitter::new(seed);
        let backoff_seed = jitter.next_u64();
        Leases {
            now: Instant::default(),
            rules: Rules::default(),
            streams: std::array::from_fn(|_| Stream::down()),
            current: 0,
            reopen_at: Instant::default(),
            refusal: None,
            table: Table::new(seed),
            looks: SlotHeap::new(),
            starved: SlotHeap::new(),
            deadlines: SlotHeap::new(),
            ttls: SlotHeap::new(),
            actions: VecDeque::new(),
            backoff: Backoff::new(BACKOFF_BASE, BACKOFF_MAX, backoff_seed),
            jitter,
        }
    }

    /// Whether no lease is kept. The streams are closed then.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deadlines.is_empty()
    }

    /// Keeps this lease alive from now on. A request sent at `sent` granted or
    /// renewed it for this term, whose reserve is taken off of every reply as well.
    pub fn handle_kept(&mut self, now: Instant, id: LeaseId, sent: Instant, term: impl Into<Term>) {
        self.advance(now);
        let term = term.into();
        let slot = self.table.keep(id, term.reserve);
        self.prove(slot, sent.min(self.now), term.believed());
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
    pub fn handle_opened(&mut self, now: Instant, stream: usize) {
        self.advance(now);
        if self.streams[stream].is_opening() {
            self.streams[stream].open(self.now);
            self.current = stream;
            self.feed(stream);
        }
        self.settle();
    }

    /// The stream ended, or could not be opened; with the code of the server that
    /// refuses it for good, as far as it knows.
    pub fn handle_closed(&mut self, now: Instant, stream: usize, refusal: Option<Code>) {
        self.advance(now);
        if self.streams[stream].state != State::Down {
            self.refusal = refusal;
            self.back_off();
            self.drop_stream(stream);
        }
        self.settle();
    }

    /// The stream took its last renewal; it can take another.
    pub fn handle_sent(&mut self, now: Instant, stream: usize) {
        self.advance(now);
        self.streams[stream].sending = false;
        self.settle();
    }

    /// The server answered a renewal on this stream. A TTL of 0, in seconds, says that
    /// the lease is gone.
    pub fn handle_reply(&mut self, now: Instant, stream: usize, id: LeaseId, ttl_seconds: i64) {
        // Ends what is due first: a reply after the deadline revives nothing.
        self.advance(now);
        if let Some(reply) = self.table.take_reply(stream, id) {
            let was_silent = self.is_silent(stream);
            self.note_heard(stream);
            match (reply, u64::try_from(ttl_seconds)) {
                (Reply::Abandoned, _) => self.streams[stream].abandoned -= 1,
                (Reply::Proof { slot, sent }, ttl) => {
                    let sent = if self.rules.keep(Rule::SentTime) {
                        sent
                    } else {
                        self.now
                    };
                    self.renewed(slot, sent, Duration::from_secs(ttl.unwrap_or(0)));
                }
            }
            if was_silent {
                self.feed(stream);
            }
        }
        self.settle();
    }

    /// The time that [`Leases::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        for stream in 0..STREAMS_MAX {
            if self.silence(stream).is_some_and(|at| at <= self.now) {
                self.give_away(stream);
            }
            if self.stream_timeout(stream).is_some_and(|at| at <= self.now) {
                if self.streams[stream].is_opening() {
                    self.back_off();
                }
                self.close(stream);
            }
        }
        self.settle();
    }

    /// Why the server does not let leases be renewed, as far as it last said: what
    /// ends now ends for that.
    #[must_use]
    pub fn refusal(&self) -> Option<Code> {
        self.refusal
    }

    /// The next thing to do; drained after every input.
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        [self.current, self.spare()].into_iter().find_map(|stream| self.poll_renewal(stream))
    }

    /// When to call [`Leases::handle_timeout`], whatever else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|first| first.0);
        let look = self.looks.first().map(|first| first.0);
        let streams = (0..STREAMS_MAX).flat_map(|at| [self.stream_timeout(at), self.silence(at)]);
        let way = self.in_the_way().map(|(at, _)| at);
        let times = [deadline, look, way, self.wants_stream().then_some(self.reopen_at)];
        times.into_iter().chain(streams).flatten().min()
    }

    /// Panics if the machine contradicts itself.
    pub fn check(&self) {
        for heap in [&self.looks, &self.starved, &self.deadlines] {
            heap.check();
        }
        self.ttls.check();
        let (mut kept, mut out, mut abandoned) = (0, [0; STREAMS_MAX], [0; STREAMS_MAX]);
        for (slot, entry) in (0..).zip(&self.table.entries) {
            let (is_looked_at, is_starved) =
                (self.looks.key(slot).is_some(), self.starved.key(slot).is_some());
            assert_eq!(
                is_looked_at || is_starved,
                entry.kept,
                "{entry:?} is looked at or starved"
            );
            let mut ready = self.streams.iter().filter(|stream| stream.ready.key(slot).is_some());
            assert!(ready.next().is_none() || (is_looked_at && ready.next().is_none()));
            let heaps = (self.deadlines.key(slot).is_some(), self.ttls.key(slot).is_some());
            assert_eq!(heaps, (entry.kept, entry.kept), "{entry:?} and its deadline");
            kept += usize::from(entry.kept);
            for stream in 0..STREAMS_MAX {
                let is_ready = self.streams[stream].ready.key(slot).is_some();
                assert!(
                    !is_ready || !entry.out[stream].is_full(),
                    "{entry:?} is out too often"
                );
                assert!(entry.kept || entry.out[stream].is_empty());
                out[stream] += entry.out[stream].count() + entry.abandoned[stream] as usize;
                abandoned[stream] += entry.abandoned[stream] as usize;
            }
        }
        for (at, stream) in self.streams.iter().enumerate() {
            stream.ready.check();
            assert_eq!(
                (stream.in_flight, stream.abandoned),
                (out[at], abandoned[at]),
                "renewals out"
            );
            assert!(
                abandoned[at] <= ABANDONED_MAX + kept,
                "too many abandoned renewals"
            );
            assert!(stream.is_open() || (stream.is_idle() && !stream.sending));
            assert!(kept > 0 || stream.state == State::Down);
        }
        assert!(self.streams.iter().filter(|stream| stream.is_opening()).count() <= 1);
        assert!(!self.wants_stream() || self.reopen_at > self.now, "nobody opens");
        assert!(self.deadlines.first().is_none_or(|first| first.0 > self.now));
        assert!(self.looks.first().is_none_or(|first| first.0 > self.now));
        self.table.check();
    }

    /// Lets the time come: leases end, and others are due.
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        while let Some((deadline, slot)) = self.deadlines.first() {
            if deadline > self.now {
                break;
            }
            self.end(slot, self.expired());
        }
        while let Some((at, slot)) = self.looks.first() {
            if at > self.now {
                break;
            }
            let blocked = self.unready(slot);
            self.place(slot, blocked);
        }
    }

    /// Opens or closes streams as the leases need it.
    fn settle(&mut self) {
        for stream in 0..STREAMS_MAX {
            let is_flooded = self.streams[stream].abandoned > ABANDONED_MAX + self.deadlines.len();
            if is_flooded {
                self.back_off();
            }
            if self.streams[stream].state != State::Down && (self.is_empty() || is_flooded) {
                self.close(stream);
            }
        }
        if let Some((_, stream)) = self.in_the_way().filter(|(at, _)| *at <= self.now) {
            self.back_off();
            self.close(stream);
        }
        if self.wants_stream() && self.reopen_at <= self.now {
            let down = self.streams.iter().position(|stream| stream.state == State::Down);
            if let Some(stream) = down {
                self.streams[stream].state = State::Opening { since: self.now };
                self.actions.push_back(Action::Open(stream));
            }
        }
    }

    /// Whether a lease waits for a stream that nobody opens, and there is room for one.
    fn wants_stream(&self) -> bool {
        let is_down = |stream: &Stream| stream.state == State::Down;
        let bound = if self.rules.keep(Rule::SecondStream) {
            1
        } else {
            STREAMS_MAX
        };
        !self.starved.is_empty()
            && !self.streams.iter().any(Stream::is_opening)
            && self.streams.iter().filter(|stream| is_down(stream)).count() >= bound
    }

    /// The stream that is silent longest, and when it is closed to make room for
    /// another: where leases are starved beside both. Until then it may be slow only.
    fn in_the_way(&self) -> Option<(Instant, usize)> {
        let is_crowded = !self.starved.is_empty() && self.streams.iter().all(Stream::is_open);
        let asked = self.streams.iter().enumerate().filter(|(_, stream)| stream.in_flight > 0);
        let ends = asked.map(|(at, stream)| (stream.heard + self.patience() * 2, at));
        ends.min().filter(|_| is_crowded)
    }

    fn renewed(&mut self, slot: u32, sent: Instant, ttl: Duration) {
        let reserve = self.table.entry(slot).reserve;
        match (Term { ttl, reserve }).believed() {
            Duration::ZERO => self.end(slot, LeaseEnd::UnknownToServer),
            believed => self.prove(slot, sent, believed),
        }
    }

    fn prove(&mut self, slot: u32, sent: Instant, ttl: Duration) {
        let entry = self.table.entry(slot);
        // A lease that is kept a second time, or renewed on two streams, may have a later proof.
        entry.proven = sent.max(entry.proven);
        let (id, asked, deadline) = (entry.id, entry.asked(), valid_until(entry.proven, ttl));
        if deadline <= self.now {
            return self.end(slot, self.expired());
        }
        self.deadlines.set(slot, deadline);
        self.ttls.set(slot, ttl);
        self.actions.push_back(Action::Extend(id, deadline));
        let interval = self.interval(slot);
        let due = asked + (interval - self.jitter.below(interval / RENEWAL_SPREAD));
        let due = due.floor((interval / RENEWAL_TICKS).max(RENEWAL_TICK_MIN));
        self.unready(slot);
        if due > self.now {
            self.looks.set(slot, due);
        } else {
            self.place(slot, None);
        }
    }

    /// Gives a lease that is due to a stream that may answer, and not to the one that
    /// has not taken it for too long.
    fn place(&mut self, slot: u32, blocked: Option<usize>) {
        self.unready(slot);
        let Some(deadline) = self.deadlines.key(slot) else {
            self.looks.remove(slot);
            return;
        };
        let entry = &self.table.entries[slot as usize];
        let has_room = |&stream: &usize| {
            let is_full = entry.out[stream].is_full() || blocked == Some(stream);
            self.streams[stream].is_open() && !is_full
        };
        let is_free = |stream: &usize| entry.out[*stream].is_empty() && !self.is_silent(*stream);
        let open = [self.current, self.spare()].into_iter().filter(has_room);
        let free = open.clone().find(is_free);
        if free.is_none() {
            self.starved.set(slot, deadline);
        }
        if let Some(stream) = free.or(open.clone().next()) {
            self.streams[stream].ready.set(slot, deadline);
        }
        if free.is_some() || self.streams.iter().any(Stream::is_open) {
            self.looks.set(slot, self.now + self.interval(slot));
        } else {
            self.looks.remove(slot);
        }
    }

    /// Takes the lease out of the queues for streams; whose turn it was to renew it, where
    /// it was one's.
    fn unready(&mut self, slot: u32) -> Option<usize> {
        self.starved.remove(slot);
        (0..STREAMS_MAX).find(|&stream| self.streams[stream].ready.remove(slot).is_some())
    }

    /// Gives the stream, which is new or answers again, what is starved.
    fn feed(&mut self, stream: usize) {
        for slot in 0..self.table.slots() {
            if self.starved.key(slot).is_some() && self.table.entries[slot as usize].out[stream].is_empty() {
                self.place(slot, None);
            }
        }
    }

    /// The stream is silent: what waits for it, or for its answer, looks for another.
    fn give_away(&mut self, stream: usize) {
        self.streams[stream].given_away = true;
        for slot in 0..self.table.slots() {
            let is_ready = self.streams[stream].ready.key(slot).is_some();
            let is_out = |at: usize| !self.table.entries[slot as usize].out[at].is_empty();
            let mut others = (0..STREAMS_MAX).filter(|at| *at != stream);
            let has_other = others.any(|at| is_out(at) && !self.is_silent(at));
            if is_ready || (is_out(stream) && !has_other) {
                self.place(slot, None);
            }
        }
    }

    fn end(&mut self, slot: u32, end: LeaseEnd) {
        self.unready(slot);
        self.looks.remove(slot);
        self.deadlines.remove(slot);
        self.ttls.remove(slot);
        let id = self.table.entries[slot as usize].id;
        for (stream, out) in self.streams.iter_mut().zip(self.table.let_go(slot)) {
            stream.abandoned += out;
        }
        self.actions.push_back(Action::End(id, end));
    }

    fn expired(&self) -> LeaseEnd {
        self.refusal.map_or(LeaseEnd::Expired, LeaseEnd::Refused)
    }

    fn poll_renewal(&mut self, stream: usize) -> Option<Action> {
        let renewing = &mut self.streams[stream];
        if !renewing.is_open() || renewing.sending {
            return None;
        }
        let (_, slot) = renewing.ready.first()?;
        renewing.ready.remove(slot);
        renewing.note_sent(self.now);
        self.looks.set(slot, self.now + self.interval(slot));
        let entry = self.table.entry(slot);
        entry.out[stream].push(self.now);
        Some(Action::Renew(stream, entry.id))
    }

    fn note_heard(&mut self, stream: usize) {
        self.refusal = None;
        let heard = &mut self.streams[stream];
        heard.heard = self.now;
        heard.given_away = false;
        heard.in_flight -= 1;
        if !std::mem::replace(&mut heard.answered, true) {
            self.backoff.reset();
        }
    }

    fn close(&mut self, stream: usize) {
        self.actions.push_back(Action::Close(stream));
        self.drop_stream(stream);
    }

    /// Forgets what was out, which proves nothing now, and has it sent on the other
    /// stream, or again.
    fn drop_stream(&mut self, stream: usize) {
        self.streams[stream].fall();
        if stream == self.current {
            self.current = self.spare();
        }
        for slot in 0..self.table.slots() {
            let was_out = self.table.forget_renewals(stream, slot);
            let was_ready = self.streams[stream].ready.remove(slot).is_some();
            let is_asked = self.table.entries[slot as usize].out.iter().any(|out| !out.is_empty());
            if (was_out || was_ready) && !is_asked {
                self.place(slot, None);
            }
        }
    }

    fn back_off(&mut self) {
        self.reopen_at = self.now + self.backoff.next_wait().min(self.patience());
    }

    /// When the stream has kept us waiting for too long, or we it.
    fn stream_timeout(&self, at: usize) -> Option<Instant> {
        let stream = &self.streams[at];
        let is_spare = at != self.current && self.streams[self.current].is_open();
        match stream.state {
            State::Opening { since } => Some(since + self.patience()),
            State::Open if !is_spare => None,
            State::Open if stream.is_idle() => Some(stream.heard + self.patience()),
            // What is out on it could prove the shortest lease for no longer.
            State::Open => Some(stream.heard + self.patience() * RENEWALS_PER_TTL),
            State::Down => None,
        }
    }

    /// When the stream will have been silent for too long, unless that is known.
    fn silence(&self, stream: usize) -> Option<Instant> {
        let stream = &self.streams[stream];
        (stream.in_flight > 0 && !stream.given_away).then(|| stream.heard + self.patience())
    }

    fn is_silent(&self, stream: usize) -> bool {
        self.streams[stream].is_silent(self.now, self.patience())
    }

    fn spare(&self) -> usize {
        (self.current + 1) % STREAMS_MAX
    }

    /// How long a stream that was asked may be silent.
    fn patience(&self) -> Duration {
        self.ttls.first().map_or(Duration::ZERO, |first| first.0 / RENEWALS_PER_TTL)
    }

    /// The time between two renewals of this lease.
    fn interval(&self, slot: u32) -> Duration {
        let ttl = self.ttls.key(slot).unwrap_or_default();
        (ttl / RENEWALS_PER_TTL).max(INTERVAL_MIN)
    }
}
