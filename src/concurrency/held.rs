//! What every guard of a claim has: the entry that was granted, and its token.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::attempt::Kept;
use super::definite::definite;
use super::entry::Entry;
use super::fenced::FencedWrites;
use super::refusal;
use super::session::Session;
use super::token::Token;
use crate::client::{Client, Compare, LeaseEnd, Txn};
use crate::error::Error;
use crate::pb::etcdserverpb::TxnResponse;
use crate::types::Revision;

/// What the guards of a read-write lock, a semaphore and a multi-lock have in common.
///
/// A guard's validity is its session's. That somebody deleted its keys by hand is seen
/// by [`Held::fence`] and by a release only.
pub struct Held {
    entry: Entry,
    token: Token,
    /// The key that the fence compares.
    key: Bytes,
    /// How many keys a release is to find.
    keys: i64,
}

impl Held {
    pub(super) fn new(entry: Entry, created: Revision) -> Held {
        let place = entry.place();
        let key = place.writers_key().unwrap_or(&place.key).clone();
        Held {
            token: Token::new(created, 0, 0),
            key,
            keys: i64::try_from(place.keys().count()).unwrap_or(i64::MAX),
            entry,
        }
    }

    /// The create_revision of the key in etcd.
    ///
    /// A holder that is alone, to write or of several names, has a greater one than
    /// anybody had before; a reader has a greater one than any writer before. Between
    /// readers, or holders of permits, it says nothing: a resource that refuses all but
    /// the greatest token it saw cannot be shared by them. [`Held::fence`] can.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    /// The key in etcd that shows it, of several the first.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The session that it hangs on.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.entry.session()
    }

    /// Whether it is proven to be ours at this moment.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.session().is_valid()
    }

    /// For how long from now it is ours without any further renewal.
    #[must_use]
    pub fn valid_for(&self) -> Duration {
        self.session().valid_for()
    }

    /// Completes when it is lost, at the deadline at the latest and with no help
    /// from the network.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn lost(&self) -> LeaseEnd {
        self.session().ended().await
    }

    /// A comparison that holds only while it is ours in etcd itself: put it before the
    /// writes of a transaction, and a holder that is late writes nothing.
    #[must_use]
    pub fn fence(&self) -> Compare {
        Compare::create_revision(self.key.clone()).equal(self.token.create_revision())
    }

    /// Writes that take effect only while it is ours in etcd itself: [`Held::fence`] in one line.
    pub fn fenced(&self) -> FencedWrites<'_> {
        FencedWrites::new(self.session(), [self.fence()])
    }

    /// The fences of all its keys.
    pub(super) fn fences(&self) -> Vec<Compare> {
        let created = self.token.create_revision();
        let fence = |key: &Bytes| Compare::create_revision(key.clone()).equal(created);
        self.entry.place().keys().map(fence).collect()
    }

    /// Sends a transaction until it is certain what became of it. `make` is to build one
    /// that does no harm when it is carried out twice, or late.
    ///
    /// # Errors
    ///
    /// The session has ended, or the server refuses.
    pub(super) async fn certainly<'a>(
        &'a self,
        make: impl Fn(Txn<&'a Client>) -> Txn<&'a Client>,
    ) -> Result<TxnResponse, Error> {
        let session = self.session();
        definite(session, &mut false, || {
            make(session.client().txn().control().idempotent())
        })
        .await
    }

    /// It is ours no more.
    pub(super) fn lost_before(&self, message: &'static str) -> Error {
        refusal::lost(self.session(), message)
    }

    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The writer's key is gone: what is left is a reader's.
    pub(super) fn reads(&mut self) {
        self.key = self.entry.place().key.clone();
        self.keys = 1;
    }

    /// Gives it back, and waits until that is committed.
    pub(super) async fn release(self) -> Result<(), Error> {
        let (keys, session) = (self.keys, self.entry.session().clone());
        if self.entry.release().await? >= keys {
            return Ok(());
        }
        Err(refusal::lost(&session, "it had been lost before it was released"))
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("token", &self.token).field("entry", &self.entry).finish()
    }
}
