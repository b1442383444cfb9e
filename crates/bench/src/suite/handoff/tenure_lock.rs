//! tenure's lock, with all contenders on one thread of this process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tenure::{Client, Session};
use tenure_bench_worker::Cost;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{PATIENCE, Race};
use crate::Failure;
use crate::contest::Competitor;
use crate::contest::Setting;
use crate::stop::Stop;
use crate::tally::Round;

#[derive(Debug)]
pub(super) struct Tenure {
    race: Race,
}

impl Tenure {
    pub(super) fn new(race: Race) -> Tenure {
        Tenure { race }
    }
}

impl Competitor for Tenure {
    fn name(&self) -> String {
        format!("tenure {}", env!("CARGO_PKG_VERSION"))
    }

    fn run_round(&mut self, setting: &Setting) -> Result<Round, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sessions = runtime.block_on(open(&self.race))?;
        let baton = Arc::new(Baton::new(&self.race, setting.stop.clone()));
        let (outcome, cost) = Cost::of(|| runtime.block_on(contend(&sessions, &self.race, &baton)));
        outcome?;
        runtime.block_on(close(sessions))?;
        let mut state = baton.lock();
        Ok(Round {
            latencies: std::mem::take(&mut state.latencies),
            pace: Some((state.grants, state.elapsed)),
            cost: Some(cost),
        })
    }
}

async fn open(race: &Race) -> Result<Vec<Session>, Failure> {
    let mut sessions = Vec::new();
    for _ in 0..race.contenders {
        sessions.push(Client::connect([&race.endpoint]).await?.session().await?);
    }
    Ok(sessions)
}

async fn close(sessions: Vec<Session>) -> Result<(), Failure> {
    for session in sessions {
        session.close().await?;
    }
    Ok(())
}

/// Returns the first failure of a contender; the others are then dropped.
async fn contend(sessions: &[Session], race: &Race, baton: &Arc<Baton>) -> Result<(), Failure> {
    let mut workers = JoinSet::new();
    baton.lock().begun = Instant::now();
    for (number, session) in sessions.iter().enumerate() {
        let mutex = session.mutex(&race.name);
        workers.spawn(work(number, mutex, race.hold, baton.clone()));
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(())
}

async fn work(number: usize, mutex: tenure::Mutex, hold: Duration, baton: Arc<Baton>) -> Result<(), Failure> {
    loop {
        let locked = timeout(PATIENCE, mutex.lock()).await;
        let guard = locked.map_err(|_| format!("no lock within {PATIENCE:?}"))??;
        let enough = baton.take(number)?;
        if !hold.is_zero() {
            sleep(hold).await;
        }
        baton.release(number);
        guard.release().await?;
        if enough {
            return Ok(());
        }
    }
}

/// Knows who let go last, and collects what the hand-offs took.
#[derive(Debug)]
struct Baton {
    wanted: usize,
    stop: Stop,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    held_by: Option<usize>,
    released: Option<(usize, Instant)>,
    begun: Instant,
    elapsed: Duration,
    grants: u64,
    latencies: Vec<Duration>,
}

impl Baton {
    fn new(race: &Race, stop: Stop) -> Baton {
        let wanted = race.handoffs as usize;
        let state = State {
            held_by: None,
            released: None,
            begun: Instant::now(),
            elapsed: Duration::ZERO,
            grants: 0,
            latencies: Vec::with_capacity(wanted),
        };
        Baton {
            wanted,
            stop,
            state: Mutex::new(state),
        }
    }

    /// Says whether there have been hand-offs enough.
    fn take(&self, number: usize) -> Result<bool, Failure> {
        let now = Instant::now();
        let mut state = self.lock();
        if let Some(other) = state.held_by.replace(number) {
            return Err(format!("{number} got the lock while {other} held it").into());
        }
        if state.latencies.len() < self.wanted {
            state.grants += 1;
            state.elapsed = now - state.begun;
            if let Some((_, since)) = state.released.filter(|(last, _)| *last != number) {
                state.latencies.push(now - since);
            }
        }
        Ok(state.latencies.len() == self.wanted || self.stop.is_set())
    }

    fn release(&self, number: usize) {
        let mut state = self.lock();
        state.held_by = None;
        state.released = Some((number, Instant::now()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baton(handoffs: u32) -> Baton {
        let race = Race {
            endpoint: String::new(),
            name: String::new(),
            contenders: 2,
            handoffs,
            hold: Duration::ZERO,
        };
        Baton::new(&race, Stop::default())
    }

    #[test]
    fn a_lock_that_comes_back_is_a_grant_and_no_hand_off() {
        let baton = baton(1);
        for (number, enough) in [(0, false), (0, false), (1, true)] {
            assert_eq!(baton.take(number).unwrap(), enough);
            baton.release(number);
        }
        let state = baton.lock();
        assert_eq!((state.grants, state.latencies.len()), (3, 1));
    }

    #[test]
    fn two_holders_at_once_are_a_failure() {
        let baton = baton(1);
        assert!(!baton.take(0).unwrap());
        let failure = baton.take(1).unwrap_err();
        assert_eq!(failure.to_string(), "1 got the lock while 0 held it");
    }

    #[test]
    fn a_stop_is_enough() {
        let baton = baton(9);
        baton.stop.set();
        assert!(baton.take(0).unwrap());
    }
}
