//! Who leads an election: asked once, or followed. Nobody who does needs a session.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::client::{Client, ListWatch, ListWatchEnd};
use crate::core::election::{Leader, Observation, first};
use crate::error::Error;
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::types::{KeyRange, Revision};

/// So many of the oldest keys are read at a time once the very oldest is of a nested name.
const PAGE_KEYS: u32 = 128;

impl Client {
    /// Who leads the election of this name: `None` while nobody does. One linearizable
    /// read; where elections of nested names began before this one it takes more.
    ///
    /// # Errors
    ///
    /// The server could not be asked.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn leader(&self, name: &str) -> Result<Option<Leader>, Error> {
        let prefix = prefix(name);
        let (mut limit, mut oldest, mut at) = (1, Revision::ZERO, Revision::ZERO);
        loop {
            let keys = self.get(KeyRange::prefix(prefix.clone())).min_create_revision(oldest).revision(at);
            let page = keys.sort(SortTarget::Create, SortOrder::Ascend).limit(limit).await?;
            let leader = first(&prefix, &page.kvs);
            let last = page.kvs.last().map_or(oldest, |kv| Revision(kv.create_revision));
            if leader.is_some() || !page.more {
                return Ok(leader);
            }
            // All that one transaction created fit into a page.
            at = page.revision();
            oldest = if last > oldest {
                last
            } else {
                Revision(oldest.0 + 1)
            };
            limit = PAGE_KEYS;
        }
    }

    /// Follows who leads the election of this name. Nothing is sent before the first
    /// [`Observe::next`].
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
    /// let mut leaders = client.observe_leader("scheduler");
    /// loop {
    ///     match leaders.next().await? {
    ///         Some(leader) => println!("{:?} leads", leader.value),
    ///         None => println!("nobody leads"),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn observe_leader(&self, name: &str) -> Observe {
        let prefix = prefix(name);
        Observe {
            candidates: self.list_watch(KeyRange::prefix(prefix.clone())),
            election: Observation::new(prefix),
        }
    }
}

/// The leaders of an election, one after the other, as [`Client::observe_leader`] makes it.
///
/// # Guarantees
///
/// It tells who leads, then whoever leads next, and the same leader again when it
/// proclaims something; of several changes that come at once, the last one. Leaders come in the
/// order in which they led, each at a revision at which it did, and whoever leads in
/// the end is told: it goes on after a lost connection, and reads all candidates again where
/// the history is compacted; see [`ListWatch`].
///
/// What it tells is some way behind, and may be over when it is told. To act on it, compare
/// the leader's key and create_revision in the transaction that acts.
pub struct Observe {
    candidates: ListWatch,
    election: Observation,
}

impl Observe {
    /// Who leads now, and then whenever that changes, or what the leader says; `None`
    /// inside while nobody does.
    ///
    /// # Errors
    ///
    /// Why it ended. It is the same from then on, at once.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it has taken no news.
    pub async fn next(&mut self) -> Result<Option<Leader>, ListWatchEnd> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Observe::next`], for a future of one's own.
    ///
    /// # Errors
    ///
    /// As [`Observe::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Leader>, ListWatchEnd>> {
        loop {
            if let Some(leader) = self.election.poll_change() {
                return Poll::Ready(Ok(leader));
            }
            let update = ready!(self.candidates.poll_next(cx))?;
            self.election.handle_update(&update);
        }
    }
}

impl fmt::Debug for Observe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observe").field("election", &self.election).finish_non_exhaustive()
    }
}

/// What the key of each candidate begins with.
fn prefix(name: &str) -> Bytes {
    format!("{name}/").into()
}
