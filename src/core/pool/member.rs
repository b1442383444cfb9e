//! One endpoint of the pool with its connections: which of them a call takes, and
//! how good it is. The pool drives it.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Action, Class, ConnectionId, DRAINING_MAX, EndpointId, STREAMS_DRAIN_MAX, STREAMS_MAX, Want};
use crate::core::backoff::Backoff;
use crate::core::breaker::Breaker;
use crate::core::time::Instant;

/// A connection that lived this long was a good one, whatever went over it.
pub(super) const GOOD_LIFE: Duration = Duration::from_secs(1);

/// How long a stream waits for a connection apart from bulk transfers. Dialling an
/// endpoint that is up takes two round trips.
pub(super) const APART_WAIT_MAX: Duration = Duration::from_millis(250);

/// How long a connection that is not needed stays.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: EndpointId,
    pub(super) connections: Vec<Connection>,
    pub(super) suspect_until: Option<Instant>,
    pub(super) suspicion: Backoff,
    /// Not dialled before.
    pub(super) dial_at: Instant,
    pub(super) dials: Backoff,
    /// It is no endpoint any more, and what is open on it ends by then.
    pub(super) removed: Option<Instant>,
    pub(super) breaker: Option<Breaker>,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) state: State,
    pub(super) class: Option<Class>,
    /// Calls and streams.
    pub(super) open: usize,
    /// What of it lives long.
    pub(super) streams: usize,
    pub(super) streams_max: usize,
    pub(super) answered: bool,
    /// It owes the answer to a ping.
    pub(super) mute: bool,
    /// It is being dialled for so long that no stream waits for it any more.
    pub(super) slow: bool,
    /// When it was dialled, came up, or was last used.
    pub(super) since: Instant,
    pub(super) born: Instant,
    /// It drains, and by then what lives long on it has moved.
    pub(super) drained_by: Option<Instant>,
    /// That time is over: it ends with its last call.
    pub(super) is_overdue: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Dialing,
    Up,
    Draining,
}

/// How good a choice is; the least is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Well,
    /// Or it fails at what it answers: of the two either may be well by now.
    Suspect,
    Mute,
}

impl Member {
    pub(super) fn is_down(&self) -> bool {
        let is_live = |connection: &Connection| connection.state != State::Draining;
        self.removed.is_none() && !self.connections.iter().any(is_live)
    }

    /// The connection for this call, if one has room, and how good a choice that is: an endpoint to avoid
    /// is the last one. Not inlined, or there is a copy of it for each kind of call.
    #[inline(never)]
    pub(super) fn offer(&self, now: Instant, want: Want) -> Option<((bool, Rank), usize)> {
        let index = self.choose(want).filter(|_| want.admits(self.id))?;
        let is_avoided = want.avoid == Some(self.id);
        Some(((is_avoided, self.rank(now, index, want.may_probe())), index))
    }

    /// A call goes there that may find out whether it is well again.
    #[cold]
    pub(super) fn handle_trial(&mut self, now: Instant, want: Want) {
        if self.suspect_until.is_some_and(|until| until <= now) {
            // Others need not.
            self.suspect_until = Some(now + self.suspicion.next_wait());
        }
        if let Some(breaker) = self.breaker.as_mut().filter(|_| want.may_probe()) {
            breaker.handle_call(now);
        }
    }

    /// The connection for this call, if one has room: one of the call's class
    /// first, and of these the emptiest.
    pub(super) fn choose(&self, want: Want) -> Option<usize> {
        let mut best: Option<((bool, bool, bool, usize), usize)> = None;
        let mut has_own = false;
        for (index, connection) in self.connections.iter().enumerate() {
            if connection.state != State::Up {
                continue;
            }
            let is_own = connection.is_of(want.class);
            has_own |= is_own;
            let (first, second) = match want.class {
                Class::Bulk => (!is_own, connection.mute),
                Class::Control => (connection.mute, !is_own),
            };
            let key = (
                first,
                second,
                connection.class != Some(want.class),
                connection.open,
            );
            if connection.has_room() && best.is_none_or(|(least, _)| key < least) {
                best = Some((key, index));
            }
        }
        let ((is_others, ..), index) = best?;
        // Bulk that has a connection of its own waits for room on that one.
        let waits = want.class == Class::Bulk && has_own && is_others;
        (!waits).then_some(index)
    }

    /// `may_probe`: what comes of it may show that the member is well again.
    pub(super) fn rank(&self, now: Instant, index: usize, may_probe: bool) -> Rank {
        let fails = |breaker: &Breaker| !(breaker.is_closed() || may_probe && breaker.is_due(now));
        if self.connections[index].mute {
            Rank::Mute
        } else if self.suspect_until.is_some_and(|until| now < until)
            || self.breaker.as_ref().is_some_and(fails)
        {
            Rank::Suspect
        } else {
            Rank::Well
        }
    }

    /// Whether a connection for this class is being dialled, and not for long.
    pub(super) fn is_apart_soon(&self, class: Class) -> bool {
        self.connections.iter().any(|connection| {
            connection.state == State::Dialing && connection.class == Some(class) && !connection.slow
        })
    }

    /// A connection that nobody needed for long, beside another one.
    pub(super) fn idle(&mut self, now: Instant) -> Option<&mut Connection> {
        let up = self.connections.iter().filter(|connection| connection.state == State::Up);
        if up.count() < 2 {
            return None;
        }
        let is_idle = |connection: &&mut Connection| {
            connection.state == State::Up
                && connection.open == 0
                && now.saturating_since(connection.since) >= IDLE_MAX
        };
        self.connections.iter_mut().find(is_idle)
    }

    /// Of too many connections that drain, the first have to go.
    pub(super) fn close_surplus(&mut self, actions: &mut VecDeque<Action>) {
        let is_draining = |connection: &Connection| connection.state == State::Draining;
        while self.connections.iter().filter(|connection| is_draining(connection)).count() > DRAINING_MAX {
            let Some(first) = self.connections.iter().position(is_draining) else {
                return;
            };
            actions.push_back(Action::Close(self.connections.remove(first).id));
        }
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        let mut at = self.removed;
        let mut note = |instant: Instant| at = Some(at.map_or(instant, |at: Instant| at.min(instant)));
        if self.is_down() {
            note(self.dial_at);
        }
        let up = self.connections.iter().filter(|connection| connection.state == State::Up);
        let is_many = up.count() > 1;
        for connection in &self.connections {
            match connection.state {
                State::Up if is_many && connection.open == 0 => note(connection.since + IDLE_MAX),
                State::Dialing if !connection.slow => note(connection.since + APART_WAIT_MAX),
                State::Draining if !connection.is_overdue => {
                    connection.drained_by.into_iter().for_each(&mut note)
                }
                _ => {}
            }
        }
        at
    }
}

impl Connection {
    /// Whether what it came to says nothing against dialling again at once.
    pub(super) fn was_good(&self, now: Instant) -> bool {
        let lived = now.saturating_since(self.born);
        self.state == State::Up && (self.answered || lived >= GOOD_LIFE)
    }

    /// It takes no more of anything.
    pub(super) fn drain(&mut self, now: Instant) {
        self.state = State::Draining;
        self.drained_by = Some(now + STREAMS_DRAIN_MAX);
    }

    /// Nobody waits for an answer on it.
    pub(super) fn has_no_calls(&self) -> bool {
        self.open == self.streams
    }

    pub(super) fn has_room(&self) -> bool {
        self.open < self.streams_max.min(STREAMS_MAX)
    }

    /// Whether it serves this class, or nobody.
    pub(super) fn is_of(&self, class: Class) -> bool {
        self.open == 0 && self.state == State::Up || self.class.is_none_or(|of| of == class)
    }
}
