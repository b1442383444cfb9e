//! What an operation costs beside time: processor and allocations.

use std::ops::AddAssign;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};

/// What some operations took together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Of the processor, outside the kernel. The sum of the two is exact; how it is shared between
    /// them Linux knows from samples.
    pub user: Duration,
    /// Of the processor, inside the kernel.
    pub system: Duration,
    /// How often memory was asked for.
    pub allocations: u64,
    /// How much, in bytes.
    pub allocated_bytes: u64,
}

impl Cost {
    /// What `run` costs on the thread that it runs on. A client that is to be
    /// measured whole runs on a runtime of that one thread; the load has
    /// a thread of its own and is not counted.
    ///
    /// # Panics
    ///
    /// Where `run` does.
    pub fn of<T>(run: impl FnOnce() -> T) -> (T, Cost) {
        Cost::by(ClockId::CLOCK_THREAD_CPUTIME_ID, UsageWho::RUSAGE_THREAD, run)
    }

    /// What `run` costs in a process that does nothing else: of the processor all that the
    /// process has of it, and of allocations those of this thread.
    ///
    /// # Panics
    ///
    /// Where `run` does.
    pub fn of_process<T>(run: impl FnOnce() -> T) -> (T, Cost) {
        Cost::by(ClockId::CLOCK_PROCESS_CPUTIME_ID, UsageWho::RUSAGE_SELF, run)
    }

    /// This much of it, from 0 to 1.
    #[must_use]
    pub(crate) fn share(self, share: f64) -> Cost {
        let count = |count: u64| (count as f64 * share).round() as u64;
        Cost {
            user: self.user.mul_f64(share),
            system: self.system.mul_f64(share),
            allocations: count(self.allocations),
            allocated_bytes: count(self.allocated_bytes),
        }
    }

    /// User and system time.
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }

    fn by<T>(clock: ClockId, who: UsageWho, run: impl FnOnce() -> T) -> (T, Cost) {
        let mut result = None;
        let (begun, sampled) = (cpu(clock), Sampled::now(who));
        let counted = allocation_counter::measure(|| result = Some(run()));
        let cpu = cpu(clock).saturating_sub(begun);
        let system = cpu.mul_f64(Sampled::now(who).system_share_since(&sampled));
        let cost = Cost {
            user: cpu.saturating_sub(system),
            system,
            allocations: counted.count_total,
            allocated_bytes: counted.bytes_total,
        };
        (result.expect("`measure` runs what it is given"), cost)
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.user += other.user;
        self.system += other.system;
        self.allocations += other.allocations;
        self.allocated_bytes += other.allocated_bytes;
    }
}

fn cpu(clock: ClockId) -> Duration {
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

/// What the kernel's samples say, in microseconds.
#[derive(Default)]
struct Sampled {
    user: i64,
    system: i64,
}

impl Sampled {
    fn now(who: UsageWho) -> Sampled {
        getrusage(who).map_or_else(
            |_| Sampled::default(),
            |usage| Sampled {
                user: usage.user_time().num_microseconds(),
                system: usage.system_time().num_microseconds(),
            },
        )
    }

    /// From 0 to 1.
    fn system_share_since(&self, before: &Sampled) -> f64 {
        let (user, system) = (self.user - before.user, self.system - before.system);
        (system.max(0) as f64 / (user + system).max(1) as f64).clamp(0.0, 1.0)
    }
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
        assert!(cost.cpu() > Duration::ZERO);
        let ((), waited) = Cost::of(|| std::thread::sleep(Duration::from_secs(1)));
        assert!(waited.cpu() < Duration::from_millis(500), "{waited:?}");
    }
}
