//! The watches that share one stream: which answer belongs to which watch, what
//! of it the reader may see, and where a watch would go on after its end.
//!
//! The machine owns no queue of events and no stream. `net/watch_driver` feeds it
//! with the stream's messages and its readers' wishes, sends the requests it
//! gives out, and puts its batches into the readers' queues.
//!
//! ```text
//!  handle_create     poll_request         `created`
//!       │                 │                   │
//!       ▼                 ▼                   ▼
//!   ┌────────┐        ┌──────┐            ┌──────┐ ── events ──▶ Deliver
//!   │ Queued │ ─────▶ │ Sent │ ─────────▶ │ Live │
//!   └────────┘        └──────┘            └──────┘
//!     │    ▲              │                   │
//!     │    │ disconnect   │                   │
//!     │    └──────────────┼───────────────────┤
//!     │                   │ refused           │ canceled, compacted, queue full,
//!     │ no stream         │                   │ revision too large
//!     └───────────────────┴───────────────────┴──────────▶ End, and forgotten
//! ```
//!
//! A watch that resumes goes back to Queued when its stream is gone: one that was
//! live starts again behind what it handed out, and never from "now" again, one
//! that the server has not told of as it was asked for. All of them are created
//! again without waiting for one another. One that does not resume ends, and so
//! does every one where the error is there to stay.
//!
//! A cancel by the reader forgets the watch from every state. If the request was
//! sent, its place in the order of answers stays, and the cancel follows when the
//! answer has told the id.
//!
//! Its one timer is the wait before the next stream: how long an answer may take is
//! the reader's to decide, and a silent connection is its pings' to find.

mod cursor;
mod end;
mod event;
#[cfg(test)]
mod hostile;
mod queue;
mod reopen;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::core::time::Instant;
use crate::error::{Code, Delivery, Error, EtcdError, Origin};
use crate::pb::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
    watch_request::RequestUnion,
};
use crate::types::{Revision, WatchId};

use cursor::{Cursor, Stop};
pub use end::WatchEnd;
pub use event::{Batch, Event};
pub use queue::{Full, Queue};
use reopen::Reopen;

/// How many watches one client may have, and how many answers may be due. A
/// server that takes requests and answers none costs a few bytes for each.
pub const WATCHES_MAX: usize = 1 << 16;

/// The client's name for a watch, before and after the server gave it one. The
/// later one is the greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchKey(pub u64);

/// What a reader asks for.
#[derive(Clone, Debug, Default)]
pub struct Create {
    /// The request, without an id.
    pub request: WatchCreateRequest,
    /// How many bytes of one revision may be held back.
    pub buffer_bytes: usize,
    /// Whether the watch goes on over the next stream when one is gone.
    pub resume: bool,
}

/// The watches of one stream; see the module. `R` is what the driver calls a reader.
#[derive(Debug)]
pub struct Watches<R> {
    watches: BTreeMap<WatchKey, Watch<R>>,
    /// The live ones by the server's name for them.
    ids: BTreeMap<WatchId, WatchKey>,
    /// Whose `created` is due, in the order of the requests. Those that are not
    /// in `watches` any more are cancelled as soon as their id is known.
    unanswered: VecDeque<WatchKey>,
    /// The greatest id so far. The server counts up and uses none twice.
    id_max: Option<WatchId>,
    /// The queued ones.
    creates: BTreeSet<WatchKey>,
    cancels: VecDeque<WatchId>,
    /// Who asked how far its watch has come and has no answer yet.
    progress: BTreeSet<WatchKey>,
    progress_due: bool,
    reopen: Reopen,
    actions: VecDeque<Action<R>>,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum Action<R> {
    /// Tell the reader that its watch exists, and at which revision it was created.
    Created {
        /// Whose watch it is.
        reader: R,
        /// The server's name for it.
        id: WatchId,
        /// The store's revision as the server said it.
        revision: Revision,
    },
    /// The watch exists again, on another stream.
    Resumed {
        /// Whose watch it is.
        reader: R,
    },
    /// Queue the batch for the reader, or call [`Watches::handle_refused`].
    Deliver {
        /// The watch.
        key: WatchKey,
        /// Whose watch it is.
        reader: R,
        /// What happened.
        batch: Batch,
    },
    /// Tell the reader the end. The machine has forgotten the watch.
    End {
        /// Whose watch it was.
        reader: R,
        /// Why it ended.
        end: WatchEnd,
    },
    /// The stream is over: close it.
    Close,
}

#[derive(Debug)]
struct Watch<R> {
    reader: R,
    /// What creates it, now or on the next stream.
    create: Create,
    /// Its reader knows of it.
    created: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Queued,
    Sent,
    Live(Live),
}

#[derive(Debug)]
struct Live {
    id: WatchId,
    cursor: Cursor,
    /// Where the cursor stood before the last batch, should that be refused.
    before: Revision,
}

impl<R: Clone> Watches<R> {
    /// No watch yet. The seed spreads the reconnects of many clients.
    #[must_use]
    pub fn new(seed: u64) -> Watches<R> {
        Watches {
            watches: BTreeMap::new(),
            ids: BTreeMap::new(),
            unanswered: VecDeque::new(),
            id_max: None,
            creates: BTreeSet::new(),
            cancels: VecDeque::new(),
            progress: BTreeSet::new(),
            progress_due: false,
            reopen: Reopen::new(seed),
            actions: VecDeque::new(),
        }
    }

    /// A reader wants a watch. `key` is greater than every one before it.
    pub fn handle_create(&mut self, key: WatchKey, create: Create, reader: R) {
        if self.watches.len() >= WATCHES_MAX || self.unanswered.len() >= WATCHES_MAX {
            let end = WatchEnd::too_many();
            self.actions.push_back(Action::End { reader, end });
            return;
        }
        self.creates.insert(key);
        let watch = Watch {
            reader,
            create,
            created: false,
            state: State::Queued,
        };
        self.watches.insert(key, watch);
    }

    /// The reader gave the watch up, whatever its state; unknown keys are watches that ended.
    pub fn handle_cancel(&mut self, key: WatchKey) {
        self.end(key, WatchEnd::Closed);
    }

    /// The reader's queue did not take the batch that was delivered last.
    pub fn handle_refused(&mut self, key: WatchKey) {
        let Some(State::Live(live)) = self.watches.get(&key).map(|watch| &watch.state) else {
            return;
        };
        let resume_revision = live.before;
        self.end(key, WatchEnd::Lagged { resume_revision });
    }

    /// A reader asks how far its watch has come.
    pub fn handle_progress_request(&mut self, key: WatchKey) {
        if self.watches.get(&key).is_some_and(|watch| watch.id().is_some()) {
            self.progress.insert(key);
            self.progress_due = true;
        }
    }

    /// There is a stream.
    pub fn handle_opened(&mut self, now: Instant) {
        self.reopen.handle_opened(now);
    }

    /// A message of the server.
    pub fn handle_response(&mut self, now: Instant, response: WatchResponse) {
        if let Err(error) = self.try_response(response) {
            self.handle_disconnect(now, &Arc::new(error));
        }
    }

    /// The stream is gone. Watches that resume wait for the next one, unless that
    /// would end alike; of the others, those that were not sent yet.
    pub fn handle_disconnect(&mut self, now: Instant, error: &Arc<Error>) {
        self.reopen.handle_lost(now);
        let passes = may_pass(error);
        self.lose_stream(error, |watch| match watch.create.resume {
            true => passes,
            false => matches!(watch.state, State::Queued),
        });
    }

    /// There will be no stream any more. Ends every watch.
    pub fn handle_unreachable(&mut self, error: &Arc<Error>) {
        self.lose_stream(error, |_| false);
    }

    /// The wait before the next stream may be over.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.reopen.handle_timeout(now);
    }

    /// The driver is about to go. Ends every watch.
    pub fn handle_shutdown(&mut self) {
        while let Some((&key, _)) = self.watches.first_key_value() {
            self.end(key, WatchEnd::Closed);
        }
    }

    /// What to do next; drained after each input.
    pub fn poll_action(&mut self) -> Option<Action<R>> {
        self.actions.pop_front()
    }

    /// What to send next, given out as soon as there is room for it. A create that
    /// was given out counts as sent.
    pub fn poll_request(&mut self) -> Option<WatchRequest> {
        let union = if let Some(WatchId(watch_id)) = self.cancels.pop_front() {
            RequestUnion::CancelRequest(WatchCancelRequest { watch_id })
        } else if let Some(create) = self.next_create() {
            RequestUnion::CreateRequest(create)
        } else if std::mem::take(&mut self.progress_due) {
            RequestUnion::ProgressRequest(WatchProgressRequest {})
        } else {
            return None;
        };
        Some(WatchRequest {
            request_union: Some(union),
        })
    }

    /// Whether a watch waits for a stream, and has waited long enough.
    pub fn needs_stream(&self) -> bool {
        !self.creates.is_empty() && self.reopen.at().is_none()
    }

    /// When a watch that waits for a stream has waited long enough.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.reopen.at().filter(|_| !self.creates.is_empty())
    }

    /// Asserts what must hold between two inputs.
    pub fn check(&self) {
        let state = |key: &WatchKey| self.watches.get(key).map(|watch| &watch.state);
        for (id, key) in &self.ids {
            assert!(matches!(state(key), Some(State::Live(live)) if live.id == *id));
        }
        for key in &self.creates {
            assert!(matches!(state(key), Some(State::Queued)));
        }
        for key in &self.unanswered {
            assert!(matches!(state(key), None | Some(State::Sent)));
        }
        let sent = self.unanswered.iter().filter(|key| state(key).is_some()).count();
        assert_eq!(self.watches.len(), self.ids.len() + self.creates.len() + sent);
        assert!(self.progress.iter().all(|key| matches!(state(key), Some(State::Live(_)))));
        assert!(self.ids.last_key_value().map(|(id, _)| *id) <= self.id_max);
        for watch in self.watches.values() {
            if let State::Live(live) = &watch.state {
                live.cursor.check();
                assert!(live.before <= live.cursor.next());
            }
        }
    }

    fn next_create(&mut self) -> Option<WatchCreateRequest> {
        let key = self.creates.pop_first()?;
        let watch = self.watches.get_mut(&key)?;
        watch.state = State::Sent;
        self.unanswered.push_back(key);
        Some(watch.create.request.clone())
    }

    /// Queues the watches that go on, ends the others, and forgets the stream.
    fn lose_stream(&mut self, error: &Arc<Error>, goes_on: impl Fn(&Watch<R>) -> bool) {
        self.creates.clear();
        self.watches.retain(|&key, watch| {
            if goes_on(watch) {
                watch.queue();
                self.creates.insert(key);
                return true;
            }
            let reader = watch.reader.clone();
            let end = WatchEnd::disconnected(error, watch.resume_revision());
            self.actions.push_back(Action::End { reader, end });
            false
        });
        self.ids.clear();
        self.unanswered.clear();
        self.cancels.clear();
        self.id_max = None;
        self.progress.clear();
        self.progress_due = false;
        self.actions.push_back(Action::Close);
    }

    fn try_response(&mut self, response: WatchResponse) -> Result<(), Error> {
        if response.created {
            return self.created(response);
        }
        let id = WatchId(response.watch_id);
        if id < WatchId(0) {
            return self.progressed(&response);
        }
        let Some(&key) = self.ids.get(&id) else {
            return match self.id_max {
                // It was on its way when the watch ended here.
                Some(id_max) if id <= id_max => Ok(()),
                _ => Err(breach("a message for a watch that was never created")),
            };
        };
        if response.canceled || response.compact_revision > 0 {
            self.canceled(key, response);
            return Ok(());
        }
        self.received(key, response)
    }

    /// The answer to the oldest unanswered create. A refusal has no id of its own
    /// (-1, and 0 before etcd 3.4.25), so that only the order tells whose it is.
    fn created(&mut self, response: WatchResponse) -> Result<(), Error> {
        let Some(key) = self.unanswered.pop_front() else {
            return Err(breach("a watch was created that nobody asked for"));
        };
        if response.canceled || response.watch_id < 0 {
            self.canceled(key, response);
            return Ok(());
        }
        let id = WatchId(response.watch_id);
        if self.id_max.is_some_and(|id_max| id <= id_max) {
            // Also what a proxy does that answers out of order: the watch would get
            // another one's events.
            return Err(breach("a watch id was given twice or out of order"));
        }
        self.id_max = Some(id);
        let Some(watch) = self.watches.get_mut(&key) else {
            self.cancels.push_back(id);
            return Ok(());
        };
        let revision = response.revision();
        let cursor = Cursor::new(watch.start(), revision, watch.create.buffer_bytes);
        let before = cursor.next();
        watch.state = State::Live(Live { id, cursor, before });
        self.ids.insert(id, key);
        let reader = watch.reader.clone();
        self.actions.push_back(match std::mem::replace(&mut watch.created, true) {
            false => Action::Created { reader, id, revision },
            true => Action::Resumed { reader },
        });
        match response.events.is_empty() {
            true => Ok(()),
            false => self.received(key, response),
        }
    }

    /// The server ended a watch, or refused to create it.
    fn canceled(&mut self, key: WatchKey, response: WatchResponse) {
        let Some(watch) = self.watches.get(&key) else {
            return;
        };
        let end = match Revision(response.compact_revision) {
            compact_revision if compact_revision > Revision::ZERO => WatchEnd::Compacted { compact_revision },
            _ => WatchEnd::Canceled {
                etcd: EtcdError::from_message(&response.cancel_reason),
                reason: response.cancel_reason,
                resume_revision: watch.resume_revision(),
            },
        };
        if let Some(Watch { reader, .. }) = self.forget(key) {
            self.actions.push_back(Action::End { reader, end });
        }
    }

    /// Events or a progress notification of one watch.
    fn received(&mut self, key: WatchKey, response: WatchResponse) -> Result<(), Error> {
        let Some(watch) = self.watches.get_mut(&key) else {
            return Ok(());
        };
        let State::Live(live) = &mut watch.state else {
            return Ok(());
        };
        let header = response.revision();
        let before = live.cursor.next();
        match live.cursor.handle_events(header, response.events, response.fragment) {
            Ok(None) => Ok(()),
            Ok(Some(batch)) => {
                live.before = before;
                if !batch.is_progress() {
                    self.reopen.handle_good();
                }
                let reader = watch.reader.clone();
                self.actions.push_back(Action::Deliver { key, reader, batch });
                Ok(())
            }
            Err(Stop::TooLarge(revision)) => {
                let buffer_bytes = watch.create.buffer_bytes;
                self.end(
                    key,
                    WatchEnd::TooLarge {
                        revision,
                        buffer_bytes,
                    },
                );
                Ok(())
            }
            Err(Stop::Breach(error)) => Err(error),
        }
    }

    /// The answer to a progress request, for every watch that asked.
    fn progressed(&mut self, response: &WatchResponse) -> Result<(), Error> {
        if response.canceled || !response.events.is_empty() {
            return Err(breach("a message for no watch"));
        }
        let header = response.revision();
        for key in std::mem::take(&mut self.progress) {
            let Some(watch) = self.watches.get_mut(&key) else {
                continue;
            };
            let State::Live(live) = &mut watch.state else {
                continue;
            };
            live.before = live.cursor.next();
            let batch = live.cursor.handle_progress(header);
            let reader = watch.reader.clone();
            self.actions.push_back(Action::Deliver { key, reader, batch });
        }
        Ok(())
    }

    /// Ends a watch on this side, and sees to it that the server ends it too.
    fn end(&mut self, key: WatchKey, end: WatchEnd) {
        if let Some(watch) = self.forget(key) {
            self.cancels.extend(watch.id());
            let reader = watch.reader;
            self.actions.push_back(Action::End { reader, end });
        }
    }

    fn forget(&mut self, key: WatchKey) -> Option<Watch<R>> {
        let watch = self.watches.remove(&key)?;
        self.creates.remove(&key);
        self.progress.remove(&key);
        if let Some(id) = watch.id() {
            self.ids.remove(&id);
        }
        Some(watch)
    }
}

impl<R> Watch<R> {
    fn id(&self) -> Option<WatchId> {
        match &self.state {
            State::Live(live) => Some(live.id),
            State::Queued | State::Sent => None,
        }
    }

    fn resume_revision(&self) -> Revision {
        match &self.state {
            State::Live(live) => live.cursor.next(),
            State::Queued | State::Sent => self.start(),
        }
    }

    /// The first revision that it asks for; zero for "now".
    fn start(&self) -> Revision {
        Revision(self.create.request.start_revision).max(Revision::ZERO)
    }

    /// Waits for the next stream, to go on there where it is.
    fn queue(&mut self) {
        if let State::Live(live) = &self.state {
            // A server's odd revision must not make it a watch from "now".
            self.create.request.start_revision = live.cursor.next().0.max(1);
        }
        self.state = State::Queued;
    }
}

/// Whether another stream may fare better. What this side refuses to read it would
/// be sent again, and a server says for good what it does not serve.
fn may_pass(error: &Error) -> bool {
    let refused = matches!(
        error.code(),
        Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented
    );
    !refused && !matches!(error.origin(), Origin::Caller | Origin::Library)
}

/// The server does not keep to the protocol.
fn breach(message: &'static str) -> Error {
    Error::new(Code::Internal, Origin::Transport, Delivery::Unknown, message)
}
