//! The session that some tasks share, and another one when it is over: closed, left to
//! run out, dropped, or lost.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use tenure::{Client, LeaseEnd, Queue, RwLock, Session};
use tokio::sync::Mutex;

use crate::note::Note;
use crate::support::{ROOT, TTL, until, within};
use crate::wish::shared_names;
use crate::worker::Notes;

pub(crate) struct Desk {
    client: Client,
    notes: Notes,
    /// How often a session is used, by all its tasks together.
    uses: Range<u64>,
    kit: Mutex<(Rng, Option<Arc<Kit>>)>,
}

/// A session, and the handles on it that its tasks share.
pub(crate) struct Kit {
    pub(crate) session: Session,
    pub(crate) queue: Queue,
    rw_locks: HashMap<&'static str, RwLock>,
    uses_left: AtomicU64,
}

pub(crate) fn queue_name() -> String {
    format!("{ROOT}/jobs")
}

/// Takes out of the queue of work what nobody will do any more.
pub(crate) async fn clear_queue(client: &Client) {
    let session = client.session().await.expect("a session");
    let queue = session.queue(&queue_name());
    let (mut consumer, mut is_empty) = (queue.consumer(), false);
    // A long storm leaves thousands: patience is for each.
    while !is_empty {
        until("the end of a job", async || {
            if let Ok(Ok(job)) = tokio::time::timeout(Duration::from_secs(1), consumer.take()).await {
                job.done().await.expect("a server that is well");
                return true;
            }
            is_empty = queue.count().await.is_ok_and(|count| count == 0);
            is_empty
        })
        .await;
    }
    drop((consumer, queue));
    session.close().await.expect("a server that is well");
}

impl Desk {
    pub(crate) fn new(client: Client, uses: Range<u64>, dice: Rng, notes: Notes) -> Desk {
        Desk {
            client,
            notes,
            uses,
            kit: Mutex::new((dice, None)),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The session of this moment; `None` where none is to be had.
    pub(crate) async fn kit(&self) -> Option<Arc<Kit>> {
        let mut at = self.kit.lock().await;
        let (dice, kit) = &mut *at;
        if let Some(kit) = kit.as_ref().filter(|kit| kit.session.is_valid() && kit.use_once()) {
            return Some(kit.clone());
        }
        if let Some(kit) = kit.take() {
            self.leave(dice, kit.session.clone()).await;
        }
        let Ok(session) = self.client.session().ttl(TTL).await else {
            let pause = within(dice, 5..40);
            tokio::time::sleep(pause).await;
            return None;
        };
        (self.notes)(Note::Lease(session.lease_id().0));
        let handles = shared_names().iter().map(|name| (*name, session.rw_lock(name))).collect();
        let new = Arc::new(Kit {
            queue: session.queue(&queue_name()),
            rw_locks: handles,
            uses_left: AtomicU64::new(dice.u64(self.uses.clone())),
            session,
        });
        *kit = Some(new.clone());
        Some(new)
    }

    /// Nobody will use it any more.
    pub(crate) async fn close(&self) {
        let (dice, kit) = &mut *self.kit.lock().await;
        if let Some(kit) = kit.take() {
            self.leave(dice, kit.session.clone()).await;
        }
    }

    /// With locks that are still held, as often as not.
    async fn leave(&self, dice: &mut Rng, session: Session) {
        let end = tokio::time::timeout(Duration::ZERO, session.ended()).await;
        if end == Ok(LeaseEnd::UnknownToServer) {
            (self.notes)(Note::Unknown(session.lease_id().0));
        }
        match dice.u64(..8) {
            0 => session.orphan(),
            1 | 2 => drop(tokio::time::timeout(Duration::from_secs(2), session.close()).await),
            _ => drop(session),
        }
    }
}

impl Kit {
    pub(crate) fn rw_lock(&self, name: &str) -> &RwLock {
        &self.rw_locks[name]
    }

    fn use_once(&self) -> bool {
        let left = self
            .uses_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.is_ok()
    }
}
