//! A software transaction under way: what the closure that is run in it may do.

use std::future::IntoFuture;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::client::{Client, Compare, Op, Txn};
use crate::core::stm::{Condition, Footprint, Isolation, Write};
use crate::error::{Error, EtcdError};
use crate::types::{KeyRange, LeaseId, Revision};

/// What a closure that is run by [`Stm::run`](super::Stm::run) reads and writes with. Reads go to the
/// server once and are remembered; writes stay here until the commit, and later reads see them.
///
/// Reads may be awaited together: they cost one round trip then, but for the first one.
#[derive(Debug)]
pub struct Transaction {
    client: Client,
    attempt: Arc<Mutex<Attempt>>,
}

/// What is left of a transaction when its closure has returned.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    footprint: Footprint,
    /// What it reads was compacted away: this attempt sees no more.
    outdated: bool,
}

impl Transaction {
    pub(super) fn new(client: &Client, isolation: Isolation) -> Transaction {
        let attempt = Attempt {
            footprint: Footprint::new(isolation),
            outdated: false,
        };
        Transaction {
            client: client.clone(),
            attempt: Arc::new(Mutex::new(attempt)),
        }
    }

    pub(super) fn attempt(&self) -> Arc<Mutex<Attempt>> {
        self.attempt.clone()
    }

    /// The value of a key; `None` where there is none.
    ///
    /// # Errors
    ///
    /// The read failed. Hand it on: a read is sent again by itself where that helps.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has read nothing.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>, Error> {
        let key = key.into();
        if let Some(known) = self.attempt_now().footprint.get(&key) {
            return Ok(known);
        }
        self.read(KeyRange::key(key.clone())).await?;
        Ok(self.attempt_now().footprint.get(&key).flatten())
    }

    /// The keys of a range and their values, by key. It is always the whole range: how many there are,
    /// or which is the first, is the closure's to take from it. So what the commit
    /// compares is what was seen: a comparison for each key, and at the serializable levels one for
    /// the range.
    ///
    /// # Errors
    ///
    /// As [`Transaction::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has read nothing.
    pub async fn range(&self, keys: impl Into<KeyRange>) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let keys = keys.into();
        if keys.range_end.is_empty() {
            let value = self.get(keys.key.clone()).await?;
            return Ok(value.map(|value| (keys.key, value)).into_iter().collect());
        }
        if let Some(known) = self.attempt_now().footprint.range(&keys) {
            return Ok(known);
        }
        self.read(keys.clone()).await?;
        Ok(self.attempt_now().footprint.range(&keys).unwrap_or_default())
    }

    /// Puts a key with the commit.
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.put_with_lease(key, value, LeaseId::NONE);
    }

    /// Puts a key that goes when this lease ends, with the commit.
    pub fn put_with_lease(&self, key: impl Into<Bytes>, value: impl Into<Bytes>, lease: LeaseId) {
        self.attempt_now().footprint.put(key.into(), value.into(), lease);
    }

    /// Deletes a key with the commit, if it is there. For a range: read it, and delete what it has.
    pub fn delete(&self, key: impl Into<Bytes>) {
        self.attempt_now().footprint.delete(key.into());
    }

    /// Takes back everything that was put and deleted so far: for a closure that finds that it has
    /// nothing to do. What it answers then is still as good as what it read.
    pub fn rollback(&self) {
        self.attempt_now().footprint.rollback();
    }

    async fn read(&self, keys: KeyRange) -> Result<(), Error> {
        loop {
            let at = self.attempt_now().footprint.read_at();
            let answer = self.client.get(keys.clone()).revision(at).into_future().await;
            let mut attempt = self.attempt_now();
            let answer = answer.inspect_err(|error| {
                attempt.outdated |= at != Revision::ZERO && error.etcd() == Some(EtcdError::Compacted);
            })?;
            if attempt.footprint.handle_read(at, keys.clone(), answer.revision(), answer.kvs) {
                return Ok(());
            }
        }
    }

    fn attempt_now(&self) -> MutexGuard<'_, Attempt> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    pub(super) fn is_outdated(&self) -> bool {
        self.outdated
    }

    pub(super) fn footprint(&self) -> &Footprint {
        &self.footprint
    }

    /// The commit, unless it has more comparisons or writes than a server takes.
    pub(super) fn commit<'a>(&self, client: &'a Client, ops_max: usize) -> Result<Txn<&'a Client>, Error> {
        let conditions = self.footprint.conditions();
        let writes = self.footprint.writes();
        let ops = conditions.len().max(writes.len());
        if ops > ops_max {
            let compares = conditions.len();
            let message = format!(
                "a transaction with {compares} comparisons and {} writes; a server takes {ops_max} of each",
                writes.len()
            );
            return Err(Error::invalid(message).with_etcd(Some(EtcdError::TooManyOps)));
        }
        let txn = conditions.into_iter().fold(client.txn(), |txn, condition| {
            txn.when(match condition {
                Condition::Unchanged(key, revision) => Compare::mod_revision(key).equal(revision),
                Condition::NothingSince(keys, revision) => Compare::mod_revision(keys).less(revision.next()),
            })
        });
        Ok(writes.iter().fold(txn, |txn, (key, write)| match write {
            Write::Put { value, lease } => txn.then(Op::put(key.clone(), value.clone()).lease(*lease)),
            Write::Delete => txn.then(Op::delete(key.clone())),
        }))
    }
}
