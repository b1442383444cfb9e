//! The bound on the calls in flight: a counter of places. Who finds none is refused at once,
//! and nobody waits here: a queue before the bound would be the overload that it is there against.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Error;

/// The places of a client.
#[derive(Debug)]
pub(crate) struct InFlight {
    max: usize,
    taken: AtomicUsize,
}

/// One of them, which is free again when this is dropped.
pub(crate) struct Admission(Arc<InFlight>);

impl InFlight {
    pub(super) fn new(max: usize) -> Arc<InFlight> {
        Arc::new(InFlight {
            max,
            taken: AtomicUsize::new(0),
        })
    }

    /// # Errors
    ///
    /// All are taken.
    pub(super) fn admit(self: &Arc<Self>) -> Result<Admission, Error> {
        let more = |taken| (taken < self.max).then_some(taken + 1);
        // Relaxed: the number is all that there is to agree on. It is never above the bound, not for
        // a moment, or somebody would be refused although there is a place.
        match self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Admission(self.clone())),
            Err(_) => Err(Error::shed(self.max)),
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_places_as_the_bound_and_each_is_free_when_it_is_dropped() {
        let in_flight = InFlight::new(3);
        let mut taken: Vec<_> = (0..3).map(|_| in_flight.admit().expect("a place")).collect();
        let error = in_flight.admit().expect_err("no fourth one");
        assert!(
            error.is_shed() && error.to_string().contains("3 calls"),
            "{error}"
        );
        taken.pop();
        taken.push(in_flight.admit().expect("the free one"));
        assert!(in_flight.admit().is_err());
    }

    #[test]
    fn of_threads_that_come_and_go_nobody_is_refused_while_there_is_a_place() {
        const PLACES: usize = 4;
        let in_flight = InFlight::new(PLACES);
        std::thread::scope(|scope| {
            for _ in 0..PLACES {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        drop(in_flight.admit().expect("one for each thread"));
                    }
                });
            }
        });
        assert_eq!(in_flight.taken.load(Ordering::Relaxed), 0);
    }
}
