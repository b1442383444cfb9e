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
//!     │  ▲  ▲             │                   │
//!     │  │  │ disconnect  │                   │
//!     │  │  └─────────────┼───────────────────┤
//!     │  │ time           │ refused, canceled │
//!     │  │  ┌─────────┐   │ for now           │
//!     │  └──│ Refused │◀──┼───────────────────┤
//!     │     └─────────┘   │                   │
//!     │          │        │ refused           │ canceled, compacted, queue full,
//!     │ no stream│        │ for good          │ revision too large
//!     └──────────┴────────┴───────────────────┴──────────▶ End, and forgotten
//! ```
//!
//! A watch that resumes goes back to Queued when its stream is gone: one that was
//! live starts again behind what it handed out, and never from "now" again, one
//! that the server has not told of as it was asked for. All of them are created
//! again without waiting for one another. So it goes on when the server refuses it, or
//! cancels it, for a reason that may pass; see `refusal`. One that does not resume
//! ends, and so does every one where the error is there to stay, or the server broke the
//! protocol a few times in a row.
//!
//! A watch whose reader is behind, and may catch up, waits outside the stream, cancelled
//! on the server, and is Queued again once the reader has read everything.
//!
//! A cancel by the reader forgets the watch from every state. If the request was
//! sent, its place in the order of answers stays, and the cancel follows when the
//! answer has told the id.
//!
//! It waits before the next stream, and before a refused watch is asked for again. How
//! long an answer may take is the reader's to decide; while one is due, the silence of
//! its connection is noticed as a call's is, and else by its pings.

mod action;
#[cfg(test)]
mod behind;
mod cursor;
mod end;
mod event;
#[cfg(test)]
mod hostile;
mod life;
mod queue;
mod refusal;
#[cfg(test)]
mod refused;
mod reopen;
#[cfg(test)]
mod resume;
mod retries;
mod rules;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::core::time::Instant;
use crate::error::{Error, EtcdError};
use crate::pb::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
    watch_request::RequestUnion,
};
use crate::types::{Revision, WatchId};

pub use action::Action;
use cursor::{Cursor, Stop};
pub use end::WatchEnd;
pub use event::{Batch, BatchKind, Event};
pub use life::Create;
use life::{Live, State, Watch};
pub use queue::{Full, Queue};
pub(super) use refusal::may_pass;
use refusal::{Verdict, breach, is_breach, is_too_large};
use reopen::Reopen;
use retries::Retries;
pub use rules::{Rule, Rules};

/// How many watches one client may have, and how many answers may be due. A
/// server that takes requests and answers none costs a few bytes for each.
pub const WATCHES_MAX: usize = 1 << 16;

/// The client's name for a watch, before and after the server gave it one. The
/// later one is the greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchKey(pub u64);

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
    retries: Retries,
    renews_tokens: bool,
    rules: Rules,
    actions: VecDeque<Action<R>>,
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
            retries: Retries::new(seed),
            renews_tokens: false,
            rules: Rules::here(),
            actions: VecDeque::new(),
        }
    }

    /// The client fetches another token where the server does not take the stream's any
    /// more: see [`Action::TokenRefused`]. Else such a refusal is final.
    #[must_use]
    pub fn renewing_tokens(self, renews_tokens: bool) -> Watches<R> {
        Watches {
            renews_tokens,
            ..self
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
            behind: false,
            state: State::Queued,
            refusals: None,
        };
        self.watches.insert(key, watch);
    }

    /// The reader gave the watch up, whatever its state; unknown keys are watches that ended.
    pub fn handle_cancel(&mut self, key: WatchKey) {
        self.end(key, WatchEnd::Closed);
    }

    /// The reader's queue did not take the batch that was delivered last.
    pub fn handle_refused(&mut self, key: WatchKey, full: Full) {
        let Some(watch) = self.watches.get_mut(&key) else {
            return;
        };
        let State::Live(Live { id, before, .. }) = watch.state else {
            return;
        };
        // What comes behind the batch would leave a gap.
        self.actions
            .retain(|action| !matches!(action, Action::Deliver { key: of, .. } if *of == key));
        if !watch.create.catch_up {
            let resume_revision = before;
            self.end(key, WatchEnd::Lagged { resume_revision });
            return;
        }
        watch.fall_behind(before, full);
        self.ids.remove(&id);
        self.progress.remove(&key);
        self.cancels.push_back(id);
    }

    /// The reader that fell behind has read all that waited for it.
    pub fn handle_drained(&mut self, key: WatchKey) {
        let watch = self.watches.get_mut(&key);
        if let Some(watch) = watch.filter(|watch| matches!(watch.state, State::Behind)) {
            watch.state = State::Queued;
            self.creates.insert(key);
        }
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
        if let Err(error) = self.try_response(now, response) {
            self.handle_disconnect(now, &Arc::new(error));
        }
    }

    /// The stream is gone. Watches that resume wait for the next one, unless that
    /// would end alike; of the others, those that were not sent yet.
    pub fn handle_disconnect(&mut self, now: Instant, error: &Arc<Error>) {
        self.reopen.handle_lost(now);
        if is_breach(error) && self.reopen.handle_breach() {
            self.lose_stream(
                |_| false,
                |resume_revision| WatchEnd::breached(error, resume_revision),
            );
            return;
        }
        let is_cut = is_too_large(error) && self.fragment();
        let passes = match Verdict::of_error(error, self.renews_tokens) {
            Verdict::Token(etcd) => return self.leave_stream(etcd),
            verdict => is_cut || verdict != Verdict::Final,
        };
        let goes_on = |watch: &Watch<R>| match watch.create.resume {
            true => passes,
            false => matches!(watch.state, State::Queued | State::Behind),
        };
        self.lose_stream(goes_on, |resume_revision| {
            WatchEnd::disconnected(error, resume_revision)
        });
    }

    /// There will be no stream any more. Ends every watch.
    pub fn handle_unreachable(&mut self, error: &Arc<Error>) {
        self.lose_stream(
            |_| false,
            |resume_revision| WatchEnd::disconnected(error, resume_revision),
        );
    }

    /// A wait may be over: the one before the next stream, or a refused watch's.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.reopen.handle_timeout(now);
        while let Some(key) = self.retries.pop(now) {
            if let Some(watch) = self.watches.get_mut(&key) {
                watch.state = State::Queued;
                self.creates.insert(key);
            }
        }
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

    /// Whether the server owes the answer to a create. It gives one at once.
    pub fn awaits_answer(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// Whether a watch waits for a stream, and has waited long enough.
    pub fn needs_stream(&self) -> bool {
        !self.creates.is_empty() && self.reopen.at().is_none()
    }

    /// When a watch that waits, for a stream or since it was refused, has waited long enough.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let reopen = self.reopen.at().filter(|_| !self.creates.is_empty());
        reopen.into_iter().chain(self.retries.first()).min()
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
        for (at, key) in self.retries.iter() {
            assert!(matches!(state(&key), Some(State::Refused(until)) if *until == at));
        }
        let waiting = self.creates.len() + self.retries.iter().len();
        let behind = self.watches.values().filter(|watch| matches!(watch.state, State::Behind)).count();
        assert_eq!(self.watches.len(), self.ids.len() + waiting + sent + behind);
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

    /// The server is to send messages in pieces to those that were on the stream. Says
    /// whether it was not to before.
    fn fragment(&mut self) -> bool {
        let mut anew = false;
        for watch in self.watches.values_mut() {
            if matches!(watch.state, State::Sent | State::Live(_)) {
                anew |= !std::mem::replace(&mut watch.create.request.fragment, true);
            }
        }
        anew
    }

    /// The stream's token is too old. That is no watch's fault: all of them go on, on
    /// the next one.
    fn leave_stream(&mut self, etcd: EtcdError) {
        self.actions.push_back(Action::TokenRefused(etcd));
        self.lose_stream(|_| true, |_| WatchEnd::Closed);
    }

    /// Queues the watches that go on, ends the others, and forgets the stream.
    fn lose_stream(&mut self, goes_on: impl Fn(&Watch<R>) -> bool, end: impl Fn(Revision) -> WatchEnd) {
        self.creates.clear();
        self.watches.retain(|&key, watch| {
            if goes_on(watch) {
                if !matches!(watch.state, State::Refused(_) | State::Behind) {
                    watch.leave(State::Queued);
                    self.creates.insert(key);
                }
                return true;
            }
            if let State::Refused(at) = watch.state {
                self.retries.remove(at, key);
            }
            let reader = watch.reader.clone();
            let end = end(watch.resume_revision());
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

    fn try_response(&mut self, now: Instant, response: WatchResponse) -> Result<(), Error> {
        if response.created {
            return self.created(now, response);
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
            self.canceled(now, key, response);
            return Ok(());
        }
        self.received(key, response)
    }

    /// The answer to the oldest unanswered create. A refusal has no id of its own
    /// (-1, and 0 before etcd 3.4.25), so that only the order tells whose it is.
    fn created(&mut self, now: Instant, response: WatchResponse) -> Result<(), Error> {
        let Some(key) = self.unanswered.pop_front() else {
            return Err(breach("a watch was created that nobody asked for"));
        };
        let cluster_id = response.header.as_ref().map_or(0, |header| header.cluster_id);
        if let Some(end) = self.watches.get_mut(&key).and_then(|watch| watch.meet(cluster_id)) {
            // What was created is cancelled below, as of a watch that is gone.
            self.end(key, end);
        }
        if response.canceled || response.watch_id < 0 {
            self.canceled(now, key, response);
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
        let cursor = Cursor::new(watch.start(), revision, watch.create.buffer_bytes, self.rules);
        let cursor = cursor.within(watch.create.namespace.clone());
        let before = cursor.next();
        watch.state = State::Live(Live { id, cursor, before });
        self.ids.insert(id, key);
        let reader = watch.reader.clone();
        if !std::mem::replace(&mut watch.created, true) {
            self.actions.push_back(Action::Created { reader, id, revision });
        } else {
            let caught_up = std::mem::take(&mut watch.behind);
            let tells = watch.create.reconnect_notify && !caught_up;
            let notice = tells.then(|| Batch::reconnected(revision, before));
            self.actions.push_back(Action::Resumed {
                reader: reader.clone(),
                caught_up,
            });
            self.actions.extend(notice.map(|batch| Action::Deliver { key, reader, batch }));
        }
        match response.events.is_empty() {
            true => Ok(()),
            false => self.received(key, response),
        }
    }

    /// The server ended a watch, or refused to create it.
    fn canceled(&mut self, now: Instant, key: WatchKey, response: WatchResponse) {
        let Some(watch) = self.watches.get_mut(&key) else {
            return;
        };
        let reason = response.cancel_reason;
        let compact_revision = Revision(response.compact_revision);
        let end = if compact_revision > Revision::ZERO {
            // The server keeps it until it is cancelled, and tells the stream's others of no
            // progress, as one is behind (etcd's `mvcc`).
            self.cancels.extend(watch.id());
            WatchEnd::Compacted { compact_revision }
        } else {
            let verdict = Verdict::of_reason(&reason, self.renews_tokens);
            if let Verdict::Token(etcd) = verdict {
                self.reopen.handle_lost(now);
                return self.leave_stream(etcd);
            }
            let again = match watch.create.resume {
                true => self.retries.handle_refused(now, key, verdict, &mut watch.refusals),
                false => None,
            };
            if let Some(at) = again {
                if let Some(id) = watch.id() {
                    self.ids.remove(&id);
                }
                self.progress.remove(&key);
                watch.leave(State::Refused(at));
                let reader = watch.reader.clone();
                self.actions.push_back(Action::Refused { reader, reason });
                return;
            }
            WatchEnd::Canceled {
                etcd: EtcdError::from_message(&reason),
                reason,
                resume_revision: watch.resume_revision(),
            }
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
                if !batch.events.is_empty() {
                    self.reopen.handle_good();
                    watch.refusals = None;
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
        match watch.state {
            State::Live(Live { id, .. }) => drop(self.ids.remove(&id)),
            State::Refused(at) => self.retries.remove(at, key),
            State::Queued | State::Sent | State::Behind => {}
        }
        Some(watch)
    }
}
