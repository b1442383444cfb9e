//! When a member that answers, but with failures, is left alone for a while. One for each
//! endpoint, in `core/pool`, which asks the others first while it is not closed.
//!
//! ```text
//!             the nth failure in a row             at t a call goes there: the probe
//!    closed ─────────────────────────▶ open until t ──────────────────────────▶ probing
//!      ▲                                ▲ ▲   │                                  │ │ │
//!      │                                │ │   │ success               dropped: t is now
//!      │                                │ └───│──────────────────────────────────│─│─┘
//!      │                                └─────│──── failure: a longer pause ─────│─┘
//!      └──────────────────────────────────────┴──────────── success ─────────────┘
//! ```
//!
//! What was sent before the last change tells nothing of the member since: of many calls in
//! flight the first few open it, and the others change nothing. A probe is a real call, for
//! the member's own word, a ping or a health check, was good all the while.

use std::time::Duration;

use super::backoff::Backoff;
use super::retry::Failure;
use super::time::Instant;
use crate::error::{Code, EtcdError, Origin};

/// The longest pause is so many times the first one: a member that stays so costs a call in that time.
const PAUSE_TIMES_MAX: u32 = 32;

/// When it opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Failures in a row; one at least.
    pub failures: u32,
    /// The first pause. Each is between half of and the whole of its length, and the next is
    /// twice as long.
    pub pause: Duration,
    /// A probe that has said nothing for so long counts as a failed one.
    pub probe: Duration,
    /// So does one that is given up after this; sooner, its caller had no patience. Nothing is a probe
    /// that may wait for somebody else.
    pub silence: Duration,
}

/// What the end of a call says of the member that it was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It does what it is asked, be it to refuse what is wrong.
    Well,
    /// It fails.
    Ill,
    /// Nothing: it is about the caller, the cluster or the connection.
    Nothing,
}

/// What has become of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It was closed.
    Opened,
    /// It is closed again.
    Closed,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Breaker {
    rules: Rules,
    state: State,
    /// Of the last change. What was sent before is old news.
    since: Instant,
    /// The next one: only a failure uses it up, and not a probe that says nothing.
    pause: Duration,
    pauses: Backoff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// With so many failures in a row.
    Closed(u32),
    Open {
        until: Instant,
    },
    /// At that time the probe has failed, and the pause after it is over too.
    Probing {
        until: Instant,
    },
}

impl Breaker {
    /// Closed. The seed spreads the pauses.
    #[must_use]
    pub fn new(rules: Rules, seed: u64) -> Breaker {
        let mut pauses = Backoff::new(rules.pause, rules.pause.saturating_mul(PAUSE_TIMES_MAX), seed);
        Breaker {
            rules,
            state: State::Closed(0),
            since: Instant(0),
            pause: pauses.next_wait(),
            pauses,
        }
    }

    /// Whether the member has its turn like others.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// Whether the next call is to find out.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        match self.state {
            State::Closed(_) => false,
            State::Open { until } | State::Probing { until } => until <= now,
        }
    }

    /// A call goes to the member. Where it is due this is the probe.
    pub fn handle_call(&mut self, now: Instant) {
        if self.is_due(now) {
            if let State::Probing { .. } = self.state {
                self.pause = self.pauses.next_wait();
            }
            let until = now + self.rules.probe + self.pause;
            self.state = State::Probing { until };
            self.since = now;
        }
    }

    /// A call that was sent to the member at `begun` has ended so.
    pub fn handle_sign(&mut self, now: Instant, begun: Instant, sign: Sign) -> Option<Turn> {
        if begun < self.since {
            return None;
        }
        match (self.state, sign) {
            (State::Closed(_), Sign::Well) => self.state = State::Closed(0),
            (State::Closed(failures), Sign::Ill) if failures + 1 < self.rules.failures => {
                self.state = State::Closed(failures + 1);
            }
            (State::Closed(_), Sign::Ill) => {
                self.open(now);
                return Some(Turn::Opened);
            }
            // Nobody better was there, and it did what it was asked.
            (State::Open { .. } | State::Probing { .. }, Sign::Well) => {
                self.pauses.reset();
                self.pause = self.pauses.next_wait();
                self.state = State::Closed(0);
                self.since = now;
                return Some(Turn::Closed);
            }
            (State::Probing { .. }, Sign::Ill) => self.open(now),
            (State::Probing { .. }, Sign::Nothing) if begun == self.since => {
                match now.saturating_since(self.since) >= self.rules.silence {
                    true => self.open(now),
                    // It takes another one.
                    false => self.state = State::Open { until: now },
                }
            }
            // The last of these is not the probe, which is out.
            (State::Closed(_) | State::Open { .. } | State::Probing { .. }, Sign::Nothing)
            | (State::Open { .. }, Sign::Ill) => {}
        }
        None
    }

    /// Panics if the machine contradicts itself.
    pub fn check(&self) {
        match self.state {
            State::Closed(failures) => assert!(failures < self.rules.failures.max(1), "{self:?}"),
            State::Open { until } => assert!(self.since <= until, "{self:?}"),
            State::Probing { until } => {
                assert_eq!(until, self.since + self.rules.probe + self.pause, "{self:?}");
            }
        }
    }

    fn open(&mut self, now: Instant) {
        let until = now + std::mem::replace(&mut self.pause, self.pauses.next_wait());
        self.state = State::Open { until };
        self.since = now;
    }
}

impl Sign {
    /// Of a call that failed so after `waited`. Who gave up sooner than `patience` has learnt nothing.
    #[must_use]
    pub fn of(failure: &Failure, waited: Duration, patience: Duration) -> Sign {
        let code = failure.etcd.map_or(failure.code, EtcdError::code);
        match (failure.etcd, failure.origin, code) {
            (_, _, Code::DeadlineExceeded) if waited >= patience => Sign::Ill,
            // A server that knows the deadline cancels the stream when it is over.
            (_, Origin::Transport, Code::Cancelled) if waited >= patience => Sign::Ill,
            (_, _, Code::DeadlineExceeded | Code::Cancelled) => Sign::Nothing,
            (Some(etcd), ..) => Sign::of_etcd(etcd),
            (None, Origin::Server, code) => Sign::of_code(code),
            // A peer that does not keep to the protocol, whatever it says; but for what it says of us.
            (None, Origin::Transport, Code::ResourceExhausted) => Sign::Nothing,
            (None, Origin::Transport, _) => Sign::Ill,
            (None, Origin::Caller | Origin::Library, _) => Sign::Nothing,
        }
    }

    fn of_etcd(etcd: EtcdError) -> Sign {
        match etcd {
            // It is cut off, overloaded, going down, or not to be trusted.
            EtcdError::Timeout
            | EtcdError::TimeoutConnectionLost
            | EtcdError::TimeoutWaitAppliedIndex
            | EtcdError::TooManyRequests
            | EtcdError::Stopped
            | EtcdError::Corrupt => Sign::Ill,
            // An election, which all members say alike, and a member that is none yet.
            EtcdError::NoLeader
            | EtcdError::LeaderChanged
            | EtcdError::TimeoutLeaderFailure
            | EtcdError::NotSupportedForLearner
            | EtcdError::Unhealthy => Sign::Nothing,
            // It has judged the request.
            _ => Sign::Well,
        }
    }

    /// Of a text that is not etcd's: a proxy's, or gRPC's own.
    fn of_code(code: Code) -> Sign {
        match code {
            Code::Unavailable | Code::Internal | Code::DataLoss => Sign::Ill,
            // Said of the request as well as of the server.
            Code::Unknown | Code::ResourceExhausted | Code::Aborted => Sign::Nothing,
            _ => Sign::Well,
        }
    }
}

#[cfg(test)]
mod tests;
