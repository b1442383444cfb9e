//! How often a lock was granted again within its session, counted without an atomic
//! step of its own: only who has the lock's turn writes, so a load and a store do.
//!
//! ```text
//!   Slot ----.
//!             >--- Grants        a list has them too; one that is in nobody else's hands
//!   list ----'                   any more is added to the sum, and goes
//! ```

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::time::Instant;

/// Of one lock in one session. On a cache line of its own, for its neighbours may be another thread's.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Grants {
    handed_off: AtomicU64,
    relocked: AtomicU64,
    /// When etcd granted the key that is ours, in nanoseconds of the boot clock; 0 where none is.
    since: AtomicU64,
    /// The grant was counted as lost.
    is_lost: AtomicBool,
}

/// How often keys were granted again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Regrants {
    /// To a task that waited.
    pub handed_off: u64,
    /// To one that came while nobody had it.
    pub relocked: u64,
}

impl Grants {
    /// etcd granted a key. Only with the turn, as what follows.
    pub fn granted(&self, now: Instant) {
        self.is_lost.store(false, Ordering::Relaxed);
        self.since.store(now.0.max(1), Ordering::Relaxed);
    }

    /// It was granted again, to a task that had waited or to one that came.
    pub fn regranted(&self, had_waited: bool) {
        let counter = match had_waited {
            true => &self.handed_off,
            false => &self.relocked,
        };
        // Relaxed, and no step of its own: the turn is passed on with Release and Acquire.
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// The key is given back: for how long it was ours, said once.
    pub fn ended(&self, now: Instant) -> Option<Duration> {
        let since = self.since.load(Ordering::Relaxed);
        if since == 0 {
            return None;
        }
        self.since.store(0, Ordering::Relaxed);
        Some(now.saturating_since(Instant(since)))
    }

    /// What etcd granted is lost. Whether that is news; anybody may say so.
    pub fn lost(&self) -> bool {
        !self.is_lost.swap(true, Ordering::Relaxed)
    }

    fn regrants(&self) -> Regrants {
        Regrants {
            handed_off: self.handed_off.load(Ordering::Relaxed),
            relocked: self.relocked.load(Ordering::Relaxed),
        }
    }
}

/// Those of all locks that a client's sessions have, and the sum of those they had.
#[derive(Debug, Default)]
pub struct AllGrants(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    past: Regrants,
    present: Vec<Arc<Grants>>,
    /// With so many it is worth a look which of them are past.
    look_at: usize,
}

/// Below this, nobody looks.
const LOOK_MIN: usize = 64;

impl AllGrants {
    /// Those of another lock. It takes room until the lock is gone and somebody has looked, which is at the latest
    /// when there are twice as many.
    #[must_use]
    pub fn begin(&self) -> Arc<Grants> {
        let grants = Arc::new(Grants::default());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.present.len() >= known.look_at {
            known.look();
        }
        known.present.push(grants.clone());
        grants
    }

    /// All that were counted until now.
    #[must_use]
    pub fn regrants(&self) -> Regrants {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.look();
        let present = known.present.iter().map(|grants| grants.regrants());
        present.fold(known.past, Regrants::and)
    }
}

impl Known {
    fn look(&mut self) {
        let past = &mut self.past;
        self.present.retain_mut(|grants| match Arc::get_mut(grants) {
            // The list alone has it: nobody will count on it.
            Some(grants) => {
                *past = past.and(grants.regrants());
                false
            }
            None => true,
        });
        self.look_at = (2 * self.present.len()).max(LOOK_MIN);
    }
}

impl Regrants {
    fn and(self, other: Regrants) -> Regrants {
        Regrants {
            handed_off: self.handed_off + other.handed_off,
            relocked: self.relocked + other.relocked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lock_counted_stays_when_it_is_gone() {
        let all = AllGrants::default();
        for round in 1..=1_000_u64 {
            let grants = all.begin();
            grants.regranted(true);
            grants.regranted(false);
            grants.regranted(false);
            let counted = all.regrants();
            assert_eq!((counted.handed_off, counted.relocked), (round, 2 * round));
            drop(grants);
            assert_eq!(all.regrants(), counted);
        }
    }

    #[test]
    fn locks_that_are_gone_take_no_room() {
        let all = AllGrants::default();
        let kept: Vec<_> = (0..100).map(|_| all.begin()).collect();
        (0..10_000).for_each(|_| all.begin().regranted(true));
        assert!(all.0.lock().unwrap().present.len() <= 2 * kept.len() + LOOK_MIN);
        assert_eq!(all.regrants().handed_off, 10_000);
    }

    #[test]
    fn a_hold_and_a_loss_are_said_once_for_each_grant() {
        let grants = Grants::default();
        assert_eq!(grants.ended(Instant(5)), None);
        for _ in 0..2 {
            grants.granted(Instant(7));
            assert!(grants.lost());
            assert!(!grants.lost());
            assert_eq!(grants.ended(Instant(10)), Some(Duration::from_nanos(3)));
            assert_eq!(grants.ended(Instant(11)), None);
        }
    }
}
