//! The news of one connection's task, carried to the pool, to the counters and to
//! those who read the client's events.

use std::sync::{Arc, Weak};

use h2::client::SendRequest;

use super::super::clock;
use super::super::connection::Report;
use super::super::figures::Figures;
use super::super::pulse::Pulse;
use super::super::route::Route;
use super::super::state_event::StateEvent;
use super::super::trace;
use super::{Shared, State};
use crate::core::pool::ConnectionId;
use crate::error::{Error, Origin};
use crate::wire::Body;

/// Carries the news of one connection's task; it does not keep the channel alive.
pub(super) struct Reporter {
    pub(super) shared: Weak<Shared>,
    pub(super) id: ConnectionId,
}

impl Reporter {
    fn tell(&self, news: impl FnOnce(&mut State, ConnectionId)) {
        if let Some(shared) = self.shared.upgrade() {
            shared.change(|state| news(state, self.id));
        }
    }

    /// The same, with what is to be told to those who read the client's events: before anybody
    /// can act on it, so that who reads them from then on does not hear it. Traced behind that, without the lock.
    fn tell_and_feed(&self, news: impl FnOnce(&mut State, &Figures, ConnectionId) -> Option<StateEvent>) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let event = shared.change(|state| {
            let event = news(state, &shared.figures, self.id)?;
            shared.figures.feed.tell(|| event.clone());
            Some(event)
        });
        if let Some(event) = event {
            trace::state(&event);
        }
    }
}

/// The connection's task is gone, with its runtime or in a panic of the caller's
/// [`Dial`](crate::Dial). After [`Reporter::end`] it says nothing new.
impl Drop for Reporter {
    fn drop(&mut self) {
        self.end(Error::unsent(
            Origin::Library,
            "the task of the connection is gone",
        ));
    }
}

impl Report for Reporter {
    fn opened(&self) {
        self.tell(|state, id| {
            if let Some(link) = state.links.get_mut(&id) {
                link.is_open = true;
            }
        });
    }

    fn up(&self, sender: SendRequest<Body>, pulse: Arc<Pulse>, streams_max: usize) {
        self.tell_and_feed(|state, figures, id| {
            state.pool.handle_connected(clock::now(), id, streams_max);
            let listed = state.listed_of(id)?;
            listed.error = None;
            let (endpoint_id, endpoint) = (listed.id, listed.endpoint.clone());
            figures.connections.opened.add();
            if std::mem::replace(&mut listed.was_connected, true) {
                figures.connections.reopened.add();
            }
            let name = endpoint.shared_name();
            if let Some(link) = state.links.get_mut(&id) {
                (link.is_told, link.was_up) = (true, true);
                link.route = Some(Route {
                    id,
                    endpoint_id,
                    endpoint,
                    sender,
                    pulse,
                });
            }
            Some(StateEvent::Connected { endpoint: name })
        });
    }

    fn streams_max(&self, streams_max: usize) {
        self.tell(|state, id| state.pool.handle_streams_max(id, streams_max));
    }

    fn goaway(&self, error: h2::Error) {
        self.tell_and_feed(|state, figures, id| {
            state.pool.handle_goaway(clock::now(), id);
            let why = Arc::new(Error::transport(error));
            let event = state.lost(id, &why)?;
            figures.connections.drained.add();
            Some(event)
        });
    }

    fn suspect(&self) {
        self.tell(|state, id| state.pool.handle_suspect(clock::now(), id));
    }

    fn mute(&self, mute: bool) {
        self.tell(|state, id| state.pool.handle_mute(id, mute));
    }

    fn end(&self, error: Error) {
        let why = Arc::new(error);
        let mut was_in_vain = false;
        self.tell_and_feed(|state, figures, id| {
            let event = state.lost(id, &why);
            if let Some(link) = state.links.remove(&id) {
                match link.was_up {
                    true if event.is_some() => figures.connections.lost.add(),
                    true => {}
                    false => {
                        figures.connections.failed.add();
                        was_in_vain = true;
                    }
                }
                if link.route.as_ref().is_some_and(|route| route.pulse.was_heard()) {
                    // Streams do not say so themselves.
                    state.pool.handle_answer(id);
                }
                state.pool.handle_lost(clock::now(), id);
            }
            event
        });
        if was_in_vain {
            trace::not_connected(&why);
        }
    }
}
