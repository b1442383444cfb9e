//! What becomes of a client, told to whoever wants to hear it. Without a reader there is
//! no queue, and what would be told is not put together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::sync::broadcast::{self, error::RecvError};

use super::state_event::StateEvent;
use super::trace;
use crate::core::lease::LeaseEnd;
use crate::types::{LeaseId, MemberId};

/// So many events wait for each reader at most.
const EVENTS_MAX: usize = 256;

/// A reader of what becomes of a client, from [`Client::state_events`](crate::Client::state_events).
#[derive(Debug)]
pub struct StateEvents {
    events: broadcast::Receiver<StateEvent>,
}

impl StateEvents {
    /// Waits for the next event; `None` once the client is gone and what was made from it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped, it has taken nothing.
    pub async fn next(&mut self) -> Option<StateEvent> {
        match self.events.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(events)) => Some(StateEvent::Missed { events }),
            Err(RecvError::Closed) => None,
        }
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// Made for the first reader.
    events: OnceLock<broadcast::Sender<StateEvent>>,
    /// The highest term that was told, for those who only look whether there is a higher one.
    term: AtomicU64,
    /// With who leads in it; 0 where nobody has said so.
    leader: Mutex<(u64, u64)>,
    /// Those that were traced, with readers or without.
    traced: trace::Terms,
}

impl Feed {
    pub(crate) fn subscribe(&self) -> StateEvents {
        let sender = self.events.get_or_init(|| broadcast::Sender::new(EVENTS_MAX));
        StateEvents {
            events: sender.subscribe(),
        }
    }

    pub(crate) fn tell(&self, event: impl FnOnce() -> StateEvent) {
        if let Some(sender) = self.events.get() {
            // That nobody hears it is no error.
            let _ = sender.send(event());
        }
    }

    /// Traces and tells what came about where no lock is held that a call waits for.
    pub(crate) fn report(&self, event: impl Fn() -> StateEvent) {
        trace::state(&event());
        self.tell(event);
    }

    pub(super) fn lease_lost(&self, lease: LeaseId, end: LeaseEnd) {
        self.report(|| StateEvent::LeaseLost { lease, end });
    }

    /// An answer was of this term. Where it says who leads that is not 0.
    pub(super) fn term_seen(&self, term: u64, leader: u64) {
        self.traced.seen(term);
        let is_known = term <= self.term.load(Ordering::Relaxed) && leader == 0;
        if is_known || self.events.get().is_none() {
            return;
        }
        self.tell_term(term, leader);
    }

    #[cold]
    fn tell_term(&self, term: u64, leader: u64) {
        let mut seen = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        let (seen_term, seen_leader) = *seen;
        let is_news = term > seen_term || (term == seen_term && seen_leader == 0 && leader != 0);
        if !is_news {
            return;
        }
        *seen = (term, leader);
        self.term.store(term, Ordering::Relaxed);
        let member = (leader != 0).then_some(MemberId(leader));
        // Under the lock, so that terms are told in their order.
        self.tell(|| StateEvent::Leader { term, member });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_is_told_how_much_it_missed() {
        let feed = Feed::default();
        let told = |term| feed.term_seen(term, 0);
        told(1);
        let mut events = feed.subscribe();
        (2..EVENTS_MAX as u64 + 9).for_each(told);
        let missed = events.next().await;
        assert!(
            matches!(missed, Some(StateEvent::Missed { events: 7 })),
            "{missed:?}"
        );
        let next = events.next().await;
        assert!(
            matches!(next, Some(StateEvent::Leader { term: 9, .. })),
            "{next:?}"
        );
        drop(feed);
        while let Some(event) = events.next().await {
            assert!(matches!(event, StateEvent::Leader { .. }), "{event:?}");
        }
    }

    #[tokio::test]
    async fn a_term_is_told_once_and_again_when_its_leader_is_known() {
        let feed = Feed::default();
        let mut events = feed.subscribe();
        for (term, leader) in [(3, 0), (3, 0), (2, 0), (3, 7), (3, 7), (2, 5), (4, 8), (4, 0)] {
            feed.term_seen(term, leader);
        }
        drop(feed);
        let mut told = Vec::new();
        while let Some(event) = events.next().await {
            let StateEvent::Leader { term, member } = event else {
                panic!("{event:?}");
            };
            told.push((term, member));
        }
        let expected = [(3, None), (3, Some(MemberId(7))), (4, Some(MemberId(8)))];
        assert_eq!(told, expected);
    }
}
