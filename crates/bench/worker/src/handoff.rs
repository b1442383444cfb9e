//! A lock that is passed on: from the holder's call to release it until the next one's call to
//! lock it returns, both on one clock.
//!
//! Each contender has a connection of its own and locks and releases again and again, all on one
//! thread. A lock that comes back to who released it is a grant and no hand-off. That never two
//! hold the lock is checked.
//!
//! Time is taken from the first grant to the last hand-off that is wanted. Those who wait by then have their
//! turns too, and what everything costs from beginning to end is shared among all grants.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

use crate::input::Enough;
use crate::server::Server;
use crate::{Cost, Handoff, Lock, Locker, text};

pub(crate) fn run<L: Locker>(order: &Handoff, runtime: &Runtime, tasks: &LocalSet) -> Result<(), String> {
    let baton = Rc::new(Baton::new(order.handoffs, Enough::at_end_of_input()));
    let (_clients, locks) = tasks.block_on(runtime, connect::<L>(order))?;
    let server = Server::of(order.server_pid)?;
    let (outcome, cost) = Cost::of_process(|| tasks.block_on(runtime, contend(locks, order, &baton)));
    outcome?;
    let state = baton.state.borrow();
    let share = state.timed as f64 / state.grants.max(1) as f64;
    crate::print_latencies(&state.latencies)?;
    crate::print(state.timed, state.elapsed, cost.share(share));
    server.print(share)
}

/// A client and its lock for each contender. The clients outlive the measuring.
async fn connect<L: Locker>(order: &Handoff) -> Result<(Vec<L>, Vec<L::Lock>), String> {
    let (mut clients, mut locks) = (Vec::new(), Vec::new());
    for _ in 0..order.contenders {
        let client = L::connect(&order.servers.endpoints).await?;
        locks.push(client.mutex(&order.name).await?);
        clients.push(client);
    }
    Ok((clients, locks))
}

/// Returns the first failure of a contender; the others are then dropped.
async fn contend<T: Lock>(locks: Vec<T>, order: &Handoff, baton: &Rc<Baton>) -> Result<(), String> {
    let mut contenders = JoinSet::new();
    for (number, lock) in locks.into_iter().enumerate() {
        contenders.spawn_local(work(number, lock, order.clone(), baton.clone()));
    }
    while let Some(ended) = contenders.join_next().await {
        ended.map_err(text)??;
    }
    Ok(())
}

async fn work<T: Lock>(number: usize, mut lock: T, order: Handoff, baton: Rc<Baton>) -> Result<(), String> {
    let patience = order.patience;
    loop {
        let locked = timeout(patience, lock.lock()).await;
        locked.map_err(|_| format!("no lock within {patience:?}"))??;
        let enough = baton.take(number)?;
        if !order.hold.is_zero() {
            sleep(order.hold).await;
        }
        baton.release(number);
        lock.unlock().await?;
        if enough {
            return Ok(());
        }
    }
}

/// Knows who let go last, and collects what the hand-offs took.
#[derive(Debug)]
struct Baton {
    wanted: usize,
    enough: Enough,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    held_by: Option<usize>,
    released: Option<(usize, Instant)>,
    /// The first grant.
    begun: Option<Instant>,
    /// From then to the last hand-off.
    elapsed: Duration,
    /// The grants in that time.
    timed: u64,
    /// All.
    grants: u64,
    latencies: Vec<Duration>,
}

impl Baton {
    fn new(wanted: usize, enough: Enough) -> Baton {
        let state = State {
            held_by: None,
            released: None,
            begun: None,
            elapsed: Duration::ZERO,
            timed: 0,
            grants: 0,
            latencies: Vec::with_capacity(wanted),
        };
        Baton {
            wanted,
            enough,
            state: RefCell::new(state),
        }
    }

    /// Says whether there have been hand-offs enough.
    fn take(&self, number: usize) -> Result<bool, String> {
        let now = Instant::now();
        let mut state = self.state.borrow_mut();
        if let Some(other) = state.held_by.replace(number) {
            return Err(format!("{number} got the lock while {other} held it"));
        }
        state.grants += 1;
        if state.latencies.len() < self.wanted {
            match state.begun {
                Some(begun) => (state.timed, state.elapsed) = (state.timed + 1, now - begun),
                None => state.begun = Some(now),
            }
            if let Some((_, since)) = state.released.filter(|(last, _)| *last != number) {
                state.latencies.push(now - since);
            }
        }
        Ok(state.latencies.len() == self.wanted || self.enough.is_it())
    }

    fn release(&self, number: usize) {
        let mut state = self.state.borrow_mut();
        state.held_by = None;
        state.released = Some((number, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_comes_back_is_a_grant_and_no_hand_off() {
        let baton = Baton::new(1, Enough::default());
        // The first one begins the time, and the last one comes after it.
        for (number, enough) in [(0, false), (0, false), (1, true), (0, true)] {
            assert_eq!(baton.take(number), Ok(enough));
            baton.release(number);
        }
        let state = baton.state.borrow();
        assert_eq!((state.grants, state.timed, state.latencies.len()), (4, 2, 1));
    }

    #[test]
    fn two_holders_at_once_are_a_failure() {
        let baton = Baton::new(1, Enough::default());
        assert_eq!(baton.take(0), Ok(false));
        assert_eq!(baton.take(1), Err("1 got the lock while 0 held it".to_owned()));
    }

    #[test]
    fn a_stop_is_enough() {
        let enough = Enough::default();
        let baton = Baton::new(9, enough.clone());
        enough.set();
        assert_eq!(baton.take(0), Ok(true));
    }
}
