//! A client whose answers never go back.

use std::sync::{Arc, Mutex};

use super::Client;
use crate::core::monotonic::Monotonic;
pub use crate::core::monotonic::Seen;
use crate::error::Stale;
use crate::net::view::View;

impl Client {
    /// A client that refuses answers older than what it has seen: for
    /// [serializable](super::Get::serializable) reads, which a member that lags answers with an older state
    /// than another one did before, and for a cluster that was restored from a snapshot while
    /// the program went on. It is as cheap as a clone, and its clones share what they have seen.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
    /// let client = client.monotonic();
    /// client.put("k", "new").await?;
    /// // Fast, from any member, and never the value before.
    /// let answer = client.get("k").serializable().await?;
    /// assert_eq!(answer.kvs[0].value, "new");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Guarantees
    ///
    /// The answer to a read, a write or a transaction is at no lower revision than any that had
    /// come when its call began, and of the same cluster; what its watches bring counts as seen. Else it is one of these:
    ///
    /// - A member lags ([`Stale::Behind`]): the read is made again at another one, or later, for as long
    ///   as the call has time. Then it fails. One that [goes nowhere else](super::Get::via) fails at once.
    /// - The cluster has lost revisions, or is another one ([`Stale::WentBack`],
    ///   [`Stale::OtherCluster`]): the call fails at once, and every one after it, until that is
    ///   [accepted](Client::accept). A write [may have been applied](crate::Error::may_be_applied) there.
    ///
    /// [`Error::stale`](crate::Error::stale) tells them apart.
    ///
    /// Leases, members and maintenance have answers of single members, and are not held against
    /// it. A watch has an order of its own, and ends at another cluster; one from "now" begins where its
    /// member is. Sessions and locks go without: they are linearizable, and their fences hold.
    #[must_use]
    pub fn monotonic(&self) -> Client {
        self.monotonic_from(Seen::default())
    }

    /// The same, going on from what another process, or an earlier life of this one, has
    /// [seen](Client::seen).
    #[must_use]
    pub fn monotonic_from(&self, seen: Seen) -> Client {
        let view = View {
            monotonic: Some(Arc::new(Mutex::new(Monotonic::new(seen)))),
            ..self.view().map(|view| View::clone(view)).unwrap_or_default()
        };
        Client {
            view: Some(Arc::new(view)),
            ..self.clone()
        }
    }

    /// The latest that this client has seen, if it is [`monotonic`](Client::monotonic).
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        self.view()?.seen()
    }

    /// Takes what was refused for what is there from now on: the cluster was restored, and that is
    /// known. Told of by several calls it counts once, and calls that began before are still held against what
    /// was seen then. Whatever the program keeps of the time before, such as revisions and
    /// caches, is for it to let go.
    pub fn accept(&self, stale: &Stale) {
        if let Some(view) = self.view() {
            view.accept(stale);
        }
    }

    /// The same without a memory of what was seen.
    pub(crate) fn forgetful(&self) -> Client {
        let Some(view) = self.view().filter(|view| view.monotonic.is_some()) else {
            return self.clone();
        };
        let view = View {
            namespace: view.namespace.clone(),
            ..View::default()
        };
        Client {
            view: view.namespace.is_some().then(|| Arc::new(view)),
            ..self.clone()
        }
    }
}
