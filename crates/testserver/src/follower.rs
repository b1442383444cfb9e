//! A follower as a test holds it: where it is reached, and how far it is behind.

use std::sync::Arc;

use tokio::io::DuplexStream;

use crate::cluster::Lag;
use crate::faults::Faults;
use crate::server::connections;
use crate::server::member::Member;

/// A member of a [`Server`](crate::Server)'s cluster beside the leader. A clone is the
/// same member; it runs until its server is dropped, and where that is gone nothing answers.
///
/// What it has not applied it does not show: serializable reads and watches see an older
/// state, with the revision of that state in the headers, `created` included, and watches
/// get what they have missed as it catches up. As at a follower of etcd:
///
/// - a write is carried out by the leader at once, and answered when the follower has
///   applied it too; after 7 s of the server's clock it is `etcdserver: request timed
///   out`, though it was done. What the leader refuses is refused at once;
/// - a linearizable read waits until all is applied that was written before it, for as
///   long as its client does;
/// - a lease is renewed, and its time told, by the leader; the header's revision is the
///   follower's. The list of leases is the follower's;
/// - once it is 5000 writes behind, it refuses writes with `etcdserver: too many requests`.
///
/// There is no election: the leader stays, also where its connections are frozen or cut.
#[derive(Clone, Debug)]
pub struct Follower {
    member: Arc<Member>,
}

impl Follower {
    pub(crate) fn new(member: Arc<Member>) -> Follower {
        Follower { member }
    }

    /// Where it listens, such as `http://127.0.0.1:40123`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.member.endpoint
    }

    /// A connection to it in memory: the client's end.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn connect(&self) -> DuplexStream {
        connections::connect(&self.member)
    }

    /// What tells it to do something wrong.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.member.faults.clone()
    }

    /// Sets how far it is behind. What is due by that is applied before this returns:
    /// with `Lag::By(Duration::ZERO)` all there is.
    pub fn set_lag(&self, lag: Lag) {
        self.member.shared.with(|cluster, now| cluster.set_lag(self.member.id, now, lag));
    }

    /// Applies the next so many writes, whatever its lag, and tells how many there were.
    /// A write is one request: most are one revision, that of a lease without keys is none.
    pub fn apply(&self, count: usize) -> usize {
        self.member.shared.with(|cluster, now| cluster.apply(self.member.id, now, count))
    }

    /// How many writes it has not applied.
    #[must_use]
    pub fn behind(&self) -> usize {
        self.member.shared.with(|cluster, _| cluster.behind(self.member.id))
    }

    /// How many watches it has now.
    #[must_use]
    pub fn watch_count(&self) -> usize {
        self.member.watch_count()
    }

    /// How many calls it is serving now.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.member.stream_count()
    }

    /// How many connections it has now.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.member.faults.connection_count()
    }
}
