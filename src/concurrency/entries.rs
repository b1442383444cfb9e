//! What the attempts of a session have in common: their numbers, what is known of
//! their gates, and those that were dropped before they were undone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::ticket::Ticket;
use crate::error::Error;
use crate::types::Revision;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Entries {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The last number that was given out. Each is used once, so a key is.
    attempts: u64,
    /// How many there are.
    live: usize,
    /// What was dropped, with room for all there are: drops do not allocate.
    dropped: VecDeque<Arc<Ticket>>,
    /// The gates that were put, with their mod_revisions. A key each on the server.
    gates: HashMap<Bytes, Revision>,
}

impl Entries {
    /// Those before this number may have been used by others of the same lease.
    pub(super) fn number_from(&self, attempts: u64) {
        self.state().attempts = attempts;
    }

    /// One that nobody else has.
    pub(super) fn number(&self) -> u64 {
        let mut state = self.state();
        state.attempts += 1;
        state.attempts
    }

    /// The next attempt; `make` is told its number, and finds its place.
    pub(super) fn ticket(
        &self,
        names: &[&str],
        make: impl FnOnce(u64) -> Option<Ticket>,
    ) -> Result<Ticket, Error> {
        let mut state = self.state();
        state.attempts += 1;
        let Some(ticket) = make(state.attempts) else {
            let message = format!("one of {names:?} cannot be the name of a lock");
            return Err(Error::invalid(message));
        };
        if let Some(gate) = state.gates.get(&ticket.place().gate) {
            ticket.begin_at(*gate);
        }
        state.live += 1;
        let room = state.live - state.dropped.len().min(state.live);
        state.dropped.reserve(room);
        Ok(ticket)
    }

    /// Nothing of the attempt is left.
    pub(super) fn settled(&self, ticket: &Ticket) {
        let mut state = self.state();
        state.live = state.live.saturating_sub(1);
        let seen = ticket.gate();
        if seen == Revision::ZERO {
            return;
        }
        match state.gates.get_mut(&ticket.place().gate) {
            Some(gate) => *gate = seen.max(*gate),
            None => drop(state.gates.insert(ticket.place().gate.clone(), seen)),
        }
    }

    /// The attempt is to be undone in the background.
    pub(super) fn push(&self, ticket: Arc<Ticket>) {
        self.state().dropped.push_back(ticket);
        self.wake.notify_one();
    }

    /// The next that was dropped.
    pub(super) async fn next(&self) -> Arc<Ticket> {
        loop {
            if let Some(ticket) = self.pop() {
                return ticket;
            }
            self.wake.notified().await;
        }
    }

    fn pop(&self) -> Option<Arc<Ticket>> {
        self.state().dropped.pop_front()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
