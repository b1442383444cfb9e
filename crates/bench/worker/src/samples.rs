//! What each operation of a turn took. The place for it is there before the turn begins,
//! so that keeping it is not measured.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::Cost;
use crate::input::Enough;

/// How many there shall be, and what those took that there were.
#[derive(Debug)]
pub(crate) struct Samples {
    left: Cell<u64>,
    latencies: RefCell<Vec<Duration>>,
    enough: Enough,
}

impl Samples {
    pub(crate) fn of(count: u64, enough: &Enough) -> Samples {
        Samples {
            left: Cell::new(count),
            latencies: RefCell::new(Vec::with_capacity(usize::try_from(count).unwrap_or_default())),
            enough: enough.clone(),
        }
    }

    /// Whether one more is wanted; it is counted then.
    pub(crate) fn take(&self) -> bool {
        let left = self.left.get();
        let wanted = left > 0 && !self.enough.is_it();
        self.left.set(left - u64::from(wanted));
        wanted
    }

    /// How many more are wanted.
    pub(crate) fn left(&self) -> u64 {
        self.left.get()
    }

    pub(crate) fn add(&self, latency: Duration) {
        self.latencies.borrow_mut().push(latency);
    }

    /// Runs what adds to these, and prints what each took and what all cost.
    pub(crate) fn measure(
        &self,
        runtime: &Runtime,
        tasks: &LocalSet,
        run: impl Future<Output = Result<(), String>>,
    ) -> Result<(), String> {
        let begun = Instant::now();
        let (outcome, cost) = Cost::of_process(|| tasks.block_on(runtime, run));
        let elapsed = begun.elapsed();
        outcome?;
        let latencies = self.latencies.borrow();
        crate::print_latencies(&latencies)?;
        crate::print(latencies.len() as u64, elapsed, cost);
        Ok(())
    }
}
