//! A test of many seeds: on every core, or one of them alone, and how to see again what
//! failed. What is done with a seed is the caller's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// After so many that failed the others are not tried.
const FAILED_MAX: usize = 20;

/// Which seeds, and how somebody says so.
pub(crate) struct Seeds {
    /// The variable of the environment that asks for one seed alone.
    pub(crate) one: &'static str,
    /// The one that says how many, from 0 on.
    pub(crate) many: &'static str,
    /// How many without either.
    pub(crate) count: u64,
    /// What runs the test again, behind the variable of one seed.
    pub(crate) command: &'static str,
}

impl Seeds {
    /// What the body made of each seed, in no order.
    ///
    /// # Panics
    ///
    /// Where the body does, once the others have been tried.
    pub(crate) fn run<T: Send>(&self, body: impl Fn(u64) -> T + Sync) -> Vec<T> {
        let seeds = match number(self.one) {
            Some(seed) => seed..seed + 1,
            None => 0..number(self.many).unwrap_or(self.count),
        };
        let next = AtomicU64::new(seeds.start);
        let (made, failed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::SeqCst);
                if seed >= seeds.end || lock(&failed).len() >= FAILED_MAX {
                    return;
                }
                match catch_unwind(AssertUnwindSafe(|| body(seed))) {
                    Ok(one) => lock(&made).push(one),
                    Err(_) => {
                        eprintln!("again: {}={seed} {}", self.one, self.command);
                        lock(&failed).push(seed);
                    }
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
        std::thread::scope(|scope| {
            (0..threads.min(seeds.clone().count())).for_each(|_| drop(scope.spawn(work)));
        });
        let (made, failed) = (made.into_inner(), failed.into_inner());
        let failed = failed.unwrap_or_else(PoisonError::into_inner);
        assert!(failed.is_empty(), "these seeds failed: {failed:?}");
        made.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one seed alone is asked for.
    pub(crate) fn is_one(&self) -> bool {
        number(self.one).is_some()
    }
}

/// A number out of the environment, where it is there.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn lock<T>(all: &Mutex<T>) -> MutexGuard<'_, T> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}
