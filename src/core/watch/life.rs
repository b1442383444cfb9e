//! One watch of the stream: what creates it, now or anew, and where in its life it
//! stands.

use crate::core::namespace::Namespace;
use crate::core::time::Instant;
use crate::pb::etcdserverpb::WatchCreateRequest;
use crate::types::{Revision, WatchId};

use super::cursor::Cursor;
use super::end::WatchEnd;
use super::queue::Full;
use super::retries::Refusals;

/// What a reader asks for.
#[derive(Clone, Debug, Default)]
pub struct Create {
    /// The request, without an id.
    pub request: WatchCreateRequest,
    /// Whose revisions it counts in; 0 where no server has said so.
    pub cluster_id: u64,
    /// How many bytes of one revision may be held back.
    pub buffer_bytes: usize,
    /// Whether the watch goes on over the next stream when one is gone.
    pub resume: bool,
    /// Whether the watch goes on once a reader that fell behind has read what waits for it,
    /// instead of ending.
    pub catch_up: bool,
    /// Whether its reader is given a batch that says so when it does.
    pub reconnect_notify: bool,
    /// The request's keys lie in it; events are told with the keys in there.
    pub namespace: Option<Namespace>,
}

#[derive(Debug)]
pub(super) struct Watch<R> {
    pub(super) reader: R,
    /// What creates it, now or on the next stream.
    pub(super) create: Create,
    /// Its reader knows of it.
    pub(super) created: bool,
    /// It was given up for its reader's sake, and is not live again yet.
    pub(super) behind: bool,
    pub(super) state: State,
    pub(super) refusals: Option<Refusals>,
}

#[derive(Debug)]
pub(super) enum State {
    Queued,
    Sent,
    Live(Live),
    /// Refused, and asked for again then.
    Refused(Instant),
    /// Cancelled on the server until its reader has read what waits for it.
    Behind,
}

#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: WatchId,
    pub(super) cursor: Cursor,
    /// Where the cursor stood before the last batch, should that be refused.
    pub(super) before: Revision,
}

impl<R> Watch<R> {
    /// Its end, where the server is of another cluster than the one that it began in: there
    /// its revisions mean something else.
    pub(super) fn meet(&mut self, cluster_id: u64) -> Option<WatchEnd> {
        if self.create.cluster_id == 0 {
            self.create.cluster_id = cluster_id;
        }
        (cluster_id != 0 && cluster_id != self.create.cluster_id).then_some(WatchEnd::OtherCluster {
            expected: self.create.cluster_id,
            found: cluster_id,
        })
    }

    pub(super) fn id(&self) -> Option<WatchId> {
        match &self.state {
            State::Live(live) => Some(live.id),
            State::Queued | State::Sent | State::Refused(_) | State::Behind => None,
        }
    }

    pub(super) fn resume_revision(&self) -> Revision {
        match &self.state {
            State::Live(live) => live.cursor.next(),
            State::Queued | State::Sent | State::Refused(_) | State::Behind => self.start(),
        }
    }

    /// The first revision that it asks for; zero for "now".
    pub(super) fn start(&self) -> Revision {
        Revision(self.create.request.start_revision).max(Revision::ZERO)
    }

    /// Leaves the stream, to go on there where it is.
    pub(super) fn leave(&mut self, state: State) {
        if let State::Live(live) = &self.state {
            self.start_at(live.cursor.next());
        }
        self.state = state;
    }

    /// Leaves the stream, to go on before the batch that was refused. Large events come in
    /// pieces then: else a thousand revisions of them would be one message, whatever room
    /// the reader has.
    pub(super) fn fall_behind(&mut self, before: Revision, full: Full) {
        self.create.request.fragment |= full.is_large;
        self.start_at(before);
        self.behind = true;
        self.state = State::Behind;
    }

    fn start_at(&mut self, revision: Revision) {
        // A server's odd revision must not make it a watch from "now".
        self.create.request.start_revision = revision.0.max(1);
    }
}
