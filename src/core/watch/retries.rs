//! Which refused watches are asked for again, and when: each after waits of its own,
//! so that one which the server keeps refusing is not asked for as often as another
//! brings events.

use std::collections::BTreeSet;

use crate::core::backoff::Backoff;
use crate::core::jitter::Jitter;
use crate::core::time::Instant;

use super::WatchKey;
use super::refusal::Verdict;
use super::reopen::{WAIT_FIRST, WAIT_MAX};

/// So many refusals that nobody can explain, without an event between them, are taken
/// for a definite one: some three seconds.
pub(super) const UNEXPLAINED_MAX: u32 = 8;

/// Who waits; see the module.
#[derive(Debug)]
pub(super) struct Retries {
    waiting: BTreeSet<(Instant, WatchKey)>,
    jitter: Jitter,
}

/// The refusals of one watch since its last event.
#[derive(Debug)]
pub(super) struct Refusals {
    backoff: Backoff,
    unexplained: u32,
}

impl Retries {
    pub(super) fn new(seed: u64) -> Retries {
        Retries {
            waiting: BTreeSet::new(),
            jitter: Jitter::new(!seed),
        }
    }

    /// When the watch is to be asked for again; `None` where that has been tried often enough.
    pub(super) fn handle_refused(
        &mut self,
        now: Instant,
        key: WatchKey,
        verdict: Verdict,
        refusals: &mut Option<Refusals>,
    ) -> Option<Instant> {
        let refusals = refusals.get_or_insert_with(|| Refusals {
            backoff: Backoff::new(WAIT_FIRST, WAIT_MAX, self.jitter.next_u64()),
            unexplained: 0,
        });
        match verdict {
            Verdict::Final => return None,
            Verdict::Unexplained => refusals.unexplained += 1,
            Verdict::Passing | Verdict::Token(_) => refusals.unexplained = 0,
        }
        if refusals.unexplained >= UNEXPLAINED_MAX {
            return None;
        }
        let at = now + refusals.backoff.next_wait();
        self.waiting.insert((at, key));
        Some(at)
    }

    /// The watch that has waited for longest, if for long enough.
    pub(super) fn pop(&mut self, now: Instant) -> Option<WatchKey> {
        let first = self.waiting.first().filter(|(at, _)| *at <= now);
        first.copied().map(|first| {
            self.waiting.remove(&first);
            first.1
        })
    }

    pub(super) fn remove(&mut self, at: Instant, key: WatchKey) {
        self.waiting.remove(&(at, key));
    }

    pub(super) fn first(&self) -> Option<Instant> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// Who waits, and until when.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (Instant, WatchKey)> {
        self.waiting.iter().copied()
    }
}
