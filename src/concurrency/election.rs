//! The election: the lock whose holder says something. Each candidate has a key of its own
//! in the queue, with what it says as the value.

use std::fmt;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::attempt::Kept;
use super::entry::Entry;
use super::held::Held;
use super::in_time::in_time;
use super::observe::Observe;
use super::refusal::{lost, refused};
use super::session::Session;
use crate::client::{Compare, Op, Txn};
use crate::core::election::Leader;
use crate::core::lock::Claim;
use crate::error::Error;
use crate::net::clock;
use crate::pb::etcdserverpb::TxnResponse;
use crate::pb::etcdserverpb::response_op::Response;
use crate::pb::mvccpb::KeyValue;
use crate::types::Revision;

/// A name that one candidate leads at a time, among all processes that use the same etcd
/// cluster and the same name. The leader says something, such as its address, that all
/// can read.
///
/// It is fair: who campaigned first leads first. The Go client's elections, `etcdctl elect`
/// and etcd's election service take part in it, and see our leaders as we see theirs.
///
/// Each campaign is a candidate of its own, also of one session: keep to one.
///
/// # Guarantees
///
/// No two [`Leadership`]s of a name are valid at the same time, under the conditions of
/// a [`Mutex`](super::Mutex): clocks that keep their rate (see [`Session`]), no keys
/// deleted by hand, and code that stops when it learns of the loss. A process that is
/// paused between a check and its effect cannot be stopped by any election: for that
/// there is [`Held::fence`].
#[derive(Clone)]
pub struct Election {
    session: Session,
    name: Arc<str>,
    timeout: Option<Duration>,
}

impl Session {
    /// The election of this name. Nothing is sent until somebody campaigns.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
    /// let election = client.session().await?.election("scheduler");
    /// let mut leadership = election.campaign("10.0.0.7:80, warming up").await?;
    /// leadership.proclaim("10.0.0.7:80").await?;
    /// // Lead, for as long as it is ours.
    /// leadership.lost().await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn election(&self, name: &str) -> Election {
        Election {
            session: self.clone(),
            name: name.into(),
            timeout: None,
        }
    }
}

impl Election {
    /// How long a campaign may take. Default: as long as the session.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Election {
        self.timeout = Some(timeout);
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until we lead, and says `value` from the beginning.
    ///
    /// The wait ends with a leadership only if our own key is still there when all older
    /// ones are gone.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`](super::Mutex::lock).
    ///
    /// # Cancel safety
    ///
    /// As [`Mutex::lock`](super::Mutex::lock): dropped, it leaves no candidate behind.
    pub async fn campaign(&self, value: impl Into<Bytes>) -> Result<Leadership, Error> {
        let value = value.into();
        in_time(
            &self.name,
            self.timeout,
            pin!(async {
                let entry = Entry::new(&self.session, &[&self.name], Claim::Exclusive)?;
                let granted = entry.acquire(&value).await?;
                let created = granted.map_err(|failure| refused(&self.session, &self.name, failure))?;
                Ok(Leadership::new(entry, created, created))
            }),
        )
        .await
    }

    /// Goes on with a candidate whose key hangs on this session's lease already: the
    /// leader's before a restart, or one of the Go client or of etcd's election service. Its
    /// place and what it says stay as they are. Waits until it leads.
    ///
    /// To go on after a restart, keep the lease's ID, [`Held::key`] and [`Held::token`]
    /// somewhere, and open the session with [`SessionBuilder::lease`](super::SessionBuilder::lease)
    /// before the lease runs out.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`](super::Mutex::lock), and `FailedPrecondition` where the key was not
    /// created at this revision, is not there any more, or hangs on another lease.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is certain that the key is ours, it has done nothing; after
    /// that, it gives the place up in the background.
    pub async fn resume(&self, key: impl Into<Bytes>, created: Revision) -> Result<Leadership, Error> {
        let key = key.into();
        in_time(
            &self.name,
            self.timeout,
            pin!(async {
                let found = self.session.client().get(key.clone()).control().await?;
                let lease = self.session.lease_id().0;
                let is_ours = |kv: &&KeyValue| kv.create_revision == created.0 && kv.lease == lease;
                let Some(found) = found.kvs.first().filter(is_ours) else {
                    let message = format!("election {:?}: the candidate is not there any more", self.name);
                    return Err(lost(&self.session, message));
                };
                let entry = Entry::of_key(&self.session, &self.name, key)?;
                let granted = entry.resume(created).await?;
                let created = granted.map_err(|failure| refused(&self.session, &self.name, failure))?;
                Ok(Leadership::new(entry, created, Revision(found.mod_revision)))
            }),
        )
        .await
    }

    /// Who leads; see [`Client::leader`](crate::Client::leader).
    ///
    /// # Errors
    ///
    /// The server could not be asked.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn leader(&self) -> Result<Option<Leader>, Error> {
        self.session.client().leader(&self.name).await
    }

    /// Follows who leads; see [`Client::observe_leader`](crate::Client::observe_leader).
    pub fn observe(&self) -> Observe {
        self.session.client().observe_leader(&self.name)
    }
}

impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Election").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The proof that we lead. What can be asked of it is in [`Held`].
///
/// Dropping it resigns in the background; the drop itself neither allocates nor
/// starts a task.
#[derive(Debug)]
#[must_use = "who drops a leadership resigns"]
pub struct Leadership {
    held: Held,
    /// The key's mod_revision, as last seen.
    modified: Revision,
}

impl Leadership {
    fn new(entry: Entry, created: Revision, modified: Revision) -> Leadership {
        Leadership {
            held: Held::new(entry, created),
            modified,
        }
    }

    /// Says something else from now on, and waits until that is committed. The token stays
    /// the same.
    ///
    /// A server that cannot be reached is not an error until the session's deadline: it
    /// is tried again. What was proclaimed before never comes back.
    ///
    /// # Errors
    ///
    /// The leadership was lost, or the server refuses.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it may have said it, or may yet, until something else
    /// is proclaimed.
    pub async fn proclaim(&mut self, value: impl Into<Bytes>) -> Result<(), Error> {
        let value = value.into();
        let mut backoff = self.held.session().shared().backoff();
        loop {
            let answer = self.say(&value).await?;
            if answer.succeeded {
                self.modified = answer.revision();
                return Ok(());
            }
            // An earlier copy of this, or of what was proclaimed before, got through.
            let created = self.held.token().create_revision().0;
            let found = found(&answer).filter(|kv| kv.create_revision == created);
            let Some(found) = found.filter(|kv| kv.mod_revision != self.modified.0) else {
                return Err(self.held.lost_before("the leadership was lost before that was proclaimed"));
            };
            self.modified = Revision(found.mod_revision);
            if found.value == value {
                return Ok(());
            }
            // Whoever else writes on our key is not written against in a loop.
            clock::sleep_until(clock::now() + backoff.next_wait()).await;
        }
    }

    /// Puts the value on what we last saw. So a late copy changes nothing: once anything was
    /// put since, it is refused.
    async fn say(&self, value: &Bytes) -> Result<TxnResponse, Error> {
        let key = || self.held.entry().place().key.clone();
        let lease = self.held.session().lease_id();
        let unchanged = || Compare::mod_revision(key()).equal(self.modified);
        let saying = |txn: Txn<_>| {
            let txn = txn.when(self.held.fence()).when(unchanged());
            txn.then(Op::put(key(), value.clone()).lease(lease)).or_else(Op::get(key()))
        };
        self.held.certainly(saying).await
    }

    /// Resigns, and waits until that is committed.
    ///
    /// # Errors
    ///
    /// As [`Guard::release`](super::Guard::release).
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on in the background.
    pub async fn resign(self) -> Result<(), Error> {
        self.held.release().await
    }
}

impl Deref for Leadership {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

/// The own key, where something else was found on it.
fn found(answer: &TxnResponse) -> Option<&KeyValue> {
    match answer.responses.first().and_then(|op| op.response.as_ref()) {
        Some(Response::ResponseRange(range)) => range.kvs.first(),
        _ => None,
    }
}
