//! Watches: which stream has which, what each has seen, and the answers that wait
//! to be sent. It reads the store's history and changes nothing in it.
//!
//! ```text
//!                  start 0 or above the present revision
//!   create ------------------------------------------------> synced <--.
//!      |                                                     |   ^     | every write, at once
//!      |  any other start              its stream is full    |   |     |
//!      '-------------> unsynced <----------------------------'   '-----'
//!                       |    |                                   |
//!                       |    '--- every tick, up to 1000 revisions, until none is left
//!                       '-- compacted: canceled, with compact_revision; as in etcd it sees nothing
//!                           more, and is there until its client cancels it or the stream ends
//! ```
//!
//! The ticks are the 100 ms of etcd's own loop, and whoever drives this makes them.

mod fragment;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::error::Error;
use crate::pb::{Event, Header, KeyValue, WatchCreate, WatchResponse, event, filter};
use crate::store::{KeyRange, Store};

/// How many revisions a watcher that is behind gets at a time.
const REVISIONS_PER_TICK_MAX: usize = 1000;
/// How many answers wait in a stream before its watchers fall behind.
const RESPONSES_MAX: usize = 4096;
/// Stands for no watch, or for all of a stream.
const NO_WATCH: i64 = -1;

/// A stream of watches: a gRPC call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(u64);

#[derive(Debug)]
pub(crate) struct Watches {
    /// The header of every answer, but for its revision.
    identity: Header,
    fragment_bytes: usize,
    next_stream: u64,
    streams: BTreeMap<StreamId, Stream>,
    /// Streams that got an answer since somebody asked.
    ready: BTreeSet<StreamId>,
}

#[derive(Debug, Default)]
struct Stream {
    next_id: i64,
    watchers: BTreeMap<i64, Watcher>,
    responses: VecDeque<WatchResponse>,
}

#[derive(Debug)]
struct Watcher {
    key: Bytes,
    end: Bytes,
    start: i64,
    /// The first revision that it has not seen yet.
    next: i64,
    synced: bool,
    /// Canceled by a compaction. It keeps its id, and its stream from telling
    /// progress, until the client cancels it too.
    compacted: bool,
    no_put: bool,
    no_delete: bool,
    prev_kv: bool,
    fragment: bool,
    progress_notify: bool,
    /// Nothing was sent since the last progress tick.
    quiet: bool,
}

impl Watches {
    pub(crate) fn new(identity: Header, fragment_bytes: usize) -> Watches {
        Watches {
            identity,
            fragment_bytes,
            next_stream: 0,
            streams: BTreeMap::new(),
            ready: BTreeSet::new(),
        }
    }

    pub(crate) fn open(&mut self) -> StreamId {
        self.next_stream += 1;
        let id = StreamId(self.next_stream);
        self.streams.insert(id, Stream::default());
        id
    }

    pub(crate) fn close(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
        self.ready.remove(&stream);
    }

    /// How many watches there are, with those that a compaction ended on this side only.
    pub(crate) fn count(&self) -> usize {
        self.streams.values().map(|stream| stream.watchers.len()).sum()
    }

    /// Creates a watch, or answers why not: both are a `created`.
    pub(crate) fn create(&mut self, stream: StreamId, request: &WatchCreate, store: &Store) {
        let Some(state) = self.streams.get_mut(&stream) else {
            return;
        };
        let created = state.create(request, store);
        let response = WatchResponse {
            created: true,
            canceled: created.is_err(),
            watch_id: created.as_ref().copied().unwrap_or(NO_WATCH),
            cancel_reason: created.err().unwrap_or_default(),
            ..self.response(store.revision())
        };
        self.push(stream, false, response);
    }

    /// Cancels a watch. One that is not there is not answered.
    pub(crate) fn cancel(&mut self, stream: StreamId, watch_id: i64, revision: i64) {
        let watchers = self.streams.get_mut(&stream).map(|stream| &mut stream.watchers);
        if watchers.and_then(|watchers| watchers.remove(&watch_id)).is_some() {
            let response = WatchResponse {
                watch_id,
                canceled: true,
                ..self.response(revision)
            };
            self.push(stream, false, response);
        }
    }

    /// Answers a request for progress, for all watches of the stream at once, if
    /// all of them have seen everything; else there is no answer.
    pub(crate) fn progress(&mut self, stream: StreamId, revision: i64) {
        let Some(state) = self.streams.get(&stream) else {
            return;
        };
        let up_to_date = |watcher: &Watcher| watcher.synced && watcher.start <= revision;
        if !state.watchers.is_empty() && state.watchers.values().all(up_to_date) {
            let response = WatchResponse {
                watch_id: NO_WATCH,
                ..self.response(revision)
            };
            self.push(stream, false, response);
        }
    }

    /// Tells every watch that asked for it, and had no event since the last time.
    pub(crate) fn handle_progress_tick(&mut self, revision: i64) {
        let mut told = Vec::new();
        for (stream, state) in &mut self.streams {
            for (id, watcher) in &mut state.watchers {
                let quiet = std::mem::replace(&mut watcher.quiet, true);
                if watcher.progress_notify && quiet && watcher.synced && watcher.start <= revision {
                    told.push((*stream, *id));
                }
            }
        }
        for (stream, watch_id) in told {
            let response = WatchResponse {
                watch_id,
                ..self.response(revision)
            };
            self.push(stream, false, response);
        }
    }

    /// Shows one write to the watchers that are synced.
    pub(crate) fn handle_events(&mut self, store: &Store, revision: i64, events: &[Event]) {
        let mut seen = Vec::new();
        for (stream, state) in &mut self.streams {
            for (id, watcher) in &mut state.watchers {
                let matching: Vec<&Event> = match watcher.synced && watcher.next <= revision {
                    true => events.iter().filter(|event| watcher.wants_key(event)).collect(),
                    false => continue,
                };
                if state.responses.len() >= RESPONSES_MAX {
                    // From here on it is served by the ticks.
                    watcher.synced = matching.is_empty();
                    watcher.next = revision;
                    continue;
                }
                watcher.next = revision + 1;
                let events = watcher.shown(store, matching);
                if !events.is_empty() {
                    watcher.quiet = false;
                    seen.push((*stream, *id, watcher.fragment, events));
                }
            }
        }
        for (stream, watch_id, fragment, events) in seen {
            let response = WatchResponse {
                watch_id,
                events,
                ..self.response(revision)
            };
            self.push(stream, fragment, response);
        }
    }

    /// Serves the watchers that are behind.
    pub(crate) fn handle_tick(&mut self, store: &Store) {
        let mut behind = Vec::new();
        for (stream, state) in &self.streams {
            let unsynced = state.watchers.iter().filter(|(_, watcher)| !watcher.synced && !watcher.compacted);
            behind.extend(unsynced.map(|(id, _)| (*stream, *id)));
        }
        for (stream, watch_id) in behind {
            self.catch_up(stream, watch_id, store);
        }
    }

    /// Whether so much waits in a stream that no more is to be asked for on it.
    pub(crate) fn is_full(&self, stream: StreamId) -> bool {
        self.streams.get(&stream).is_some_and(|stream| stream.responses.len() >= RESPONSES_MAX)
    }

    /// The next answer to send on a stream.
    pub(crate) fn pop(&mut self, stream: StreamId) -> Option<WatchResponse> {
        self.streams.get_mut(&stream)?.responses.pop_front()
    }

    /// The streams that have got answers since the last time.
    pub(crate) fn take_ready(&mut self) -> BTreeSet<StreamId> {
        std::mem::take(&mut self.ready)
    }

    fn catch_up(&mut self, stream: StreamId, watch_id: i64, store: &Store) {
        let Some(state) = self.streams.get_mut(&stream) else {
            return;
        };
        if state.responses.len() >= RESPONSES_MAX {
            return;
        }
        let Some(watcher) = state.watchers.get_mut(&watch_id) else {
            return;
        };
        if watcher.next < store.compacted() {
            watcher.compacted = true;
            let response = WatchResponse {
                watch_id,
                canceled: true,
                compact_revision: store.compacted(),
                // This answer alone says nothing of the present revision, as in etcd.
                ..self.response(0)
            };
            return self.push(stream, false, response);
        }
        let events = watcher.next_events(store);
        let fragment = watcher.fragment;
        if !events.is_empty() {
            watcher.quiet = false;
            let response = WatchResponse {
                watch_id,
                events,
                ..self.response(store.revision())
            };
            self.push(stream, fragment, response);
        }
    }

    fn response(&self, revision: i64) -> WatchResponse {
        WatchResponse {
            header: Some(Header {
                revision,
                ..self.identity.clone()
            }),
            ..WatchResponse::default()
        }
    }

    fn push(&mut self, stream: StreamId, fragment: bool, response: WatchResponse) {
        if let Some(state) = self.streams.get_mut(&stream) {
            match fragment {
                true => state.responses.extend(fragment::split(response, self.fragment_bytes)),
                false => state.responses.push_back(response),
            }
            self.ready.insert(stream);
        }
    }
}

impl Stream {
    /// The id of the new watch, or why there is none.
    fn create(&mut self, request: &WatchCreate, store: &Store) -> Result<i64, String> {
        // An empty key stands for the least one.
        let key = if request.key.is_empty() {
            Bytes::from_static(&[0])
        } else {
            request.key.clone()
        };
        let start = request.start_revision;
        if start < 0 {
            return Err(Error::Compacted.to_string());
        }
        if KeyRange::new(&key, &request.range_end).is_empty() {
            return Err("mvcc: watcher range is empty".to_owned());
        }
        let id = match request.watch_id {
            0 => self.free_id(),
            id if self.watchers.contains_key(&id) => {
                return Err("mvcc: duplicate watch ID provided on the WatchStream".to_owned());
            }
            id => id,
        };
        let synced = start == 0 || start > store.revision();
        let watcher = Watcher {
            key,
            end: request.range_end.clone(),
            start,
            next: if synced {
                start.max(store.revision() + 1)
            } else {
                start
            },
            synced,
            compacted: false,
            no_put: request.filters.contains(&filter::NO_PUT),
            no_delete: request.filters.contains(&filter::NO_DELETE),
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            quiet: true,
        };
        self.watchers.insert(id, watcher);
        Ok(id)
    }

    fn free_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }
}

impl Watcher {
    fn wants_key(&self, event: &Event) -> bool {
        let range = KeyRange::new(&self.key, &self.end);
        event.kv.as_ref().is_some_and(|kv| range.contains(&kv.key))
    }

    /// What the filters let through, with the previous values if they were asked for.
    fn shown(&self, store: &Store, events: Vec<&Event>) -> Vec<Event> {
        let passes = |event: &&Event| match event.kind {
            event::PUT => !self.no_put,
            _ => !self.no_delete,
        };
        let shown = events.into_iter().filter(passes).cloned();
        let complete = shown.map(|event| Event {
            prev_kv: if self.prev_kv {
                previous(store, &event)
            } else {
                None
            },
            ..event
        });
        complete.collect()
    }

    /// The events of the next revisions, as many as go at a time; with the last
    /// of them the watcher is synced.
    fn next_events(&mut self, store: &Store) -> Vec<Event> {
        let mut events = Vec::new();
        let mut revisions = 0;
        let mut more = None;
        for (revision, written) in store.events_from(self.next) {
            let before = events.len();
            events.extend(written.iter().filter(|event| self.wants_key(event)));
            revisions += usize::from(events.len() > before);
            if revisions > REVISIONS_PER_TICK_MAX {
                events.truncate(before);
                more = Some(revision);
                break;
            }
        }
        let shown = self.shown(store, events);
        self.synced = more.is_none();
        self.next = more.unwrap_or(store.revision() + 1);
        shown
    }
}

/// The key before an event; nothing before its creation, or where that is compacted.
fn previous(store: &Store, event: &Event) -> Option<KeyValue> {
    let kv = event.kv.as_ref()?;
    // Also where the same revision deleted it before.
    if event.kind == event::PUT && kv.create_revision == kv.mod_revision {
        return None;
    }
    store.at(&kv.key, kv.mod_revision - 1).cloned()
}

#[cfg(test)]
mod tests;
