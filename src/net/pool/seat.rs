//! A stream's place on a connection, and what the stream tells of the member when it ends.

use std::sync::Arc;
use std::time::Duration;

use super::super::clock;
use super::super::pulse::{Kind, Pulse};
use super::super::route::Route;
use super::super::trace;
use super::Shared;
use crate::core::breaker::Sign;
use crate::core::pool::{ConnectionId, EndpointId};
use crate::core::retry::Failure;
use crate::core::time::Instant;

/// A stream's place on a connection, which it gives back when it is dropped.
pub(crate) struct Seat {
    shared: Arc<Shared>,
    id: ConnectionId,
    pub(in crate::net) pulse: Arc<Pulse>,
    kind: Kind,
    /// An answer is due on a stream that may be quiet otherwise.
    is_asked: bool,
    outcome: Outcome,
    /// Where its end counts for the member's breaker.
    trial: Option<Trial>,
    /// When the stream ended.
    left_at: Option<Instant>,
}

/// What the end of a call says of the member that the pool has chosen for it.
#[derive(Debug)]
pub(in crate::net) struct Trial {
    pub(in crate::net) endpoint_id: EndpointId,
    pub(in crate::net) begun: Instant,
    /// Whose time ends sooner has not waited for long.
    pub(in crate::net) patience: Duration,
    pub(in crate::net) sign: Sign,
}

/// What a stream has told of its member.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::net) enum Outcome {
    Nothing,
    /// It serves.
    Answered,
    /// It does not, for the moment.
    Unable,
}

impl Seat {
    /// For a stream that the pool has counted already.
    pub(in crate::net) fn new(
        shared: &Arc<Shared>,
        now: Instant,
        route: &Route,
        kind: Kind,
        trial: Option<Trial>,
    ) -> Seat {
        route.pulse.begin(now, kind);
        Seat {
            shared: shared.clone(),
            id: route.id,
            pulse: route.pulse.clone(),
            kind,
            is_asked: false,
            outcome: Outcome::Nothing,
            trial,
            left_at: None,
        }
    }

    /// How the call has ended, for the member's breaker.
    pub(in crate::net) fn judge(&mut self, failure: Option<&Failure>, now: Instant) {
        if let Some(trial) = &mut self.trial {
            let waited = now.saturating_since(trial.begun);
            trial.sign = failure.map_or(Sign::Well, |failure| Sign::of(failure, waited, trial.patience));
        }
    }

    /// Whatever comes of it says nothing of the member: garbage is refused in many ways. Where it was to
    /// find out how the member does, the next call is.
    #[cfg(feature = "unstable")]
    pub(in crate::net) fn excuse(&mut self) {
        if let Some(trial) = self.trial.take() {
            let mut state = self.shared.lock();
            state.pool.handle_sign(trial.begun, trial.endpoint_id, trial.begun, Sign::Nothing);
        }
    }

    /// The stream is over: what it tells of the member, and when. It is given back when this is dropped.
    pub(in crate::net) fn end(&mut self, outcome: Outcome, now: Instant) {
        (self.outcome, self.left_at) = (outcome, Some(now));
    }

    /// Whether an answer is due on a stream: then it is no more to be quiet than a call.
    pub(in crate::net) fn set_asked(&mut self, is_asked: bool) {
        if std::mem::replace(&mut self.is_asked, is_asked) == is_asked {
            return;
        }
        match is_asked {
            true => self.pulse.begin(clock::now(), Kind::Call),
            false => self.pulse.end(Kind::Call),
        }
    }

    /// Nothing was heard on the whole connection since then, and that is too long.
    pub(in crate::net) fn suspect_if_quiet(&self, since: Instant) {
        if self.pulse.is_quiet_since(since) {
            self.shared.change(|state| state.doubt(self.id));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.is_asked {
            self.pulse.end(Kind::Call);
        }
        self.pulse.end(self.kind);
        let now = self.left_at.unwrap_or_else(clock::now);
        let mut state = self.shared.lock();
        match self.outcome {
            Outcome::Answered => state.pool.handle_answer(self.id),
            Outcome::Unable => state.pool.handle_suspect(now, self.id),
            Outcome::Nothing => {}
        }
        let turned = self.trial.as_ref().and_then(|trial| state.tried(now, trial, &self.shared.figures));
        match self.kind {
            Kind::Call => state.pool.handle_closed(now, self.id),
            Kind::Stream => state.pool.handle_stream_closed(now, self.id),
        }
        // The last call of a connection that drains is news, too.
        match state.waiting.is_empty() {
            true => self.shared.settle(state),
            false => self.shared.settle_and_wake(state),
        }
        if let Some(event) = turned {
            trace::state(&event);
        }
    }
}
