//! The clock that all here read, names, patience, and choices.

use std::cell::Cell;
use std::future::Future;
use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

use fastrand::Rng;
use rustix::time::{ClockId, clock_gettime};

use crate::seeds::number;

/// All keys of a run begin with it.
pub(crate) const ROOT: &str = "mixed";
/// A server grants no less to a session.
pub(crate) const TTL: Duration = Duration::from_secs(2);
/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(60);

thread_local! {
    /// Where tokio's clock began, and the last reading.
    static SIMULATED: Cell<Option<(tokio::time::Instant, u64)>> = const { Cell::new(None) };
}

/// From now on this thread's clock is tokio's.
#[cfg(feature = "unstable")]
pub(crate) fn simulate() {
    SIMULATED.set(Some((tokio::time::Instant::now(), 0)));
}

/// The boot clock, which all processes of a machine share, in nanoseconds.
pub(crate) fn now() -> u64 {
    if let Some((start, last)) = SIMULATED.get() {
        // That clock stands still while something happens; what happens later is later.
        let now = (start.elapsed().as_nanos() as u64).max(last + 1);
        SIMULATED.set(Some((start, now)));
        return now;
    }
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

pub(crate) async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    let bounded = tokio::time::timeout(PATIENCE, future).await;
    bounded.unwrap_or_else(|_| panic!("{what} has not happened"))
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    patiently(what, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    })
    .await;
}

pub(crate) fn within(dice: &mut Rng, range: Range<u64>) -> Duration {
    Duration::from_micros(dice.u64(range.start * 1000..range.end * 1000))
}

/// For how long nothing more goes wrong: `TENURE_MIXED_CALM` times as long as usual.
pub(crate) fn calm(dice: &mut Rng, millis: Range<u64>) -> Duration {
    static TIMES: OnceLock<u32> = OnceLock::new();
    let times = TIMES.get_or_init(|| number("TENURE_MIXED_CALM").map_or(1, |times| times as u32));
    within(dice, millis) * *times
}
