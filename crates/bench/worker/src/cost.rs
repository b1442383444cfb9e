//! What an operation costs beside time: processor and allocations.

use std::ops::AddAssign;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What some operations took together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// User and system time.
    pub cpu: Duration,
    /// How often memory was asked for.
    pub allocations: u64,
    /// How much, in bytes.
    pub allocated_bytes: u64,
}

impl Cost {
    /// What `run` costs on the thread that it runs on. A client that is to be
    /// measured whole runs on a runtime of that one thread; the load and the
    /// server in memory have threads of their own and are not counted.
    ///
    /// # Panics
    ///
    /// Where `run` does.
    pub fn of<T>(run: impl FnOnce() -> T) -> (T, Cost) {
        let mut result = None;
        let begun = thread_cpu();
        let counted = allocation_counter::measure(|| result = Some(run()));
        let cost = Cost {
            cpu: thread_cpu().saturating_sub(begun),
            allocations: counted.count_total,
            allocated_bytes: counted.bytes_total,
        };
        (result.expect("`measure` runs what it is given"), cost)
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.cpu += other.cpu;
        self.allocations += other.allocations;
        self.allocated_bytes += other.allocated_bytes;
    }
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn counts_this_threads_allocations_and_no_others() {
        let (sum, cost) = Cost::of(|| {
            let boxed = black_box(Box::new(7_u64));
            *boxed + 1
        });
        assert_eq!((sum, cost.allocations, cost.allocated_bytes), (8, 1, 8));
        let (start, go) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            let _ = go.recv();
            drop(black_box(vec![0_u8; 1 << 20]));
        });
        let ((), cost) = Cost::of(|| {
            drop(start);
            other.join().expect("it does not panic");
        });
        assert!(cost.allocated_bytes < 1 << 20, "{cost:?}");
    }

    #[test]
    fn counts_the_processor_and_not_the_wait() {
        let (spun, cost) = Cost::of(|| (0..1_000_000_u64).fold(0, |sum, n| black_box(sum ^ n)));
        black_box(spun);
        assert!(cost.cpu > Duration::ZERO);
        let ((), waited) = Cost::of(|| std::thread::sleep(Duration::from_secs(1)));
        assert!(waited.cpu < Duration::from_millis(500), "{waited:?}");
    }
}
