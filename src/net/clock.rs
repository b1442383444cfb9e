//! The boot clock, and a timer that obeys it. The only place that reads a clock.
//!
//! tokio's timers and `std::time::Instant` stand still while the machine is
//! suspended; a lease on the server does not. So every timer here looks at the
//! boot clock again whenever it is woken.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::task::unconstrained;
use tokio::time::Sleep;

use crate::core::time::Instant;

/// The longest stretch that one tokio timer is asked for: a far deadline is
/// reached in several, so that no sum of instants can overflow.
const STRETCH_MAX: Duration = Duration::from_secs(3600);

/// No deadline.
pub(crate) const NEVER: Instant = Instant(u64::MAX);

/// The boot clock's present reading. Once in the code, for a call comes here several times.
#[inline(never)]
pub(crate) fn now() -> Instant {
    #[cfg(feature = "unstable")]
    if let Some(now) = super::simulation::now() {
        return now;
    }
    boot_clock()
}

#[cfg(unix)]
fn boot_clock() -> Instant {
    use rustix::time::{ClockId, clock_gettime};

    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: ClockId = ClockId::Monotonic;

    let time = clock_gettime(CLOCK);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Without a boot clock: the time since the first call.
#[cfg(not(unix))]
fn boot_clock() -> Instant {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let start = *START.get_or_init(std::time::Instant::now);
    Instant::default() + start.elapsed()
}

/// Completes at `deadline`, or late, never early.
pub(crate) fn sleep_until(deadline: Instant) -> Timer {
    Timer::new(deadline)
}

pin_project! {
    /// A future that completes once the boot clock has reached a deadline.
    #[derive(Debug)]
    pub(crate) struct Timer {
        deadline: Instant,
        // Made when it is first polled: only then a runtime is certain to be there.
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl Timer {
    pub(crate) fn new(deadline: Instant) -> Timer {
        Timer {
            deadline,
            sleep: None,
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Moves the deadline.
    pub(crate) fn reset(self: Pin<&mut Self>, deadline: Instant) {
        let mut this = self.project();
        *this.deadline = deadline;
        this.sleep.set(None);
    }

    /// Whether there is something to be polled for: it was polled after it was set, and has come to the end
    /// of a stretch since. It reads no clock.
    pub(crate) fn has_fired(&self) -> bool {
        self.sleep.as_ref().is_some_and(Sleep::is_elapsed)
    }

    /// Polls it by a reading of the clock that the caller has taken just now.
    pub(crate) fn poll_at(self: Pin<&mut Self>, mut now: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        loop {
            if now >= *this.deadline {
                return Poll::Ready(());
            }
            if this.sleep.is_none() {
                this.sleep.set(Some(tokio::time::sleep(stretch(now, *this.deadline))));
            }
            if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
                // Of a task that has no budget left in this turn it would not be set, and nobody may poll it
                // again before it has fired.
                ready!(pin!(unconstrained(sleep)).poll(cx));
            }
            this.sleep.set(None);
            now = self::now();
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_at(now(), cx)
    }
}

fn stretch(now: Instant, deadline: Instant) -> Duration {
    deadline.saturating_since(now).min(STRETCH_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_timer_is_never_early_even_when_moved() {
        let deadline = now() + Duration::from_millis(5);
        let mut timer = std::pin::pin!(Timer::new(now() + Duration::from_secs(7200)));
        timer.as_mut().reset(deadline);
        timer.await;
        assert!(now() >= deadline);
    }

    #[tokio::test]
    async fn the_end_of_the_clock_is_no_overflow() {
        let sleep = sleep_until(NEVER);
        let woken = tokio::time::timeout(Duration::from_millis(1), sleep).await;
        assert!(woken.is_err());
    }
}
