//! The watch that calls a lingering key back: one task for each name that lingers, from
//! the grant of a key until the name has not been used for a while. Whoever waits
//! elsewhere has put a key into the queue, and that put is the recall.
//!
//! Why nobody is overheard: the watch hears what is put after it was created, and one
//! read after that shows what was put before. Only then may the key linger. When the
//! watch ends, for whatever reason, it may not any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::session::Session;
use super::shared::Shared;
use super::slot::Slot;
use super::word::Use;
use crate::client::{Batch, Event, Watch, WatchEnd};
use crate::core::backoff::Backoff;
use crate::core::lock::READING_KEYS_MAX;
use crate::core::time::Instant;
use crate::error::{Error, EtcdError};
use crate::net::clock;
use crate::net::race::{Either, race};
use crate::pb::etcdserverpb::RangeResponse;
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::types::{KeyRange, Revision};

/// The task looks at the lock no more often than this.
const LOOK_WAIT_MIN: Duration = Duration::from_millis(1);

/// Watches the name while it is used, unless somebody does, or lingering rests, or
/// so many names of the session linger already.
pub(super) fn begin(session: &Session, slot: &Arc<Slot>, linger: u64) {
    let shared = session.shared();
    let Ok(place) = shared.lingering().clone().try_acquire_owned() else {
        return;
    };
    if slot.linger().begin(clock::now()) {
        let recall = Recall {
            shared: shared.clone(),
            slot: slot.clone(),
            look_wait: Duration::from_nanos(linger).max(LOOK_WAIT_MIN),
            unused_since: None,
            backoff: shared.backoff(),
            _place: place,
        };
        shared.client().channel().runtime().spawn(recall.run());
    }
}

struct Recall {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    /// As long as the lock lingers, so no look comes after a key has to go.
    look_wait: Duration,
    /// The first look since it was last used.
    unused_since: Option<Instant>,
    backoff: Backoff,
    _place: OwnedSemaphorePermit,
}

/// Why one watch is over.
enum Over {
    /// It is not needed any more, or is refused for good.
    Done,
    Broken,
}

impl Recall {
    async fn run(mut self) {
        let ended = self.shared.lease().ended();
        // The session's end is heard first: a watch that ends with it is not begun again.
        race(ended, self.watch_on()).await;
    }

    async fn watch_on(&mut self) {
        while let Over::Broken = self.watch().await {
            self.deaf();
            let wait = self.backoff.next_wait();
            clock::sleep_until(clock::now() + wait).await;
            if self.look().is_none() {
                return;
            }
        }
    }

    async fn watch(&mut self) -> Over {
        let keys = KeyRange::prefix(self.slot.place().prefix.clone());
        let watch = match self.shared.client().watch(keys).resume(false).await {
            Ok(watch) => watch,
            Err(end) => return over(&end),
        };
        match self.read().await {
            Ok(queue) if queue.revision() >= watch.created_revision() => {
                let place = self.slot.place();
                let others = queue.more || queue.kvs.iter().any(|kv| place.is_entry_of_another(&kv.key));
                let rests = self.is_unpaid(self.slot.word().watched(others));
                self.shared.settle(&self.slot);
                if rests {
                    return Over::Done;
                }
            }
            // Behind a proxy that keeps what it read, say.
            Ok(_) => return Over::Broken,
            Err(error) if error.etcd() == Some(EtcdError::PermissionDenied) => return Over::Done,
            Err(_) => return Over::Broken,
        }
        self.listen(watch).await
    }

    /// What the watch did not hear since it was not there yet.
    async fn read(&self) -> Result<RangeResponse, Error> {
        let keys = KeyRange::prefix(self.slot.place().prefix.clone());
        let newest = self.shared.client().get(keys).part().keys_only().limit(READING_KEYS_MAX);
        newest.sort(SortTarget::Create, SortOrder::Descend).await
    }

    async fn listen(&mut self, mut watch: Watch) -> Over {
        while let Some(due) = self.look() {
            match race(watch.next(), clock::sleep_until(due)).await {
                Either::Left(Ok(batch)) => {
                    self.backoff.reset();
                    if self.hear(&batch) {
                        return Over::Done;
                    }
                }
                Either::Left(Err(end)) => return over(&end),
                Either::Right(()) => {}
            }
        }
        Over::Done
    }

    /// Says whether lingering rests from now on.
    fn hear(&self, batch: &Batch) -> bool {
        let (word, place) = (self.slot.word(), self.slot.place());
        let mut rests = false;
        for event in &batch.events {
            match event {
                Event::Put { kv, .. } if place.is_entry_of_another(&kv.key) => {
                    rests |= self.is_unpaid(word.recall());
                }
                Event::Delete { kv, .. } if kv.key == place.key => {
                    self.slot.deleted(Revision(kv.mod_revision));
                }
                // Another session of the owner has taken it over.
                Event::Put { kv, .. } if kv.key == place.key && kv.lease != place.lease.0 => {
                    self.slot.deleted(Revision(kv.mod_revision));
                }
                _ => {}
            }
        }
        self.shared.settle(&self.slot);
        rests
    }

    /// Whether lingering rests after this recall, if it was one.
    fn is_unpaid(&self, regrants: Option<u32>) -> bool {
        regrants.is_some_and(|regrants| self.slot.linger().recalled(clock::now(), regrants))
    }

    /// Gives back what has lingered long enough, and says when to look again; `None`
    /// where nobody has used the name for a while.
    fn look(&mut self) -> Option<Instant> {
        let now = clock::now();
        let used = self.slot.word().in_use();
        if used == Use::Nothing {
            let until = *self.unused_since.get_or_insert(now) + self.look_wait;
            return (now < until).then_some(until);
        }
        self.unused_since = None;
        match used {
            Use::Lingers if now < self.slot.linger().idles_until() => Some(self.slot.linger().idles_until()),
            Use::Lingers => {
                self.slot.word().let_go();
                self.shared.settle(&self.slot);
                Some(now + self.look_wait)
            }
            _ => Some(now + self.look_wait),
        }
    }

    fn deaf(&self) {
        self.slot.word().unwatched();
        self.shared.settle(&self.slot);
    }
}

/// However it ends, with its runtime or in a panic too.
impl Drop for Recall {
    fn drop(&mut self) {
        // In this order: the next watch is not to be undone.
        self.deaf();
        self.slot.linger().end();
    }
}

fn over(end: &WatchEnd) -> Over {
    match end {
        WatchEnd::Canceled { etcd, .. } if *etcd == Some(EtcdError::PermissionDenied) => Over::Done,
        WatchEnd::Refused { .. } => Over::Done,
        _ => Over::Broken,
    }
}
