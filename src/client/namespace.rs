//! A client that sees a part of the key space as if it were the whole.

use std::sync::Arc;

use bytes::Bytes;

use super::Client;
use crate::core::namespace::Namespace;
use crate::net::view::View;

impl Client {
    /// A client in which every key stands behind `prefix`: it writes `team-a/x` where it is told
    /// `x`, and reads `x` where etcd has `team-a/x`. It is as cheap as a clone, and shares
    /// connections, keepalives and the stream of the watches with this one.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
    /// use tenure::KeyRange;
    ///
    /// let team = client.namespace("team-a/");
    /// team.put("jobs/1", "x").await?; // "team-a/jobs/1"
    /// let all = team.get(KeyRange::all()).await?; // nothing of another team
    /// assert_eq!(all.kvs[0].key, "jobs/1");
    /// let guard = team.lock("nightly").await?; // not team-b's
    /// # guard.release().await
    /// # }
    /// ```
    ///
    /// All that is made from it stays inside: calls, transactions and what is nested in them,
    /// watches, caches, sessions and every recipe on them, the server's own lock and election
    /// services. Keys that come back are without the prefix, also those of earlier values, of
    /// guards and of entries in a queue. A range to the end, of all keys, or of an empty
    /// prefix goes to the end of the namespace. The key that *is* the prefix is not part of it.
    ///
    /// Namespaces nest: `client.namespace("a/").namespace("b/")` is `client.namespace("a/b/")`.
    /// An empty prefix changes nothing. What separates names, such as the `/`, is up to the
    /// caller: `team` is above `team-a/` and sees all of it.
    ///
    /// The cluster is still one. Not mapped are:
    ///
    /// - **Leases.** Their ids are the cluster's, so a lease can hold keys of many namespaces, and its
    ///   end deletes them all. [`LeaseTimeToLive::keys`](super::LeaseTimeToLive::keys) lists those in here;
    ///   [`Client::leases`] lists every lease.
    /// - **Revisions** count every change in the cluster. [`Client::compact`] drops everybody's history.
    /// - **Permissions of roles** name keys as etcd has them, prefix included. Users, members,
    ///   maintenance and snapshots are about the whole cluster.
    /// - **`Client::raw`** sends the bytes that it is given.
    /// - **A comparison** is mapped by the client whose transaction it goes into. So the
    ///   [fence](crate::Guard::fence) of a guard in a namespace belongs into a transaction of that
    ///   namespace; in another client's it names a key that is not there, and fails.
    ///
    /// It keeps nobody out: what one may do is for etcd's roles to say. Views of one namespace
    /// share the session of [`Client::lock`] as clones do, as long as one of them lives: keep it.
    #[must_use]
    pub fn namespace(&self, prefix: impl Into<Bytes>) -> Client {
        let mut prefix = prefix.into();
        if prefix.is_empty() {
            return self.clone();
        }
        let mut view = self.view().map(|view| View::clone(view)).unwrap_or_default();
        if let Some(outer) = &view.namespace {
            outer.enter_name(&mut prefix);
        }
        let Some(namespace) = Namespace::new(prefix) else {
            return self.clone();
        };
        let beside = self.inner.views.beside(&namespace);
        view.namespace = Some(namespace);
        Client {
            inner: self.inner.clone(),
            beside,
            view: Some(Arc::new(view)),
        }
    }

    /// What the keys of this client begin with in etcd: empty, if it is in no
    /// [namespace](Client::namespace).
    #[must_use]
    pub fn prefix(&self) -> &[u8] {
        let namespace = self.view().and_then(|view| view.namespace.as_ref());
        namespace.map_or(&[], |namespace| namespace.prefix())
    }
}
