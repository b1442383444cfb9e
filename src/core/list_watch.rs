//! A range of keys, listed and then watched: which page to read, from where to watch,
//! when to list again, and what of a list the reader does not know yet.
//!
//! It owns what is known: each key with the revision of its last change. It reads
//! nothing itself: `client/list_watch` carries its actions out, and hands the answers in.
//!
//! ```text
//!            pages at one revision             Synced
//!   ┌──────┐ ────────────────────▶ ┌─────────┐ ─────▶ ┌───────┐ ──▶ Changed, Progress
//!   │ List │                       │ Compare │        │ Watch │
//!   └──────┘ ◀──────────────────── └─────────┘        └───────┘
//!      ▲              more                                │
//!      │                                                  │
//!      └── wait ◀── Relisting ◀── compacted ──────────────┘
//! ```
//!
//! All pages of a list are read at the revision that the first of them was answered at, and
//! the watch starts behind it, so that nothing falls between them. A compaction on the
//! way, between two pages or later, begins another list, at another revision. Each page
//! is held against what is known, in the order of the keys: what differs is told, and
//! what has not changed is not.
//!
//! It lists again after waits that grow, until a list was good: one that could be
//! followed for longer than the longest wait. Calls that fail for a reason that passes
//! are made again, after waits of their own; before the first page none is, since
//! there is somebody who waits for it to be told.

mod end;
mod known;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod update;

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::core::backoff::Backoff;
use crate::core::time::Instant;
use crate::core::watch::{Batch, BatchKind, WatchEnd, may_pass};
use crate::error::{Code, Delivery, Error, EtcdError, Origin};
use crate::pb::etcdserverpb::RangeResponse;
use crate::pb::mvccpb::KeyValue;
use crate::types::{KeyRange, Revision};

pub use end::ListWatchEnd;
use known::Known;
pub use update::Update;

/// What Kubernetes' clients read at a time: some 100 KiB of small objects.
pub const PAGE_KEYS_DEFAULT: u32 = 500;

/// Where thousands of clients are told of one compaction, their lists are spread.
const RELIST_WAIT_FIRST: Duration = Duration::from_millis(100);
const RELIST_WAIT_MAX: Duration = Duration::from_secs(30);

/// In a row, each compacted before it could be followed for long: some four minutes.
pub const RELISTS_MAX: u32 = 16;

const RETRY_WAIT_FIRST: Duration = Duration::from_millis(20);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub struct ListThenWatch {
    keys: KeyRange,
    /// How many keys the next page may have.
    page_keys: u32,
    /// How many events an update has at most that comes of a list.
    update_events: usize,
    known: Known,
    /// Whose revisions these are; 0 where no server has said so.
    cluster_id: u64,
    phase: Phase,
    /// Some page has come.
    has_read: bool,
    /// Since when the last list is followed.
    followed: Option<Instant>,
    relists: u32,
    relist: Backoff,
    retry: Backoff,
    actions: VecDeque<Action>,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum Action {
    /// Read these keys, and hand the answer to [`ListThenWatch::handle_page`].
    Read {
        /// What is left of the range.
        keys: KeyRange,
        /// So many keys at most.
        limit: u32,
        /// At this revision; [`Revision::ZERO`] for the present one.
        revision: Revision,
    },
    /// Watch the range from this revision on, and hand in what comes of it.
    Watch {
        /// The first revision that is not known yet.
        start: Revision,
        /// The cluster that the revision is of; 0 where that is not known.
        cluster_id: u64,
    },
    /// Tell the reader.
    Tell(Update),
}

#[derive(Debug)]
enum Phase {
    Due(Step),
    Asked(Step),
    Waiting(Instant, Step),
    Comparing(Page),
    Over(ListWatchEnd),
}

#[derive(Clone, Debug)]
enum Step {
    Page(Place),
    Watch(Revision),
}

/// How far a list has come.
#[derive(Clone, Debug)]
struct Place {
    /// The revision of its first page.
    at: Option<Revision>,
    /// Where what is not listed yet begins.
    from: Bound<Bytes>,
}

/// A page that is being compared.
#[derive(Debug)]
struct Page {
    at: Revision,
    /// Where what is not compared yet begins.
    from: Bound<Bytes>,
    kvs: VecDeque<KeyValue>,
    /// Another one follows.
    more: bool,
}

impl ListThenWatch {
    /// Nothing is known yet. The seed spreads the lists of many clients.
    #[must_use]
    pub fn new(keys: KeyRange, seed: u64) -> ListThenWatch {
        let from = Bound::Included(keys.key.clone());
        ListThenWatch {
            keys,
            page_keys: PAGE_KEYS_DEFAULT,
            update_events: PAGE_KEYS_DEFAULT as usize,
            known: Known::default(),
            cluster_id: 0,
            phase: Phase::Due(Step::Page(Place { at: None, from })),
            has_read: false,
            followed: None,
            relists: 0,
            relist: Backoff::new(RELIST_WAIT_FIRST, RELIST_WAIT_MAX, seed),
            retry: Backoff::new(RETRY_WAIT_FIRST, RETRY_WAIT_MAX, !seed),
            actions: VecDeque::new(),
        }
    }

    /// So many keys are read at a time, and told at a time; at least one.
    pub fn set_page_keys(&mut self, keys: u32) {
        self.page_keys = keys.max(1);
        self.update_events = self.page_keys as usize;
    }

    /// The range.
    #[must_use]
    pub fn keys(&self) -> &KeyRange {
        &self.keys
    }

    /// The answer to [`Action::Read`].
    pub fn handle_page(&mut self, now: Instant, page: Result<RangeResponse, Error>) {
        let Phase::Asked(Step::Page(place)) = &self.phase else {
            return;
        };
        let place = place.clone();
        match page.and_then(|response| self.admit(&place, response)) {
            Ok(page) => {
                self.has_read = true;
                self.retry.reset();
                self.phase = Phase::Comparing(page);
            }
            Err(error) => self.page_failed(now, place, error),
        }
    }

    /// The watch exists.
    pub fn handle_watching(&mut self, now: Instant) {
        if let Phase::Asked(Step::Watch(_)) = self.phase {
            self.followed.get_or_insert(now);
        }
    }

    /// What the watch has seen.
    pub fn handle_batch(&mut self, mut batch: Batch) {
        let Phase::Asked(Step::Watch(next)) = &mut self.phase else {
            return;
        };
        *next = batch.resume_revision;
        self.retry.reset();
        let update = match batch.kind {
            BatchKind::Events => {
                self.known.apply(&mut batch.events);
                Update::Changed(batch)
            }
            BatchKind::Progress => Update::Progress {
                revision: batch.revision,
            },
            BatchKind::Reconnected => return,
        };
        self.actions.push_back(Action::Tell(update));
    }

    /// The watch has ended, or could not be created.
    pub fn handle_watch_end(&mut self, now: Instant, end: WatchEnd) {
        let Phase::Asked(Step::Watch(next)) = self.phase else {
            return;
        };
        match end {
            WatchEnd::Compacted { .. } => self.list_again(now),
            WatchEnd::Disconnected { error, .. } if may_pass(&error) => self.wait(now, Step::Watch(next)),
            WatchEnd::Closed => self.phase = Phase::Over(ListWatchEnd::Closed),
            end => self.phase = Phase::Over(ListWatchEnd::Watch { end }),
        }
    }

    /// The wait may be over.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Phase::Waiting(until, step) = &self.phase {
            if now >= *until {
                self.phase = Phase::Due(step.clone());
            }
        }
    }

    /// What to do next; drained after each input.
    pub fn poll_action(&mut self) -> Option<Action> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            match &mut self.phase {
                Phase::Comparing(page) => {
                    let Page { at, from, kvs, more } = page;
                    let events = self.known.compare(*at, from, kvs, *more, self.update_events);
                    match events.is_empty() {
                        true => self.page_done(),
                        false => return Some(Action::Tell(Update::Listed(events))),
                    }
                }
                Phase::Due(step) => {
                    let step = step.clone();
                    let action = self.ask(&step);
                    self.phase = Phase::Asked(step);
                    return Some(action);
                }
                Phase::Asked(_) | Phase::Waiting(..) | Phase::Over(_) => return None,
            }
        }
    }

    /// When to call [`handle_timeout`](ListThenWatch::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting(until, _) => Some(until),
            _ => None,
        }
    }

    /// Why it goes on no more, once all that came before is told.
    #[must_use]
    pub fn end(&self) -> Option<&ListWatchEnd> {
        match &self.phase {
            Phase::Over(end) if self.actions.is_empty() => Some(end),
            _ => None,
        }
    }

    /// Asserts what must hold between two inputs.
    pub fn check(&self) {
        assert!(self.relists <= RELISTS_MAX + 1);
        assert!(self.page_keys > 0);
        if let Phase::Due(Step::Page(place)) | Phase::Asked(Step::Page(place)) = &self.phase {
            assert_eq!(place.at.is_some(), matches!(place.from, Bound::Excluded(_)));
        }
    }

    fn ask(&self, step: &Step) -> Action {
        match step {
            Step::Watch(start) => Action::Watch {
                start: *start,
                cluster_id: self.cluster_id,
            },
            Step::Page(place) => Action::Read {
                keys: self.rest(&place.from),
                limit: self.page_keys,
                revision: place.at.unwrap_or_default(),
            },
        }
    }

    /// The range from there on.
    fn rest(&self, from: &Bound<Bytes>) -> KeyRange {
        let key = match from {
            Bound::Included(key) => key.clone(),
            Bound::Excluded(key) => [key, &[0][..]].concat().into(),
            Bound::Unbounded => Bytes::new(),
        };
        let range_end = self.keys.range_end.clone();
        KeyRange { key, range_end }
    }

    /// Takes a page only if it is one.
    fn admit(&mut self, place: &Place, response: RangeResponse) -> Result<Page, Error> {
        let at = place.at.unwrap_or_else(|| response.revision());
        let first = self.rest(&place.from).key;
        let ascend = response.kvs.is_sorted_by(|one, next| one.key < next.key);
        let begins = response.kvs.first().is_none_or(|kv| kv.key >= first);
        let known = |kv: &KeyValue| 0 < kv.mod_revision && kv.mod_revision <= at.0;
        if at <= Revision::ZERO || at.0 == i64::MAX {
            return Err(breach("a list without a revision"));
        }
        if !ascend || !begins || response.kvs.last().is_some_and(|kv| !self.is_inside(&kv.key)) {
            return Err(breach("a list out of order"));
        }
        if !response.kvs.iter().all(known) || (response.more && response.kvs.is_empty()) {
            return Err(breach("a list of what is not there"));
        }
        self.meet(response.header.as_ref().map_or(0, |header| header.cluster_id))?;
        Ok(Page {
            at,
            from: place.from.clone(),
            kvs: response.kvs.into(),
            // A single key is all that there is.
            more: response.more && !self.keys.range_end.is_empty(),
        })
    }

    /// The revisions of another cluster have nothing to do with those before.
    fn meet(&mut self, cluster_id: u64) -> Result<(), Error> {
        if self.cluster_id == 0 {
            self.cluster_id = cluster_id;
        }
        if cluster_id == 0 || cluster_id == self.cluster_id {
            return Ok(());
        }
        let message = "the list is of another cluster than what came before";
        let code = Code::FailedPrecondition;
        let error = Error::new(code, Origin::Library, Delivery::Answered, message);
        Err(error.with_etcd(Some(EtcdError::ClusterIdMismatch)))
    }

    /// Whether a key that is not below the range is not above it either.
    fn is_inside(&self, key: &Bytes) -> bool {
        match &self.keys.range_end[..] {
            [] => *key == self.keys.key,
            [0] => true,
            end => key[..] < *end,
        }
    }

    fn page_failed(&mut self, now: Instant, place: Place, error: Error) {
        if error.etcd() == Some(EtcdError::Compacted) && place.at.is_some() {
            self.list_again(now);
        } else if error.is_oversize() && self.page_keys > 1 {
            self.page_keys /= 2;
            self.phase = Phase::Due(Step::Page(place));
        } else if self.has_read && may_pass(&error) {
            self.wait(now, Step::Page(place));
        } else {
            let error = Arc::new(error);
            self.phase = Phase::Over(ListWatchEnd::Read { error });
        }
    }

    fn page_done(&mut self) {
        let Phase::Comparing(page) = &mut self.phase else {
            return;
        };
        if page.more {
            let (at, from) = (Some(page.at), page.from.clone());
            self.phase = Phase::Due(Step::Page(Place { at, from }));
            return;
        }
        let revision = page.at;
        self.phase = Phase::Due(Step::Watch(revision.next()));
        self.actions.push_back(Action::Tell(Update::Synced { revision }));
    }

    /// What was to be read next is compacted away.
    fn list_again(&mut self, now: Instant) {
        let followed = self.followed.take();
        if followed.is_some_and(|followed| now.saturating_since(followed) > RELIST_WAIT_MAX) {
            self.relist.reset();
            self.relists = 0;
        }
        self.relists += 1;
        if self.relists > RELISTS_MAX {
            let relists = RELISTS_MAX;
            self.phase = Phase::Over(ListWatchEnd::Compacted { relists });
            return;
        }
        let from = Bound::Included(self.keys.key.clone());
        let step = Step::Page(Place { at: None, from });
        self.phase = Phase::Waiting(now + self.relist.next_wait(), step);
        self.actions.push_back(Action::Tell(Update::Relisting));
    }

    fn wait(&mut self, now: Instant, step: Step) {
        self.phase = Phase::Waiting(now + self.retry.next_wait(), step);
    }
}

/// The server does not keep to the protocol.
fn breach(message: &'static str) -> Error {
    Error::new(Code::Internal, Origin::Transport, Delivery::Answered, message)
}
