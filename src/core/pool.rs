//! Which connections a client has, and which of them a call goes to. `net/channel`
//! drives it; it owns no socket, no error and no address.
//!
//! Calls go round over the endpoints that are well. One that was silent, or said
//! that it cannot serve, is asked last until it answers, or until its time is
//! over: then one call finds out. So is one that answers, but with failures, as long as
//! its breaker (`core/breaker`) is not closed. That is an order, and no wall: where
//! nobody is well all of these are asked, so that one endpoint is enough for everything to go on.
//! None is asked above the peer's limit of streams, so that a call which waits is provably not sent.
//!
//! ```text
//!  an endpoint                    silent, unable
//!              connected      ┌───────────────────▶ suspect until t ──┐ t: one
//!    down ──────────────▶ well                        ▲   │  ▲        │ call
//!    until t ◀── lost ────────┴──◀── an answer ───────│───┘  └────────┘ tries
//!       ▲                                             │
//!       └──────────────────────── lost ───────────────┘
//!
//!  a connection    up                 goes away, retired
//!    dialing ──────────▶ up ─────────────────────────────▶ draining
//!       └─ failed ─▶ gone ◀─ lost ─┘◀──────── its last stream ─┘
//! ```
//!
//! Draining loses nothing and ends: the calls of such a connection are answered, or
//! reach their deadlines; what lives long on it has a moment, and moves elsewhere when
//! the connection is closed under it.
//!
//! A connection belongs to one class of traffic while anything of it is open.
//! Another is dialled when the two classes meet on one, or when streams fill it;
//! what is left over retires after a while.

use std::collections::VecDeque;
use std::time::Duration;

use super::backoff::Backoff;
use super::breaker::{self, Breaker, Sign, Turn};
use super::jitter::Jitter;
use super::time::Instant;
use member::{APART_WAIT_MAX, Connection, Member, Rank, State};

mod member;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod want;

pub use want::{Class, Want};

/// A server that restarts is back soon; one that is gone is asked now and then.
const DIAL_WAIT_FIRST: Duration = Duration::from_millis(20);
const DIAL_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long a member is asked last. The first wait is that of a short stall; a
/// member that stays so is tried by one call in a few seconds.
const SUSPICION_FIRST: Duration = Duration::from_secs(1);
const SUSPICION_MAX: Duration = Duration::from_secs(8);

/// What is open on an endpoint that was removed has this long: longer than a call.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Watches and keepalives on a connection that drains have this long: a server that
/// stops ends them itself by then, and another connection is up.
const STREAMS_DRAIN_MAX: Duration = Duration::from_secs(2);

/// Connections of one endpoint that drain. Only a server that goes away again and
/// again while it owes answers comes to so many; then the first of them is closed.
const DRAINING_MAX: usize = 16;

/// Streams on one connection, whatever the peer allows: the answers to so many fit
/// into what h2 tolerates of small frames that come in one burst.
pub const STREAMS_MAX: usize = 4096;

/// An endpoint, for as long as the client lives: the same address, removed and
/// added again, is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u64);

/// A connection, dialled or live. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The size of the pool.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections for bulk to one endpoint.
    pub connections_max: usize,
    /// Open streams from which a connection counts as full.
    pub streams_full: usize,
    /// When an endpoint that fails at what it answers is left alone; never, without.
    pub breaker: Option<breaker::Rules>,
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Dial, and say [`Pool::handle_connected`] or [`Pool::handle_lost`].
    Dial(EndpointId, ConnectionId),
    /// Let the connection end with the last of what is open on it, and say
    /// [`Pool::handle_lost`].
    Retire(ConnectionId),
    /// End the connection, or the dial. Nothing more is heard of it.
    Close(ConnectionId),
}

/// The connections to all endpoints.
#[derive(Debug)]
pub struct Pool {
    limits: Limits,
    members: Vec<Member>,
    /// Where the next round begins.
    cursor: usize,
    ids: u64,
    chance: Jitter,
    actions: VecDeque<Action>,
}

impl Pool {
    /// Without endpoints yet. The seed decides how dials and trials spread.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Pool {
        Pool {
            limits,
            members: Vec::new(),
            cursor: 0,
            ids: 0,
            chance: Jitter::new(seed),
            actions: VecDeque::new(),
        }
    }

    /// There is another endpoint; it is dialled at once.
    pub fn handle_added(&mut self, now: Instant) -> EndpointId {
        let id = EndpointId(self.next_id());
        let member = Member {
            id,
            connections: Vec::new(),
            suspect_until: None,
            suspicion: Backoff::new(SUSPICION_FIRST, SUSPICION_MAX, self.chance.next_u64()),
            dial_at: now,
            dials: Backoff::new(DIAL_WAIT_FIRST, DIAL_WAIT_MAX, self.chance.next_u64()),
            removed: None,
            breaker: self.limits.breaker.map(|rules| Breaker::new(rules, self.chance.next_u64())),
        };
        self.members.push(member);
        self.redial(now);
        id
    }

    /// The endpoint is none any more. Calls in flight there are answered.
    pub fn handle_removed(&mut self, now: Instant, id: EndpointId) {
        let Some(member) = self.members.iter_mut().find(|member| member.id == id) else {
            return;
        };
        member.removed = Some(now + DRAIN_MAX);
        let actions = &mut self.actions;
        member.connections.retain_mut(|connection| match connection.state {
            State::Dialing => {
                actions.push_back(Action::Close(connection.id));
                false
            }
            State::Up => {
                connection.drain(now);
                actions.push_back(Action::Retire(connection.id));
                true
            }
            State::Draining => true,
        });
        member.close_surplus(actions);
        self.forget_removed();
    }

    /// The peer has said hello, and how many streams it takes at once.
    pub fn handle_connected(&mut self, now: Instant, id: ConnectionId, streams_max: usize) {
        let Some((member, at)) = self.find(id) else { return };
        let connection = &mut self.members[member].connections[at];
        if connection.state == State::Dialing {
            connection.state = State::Up;
            connection.streams_max = streams_max;
            (connection.since, connection.born) = (now, now);
            // Who is frozen says no hello.
            self.members[member].suspect_until = None;
        }
    }

    /// The peer has changed how many streams it takes at once.
    pub fn handle_streams_max(&mut self, id: ConnectionId, streams_max: usize) {
        if let Some(connection) = self.connection(id) {
            connection.streams_max = streams_max;
        }
    }

    /// The dial failed, or the connection is gone.
    pub fn handle_lost(&mut self, now: Instant, id: ConnectionId) {
        let Some((at, index)) = self.find(id) else { return };
        let member = &mut self.members[at];
        let lost = member.connections.remove(index);
        if lost.state != State::Draining {
            if lost.was_good(now) {
                member.dials.reset();
            }
            member.dial_at = now + member.dials.next_wait();
        }
        self.forget_removed();
        self.redial(now);
    }

    /// The connection takes no more calls: its peer goes away gracefully, or no
    /// stream numbers are left.
    pub fn handle_goaway(&mut self, now: Instant, id: ConnectionId) {
        let Some((at, index)) = self.find(id) else { return };
        let member = &mut self.members[at];
        let connection = &mut member.connections[index];
        if connection.state == State::Up {
            let was_good = connection.was_good(now);
            connection.drain(now);
            self.actions.push_back(Action::Retire(id));
            member.close_surplus(&mut self.actions);
            // The next server is there already, as a rule.
            member.dial_at = match was_good {
                true => now,
                false => now + member.dials.next_wait(),
            };
            self.redial(now);
        }
    }

    /// Something was opened on a connection of the caller's own choice.
    pub fn handle_opened(&mut self, now: Instant, id: ConnectionId) {
        if let Some(connection) = self.connection(id) {
            connection.open += 1;
            connection.since = now;
        }
    }

    /// A call that was picked or opened is over.
    pub fn handle_closed(&mut self, now: Instant, id: ConnectionId) {
        let Some((at, index)) = self.find(id) else { return };
        let member = &mut self.members[at];
        let connection = &mut member.connections[index];
        connection.open = connection.open.saturating_sub(1);
        connection.streams = connection.streams.min(connection.open);
        connection.since = now;
        if connection.is_overdue && connection.has_no_calls() {
            member.connections.remove(index);
            self.actions.push_back(Action::Close(id));
            self.forget_removed();
        }
    }

    /// The same of what [`Want::stream`] said would live long.
    pub fn handle_stream_closed(&mut self, now: Instant, id: ConnectionId) {
        if let Some(connection) = self.connection(id) {
            connection.streams = connection.streams.saturating_sub(1);
        }
        self.handle_closed(now, id);
    }

    /// The peer answered a call: it is well.
    pub fn handle_answer(&mut self, id: ConnectionId) {
        let Some((at, index)) = self.find(id) else { return };
        let member = &mut self.members[at];
        let connection = &mut member.connections[index];
        connection.mute = false;
        // Not for each answer: only the first news is any.
        if !connection.answered {
            connection.answered = true;
            member.dials.reset();
        }
        if member.suspect_until.take().is_some() {
            member.suspicion.reset();
        }
    }

    /// Calls wait and nothing comes, or the peer says that it cannot serve: others
    /// are asked first for a while.
    pub fn handle_suspect(&mut self, now: Instant, id: ConnectionId) {
        let Some((at, _)) = self.find(id) else { return };
        let member = &mut self.members[at];
        if member.suspect_until.is_none_or(|until| until <= now) {
            member.suspect_until = Some(now + member.suspicion.next_wait());
        }
    }

    /// A call that was sent to the endpoint at `begun`, and not since that one alone would do, has ended so,
    /// be its connection there or not. Says where that changes how the endpoint is treated.
    pub fn handle_sign(&mut self, now: Instant, id: EndpointId, begun: Instant, sign: Sign) -> Option<Turn> {
        let member = self.members.iter_mut().find(|member| member.id == id)?;
        member.breaker.as_mut()?.handle_sign(now, begun, sign)
    }

    /// The peer owes the answer to a ping, or has given it.
    pub fn handle_mute(&mut self, id: ConnectionId, mute: bool) {
        if let Some(connection) = self.connection(id) {
            connection.mute = mute;
        }
    }

    /// The time that [`Pool::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        for member in &mut self.members {
            let actions = &mut self.actions;
            if member.removed.is_some_and(|until| until <= now) {
                let closed = member.connections.drain(..).map(|connection| Action::Close(connection.id));
                actions.extend(closed);
            }
            for connection in &mut member.connections {
                connection.slow |= now.saturating_since(connection.since) >= APART_WAIT_MAX;
            }
            member.connections.retain_mut(|connection| {
                connection.is_overdue |= connection.drained_by.is_some_and(|by| by <= now);
                let ends = connection.is_overdue && connection.has_no_calls();
                if ends {
                    actions.push_back(Action::Close(connection.id));
                }
                !ends
            });
            while let Some(idle) = member.idle(now) {
                idle.drain(now);
                actions.push_back(Action::Retire(idle.id));
            }
            member.close_surplus(actions);
        }
        self.forget_removed();
        self.redial(now);
    }

    /// Chooses a connection with a free stream, which it counts as taken until
    /// [`Pool::handle_closed`]. None where there is none, or where a better one is
    /// about to be there.
    pub fn pick(&mut self, now: Instant, want: Want) -> Option<(EndpointId, ConnectionId)> {
        let count = self.members.len();
        let mut best: Option<((bool, Rank), usize, usize)> = None;
        for step in 0..count {
            let at = (self.cursor + step) % count;
            let Some((rank, index)) = self.members[at].offer(now, want) else {
                continue;
            };
            if best.is_none_or(|(least, ..)| rank < least) {
                best = Some((rank, at, index));
            }
            if rank == (false, Rank::Well) {
                break;
            }
        }
        let Some((_, at, index)) = best else {
            self.grow(now, want);
            return None;
        };
        let is_alone = self.provide(now, at, index, want.class);
        let member = &mut self.members[at];
        if want.stream && !is_alone && member.is_apart_soon(want.class) {
            return None;
        }
        self.cursor = (at + 1) % count;
        if member.suspect_until.is_some() || member.breaker.is_some() {
            member.handle_trial(now, want);
        }
        let connection = &mut member.connections[index];
        if connection.open == 0 {
            connection.class = Some(want.class);
        }
        connection.open += 1;
        connection.streams += usize::from(want.stream);
        connection.since = now;
        Some((member.id, connection.id))
    }

    /// Whether another endpoint than the one to avoid has a free stream.
    #[must_use]
    pub fn has_other(&self, want: Want) -> bool {
        let mut others = self.members.iter().filter(|member| Some(member.id) != want.avoid);
        others.any(|member| member.choose(want).is_some())
    }

    /// Whether this connection, of the caller's own choice, has a free stream.
    #[must_use]
    pub fn has_room(&self, id: ConnectionId) -> Option<bool> {
        let (at, index) = self.find(id)?;
        let connection = &self.members[at].connections[index];
        (connection.state == State::Up).then(|| connection.has_room())
    }

    /// Whether others are asked before the endpoint of this connection, and there
    /// is one. Where the caller finds the connection silent itself, that it may be tried
    /// again by now does not count: whoever waits there has tried.
    #[must_use]
    pub fn is_outranked(&self, now: Instant, id: ConnectionId, is_silent: bool) -> bool {
        let Some((at, index)) = self.find(id) else {
            return true;
        };
        let mut rank = self.members[at].rank(now, index, true);
        if is_silent {
            rank = rank.max(Rank::Suspect);
        }
        let others = self.members.iter().enumerate().filter(|(other, _)| *other != at);
        rank != Rank::Well
            && others.into_iter().any(|(_, member)| {
                member
                    .choose(Want::call(Class::Bulk))
                    .is_some_and(|index| member.rank(now, index, true) <= rank)
            })
    }

    /// How many endpoints are left alone, since they fail at what they answer.
    #[must_use]
    pub fn open_breakers(&self) -> usize {
        let endpoints = self.members.iter().filter(|member| member.removed.is_none());
        let breakers = endpoints.filter_map(|member| member.breaker.as_ref());
        breakers.filter(|breaker| !breaker.is_closed()).count()
    }

    /// The next thing to do; drained after every input and every [`Pool::pick`].
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether there is something to do.
    #[must_use]
    pub fn has_action(&self) -> bool {
        !self.actions.is_empty()
    }

    /// When to call [`Pool::handle_timeout`], whatever else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.members.iter().filter_map(Member::timeout).min()
    }

    /// Panics if the machine contradicts itself.
    pub fn check(&self) {
        for member in &self.members {
            let of = |state| member.connections.iter().filter(move |other| other.state == state);
            let live = of(State::Dialing).count() + of(State::Up).count();
            assert!(
                live <= self.limits.connections_max.max(1).saturating_add(1),
                "{member:?} has too many connections"
            );
            assert!(of(State::Dialing).count() <= 2, "{member:?} dials too often");
            assert!(
                of(State::Draining).count() <= DRAINING_MAX,
                "{member:?} drains too much"
            );
            assert!(
                member.removed.is_none() || live == 0,
                "{member:?} is none any more"
            );
            assert!(
                member.removed.is_none() || !member.connections.is_empty(),
                "{member:?} is over"
            );
            assert!(of(State::Dialing).all(|dialing| dialing.open == 0), "{member:?}");
            member.breaker.iter().for_each(Breaker::check);
        }
        assert!(self.members.is_empty() || self.cursor < self.members.len());
    }
}

impl Pool {
    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    // Once in the code, for a call comes here more than once.
    #[inline(never)]
    fn find(&self, id: ConnectionId) -> Option<(usize, usize)> {
        let members = self.members.iter().enumerate();
        members.into_iter().find_map(|(at, member)| {
            let index = member.connections.iter().position(|connection| connection.id == id);
            index.map(|index| (at, index))
        })
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.find(id).map(|(at, index)| &mut self.members[at].connections[index])
    }

    fn forget_removed(&mut self) {
        self.members.retain(|member| member.removed.is_none() || !member.connections.is_empty());
        if self.cursor >= self.members.len() {
            self.cursor = 0;
        }
    }

    /// Dials every endpoint that has no connection and whose wait is over.
    fn redial(&mut self, now: Instant) {
        for at in 0..self.members.len() {
            let member = &self.members[at];
            if member.is_down() && member.dial_at <= now {
                self.dial(now, at, None);
            }
        }
    }

    #[cold]
    fn dial(&mut self, now: Instant, at: usize, class: Option<Class>) {
        let id = ConnectionId(self.next_id());
        let member = &mut self.members[at];
        member.connections.push(Connection {
            id,
            state: State::Dialing,
            class,
            open: 0,
            streams: 0,
            streams_max: 0,
            answered: false,
            mute: false,
            slow: false,
            since: now,
            born: now,
            drained_by: None,
            is_overdue: false,
        });
        self.actions.push_back(Action::Dial(member.id, id));
    }

    /// Sees to it that the class has a connection of its own, or another one when
    /// this one is full. Whether the chosen one is the class's own.
    fn provide(&mut self, now: Instant, at: usize, index: usize, class: Class) -> bool {
        let member = &self.members[at];
        let chosen = &member.connections[index];
        let is_own = chosen.is_of(class);
        let is_full = class == Class::Bulk && chosen.open + 1 >= self.limits.streams_full;
        if (!is_own || is_full) && self.may_dial(now, at, class) {
            self.dial(now, at, Some(class));
        }
        is_own
    }

    /// Nobody has a free stream: another connection to whom it is possible.
    #[cold]
    fn grow(&mut self, now: Instant, want: Want) {
        for at in 0..self.members.len() {
            let member = &self.members[at];
            let may_serve = want.admits(member.id) && !member.is_down();
            if may_serve && self.may_dial(now, at, want.class) {
                self.dial(now, at, Some(want.class));
            }
        }
    }

    #[cold]
    fn may_dial(&self, now: Instant, at: usize, class: Class) -> bool {
        let member = &self.members[at];
        let live = member.connections.iter().filter(|connection| connection.state != State::Draining);
        let (mut own, mut all, mut dialing) = (0, 0, false);
        for connection in live {
            own += usize::from(connection.is_of(class));
            all += 1;
            dialing |= connection.state == State::Dialing && connection.class.is_none_or(|of| of == class);
        }
        let max = match class {
            Class::Bulk => self.limits.connections_max.max(1),
            Class::Control => 1,
        };
        let room = own < max && all <= self.limits.connections_max.max(1);
        member.removed.is_none() && !dialing && room && member.dial_at <= now
    }
}
