//! The tasks of a rung: each locks, gives the lock back, and asks for it again. Its time begins when the first of
//! them has the lock: before that there is nothing to be measured.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tenure::{Origin, Session};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::rung::Rung;

/// What others see of the holder.
const VALUE: &str = "tenure bench";
/// A task that failed does not fail again at once.
const AFTER_ERROR: Duration = Duration::from_millis(100);
/// How long the first lock may take. Whoever has it for longer is left alone with it.
pub(super) const FIRST_LOCK_MAX: Duration = Duration::from_secs(5);

/// Tasks under measurement.
#[derive(Debug)]
pub(super) struct Contest {
    tasks: JoinSet<()>,
    rung: Arc<Mutex<Rung>>,
    clock: Clock,
    /// When the first of them is to have the lock.
    patience: Instant,
}

/// The time of a rung.
#[derive(Clone, Debug)]
struct Clock {
    /// When a task had the lock for the first time.
    begun: watch::Sender<Option<Instant>>,
    time: Duration,
}

impl Contest {
    pub(super) fn start(session: &Session, name: &str, tasks: u32, time: Duration) -> Contest {
        let rung = Arc::new(Mutex::new(Rung::new(tasks)));
        let clock = Clock {
            begun: watch::Sender::new(None),
            time,
        };
        let mut running = JoinSet::new();
        for _ in 0..tasks {
            running.spawn(contend(
                session.clone(),
                name.to_owned(),
                rung.clone(),
                clock.clone(),
            ));
        }
        Contest {
            tasks: running,
            rung,
            clock,
            patience: Instant::now() + FIRST_LOCK_MAX,
        }
    }

    /// Completes when the time is over, when nobody had the lock within [`FIRST_LOCK_MAX`], or when no task goes on.
    ///
    /// Cancel safe.
    pub(super) async fn over(&mut self) {
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        tokio::select! {
            biased;
            () = self.clock.over(self.patience) => {}
            () = ended => {}
        }
    }

    /// What it came to so far.
    pub(super) fn look(&self, seen: impl FnOnce(&Rung)) {
        let mut rung = own(&self.rung);
        rung.took(self.clock.passed());
        seen(&rung);
    }

    /// Ends the tasks. What they gave up goes back in the background, at the latest with the session.
    pub(super) async fn end(mut self) -> Rung {
        self.look(|_| {});
        self.tasks.shutdown().await;
        own(&self.rung).clone()
    }
}

impl Clock {
    /// Whether it is in time that a task has the lock since now. It begins with the first one.
    fn counts(&self, now: Instant) -> bool {
        let begun = *self.begun.borrow();
        // Nobody else comes in between: the lock is ours.
        let begun = begun.unwrap_or_else(|| {
            self.begun.send_replace(Some(now));
            now
        });
        now < begun + self.time
    }

    /// How much of it has passed.
    fn passed(&self) -> Duration {
        self.begun.borrow().map_or(Duration::ZERO, |begun| begun.elapsed().min(self.time))
    }

    /// Completes when it has passed, or when it has not begun by then.
    async fn over(&self, patience: Instant) {
        let mut seen = self.begun.subscribe();
        let _ = timeout_at(patience, seen.wait_for(Option::is_some)).await;
        let begun = *seen.borrow();
        if let Some(begun) = begun {
            sleep_until(begun + self.time).await;
        }
    }
}

async fn contend(session: Session, name: String, rung: Arc<Mutex<Rung>>, clock: Clock) {
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
        } else if clock.counts(now) {
            own(&rung).waited(now - asked);
        }
    }
}

fn own(rung: &Mutex<Rung>) -> MutexGuard<'_, Rung> {
    rung.lock().unwrap_or_else(PoisonError::into_inner)
}
