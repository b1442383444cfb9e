//! Where the handles of leases and their driver meet: a list of who is kept, and
//! what the driver is to be told next. It neither starts nor is the driver.
//!
//! A lease that is kept twice has one state, which its handles share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::clock;
use super::figures::Figures;
use super::lease_state::{LeaseState, Refusal};
use crate::core::lease::{LeaseEnd, Term, valid_until};
use crate::core::time::Instant;
use crate::error::Code;
use crate::types::LeaseId;

/// The list, and the inbox.
pub(super) struct LeaseInbox {
    state: Mutex<State>,
    refusal: Arc<Refusal>,
    figures: Arc<Figures>,
}

#[derive(Default)]
struct State {
    kept: BTreeMap<LeaseId, Kept>,
    /// At most one entry for each handle that came or went since the driver looked.
    inbox: Vec<Command>,
    /// A driver is there and will look into the inbox.
    driven: bool,
    /// The driver, waiting for something in the inbox.
    driver: Option<Waker>,
}

struct Kept {
    state: Arc<LeaseState>,
    handles: usize,
}

/// What proved a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It was granted: it is a new one.
    Grant,
    /// It was renewed: somebody may keep it already.
    Renewal,
}

/// What the driver is told.
pub(super) enum Command {
    /// Renew this lease; a request sent then proved it.
    Keep(Arc<LeaseState>, Instant),
    /// Renew it no longer.
    GiveUp(LeaseId, LeaseEnd),
}

impl LeaseInbox {
    pub(super) fn new(figures: Arc<Figures>) -> LeaseInbox {
        LeaseInbox {
            state: Mutex::default(),
            refusal: Arc::default(),
            figures,
        }
    }

    /// Enters a handle of a lease that a request sent at `sent` proved. Says
    /// whether the driver is to be started.
    ///
    /// A renewal's lease may be kept already, and is shared then. A grant's cannot
    /// be: one that is kept under its ID is another, and gone. So is one with
    /// another term than was renewed.
    pub(super) fn keep(
        &self,
        id: LeaseId,
        sent: Instant,
        term: Term,
        proof: Proof,
    ) -> (Arc<LeaseState>, bool) {
        let now = clock::now();
        let mut state = self.lock();
        let is_same = |lease: &LeaseState| proof == Proof::Renewal && lease.term() == term;
        let earlier = state.kept.get(&id).map(|kept| kept.state.clone());
        if let Some(earlier) = earlier.filter(|earlier| !is_same(earlier)) {
            state.give_up(&earlier, LeaseEnd::UnknownToServer);
        }
        let shared_with = state.kept.get_mut(&id).filter(|kept| kept.state.valid_until(now).is_ok());
        let lease = match shared_with {
            Some(kept) => {
                kept.handles += 1;
                kept.state.clone()
            }
            None => {
                let lease = Arc::new(LeaseState::new(
                    id,
                    term,
                    valid_until(sent, term.believed()),
                    self.refusal.clone(),
                    self.figures.clone(),
                ));
                let kept = Kept {
                    state: lease.clone(),
                    handles: 1,
                };
                state.kept.insert(id, kept);
                self.figures.leases.kept.add();
                lease
            }
        };
        state.tell(Command::Keep(lease.clone(), sent));
        let starts = !std::mem::replace(&mut state.driven, true);
        (lease, starts)
    }

    /// A handle is gone. With the last one the lease is no longer renewed.
    pub(super) fn release(&self, lease: &Arc<LeaseState>) {
        let mut state = self.lock();
        if let Some(kept) = state.find(lease) {
            kept.handles -= 1;
            if kept.handles == 0 {
                state.give_up(lease, LeaseEnd::Closed);
            }
        }
    }

    /// Ends the lease for all its handles, at once; also where its driver is gone.
    pub(super) fn give_up(&self, lease: &Arc<LeaseState>, end: LeaseEnd) {
        let mut state = self.lock();
        match state.find(lease) {
            Some(_) => state.give_up(lease, end),
            None => lease.end(end),
        }
    }

    /// Why the server does not renew leases, for those whose deadline passes meanwhile.
    pub(super) fn refuse(&self, refusal: Option<Code>) {
        self.refusal.set(refusal);
    }

    /// How many leases are kept.
    pub(super) fn kept(&self) -> usize {
        self.lock().kept.len()
    }

    /// Hands the inbox to the driver, in exchange for an empty one, once there is
    /// something in it.
    pub(super) fn poll_commands(&self, empty: &mut Vec<Command>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.inbox.is_empty() {
            match &mut state.driver {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        std::mem::swap(&mut state.inbox, empty);
        Poll::Ready(())
    }

    /// The driver found this lease to be over.
    pub(super) fn forget(&self, lease: &Arc<LeaseState>) {
        let mut state = self.lock();
        if state.find(lease).is_some() {
            state.kept.remove(&lease.id());
        }
    }

    /// Whether the driver, which keeps nothing, may go: nothing new came in, and
    /// the next lease starts another driver.
    pub(super) fn dismiss(&self) -> bool {
        let mut state = self.lock();
        let idle = state.inbox.is_empty();
        state.driven = !idle;
        idle
    }

    /// The driver went with its runtime. Its leases run out; kept anew, they are new.
    pub(super) fn abandon(&self) {
        *self.lock() = State::default();
        self.refuse(None);
    }

    /// A panic while this lock was held cannot leave the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The entry of this very lease, not of a later one with its ID.
    fn find(&mut self, lease: &Arc<LeaseState>) -> Option<&mut Kept> {
        self.kept.get_mut(&lease.id()).filter(|kept| Arc::ptr_eq(&kept.state, lease))
    }

    fn give_up(&mut self, lease: &LeaseState, end: LeaseEnd) {
        lease.end(end);
        self.kept.remove(&lease.id());
        self.tell(Command::GiveUp(lease.id(), end));
    }

    fn tell(&mut self, command: Command) {
        self.inbox.push(command);
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lease_whose_driver_is_gone_is_ended_all_the_same() {
        let inbox = LeaseInbox::new(Arc::default());
        let term = Duration::from_secs(60).into();
        let (lease, starts) = inbox.keep(LeaseId(7), clock::now(), term, Proof::Grant);
        assert!(starts);
        inbox.abandon();
        assert!(
            lease.valid_until(clock::now()).is_ok(),
            "it runs out, unless somebody ends it"
        );
        inbox.give_up(&lease, LeaseEnd::Revoked);
        assert_eq!(lease.valid_until(clock::now()), Err(LeaseEnd::Revoked));
    }
}
