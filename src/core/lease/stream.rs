//! One of the streams that leases are renewed on, as the machine knows it: whether
//! it is there, what is out on it and when it last spoke.

use std::time::Duration;

use super::super::slot_heap::SlotHeap;
use super::super::time::Instant;

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) state: State,
    /// It has not yet taken the last renewal.
    pub(super) sending: bool,
    /// When it last answered, or was first asked for what is out.
    pub(super) heard: Instant,
    /// What it was to renew was given away, since it is silent.
    pub(super) given_away: bool,
    /// It has answered since it is open.
    pub(super) answered: bool,
    /// Renewals out, those of given-up leases included.
    pub(super) in_flight: usize,
    pub(super) abandoned: usize,
    /// Leases to renew on it now, the one that ends first at the front.
    pub(super) ready: SlotHeap<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Down,
    Opening { since: Instant },
    Open,
}

impl Stream {
    pub(super) fn down() -> Stream {
        Stream {
            state: State::Down,
            sending: false,
            heard: Instant::default(),
            given_away: false,
            answered: false,
            in_flight: 0,
            abandoned: 0,
            ready: SlotHeap::new(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    pub(super) fn is_opening(&self) -> bool {
        matches!(self.state, State::Opening { .. })
    }

    pub(super) fn open(&mut self, now: Instant) {
        self.state = State::Open;
        self.heard = now;
        self.given_away = false;
        self.answered = false;
    }

    /// Forgets what was out on it, but for `ready`, which the machine gives away.
    pub(super) fn fall(&mut self) {
        self.state = State::Down;
        self.sending = false;
        self.in_flight = 0;
        self.abandoned = 0;
    }

    pub(super) fn note_sent(&mut self, now: Instant) {
        if self.in_flight == 0 {
            self.heard = now;
            self.given_away = false;
        }
        self.in_flight += 1;
        self.sending = true;
    }

    /// Whether it was asked, and has answered nothing for this long.
    pub(super) fn is_silent(&self, now: Instant, patience: Duration) -> bool {
        self.in_flight > 0 && self.heard + patience <= now
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.ready.is_empty()
    }
}
