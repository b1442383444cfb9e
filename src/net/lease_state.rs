//! What the handles of a lease and its driver share: until when the lease is
//! valid, or why it ended. A handle asks here and waits for nobody; the driver
//! writes here.
//!
//! One word holds either, so that an end is final. Whoever finds the deadline passed writes
//! the end before telling anybody; an extension that comes in just then either was
//! first, and then nobody was told of an end, or it fails.
//!
//! ```text
//!               extend, before the deadline
//!                  .--.
//!                  v  |     the deadline was seen to have passed
//!   valid until deadline ----------------------------------------> expired
//!            '------------- end, by the driver or a handle ------> ended
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::clock;
use super::figures::Figures;
use super::race::race;
use crate::core::lease::{LeaseEnd, Term};
use crate::core::time::Instant;
use crate::error::Code;
use crate::types::LeaseId;

/// A word below this is an end; any other is a deadline in nanoseconds. No boot
/// clock is at a few nanoseconds when a lease is granted.
const DEADLINE_MIN: u64 = 64;
/// Refusals are counted from here, by their code.
const REFUSED: u64 = 4;

#[derive(Debug)]
pub(crate) struct LeaseState {
    id: LeaseId,
    term: Term,
    word: AtomicU64,
    ended: Notify,
    refusal: Arc<Refusal>,
    figures: Arc<Figures>,
}

/// Why the server does not renew leases: one word for all leases of a client, the
/// end that a deadline brings now.
#[derive(Debug, Default)]
pub(crate) struct Refusal(AtomicU64);

impl Refusal {
    pub(super) fn set(&self, refusal: Option<Code>) {
        self.0.store(
            from_end(refusal.map_or(LeaseEnd::Expired, LeaseEnd::Refused)),
            Ordering::Relaxed,
        );
    }
}

impl LeaseState {
    pub(super) fn new(
        id: LeaseId,
        term: Term,
        deadline: Instant,
        refusal: Arc<Refusal>,
        figures: Arc<Figures>,
    ) -> LeaseState {
        LeaseState {
            id,
            term,
            word: AtomicU64::new(from_deadline(deadline)),
            ended: Notify::new(),
            refusal,
            figures,
        }
    }

    pub(crate) fn id(&self) -> LeaseId {
        self.id
    }

    /// As the server granted it, which may be more than was asked for.
    pub(crate) fn term(&self) -> Term {
        self.term
    }

    /// The deadline, which lies after `now`.
    ///
    /// # Errors
    ///
    /// Why the lease is not valid; it is over from then on.
    pub(crate) fn valid_until(&self, now: Instant) -> Result<Instant, LeaseEnd> {
        // Acquire and Release: who sees an end sees what its writer did before.
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let deadline = read(word)?;
            if now < deadline {
                return Ok(deadline);
            }
            let end = self.refusal.0.load(Ordering::Relaxed);
            match self.replace(word, end) {
                Ok(()) => {
                    self.tell(end);
                    word = end;
                }
                Err(found) => word = found,
            }
        }
    }

    /// Moves the deadline of a lease that is still valid at `now`.
    ///
    /// # Errors
    ///
    /// Why the lease is over. It stays so.
    pub(crate) fn extend(&self, now: Instant, deadline: Instant) -> Result<(), LeaseEnd> {
        loop {
            let until = self.valid_until(now)?;
            if self.replace(from_deadline(until), from_deadline(deadline)).is_ok() {
                return Ok(());
            }
        }
    }

    /// Ends the lease, unless it is over already.
    pub(crate) fn end(&self, end: LeaseEnd) {
        let mut word = self.word.load(Ordering::Acquire);
        while read(word).is_ok() {
            match self.replace(word, from_end(end)) {
                Ok(()) => return self.tell(from_end(end)),
                Err(found) => word = found,
            }
        }
    }

    /// Completes when the lease is over: with the news, or at the deadline by a
    /// timer of its own.
    pub(crate) async fn ended(&self) -> LeaseEnd {
        loop {
            // Made before the look, since `notify_waiters` reaches only those it finds.
            let news = self.ended.notified();
            match self.valid_until(clock::now()) {
                Err(end) => return end,
                Ok(deadline) if Handle::try_current().is_ok() => {
                    race(news, clock::sleep_until(deadline)).await;
                }
                // Nobody has a timer here. The driver, which has one, brings the news.
                Ok(_) => news.await,
            }
        }
    }

    /// It was this one's step that ended it.
    fn tell(&self, word: u64) {
        if let Err(end) = read(word) {
            self.figures.lease_ended(self.id, end);
        }
        self.ended.notify_waiters();
    }

    fn replace(&self, old: u64, new: u64) -> Result<(), u64> {
        let replaced = self.word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire);
        replaced.map(|_| ())
    }
}

fn from_deadline(deadline: Instant) -> u64 {
    deadline.0.max(DEADLINE_MIN)
}

fn from_end(end: LeaseEnd) -> u64 {
    match end {
        LeaseEnd::Expired => 0,
        LeaseEnd::Revoked => 1,
        LeaseEnd::UnknownToServer => 2,
        LeaseEnd::Closed => 3,
        LeaseEnd::Refused(code) => REFUSED + code as u64,
    }
}

fn read(word: u64) -> Result<Instant, LeaseEnd> {
    match word {
        0 => Err(LeaseEnd::Expired),
        1 => Err(LeaseEnd::Revoked),
        2 => Err(LeaseEnd::UnknownToServer),
        3 => Err(LeaseEnd::Closed),
        // Written from a code, which is a small number.
        REFUSED..DEADLINE_MIN => Err(LeaseEnd::Refused(Code::from_number((word - REFUSED) as u32))),
        deadline => Ok(Instant(deadline)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn state(deadline: Instant) -> LeaseState {
        LeaseState::new(LeaseId(7), TTL.into(), deadline, Arc::default(), Arc::default())
    }

    #[test]
    fn is_valid_before_its_deadline_and_never_after_it_was_seen_to_pass() {
        let state = state(Instant(1000));
        assert_eq!(state.valid_until(Instant(999)), Ok(Instant(1000)));
        assert_eq!(state.extend(Instant(999), Instant(2000)), Ok(()));
        assert_eq!(state.valid_until(Instant(1999)), Ok(Instant(2000)));
        assert_eq!(state.valid_until(Instant(2000)), Err(LeaseEnd::Expired));
        // The driver read its clock before that, and its proof comes late.
        assert_eq!(state.extend(Instant(1999), Instant(3000)), Err(LeaseEnd::Expired));
        assert_eq!(state.valid_until(Instant(1)), Err(LeaseEnd::Expired));
    }

    #[test]
    fn the_first_end_is_the_one_that_counts() {
        for end in [
            LeaseEnd::Expired,
            LeaseEnd::Revoked,
            LeaseEnd::UnknownToServer,
            LeaseEnd::Closed,
            LeaseEnd::Refused(Code::PermissionDenied),
            LeaseEnd::Refused(Code::Unauthenticated),
        ] {
            let state = state(Instant(1000));
            state.end(end);
            state.end(LeaseEnd::Closed);
            assert_eq!(state.valid_until(Instant(5)), Err(end));
            assert_eq!(state.extend(Instant(5), Instant(3000)), Err(end));
        }
    }

    #[test]
    fn a_deadline_that_passes_while_renewals_are_refused_says_so() {
        let state = state(Instant(1000));
        state.refusal.set(Some(Code::Unimplemented));
        assert_eq!(state.valid_until(Instant(999)), Ok(Instant(1000)));
        state.refusal.set(Some(Code::PermissionDenied));
        let refused = Err(LeaseEnd::Refused(Code::PermissionDenied));
        assert_eq!(state.valid_until(Instant(1000)), refused);
        state.refusal.set(None);
        assert_eq!(state.valid_until(Instant(1000)), refused);
    }

    #[test]
    fn a_reader_and_the_driver_agree_on_who_was_first() {
        for round in 0..2_000 {
            let state = Arc::new(state(Instant(1000)));
            let reader = std::thread::spawn({
                let state = state.clone();
                move || state.valid_until(Instant(1000))
            });
            let extended = state.extend(Instant(999), Instant(2000));
            let seen = reader.join().expect("the reader panicked");
            assert_eq!(
                extended.is_ok(),
                seen.is_ok(),
                "round {round}: told of an end that was undone"
            );
        }
    }

    #[tokio::test]
    async fn the_wait_ends_at_the_deadline_without_any_news() {
        let state = state(clock::now() + Duration::from_millis(5));
        let ended = tokio::time::timeout(Duration::from_secs(20), state.ended()).await;
        assert_eq!(ended, Ok(LeaseEnd::Expired));
    }

    #[tokio::test]
    async fn the_wait_ends_with_the_news() {
        let state = Arc::new(state(clock::now() + Duration::from_secs(1000)));
        let waiter = tokio::spawn({
            let state = state.clone();
            async move { state.ended().await }
        });
        tokio::task::yield_now().await;
        state.end(LeaseEnd::UnknownToServer);
        assert_eq!(waiter.await.ok(), Some(LeaseEnd::UnknownToServer));
        assert_eq!(state.ended().await, LeaseEnd::UnknownToServer);
    }
}
