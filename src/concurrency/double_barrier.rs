//! A double barrier: so many begin together, and end together. Drives the machine of
//! `core::double_barrier`.

use std::sync::Arc;

use bytes::Bytes;

use super::definite::{definite, ended, failed};
use super::following::Following;
use super::presence::{Presence, mark};
use super::recipe::prefix;
use super::refusal::lost;
use super::session::Session;
use crate::client::{Client, Compare, LeaseEnd, Op, Txn};
use crate::core::double_barrier::{Action, Place, Round};
use crate::error::Error;
use crate::net::race::{Either, race};
use crate::types::{KeyRange, Revision};

const RECIPE: &str = "double-barrier";

/// All that have to be in are compared in one transaction, of 128 operations by default.
const PARTIES_MAX: u32 = 120;

/// A name at which processes meet to begin together, and again to end together.
///
/// # Guarantees
///
/// [`DoubleBarrier::enter`] ends for all of a round once, at one revision, so many were in that were
/// alive to etcd: who died before that does not count. More may come along until then; who comes later
/// waits for the round to be over. [`Inside::leave`] ends once nobody of the round is in any more; who
/// dies inside, or loses its session, has left.
///
/// All have to name the same number of parties: the smallest one counts. It needs no clock beside the
/// leases of the [`Session`]s. One that is lost is told by [`Inside::lost`], under the assumption that
/// is told there.
#[derive(Clone, Debug)]
pub struct DoubleBarrier {
    session: Session,
    name: Arc<str>,
    parties: u32,
}

impl Session {
    /// The double barrier of this name, which has no `#`, for so many parties: 120 at most. Nothing is
    /// sent until it is entered. Names nest.
    ///
    /// ```no_run
    /// # async fn example(session: tenure::Session) -> Result<(), tenure::Error> {
    /// let inside = session.double_barrier("jobs/benchmark", 8).enter().await?;
    /// // All eight begin.
    /// inside.leave().await?;
    /// // All eight are done.
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn double_barrier(&self, name: &str, parties: u32) -> DoubleBarrier {
        DoubleBarrier {
            session: self.clone(),
            name: name.into(),
            parties,
        }
    }
}

impl DoubleBarrier {
    /// Enters, and waits until enough are in.
    ///
    /// # Errors
    ///
    /// The session has ended, somebody deleted our key, or the server refuses it; or it could not be
    /// reached in the client's time for a call when the waiting began.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, it leaves in the background. If all were in by then, the others go on.
    pub async fn enter(&self) -> Result<Inside, Error> {
        if !(1..=PARTIES_MAX).contains(&self.parties) {
            let message = format!("a double barrier is for 1 to {PARTIES_MAX} parties");
            return Err(Error::invalid(message));
        }
        let prefix = prefix(&self.name, RECIPE)?;
        let mark = mark(&self.session);
        let place = Place {
            entrants: format!("{prefix}in/").into(),
            marker: format!("{prefix}ready").into(),
            own: format!("{prefix}in/{mark}").into(),
        };
        let entrants = KeyRange::prefix(place.entrants.clone());
        let (before, behind) = (place.own.clone(), [&place.own[..], &[0]].concat());
        // Whoever is the last one takes the marker along.
        let parting = Txn::new()
            .when(empty(KeyRange::range(place.entrants.clone(), before)))
            .when(empty(KeyRange::range(behind, entrants.range_end.clone())))
            .then(Op::delete(place.marker.clone()));
        let mut passage = Passage {
            presence: Presence::new(&self.session, &prefix, place.own.clone(), mark).parting(parting),
            keys: KeyRange::range(place.entrants.clone(), format!("{prefix}ready\0")),
            entrants,
            marker: place.marker.clone(),
            round: Round::new(place, usize::try_from(self.parties).unwrap_or(usize::MAX)),
        };
        passage.run().await?;
        Ok(Inside { passage })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// One who is in: all others are too, or were. Dropping it leaves in the background, by a task of its
/// own, and waits for nobody.
#[must_use = "who drops it has left"]
#[derive(Debug)]
pub struct Inside {
    passage: Passage,
}

impl Inside {
    /// Whether the session is proven to be alive, so that the others wait for us.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.passage.presence.session().is_valid()
    }

    /// Completes when the session is over, at the deadline at the latest.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn lost(&self) -> LeaseEnd {
        self.passage.presence.session().ended().await
    }

    /// Leaves, and waits until all have left.
    ///
    /// # Errors
    ///
    /// `FailedPrecondition`: our key was gone before, so that the others may not have waited for us.
    /// The session has ended, or the server refuses it; or it could not be reached in the client's time
    /// for a call.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves in the background.
    pub async fn leave(mut self) -> Result<(), Error> {
        let passage = &mut self.passage;
        if !passage.presence.leave().await? {
            return Err(lost(
                passage.presence.session(),
                "our place in the double barrier had been lost before we left",
            ));
        }
        passage.round.handle_leave();
        passage.run().await
    }
}

/// One way through, driven until all are in, and again until all have left.
#[derive(Debug)]
struct Passage {
    presence: Presence,
    /// The entrants and the marker.
    keys: KeyRange,
    entrants: KeyRange,
    marker: Bytes,
    round: Round,
}

impl Passage {
    async fn run(&mut self) -> Result<(), Error> {
        let session = self.presence.session().clone();
        let client = session.client();
        let start = Following::start(client, self.keys.clone());
        let mut following = unless_ended(&session, start).await?;
        loop {
            self.round.handle_view(following.view());
            // Whatever is refused was decided on a view that is old: what made it so is on its way.
            match self.round.poll_action() {
                Some(Action::Enter) => {
                    if let Some(created) = self.presence.enter(&[absent(&self.marker)]).await? {
                        self.round.handle_entered(created);
                        continue;
                    }
                }
                Some(Action::Complete(entrants)) => {
                    definite(&session, &mut false, || self.complete(client, &entrants)).await?;
                }
                Some(Action::Sweep) => {
                    definite(&session, &mut false, || self.sweep(client)).await?;
                }
                Some(Action::Entered | Action::Left) => return Ok(()),
                Some(Action::Lost) => {
                    return Err(failed("somebody deleted our place in the double barrier"));
                }
                None => {}
            }
            unless_ended(&session, following.next()).await?;
        }
    }

    /// Its copies do no harm: the own key is compared, and is gone before the marker is.
    fn complete<'a>(&self, client: &'a Client, entrants: &[(Bytes, Revision)]) -> Txn<&'a Client> {
        let txn = client.txn().control().when(absent(&self.marker));
        let txn = entrants.iter().fold(txn, |txn, (key, created)| {
            txn.when(Compare::create_revision(key.clone()).equal(*created))
        });
        txn.then(Op::put(self.marker.clone(), Bytes::new()))
    }

    /// Its copies do no harm: a marker without entrants is of a round that is over.
    fn sweep<'a>(&self, client: &'a Client) -> Txn<&'a Client> {
        let txn = client.txn().control().when(empty(self.entrants.clone()));
        txn.then(Op::delete(self.marker.clone()))
    }
}

fn absent(key: &Bytes) -> Compare {
    empty(KeyRange::key(key.clone()))
}

fn empty(keys: KeyRange) -> Compare {
    Compare::create_revision(keys).equal(Revision::ZERO)
}

async fn unless_ended<T>(
    session: &Session,
    waiting: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match race(session.ended(), waiting).await {
        Either::Left(_) => Err(ended(session)),
        Either::Right(done) => done,
    }
}
