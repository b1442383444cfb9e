//! A key that stands for one who takes part: put with a session's lease, and taken back whatever
//! happens. Who is in, and what follows from it, is for the recipe to say.
//!
//! Its value is a mark that is used once, so that an answer which was lost does no harm: the entry is
//! sent again, and a key that has the mark is ours. A copy may still be under way when the key is taken
//! back. Then a void key is put with it, which every copy has to find absent; it goes with the lease,
//! behind which no copy can put anything.

use bytes::Bytes;
use tokio::runtime::Handle;

use super::definite::definite;
use super::requests::range;
use super::session::Session;
use crate::client::{Compare, Op};
use crate::error::Error;
use crate::net::clock;
use crate::net::race::{Either, race};
use crate::types::Revision;

/// See the head of this file. Dropped while it may be in, it leaves in the background.
#[derive(Debug)]
pub(super) struct Presence {
    stay: Stay,
    /// Where there is a runtime to leave on, also when it is dropped outside of one.
    handle: Option<Handle>,
}

#[derive(Clone, Debug)]
struct Stay {
    session: Session,
    key: Bytes,
    mark: Bytes,
    void: Bytes,
    /// What is done in the transaction that takes the key back.
    parting: Option<Op>,
    created: Option<Revision>,
    /// A copy of the entry may be carried out yet.
    loose: bool,
}

/// A word that nobody has used or will use: no two sessions of a lease count from the same number.
pub(super) fn mark(session: &Session) -> String {
    format!("{}-{:x}", session.lease_id(), session.shared().entries().number())
}

impl Presence {
    /// Not in yet. `prefix` is the recipe's.
    pub(super) fn new(session: &Session, prefix: &str, key: Bytes, mark: String) -> Presence {
        let runtime = session.client().channel().runtime();
        Presence {
            stay: Stay {
                session: session.clone(),
                key,
                void: format!("{prefix}void/{mark}").into(),
                mark: mark.into(),
                parting: None,
                created: None,
                loose: false,
            },
            handle: runtime.within(|| Handle::try_current().ok()),
        }
    }

    /// What is to be done in the transaction that takes the key back, where the key is there.
    pub(super) fn parting(mut self, op: impl Into<Op>) -> Presence {
        self.stay.parting = Some(op.into());
        self
    }

    pub(super) fn session(&self) -> &Session {
        &self.stay.session
    }

    pub(super) fn key(&self) -> &Bytes {
        &self.stay.key
    }

    /// Holds while the key is ours.
    pub(super) fn is_ours(&self) -> Compare {
        self.stay.is_ours()
    }

    /// Puts the key if there is none and `conditions` hold: when it was created. `None` where not; it
    /// may be tried again.
    ///
    /// Cancel safe: dropped, it leaves the rest to the drop of the entry.
    pub(super) async fn enter(&mut self, conditions: &[Compare]) -> Result<Option<Revision>, Error> {
        self.stay.enter(conditions).await
    }

    /// Takes the key back. Whether it was there.
    ///
    /// Cancel safe, as [`Presence::enter`].
    pub(super) async fn leave(&mut self) -> Result<bool, Error> {
        self.stay.leave().await
    }

    /// The key is gone already, and no copy of the entry can put it any more.
    pub(super) fn forget(&mut self) {
        (self.stay.created, self.stay.loose) = (None, false);
    }
}

impl Stay {
    fn is_ours(&self) -> Compare {
        Compare::value(self.key.clone()).equal(self.mark.clone())
    }

    async fn enter(&mut self, conditions: &[Compare]) -> Result<Option<Revision>, Error> {
        let Stay {
            session,
            key,
            mark,
            void,
            loose,
            ..
        } = self;
        let absent = |key: &Bytes| Compare::create_revision(key.clone()).equal(Revision::ZERO);
        let answer = definite(session, loose, || {
            let txn = session.client().txn().control().when(absent(key)).when(absent(void));
            let txn = conditions.iter().fold(txn, |txn, condition| txn.when(condition.clone()));
            txn.then(Op::put(key.clone(), mark.clone()).lease(session.lease_id()))
                .or_else(Op::get(key.clone()))
        });
        let answer = answer.await?;
        self.created = match answer.succeeded {
            true => Some(answer.revision()),
            false => {
                let ours = range(&answer, 0)?.kvs.first().filter(|kv| kv.value == *mark);
                ours.map(|kv| Revision(kv.create_revision))
            }
        };
        Ok(self.created)
    }

    async fn leave(&mut self) -> Result<bool, Error> {
        let (session, client) = (&self.session, self.session.client());
        let void = || Op::put(self.void.clone(), Bytes::new()).lease(session.lease_id());
        let mut copied = false;
        let left = definite(session, &mut copied, || {
            let txn = client.txn().control().when(self.is_ours()).then(Op::delete(self.key.clone()));
            let txn = self.parting.iter().fold(txn, |txn, parting| txn.then(parting.clone()));
            match self.loose {
                true => txn.then(void()).or_else(void()),
                false => txn,
            }
        });
        let left = left.await?.succeeded;
        (self.created, self.loose) = (None, false);
        // A copy whose answer was lost may have deleted it.
        Ok(left || copied)
    }

    /// Until it is certain, or the lease has ended and took the key.
    async fn leave_at_last(mut self) {
        let mut backoff = self.session.shared().backoff();
        while self.leave().await.is_err() {
            let pause = clock::sleep_until(clock::now() + backoff.next_wait());
            if let Either::Left(_) = race(self.session.ended(), pause).await {
                return;
            }
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if self.stay.created.is_none() && !self.stay.loose {
            return;
        }
        let stay = self.stay.clone();
        let client = stay.session.client().clone();
        let _entered = self.handle.as_ref().map(Handle::enter);
        client.channel().runtime().spawn(stay.leave_at_last());
    }
}
