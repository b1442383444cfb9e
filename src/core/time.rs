//! The instant that every machine in `core` is told: nanoseconds of the boot
//! clock, which goes on while the machine is suspended. `net/clock` reads it;
//! tests and simulations make it up.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on the boot clock of this machine, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The time from `earlier` to this instant; zero where that lies ahead.
    #[must_use]
    pub fn saturating_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The last multiple of `tick` that is not after this.
    #[must_use]
    pub fn floor(self, tick: Duration) -> Instant {
        Instant(self.0 - self.0 % nanos(tick).max(1))
    }
}

/// Stops at the end of the clock (584 years after boot) instead of wrapping.
impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(nanos(duration)))
    }
}

/// Stops at the boot of the machine instead of wrapping.
impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_sub(nanos(duration)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
