//! Whether a call that failed is sent again, and when. `net/call` drives it; where
//! it goes then is the pool's.
//!
//! What the server provably did not process is sent again whatever it is. What it
//! may have processed is sent again only where a second time changes nothing: a
//! read, a renewal, or what the caller marked as idempotent. Everything else is
//! for the caller to judge (gRPC's proposal A6, and Jepsen's analysis of jetcd 0.8.2).

use std::time::Duration;

use super::auth::is_token_refusal;
use super::backoff::Backoff;
use crate::error::{Code, Delivery, EtcdError, Origin};

/// The first time is at once, since another member may serve.
const WAIT_FIRST: Duration = Duration::from_millis(10);

/// An election takes a second or two: a call that waits for its end is late by no more than this.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// An end to what cannot succeed. All waits together are longer than a server would hold
/// the call for want of a leader, which is 7 seconds.
pub const ATTEMPTS_MAX: u32 = 64;

/// How a call failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// Whether the server may have processed it.
    pub delivery: Delivery,
    /// The code.
    pub code: Code,
    /// Who says so.
    pub origin: Origin,
    /// What etcd said.
    pub etcd: Option<EtcdError>,
}

impl Failure {
    /// Whether the member that answered cannot serve at the moment, as far as its
    /// answer tells.
    #[must_use]
    pub fn is_unable(&self) -> bool {
        let Some(etcd) = self.etcd else {
            return self.origin != Origin::Server && self.code == Code::Unavailable;
        };
        matches!(
            etcd,
            EtcdError::NoLeader
                | EtcdError::Stopped
                | EtcdError::Timeout
                | EtcdError::TimeoutLeaderFailure
                | EtcdError::TimeoutConnectionLost
                | EtcdError::TimeoutWaitAppliedIndex
                | EtcdError::NotSupportedForLearner
        )
    }

    /// Whether the server has not processed the call and never will.
    fn is_unprocessed(&self) -> bool {
        match self.etcd {
            // Each is said before the request goes to the others.
            Some(etcd) => matches!(
                etcd,
                EtcdError::NoLeader | EtcdError::TooManyRequests | EtcdError::NotSupportedForLearner
            ),
            None => self.delivery == Delivery::NotSent && self.origin == Origin::Transport,
        }
    }

    /// Whether the member has judged the request, and every other one would judge alike:
    /// not where one that lags knows less.
    #[must_use]
    pub fn is_verdict(&self) -> bool {
        let may_lag = |etcd| is_token_refusal(etcd) || etcd == EtcdError::FutureRevision;
        self.origin == Origin::Server
            && self.delivery == Delivery::Answered
            && !(self.is_unprocessed() || self.is_passing() || self.etcd.is_some_and(may_lag))
    }

    /// Whether another attempt may do better, where a second one does no harm.
    fn is_passing(&self) -> bool {
        let overrun = self.origin == Origin::Transport && self.code == Code::ResourceExhausted;
        self.origin != Origin::Caller && (self.code == Code::Unavailable || overrun)
    }
}

/// The attempts of one call.
#[derive(Debug)]
pub struct Retry {
    attempts: u32,
    backoff: Backoff,
}

impl Retry {
    /// A call that was sent once. The seed spreads the waits.
    #[must_use]
    pub fn new(seed: u64) -> Retry {
        Retry {
            attempts: 1,
            backoff: Backoff::new(WAIT_FIRST, WAIT_MAX, seed),
        }
    }

    /// The wait before the next attempt, or none where the failure is the caller's
    /// to know. `repeatable` says that a second time changes nothing.
    pub fn handle_failure(&mut self, repeatable: bool, failure: &Failure) -> Option<Duration> {
        let may_repeat = failure.is_unprocessed() || (repeatable && failure.is_passing());
        if !may_repeat || failure.origin == Origin::Library || self.attempts >= ATTEMPTS_MAX {
            return None;
        }
        self.attempts += 1;
        let is_elsewhere = self.attempts == 2 && failure.etcd != Some(EtcdError::TooManyRequests);
        Some(match is_elsewhere {
            true => Duration::ZERO,
            false => self.backoff.next_wait(),
        })
    }

    /// How often the call was sent.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(delivery: Delivery, code: Code, origin: Origin) -> Failure {
        Failure {
            delivery,
            code,
            origin,
            etcd: None,
        }
    }

    fn said(etcd: EtcdError) -> Failure {
        let delivery = if etcd.leaves_fate_unknown() {
            Delivery::Unknown
        } else {
            Delivery::Answered
        };
        Failure {
            delivery,
            code: etcd.code(),
            origin: Origin::Server,
            etcd: Some(etcd),
        }
    }

    fn again(repeatable: bool, failure: &Failure) -> bool {
        Retry::new(1).handle_failure(repeatable, failure).is_some()
    }

    #[test]
    fn what_may_have_been_applied_is_sent_again_only_where_that_changes_nothing() {
        for failure in [
            failure(Delivery::Unknown, Code::Unavailable, Origin::Transport),
            failure(Delivery::Unknown, Code::Unavailable, Origin::Server),
            failure(Delivery::Unknown, Code::ResourceExhausted, Origin::Transport),
            said(EtcdError::LeaderChanged),
            said(EtcdError::Stopped),
            said(EtcdError::Timeout),
            said(EtcdError::TimeoutLeaderFailure),
            said(EtcdError::TimeoutConnectionLost),
        ] {
            assert!(!again(false, &failure), "{failure:?}");
            assert!(again(true, &failure), "{failure:?}");
        }
    }

    #[test]
    fn what_was_provably_not_processed_is_sent_again_whatever_it_is() {
        for failure in [
            failure(Delivery::NotSent, Code::Unavailable, Origin::Transport),
            said(EtcdError::NoLeader),
            said(EtcdError::TooManyRequests),
            said(EtcdError::NotSupportedForLearner),
        ] {
            assert!(again(false, &failure), "{failure:?}");
        }
    }

    #[test]
    fn of_all_that_etcd_says_little_is_worth_another_attempt_at_a_write() {
        let again: Vec<_> = EtcdError::ALL.iter().filter(|etcd| again(false, &said(**etcd))).collect();
        assert_eq!(
            again,
            [
                &EtcdError::TooManyRequests,
                &EtcdError::NotSupportedForLearner,
                &EtcdError::NoLeader
            ]
        );
    }

    #[test]
    fn what_another_attempt_cannot_help_is_told_at_once() {
        for failure in [
            failure(Delivery::NotSent, Code::InvalidArgument, Origin::Caller),
            failure(Delivery::NotSent, Code::Unavailable, Origin::Library),
            failure(Delivery::Unknown, Code::DeadlineExceeded, Origin::Library),
            failure(Delivery::Unknown, Code::Internal, Origin::Transport),
            failure(Delivery::Unknown, Code::Cancelled, Origin::Transport),
            said(EtcdError::Compacted),
            said(EtcdError::LeaseNotFound),
            said(EtcdError::Corrupt),
        ] {
            assert!(!again(true, &failure), "{failure:?}");
        }
    }

    #[test]
    fn the_first_goes_elsewhere_at_once_and_the_others_wait_and_end() {
        let mut retry = Retry::new(7);
        let lost = failure(Delivery::NotSent, Code::Unavailable, Origin::Transport);
        assert_eq!(retry.handle_failure(false, &lost), Some(Duration::ZERO));
        let waits: Vec<_> = std::iter::from_fn(|| retry.handle_failure(false, &lost)).collect();
        assert!(
            waits.iter().all(|wait| !wait.is_zero() && *wait < WAIT_MAX),
            "{waits:?}"
        );
        assert_eq!(retry.attempts(), ATTEMPTS_MAX);
        let whole: Duration = waits.iter().sum();
        assert!(
            whole > Duration::from_secs(7),
            "a server would have waited longer than {whole:?}"
        );
    }
}
