//! Who has a lock and who waits for it, as etcd has it, and what one can do about the
//! holder from outside. None of it needs a session.

use bytes::Bytes;

use crate::client::{Client, Compare, Op};
use crate::core::lock::ASK_SUFFIX;
use crate::error::{Code, Delivery, Error, Origin};
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::pb::mvccpb::KeyValue;
use crate::types::{KeyRange, LeaseId, Revision};

/// One who has a lock, or waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockEntry {
    /// The key in the queue; `<name>/@<owner>` where it has an [owner](super::Mutex::owner).
    pub key: Bytes,
    /// The key's create_revision: the place in the queue, and in the holder's token.
    pub created: Revision,
    /// The lease of the session; [`LeaseId::NONE`] where the key hangs on none.
    pub lease: LeaseId,
    /// What the session says about itself, as [`Mutex::value`](super::Mutex::value) has it.
    pub value: Bytes,
}

impl Client {
    /// Who has the lock of this name and who waits for it, in the order of the queue: the first
    /// has it. Empty where it is free. Other clients that queue with this one are there too; locks
    /// whose names lie below this one are not.
    ///
    /// It is what etcd knew at one moment. A lock that lingers in a session is held by
    /// it, and what waits within a session is not seen.
    ///
    /// # Errors
    ///
    /// Those of a read.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn who(&self, name: &str) -> Result<Vec<LockEntry>, Error> {
        let mut queue: Vec<_> = queue(self, name).await?.into_iter().map(LockEntry::from).collect();
        // What was put at once is one attempt's.
        queue.dedup_by_key(|entry| entry.created);
        Ok(queue)
    }

    /// Takes the lock away from whoever has it at the time of the call, and says from whom. `None`: nobody
    /// had it, or it was given back meanwhile; the next in the queue keeps it.
    ///
    /// For what is stuck, and by hand. The holder is not stopped, and may not even be told: its
    /// [`Guard::is_valid`](super::Guard::is_valid) goes on to be true, and it may pass the lock on within its session,
    /// for as long as [`Mutex::hand_off`](super::Mutex::hand_off) says. Only what is fenced
    /// ([`Guard::fence`](super::Guard::fence), [`Token`](super::Token)) is safe from it.
    ///
    /// # Errors
    ///
    /// Those of a read and of a transaction. Where the [`Delivery`] is unknown it may have been
    /// taken away; called once more, it would be taken from the next.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have taken the lock away.
    pub async fn force_unlock(&self, name: &str) -> Result<Option<LockEntry>, Error> {
        let queue = queue(self, name).await?;
        let Some(created) = queue.first().map(|kv| Revision(kv.create_revision)) else {
            return Ok(None);
        };
        let mut txn = self.txn().part();
        for kv in queue.iter().take_while(|kv| kv.create_revision == created.0) {
            txn = txn.when(still(&kv.key, created)).then(Op::delete(kv.key.clone()));
        }
        let deleted = txn.await?.succeeded;
        Ok(queue.into_iter().next().filter(|_| deleted).map(LockEntry::from))
    }

    /// Asks whoever has the lock to give it back, and says whom: their guard can hear it, by
    /// [`Guard::asked`](super::Guard::asked), and do so or not. `None`: nobody has it. `message`
    /// is for them to read. A holder that uses another client, whose key looks like that of a mutex, hears nothing.
    ///
    /// It is a key beside the name, `<name>#ask/<..>`, that goes with the holder's lease. One that
    /// is asked twice sees the later message, if it has not seen the first.
    ///
    /// # Errors
    ///
    /// Those of a read and of a transaction. `FailedPrecondition`: the holder's key hangs on no
    /// lease, so no guard of this crate has it, or is that of another recipe than a mutex, which cannot be asked.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have asked.
    pub async fn ask_to_release(
        &self,
        name: &str,
        message: impl Into<Bytes>,
    ) -> Result<Option<LockEntry>, Error> {
        let Some(holder) = queue(self, name).await?.into_iter().next().map(LockEntry::from) else {
            return Ok(None);
        };
        let unheard = |why| {
            let message = format!("lock {name:?}: {why}");
            Error::new(
                Code::FailedPrecondition,
                Origin::Library,
                Delivery::NotSent,
                message,
            )
        };
        if holder.lease == LeaseId::NONE {
            return Err(unheard("its holder's key hangs on no lease"));
        }
        if !is_of_mutex(name.as_bytes(), &holder) {
            return Err(unheard("its holder is no mutex, and cannot hear it"));
        }
        let put = Op::put(ask_key(name.as_bytes(), &holder.key), message).lease(holder.lease);
        let answer = self.txn().part().when(still(&holder.key, holder.created)).then(put).await?;
        Ok(answer.succeeded.then_some(holder))
    }
}

/// Where the holder of this key in the queue of `name` is asked to give the lock back. It
/// lies beside the queue, for in it, it would be an entry.
pub(super) fn ask_key(name: &[u8], key: &[u8]) -> Bytes {
    let entry = key.get(name.len()..).unwrap_or_default();
    [name, ASK_SUFFIX.as_bytes(), entry].concat().into()
}

/// The key of a session, or of an owner.
fn is_of_mutex(name: &[u8], holder: &LockEntry) -> bool {
    let entry = holder.key.get(name.len() + 1..).unwrap_or_default();
    entry.starts_with(b"@") || entry == holder.lease.to_string().as_bytes()
}

fn still(key: &Bytes, created: Revision) -> Compare {
    Compare::create_revision(key.clone()).equal(created)
}

/// The oldest first.
async fn queue(client: &Client, name: &str) -> Result<Vec<KeyValue>, Error> {
    let prefix = format!("{name}/");
    let queue = client.get(KeyRange::prefix(prefix.clone())).part();
    let mut queue = queue.sort(SortTarget::Create, SortOrder::Ascend).await?.kvs;
    // Names nest, and what is below has its own queue.
    queue.retain(|kv| kv.key.get(prefix.len()..).is_some_and(|entry| !entry.contains(&b'/')));
    Ok(queue)
}

impl From<KeyValue> for LockEntry {
    fn from(kv: KeyValue) -> LockEntry {
        LockEntry {
            key: kv.key,
            created: Revision(kv.create_revision),
            lease: LeaseId(kv.lease),
            value: kv.value,
        }
    }
}
