//! What a client tells the facade `tracing`: a span for each call, and events for what becomes of its
//! connections, leases, watches and locks. The one file that names the facade; without the feature `tracing` all of
//! it is empty, and costs nothing.
//!
//! What it never says: keys, values, names of locks, users, passwords and tokens. So of what a server said about
//! a request, which may quote it, there is the code and no text. What ended a connection is told in
//! full, for a connection knows of no request.
//!
//! No lock that a call waits for is held around an event, for a subscriber may be slow. The table of leases is
//! held where an ID is granted again whose lease was taken to live, so a subscriber is not to call the client.

#![cfg_attr(
    not(feature = "tracing"),
    allow(unused_variables, reason = "what is not told is not looked at")
)]

use std::sync::Arc;

use super::route::Route;
use super::state_event::StateEvent;
#[cfg(feature = "tracing")]
use super::why::Because;
use crate::core::watch::WatchEnd;
use crate::error::Error;
use crate::types::LeaseId;
use crate::wire::Method;

macro_rules! event {
    ($level:ident, $($told:tt)+) => {
        {
            #[cfg(feature = "tracing")]
            tracing::event!(target: "tenure", tracing::Level::$level, $($told)+);
        }
    };
}

/// The span of one call.
#[derive(Debug)]
pub(super) struct CallSpan {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

/// Without the feature a call is not larger for it.
#[cfg(not(feature = "tracing"))]
const _: () = assert!(size_of::<CallSpan>() == 0);

impl CallSpan {
    /// Below the span that the caller is in.
    pub(super) fn new(method: &'static Method) -> CallSpan {
        CallSpan {
            #[cfg(feature = "tracing")]
            span: tracing::debug_span!(
                target: "tenure",
                "call",
                method = name_of(method),
                endpoint = tracing::field::Empty,
                attempts = tracing::field::Empty,
                code = tracing::field::Empty,
            ),
        }
    }

    /// For as long as a poll takes.
    #[cfg(feature = "tracing")]
    pub(super) fn enter(&self) -> impl Sized {
        self.span.enter()
    }

    #[cfg(not(feature = "tracing"))]
    pub(super) fn enter(&self) -> impl Sized {}

    /// How it ended: where, after how many attempts, with which error.
    pub(super) fn ended(
        &self,
        endpoint: impl FnOnce() -> Option<Arc<str>>,
        attempts: u32,
        error: Option<&Error>,
    ) {
        #[cfg(feature = "tracing")]
        if !self.span.is_disabled() {
            if let Some(endpoint) = endpoint() {
                self.span.record("endpoint", &*endpoint);
            }
            self.span.record("attempts", attempts);
            let code = error.map_or(crate::error::Code::Ok, Error::code);
            self.span.record("code", tracing::field::debug(code));
        }
    }
}

/// The terms that were told, for each is told once.
#[derive(Debug, Default)]
pub(super) struct Terms {
    #[cfg(feature = "tracing")]
    last: std::sync::atomic::AtomicU64,
}

impl Terms {
    pub(super) fn seen(&self, term: u64) {
        #[cfg(feature = "tracing")]
        {
            use std::sync::atomic::Ordering;
            // Looked at first, for most answers bring no news, and a line that many read is not written.
            if term > self.last.load(Ordering::Relaxed) && term > self.last.fetch_max(term, Ordering::Relaxed)
            {
                event!(INFO, term, "there was an election");
            }
        }
    }
}

/// Within the span of a call: an attempt failed, and there is to be another one.
pub(super) fn retried(route: Option<&Route>, error: &Error) {
    let endpoint = route.map(|route| route.endpoint.name());
    event!(DEBUG, endpoint, code = ?error.code(), delivery = ?error.delivery(), "to be sent again");
}

/// Within the span of a call: after a failure it went to another member.
pub(super) fn failed_over(endpoint: &str) {
    event!(DEBUG, endpoint, "sent to another member");
}

/// Within the span of a call: while one member is silent another one is asked too.
pub(super) fn detoured(endpoint: &str) {
    event!(DEBUG, endpoint, "asked of another member too");
}

/// What programs are told as well. Leaders are not among it, which [`Terms`] tells.
pub(super) fn state(event: &StateEvent) {
    match event {
        StateEvent::Connected { endpoint } => event!(INFO, %endpoint, "connected"),
        StateEvent::Lost { endpoint, why } => event!(WARN, %endpoint, why = %Because(why), "connection lost"),
        StateEvent::BreakerOpened { endpoint } => event!(WARN, %endpoint, "breaker opened"),
        StateEvent::BreakerClosed { endpoint } => event!(INFO, %endpoint, "breaker closed"),
        StateEvent::LeaseLost { lease, end } => event!(WARN, %lease, %end, "lease lost"),
        StateEvent::SessionReplaced {
            lease,
            generation,
            lost,
        } => event!(INFO, %lease, generation, %lost, "session replaced"),
        StateEvent::Leader { .. } | StateEvent::Missed { .. } => {}
    }
}

/// An endpoint was dialled in vain.
pub(super) fn not_connected(why: &Error) {
    event!(DEBUG, endpoint = why.endpoint(), why = %Because(why), "cannot connect");
}

pub(super) fn stream_opened(method: &'static Method, endpoint: &str) {
    event!(DEBUG, method = name_of(method), endpoint, "stream opened");
}

pub(super) fn stream_ended(error: &Error) {
    let method = error.method().map(|path| path.trim_start_matches('/'));
    event!(DEBUG, method, endpoint = error.endpoint(), code = ?error.code(), "stream ended");
}

pub(super) fn token_renewed() {
    event!(DEBUG, "token renewed");
}

pub(super) fn token_refused(error: &Error) {
    event!(WARN, code = ?error.code(), "no token");
}

pub(super) fn lease_renewed(lease: LeaseId) {
    event!(DEBUG, %lease, "lease renewed");
}

/// The lock that hung on this lease.
pub(crate) fn lock_lost(lease: LeaseId) {
    event!(WARN, %lease, "lock lost");
}

pub(super) fn watch_created(route: Option<&Route>) {
    let endpoint = route.map(|route| route.endpoint.name());
    event!(DEBUG, endpoint, "watch created");
}

pub(super) fn watch_resumed(route: Option<&Route>) {
    let endpoint = route.map(|route| route.endpoint.name());
    event!(DEBUG, endpoint, "watch resumed");
}

/// Its reader is slow: it goes on where that stands, or has ended.
pub(super) fn watch_lagged() {
    event!(WARN, "watch lagged");
}

pub(super) fn watch_ended(end: &WatchEnd) {
    #[cfg(feature = "tracing")]
    {
        let (why, code) = match end {
            WatchEnd::Compacted { .. } => ("compacted", None),
            WatchEnd::Canceled { .. } => ("canceled", None),
            WatchEnd::Lagged { .. } => ("lagged", None),
            WatchEnd::TooLarge { .. } => ("too large", None),
            WatchEnd::Disconnected { error, .. } => ("disconnected", Some(error.code())),
            WatchEnd::Breached { error, .. } => ("breached", Some(error.code())),
            WatchEnd::OtherCluster { .. } => ("other cluster", None),
            WatchEnd::Refused { error } => ("refused", Some(error.code())),
            WatchEnd::Closed => return,
        };
        event!(WARN, why, code = code.map(tracing::field::debug), "watch ended");
    }
}

#[cfg(feature = "tracing")]
fn name_of(method: &'static Method) -> &'static str {
    method.path.trim_start_matches('/')
}
