//! A range of keys in memory, kept up to date by a task that lists and watches it.
//!
//! ```text
//!   ListWatch ──Update──▶ task ──▶ entries ◀── get, range     any thread, never awaiting
//!                           └────▶ status  ◀── synced, wait_for
//! ```
//!
//! Readers and the task share one lock. Each holds it for one look: a key, a few neighbours, or one
//! batch. Nobody waits for a reader that does something with what it read.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::list_watch::{ListWatch, ListWatchEnd, Update};
use super::watch::Event;
use crate::core::time::Instant;
use crate::net::clock;
use crate::net::race::{Either, race};
use crate::pb::mvccpb::KeyValue;
use crate::types::{KeyRange, Revision};

/// A reader who goes through a range takes so many keys at a time out of the lock.
const CHUNK_KEYS: usize = 128;

/// A member that is asked how far it has come may leave it unanswered.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// It is asked no more often, however many wait.
const ASK_GAP: Duration = Duration::from_millis(10);

/// A range of keys as etcd has it, to be read without a call: see [`ListWatch::into_cache`]. A cheap
/// clone; the last one dropped ends the task that fills it.
///
/// ```no_run
/// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
/// use tenure::KeyRange;
///
/// let config = client.list_watch(KeyRange::prefix("config/")).into_cache();
/// config.synced().await?;
/// if let Some(kv) = config.get("config/color") {
///     println!("{:?} since revision {}", kv.value, kv.mod_revision);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Guarantees
///
/// It has what its list and its watch have told, in their order; see [`ListWatch`]. While it [is
/// synced](Cache::is_synced) it is the range at [`Cache::revision`], or a little later, and all
/// that a transaction changed appears at once. It is some way behind the store: as far as a
/// message is under way, and much further while no member can be reached. Who has written
/// something and reads it here has to [wait for](Cache::wait_for) the revision of the write.
///
/// While it lists anew, it has some keys as they were at [`Cache::revision`] and some as they are.
///
/// # Memory
///
/// Keys and values are copies of their own, and pin no message. It holds each key
/// with some 300 bytes beside.
#[derive(Clone, Debug)]
pub struct Cache {
    shared: Arc<Shared>,
    status: watch::Receiver<Status>,
}

#[derive(Debug)]
struct Shared {
    keys: KeyRange,
    entries: RwLock<BTreeMap<Bytes, KeyValue>>,
    /// Somebody wants to know how far the watch has come.
    asked: Notify,
}

#[derive(Clone, Debug, Default)]
struct Status {
    revision: Revision,
    synced: bool,
    end: Option<ListWatchEnd>,
}

impl ListWatch {
    /// Keeps what is listed and what changes in memory, for reading without a call.
    /// Must be called on a tokio runtime: a task of it fills the cache.
    #[must_use]
    pub fn into_cache(self) -> Cache {
        let (sender, status) = watch::channel(Status::default());
        let shared = Arc::new(Shared {
            keys: self.keys().clone(),
            entries: RwLock::default(),
            asked: Notify::new(),
        });
        let client = self.client().clone();
        let filler = Filler {
            list_watch: self,
            shared: Arc::clone(&shared),
            status: sender,
        };
        client.channel().runtime().spawn(filler.run());
        Cache { shared, status }
    }
}

impl Cache {
    /// The range that it has.
    #[must_use]
    pub fn keys(&self) -> &KeyRange {
        &self.shared.keys
    }

    /// A key; `None` where there is none in the cache.
    #[must_use]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<KeyValue> {
        self.shared.read(|entries| entries.get(key.as_ref()).cloned())
    }

    /// The keys of a range, in their order.
    ///
    /// They are taken out a few at a time while the iterator runs. A key that was there all
    /// along comes once; one that changes meanwhile comes as it is when its turn comes.
    pub fn range(&self, keys: impl Into<KeyRange>) -> Entries<'_> {
        Entries::new(&self.shared, keys.into())
    }

    /// How many keys it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.read(BTreeMap::len)
    }

    /// Whether it has no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Up to here all is in the cache; [`Revision::ZERO`] before the first list is. It moves with the
    /// events of the range, and where there is none, when somebody [waits](Cache::wait_for) and
    /// otherwise every 10 minutes.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.status.borrow().revision
    }

    /// Whether the list is complete and its changes are followed. Not so before the
    /// first list is read, and while it is read anew after a compaction.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.status.borrow().synced
    }

    /// Why it is filled no more; `None` while it is. What it has stays readable.
    #[must_use]
    pub fn end(&self) -> Option<ListWatchEnd> {
        self.status.borrow().end.clone()
    }

    /// Waits until it is synced.
    ///
    /// # Errors
    ///
    /// Why it will not be any more.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub async fn synced(&self) -> Result<(), ListWatchEnd> {
        self.until(|status| status.synced).await
    }

    /// Waits until all that happened up to `revision` is in the cache: a write's own, say.
    ///
    /// Where no event says so, the server is asked how far it has come. Servers before 3.4.25 and
    /// 3.5.8 may answer that too early.
    ///
    /// # Errors
    ///
    /// Why it will not be any more.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub async fn wait_for(&self, revision: Revision) -> Result<(), ListWatchEnd> {
        loop {
            let reached = self.until(|status| status.synced && status.revision >= revision);
            // The event that says so is often under way already.
            match race(reached, clock::sleep_until(clock::now() + ASK_GAP)).await {
                Either::Left(reached) => return reached,
                Either::Right(()) => self.shared.asked.notify_one(),
            }
            let reached = self.until(|status| status.synced && status.revision >= revision);
            if let Either::Left(reached) = race(reached, clock::sleep_until(clock::now() + ASK_AGAIN)).await {
                return reached;
            }
        }
    }

    /// Waits until it is filled no more, and says why.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub async fn ended(&self) -> ListWatchEnd {
        self.until(|_| false).await.err().unwrap_or(ListWatchEnd::Closed)
    }

    async fn until(&self, is_so: impl Fn(&Status) -> bool) -> Result<(), ListWatchEnd> {
        let mut status = self.status.clone();
        let found = status.wait_for(|status| is_so(status) || status.end.is_some()).await;
        let end = found.map_or(Some(ListWatchEnd::Closed), |status| match is_so(&status) {
            true => None,
            false => status.end.clone(),
        });
        end.map_or(Ok(()), Err)
    }
}

/// The keys of a range in a cache; see [`Cache::range`].
#[derive(Debug)]
pub struct Entries<'a> {
    shared: &'a Shared,
    chunk: std::vec::IntoIter<KeyValue>,
    /// What is not taken out yet; `None` where that is nothing.
    rest: Option<(Bound<Bytes>, Bound<Bytes>)>,
}

impl Entries<'_> {
    fn new(shared: &Shared, keys: KeyRange) -> Entries<'_> {
        let KeyRange { key, range_end } = keys;
        let rest = match &range_end[..] {
            [] => Some((Bound::Included(key.clone()), Bound::Included(key))),
            [0] => Some((Bound::Included(key), Bound::Unbounded)),
            _ if key < range_end => Some((Bound::Included(key), Bound::Excluded(range_end))),
            _ => None,
        };
        let chunk = Vec::new().into_iter();
        Entries { shared, chunk, rest }
    }

    /// Takes the next keys out.
    fn take(&mut self) {
        let Some((from, to)) = self.rest.take() else {
            return;
        };
        let bounds = (from.as_ref().map(|key| &key[..]), to.as_ref().map(|key| &key[..]));
        let chunk: Vec<_> = self.shared.read(|entries| {
            let neighbours = entries.range::<[u8], _>(bounds).take(CHUNK_KEYS);
            neighbours.map(|(_, kv)| kv.clone()).collect()
        });
        let last = chunk.last().filter(|_| chunk.len() == CHUNK_KEYS);
        self.rest = last.map(|last| (Bound::Excluded(last.key.clone()), to));
        self.chunk = chunk.into_iter();
    }
}

impl Iterator for Entries<'_> {
    type Item = KeyValue;

    fn next(&mut self) -> Option<KeyValue> {
        if self.chunk.len() == 0 {
            self.take();
        }
        self.chunk.next()
    }
}

impl Shared {
    fn read<T>(&self, look: impl FnOnce(&BTreeMap<Bytes, KeyValue>) -> T) -> T {
        // Nothing that runs under the lock leaves the entries half changed.
        look(&self.entries.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// All of it at once, and with it what the status says then.
    fn apply(&self, events: Vec<Event>) {
        let changes: Vec<_> = events.into_iter().map(change).collect();
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in changes {
            match value {
                Some(kv) => drop(entries.insert(key, kv)),
                None => drop(entries.remove(&key)),
            }
        }
    }
}

/// The key, and what it is now, with a value of its own. The key is one already.
fn change(event: Event) -> (Bytes, Option<KeyValue>) {
    match event {
        Event::Put { mut kv, .. } => {
            kv.value = Bytes::copy_from_slice(&kv.value);
            (kv.key.clone(), Some(kv))
        }
        Event::Delete { kv, .. } => (kv.key, None),
    }
}

/// The task.
struct Filler {
    list_watch: ListWatch,
    shared: Arc<Shared>,
    status: watch::Sender<Status>,
}

impl Filler {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let (mut is_asked, mut asked_at) = (false, Instant::default());
        loop {
            let asked = async {
                if !is_asked {
                    shared.asked.notified().await;
                    is_asked = true;
                }
                clock::sleep_until(asked_at + ASK_GAP).await;
            };
            let dropped = self.status.closed();
            let step = race(race(self.list_watch.next(), dropped), asked).await;
            match step {
                Either::Left(Either::Left(Ok(update))) => self.take(update),
                Either::Left(Either::Left(Err(end))) => return self.finish(end),
                Either::Left(Either::Right(())) => return,
                Either::Right(()) => {
                    (is_asked, asked_at) = (false, clock::now());
                    self.list_watch.request_progress();
                }
            }
        }
    }

    fn take(&self, update: Update) {
        match update {
            Update::Listed(events) => self.shared.apply(events),
            Update::Changed(batch) => {
                let last = batch.events.last().map(Event::revision);
                self.shared.apply(batch.events);
                self.tell(|status| status.revision = status.revision.max(last.unwrap_or_default()));
            }
            Update::Progress { revision } => {
                self.tell(|status| status.revision = status.revision.max(revision));
            }
            Update::Synced { revision } => self.tell(|status| {
                status.revision = status.revision.max(revision);
                status.synced = true;
            }),
            Update::Relisting => self.tell(|status| status.synced = false),
        }
    }

    fn finish(&self, end: ListWatchEnd) {
        self.tell(|status| {
            status.synced = false;
            status.end.get_or_insert(end);
        });
    }

    fn tell(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_modify(change);
    }
}

/// Where the runtime drops the task: nobody waits for ever.
impl Drop for Filler {
    fn drop(&mut self) {
        self.finish(ListWatchEnd::Closed);
    }
}
