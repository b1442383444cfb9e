//! The tasks of a rung: each locks, gives the lock back, and asks for it again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tenure::{Origin, Session};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::rung::Rung;

/// What others see of the holder.
const VALUE: &str = "tenure bench";
/// A task that failed does not fail again at once.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Tasks under measurement.
#[derive(Debug)]
pub(super) struct Contest {
    tasks: JoinSet<()>,
    rung: Arc<Mutex<Rung>>,
    begun: Instant,
    /// A wait that ends later is not counted.
    until: Instant,
}

impl Contest {
    pub(super) fn start(session: &Session, name: &str, tasks: u32, time: Duration) -> Contest {
        let rung = Arc::new(Mutex::new(Rung::new(tasks)));
        let begun = Instant::now();
        let until = begun + time;
        let mut running = JoinSet::new();
        for _ in 0..tasks {
            running.spawn(contend(session.clone(), name.to_owned(), rung.clone(), until));
        }
        Contest {
            tasks: running,
            rung,
            begun,
            until,
        }
    }

    /// Completes when the time is over, or when no task goes on.
    ///
    /// Cancel safe.
    pub(super) async fn over(&mut self) {
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        tokio::select! {
            biased;
            () = sleep_until(self.until) => {}
            () = ended => {}
        }
    }

    /// What it came to so far.
    pub(super) fn look(&self, seen: impl FnOnce(&Rung)) {
        let mut rung = own(&self.rung);
        rung.took(Instant::now().min(self.until) - self.begun);
        seen(&rung);
    }

    /// Ends the tasks. What they gave up goes back in the background, at the latest with the session.
    pub(super) async fn end(mut self) -> Rung {
        self.look(|_| {});
        self.tasks.shutdown().await;
        own(&self.rung).clone()
    }
}

async fn contend(session: Session, name: String, rung: Arc<Mutex<Rung>>, until: Instant) {
    let mutex = session.mutex(&name).value(VALUE);
    loop {
        let asked = Instant::now();
        let locked = mutex.lock().await;
        let now = Instant::now();
        if let Err(error) = &locked {
            own(&rung).failed(error);
            // It would only be said again.
            if error.origin() == Origin::Caller || !session.is_valid() {
                return;
            }
            sleep(AFTER_ERROR).await;
        } else if now < until {
            own(&rung).waited(now - asked);
        }
    }
}

fn own(rung: &Mutex<Rung>) -> MutexGuard<'_, Rung> {
    rung.lock().unwrap_or_else(PoisonError::into_inner)
}
