//! Looks for fewer steps that still fail, by leaving out ever smaller pieces.

use std::time::{Duration, Instant};

use crate::episode::Scene;
use crate::steps::Step;

/// How long it may take.
const DURATION_MAX: Duration = Duration::from_secs(60);

/// The fewest steps found, and what fails in them if they were fewer than all.
pub(crate) fn shrink(scene: &Scene, mut steps: Vec<Step>) -> (Vec<Step>, Option<String>) {
    let end = Instant::now() + DURATION_MAX;
    let mut last = None;
    let mut size = steps.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        while start < steps.len() {
            if Instant::now() > end {
                return (steps, last);
            }
            let mut fewer = steps.clone();
            fewer.drain(start..(start + size).min(steps.len()));
            match scene.replay(&fewer) {
                Err(what) => (steps, last) = (fewer, Some(what)),
                Ok(_) => start += size,
            }
        }
        size /= 2;
    }
    (steps, last)
}
