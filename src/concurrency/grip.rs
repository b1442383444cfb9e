//! What a guard holds the lock by: a seat, and where the grant may end before the session
//! does, a cell that the guard has in common with the task that ends it.
//!
//! ```text
//!           guard released or dropped
//!   Held --------------------------------> Done    the seat decides what becomes of the key
//!     |                                      ^
//!     | its time is over, or its owner's     | task, after the session's delay:
//!     | key is another session's             | the key is tainted, and deleted
//!     '----------------------------> Lost ---'
//! ```
//!
//! Why nobody of the session is granted a key that was lost so: it is tainted before the seat goes.

use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::lost::Lost;
use super::own_key;
use super::seat::Seat;
use super::session::Session;
use super::shared::Shared;
use super::slot::Slot;
use crate::core::time::Instant;
use crate::net::clock;
use crate::net::race::{Either, race};
use crate::types::Revision;

/// See the head of this file.
pub(super) enum Grip {
    /// For as long as the session lives.
    Plain(Seat),
    Bounded(Bounded),
}

/// A grant that may end before its session.
pub(super) struct Bounded {
    session: Session,
    slot: Arc<Slot>,
    cell: Arc<Cell>,
}

/// What guard and task have in common.
struct Cell {
    until: Option<Instant>,
    state: Mutex<State>,
    /// There is nothing left for the task to do.
    done: Notify,
    /// The grant was lost.
    news: Notify,
}

struct State {
    seat: Option<Seat>,
    lost: Option<Lost>,
}

impl Grip {
    /// Held until it is given back, or for this time at most. `mark` tells its key from
    /// others of that name; an owner's may become another session's.
    pub(super) fn new(seat: Seat, mark: Revision, time: Option<Duration>) -> Grip {
        if time.is_none() && !seat.slot().place().is_owned() {
            return Grip::Plain(seat);
        }
        let (session, slot) = (seat.session().clone(), seat.slot().clone());
        let cell = Arc::new(Cell {
            until: time.map(|time| clock::now() + time),
            state: Mutex::new(State {
                seat: Some(seat),
                lost: None,
            }),
            done: Notify::new(),
            news: Notify::new(),
        });
        let watching = watch_over(cell.clone(), session.shared().clone(), slot.clone(), mark);
        session.client().channel().runtime().spawn(watching);
        Grip::Bounded(Bounded { session, slot, cell })
    }

    pub(super) fn session(&self) -> &Session {
        match self {
            Grip::Plain(seat) => seat.session(),
            Grip::Bounded(bounded) => &bounded.session,
        }
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        match self {
            Grip::Plain(seat) => seat.slot(),
            Grip::Bounded(bounded) => &bounded.slot,
        }
    }

    /// For how long from now it is proven.
    pub(super) fn valid_for(&self) -> Duration {
        let of_session = self.session().valid_for();
        match self {
            Grip::Plain(_) => of_session,
            Grip::Bounded(bounded) => of_session.min(bounded.cell.left()),
        }
    }

    pub(super) fn is_valid(&self) -> bool {
        let is_lost = match self {
            Grip::Plain(_) => false,
            Grip::Bounded(bounded) => bounded.cell.lost().is_some(),
        };
        !is_lost && self.session().is_valid()
    }

    pub(super) async fn lost(&self) -> Lost {
        let ended = self.session().ended();
        let Grip::Bounded(bounded) = self else {
            return Lost::Session(ended.await);
        };
        match race(bounded.cell.wait_lost(), ended).await {
            Either::Left(lost) => lost,
            Either::Right(end) => Lost::Session(end),
        }
    }

    /// Why it is not held any more, if it is not; without the session, which says that itself.
    pub(super) fn why_lost(&self) -> Option<Lost> {
        match self {
            Grip::Plain(_) => None,
            Grip::Bounded(bounded) => bounded.cell.lost(),
        }
    }

    /// A comparison with the key was given out.
    pub(super) fn fence(&self) {
        self.with_seat(Seat::fence);
    }

    /// The key is not to be granted again. One that was lost is tainted anyway, and may be another
    /// task's by now.
    pub(super) fn taint(&self) {
        self.with_seat(|seat| seat.slot().word().taint());
    }

    fn with_seat(&self, with: impl FnOnce(&Seat)) {
        match self {
            Grip::Plain(seat) => with(seat),
            Grip::Bounded(bounded) => {
                if let Some(seat) = &bounded.cell.state().seat {
                    with(seat);
                }
            }
        }
    }

    /// What is to be released.
    ///
    /// # Errors
    ///
    /// It was lost, and is the task's.
    pub(super) fn into_seat(self) -> Result<Seat, Lost> {
        match self {
            Grip::Plain(seat) => Ok(seat),
            Grip::Bounded(bounded) => bounded.cell.take(),
        }
    }
}

impl Cell {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self) -> Duration {
        match (self.lost(), self.until) {
            (Some(_), _) => Duration::ZERO,
            (None, Some(until)) => until.saturating_since(clock::now()),
            (None, None) => Duration::MAX,
        }
    }

    /// Asks the clock and not the task, which may be late.
    fn lost(&self) -> Option<Lost> {
        self.why_lost(&self.state())
    }

    fn why_lost(&self, state: &State) -> Option<Lost> {
        let is_over = |until| clock::now() >= until;
        let too_long = self.until.is_some_and(is_over).then_some(Lost::HeldTooLong);
        state.lost.or(too_long)
    }

    async fn wait_lost(&self) -> Lost {
        loop {
            // Made before the look, since `notify_waiters` reaches only those it finds.
            let news = self.news.notified();
            if let Some(lost) = self.lost() {
                return lost;
            }
            news.await;
        }
    }

    fn take(&self) -> Result<Seat, Lost> {
        let mut state = self.state();
        if let Some(lost) = self.why_lost(&state) {
            return Err(lost);
        }
        self.done.notify_one();
        // It is there, but for a second call, whose answer nobody asks for.
        state.seat.take().ok_or(Lost::HeldTooLong)
    }

    /// The grant is over, whatever its guard does. Whether there is one: it may have been given back just now.
    fn lose(&self, lost: Lost) -> bool {
        let mut state = self.state();
        if state.seat.is_none() {
            return false;
        }
        state.lost.get_or_insert(lost);
        drop(state);
        self.news.notify_waiters();
        true
    }

    /// What is left of a grant that was lost goes, and is granted to nobody: whoever held it may
    /// still write.
    fn give_back(&self) {
        let seat = self.state().seat.take();
        if let Some(seat) = seat {
            seat.slot().word().taint();
        }
    }
}

/// The task of a grant.
async fn watch_over(cell: Arc<Cell>, shared: Arc<Shared>, slot: Arc<Slot>, mark: Revision) {
    let too_long = async {
        match cell.until {
            Some(until) => clock::sleep_until(until).await,
            None => pending().await,
        }
        Lost::HeldTooLong
    };
    let taken_away = async {
        match slot.place().is_owned() {
            true => own_key::taken_away(&shared, slot.place(), mark).await,
            false => pending().await,
        }
    };
    let done = race(cell.done.notified(), shared.lease().ended());
    let Either::Left(Either::Left(lost) | Either::Right(lost)) = race(race(too_long, taken_away), done).await
    else {
        return;
    };
    if cell.lose(lost) {
        slot.lost();
        // For so long nobody else is to have what this holder may still use.
        let delay = match lost {
            Lost::HeldTooLong => shared.lease().reserve(),
            _ => Duration::ZERO,
        };
        race(clock::sleep_until(clock::now() + delay), shared.lease().ended()).await;
        cell.give_back();
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        drop(self.cell.take());
    }
}

impl fmt::Debug for Grip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Grip").field(self.slot()).finish()
    }
}
