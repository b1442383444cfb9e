//! The watch service: what happens to keys, as it happens.

use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use prost::Message;

use super::{Client, Route};
use crate::core::watch::Create;
pub use crate::core::watch::{Batch, BatchKind, Event, WatchEnd};
use crate::error::Error;
use crate::net::clock::{self, Timer};
use crate::net::view::View;
use crate::net::watch_driver::{Created, WatchReader, WatchStream};
use crate::pb::etcdserverpb::WatchCreateRequest;
use crate::pb::etcdserverpb::watch_create_request::FilterType;
use crate::types::{KeyRange, Revision, WatchId};

/// A few of the largest requests that a server takes (1.5 MiB), or some 16,000 small events:
/// a reader that is further behind is not slow but stuck.
const BUFFER_BYTES_DEFAULT: usize = 4 << 20;

/// What the envelope adds to a create request, and more.
const ENVELOPE_BYTES: usize = 16;

impl Client {
    /// Watches a key, or a [`KeyRange`] of keys, from now on or from a revision.
    ///
    /// All watches of a client share one stream; creating many at once costs one
    /// round trip.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
    /// use tenure::{Event, KeyRange};
    ///
    /// let mut watch = client.watch(KeyRange::prefix("jobs/")).await?;
    /// loop {
    ///     for event in watch.next().await?.events {
    ///         match event {
    ///             Event::Put { kv, .. } => println!("{:?} = {:?}", kv.key, kv.value),
    ///             Event::Delete { kv, .. } => println!("{:?} is gone", kv.key),
    ///         }
    ///     }
    /// }
    /// # }
    /// ```
    pub fn watch(&self, keys: impl Into<KeyRange>) -> CreateWatch<'_> {
        let keys = keys.into();
        let request = WatchCreateRequest {
            key: keys.key,
            range_end: keys.range_end,
            ..WatchCreateRequest::default()
        };
        CreateWatch {
            client: self,
            create: Create {
                request,
                buffer_bytes: BUFFER_BYTES_DEFAULT,
                resume: true,
                catch_up: true,
                ..Create::default()
            },
            timeout: None,
        }
    }
}

/// A watch to be created; await it for the [`Watch`].
///
/// # Errors
///
/// [`WatchEnd::Canceled`] with what the server refused it for; a refusal that may pass
/// (no leader, say) is not told of before the deadline, and then it is the source of the
/// error. [`WatchEnd::Disconnected`] where there was no watch before the deadline, the server
/// does not serve watches to this client, or the stream was lost and the watch does
/// not [resume](CreateWatch::resume); [`WatchEnd::Refused`] for an empty or an oversized key. Where errors
/// are an [`Error`], `?` converts.
///
/// # Cancel safety
///
/// Dropped before it completes, it leaves no watch behind.
#[derive(Clone, Debug)]
#[must_use = "a watch is created only once it is awaited"]
pub struct CreateWatch<'a> {
    client: &'a Client,
    create: Create,
    timeout: Option<Duration>,
}

impl CreateWatch<'_> {
    /// Begins with the events of this revision instead of those after now. A revision
    /// ahead of the store's is waited for; a compacted one ends the watch in
    /// [`WatchEnd::Compacted`].
    ///
    /// A revision that is in the past already is served by a loop of the server that
    /// runs every 100 ms, one that is not is served at once.
    pub fn start_revision(mut self, revision: Revision) -> Self {
        self.create.request.start_revision = revision.0;
        self
    }

    /// Events bring the key as it was before the change.
    pub fn prev_kv(mut self) -> Self {
        self.create.request.prev_kv = true;
        self
    }

    /// The server tells from time to time how far the watch has come while nothing
    /// happens (every 10 minutes by default), as a batch without events.
    pub fn progress_notify(mut self) -> Self {
        self.create.request.progress_notify = true;
        self
    }

    /// Without puts.
    pub fn no_put(mut self) -> Self {
        self.create.request.filters.push(FilterType::Noput.into());
        self
    }

    /// Without deletions.
    pub fn no_delete(mut self) -> Self {
        self.create.request.filters.push(FilterType::Nodelete.into());
        self
    }

    /// Whether the server is to send a message above 1.5 MiB in pieces from the beginning.
    /// Nothing is seen of it, since batches are of whole revisions either way.
    ///
    /// Default: no. The server then sends up to 1,000 revisions in one message; where that is
    /// more than [this side takes](crate::Config::response_bytes_max), the watch goes on from there in
    /// pieces by itself, if it [resumes](CreateWatch::resume). So does one that
    /// [catches up](CreateWatch::catch_up) with large events. A server that cuts (etcd 3.4 to
    /// 3.7) measures the piece anew for each event in it, which takes it minutes where
    /// thousands of revisions of many small events are replayed.
    pub fn fragment(mut self, fragment: bool) -> Self {
        self.create.request.fragment = fragment;
        self
    }

    /// How many bytes of events may wait for the reader: keys, values, some 200 for each
    /// event, and as many for each batch; up to a quarter more are held by the first of them,
    /// which share the buffers they were received in. When there are more the watch
    /// [catches up](CreateWatch::catch_up), or else ends in [`WatchEnd::Lagged`]. Where none
    /// waits one batch is taken whatever its size, which is that of a message at most: of a replay
    /// of many large events it is smaller in [pieces](CreateWatch::fragment).
    /// It is also the bound on one revision's events that the server sends in
    /// pieces; see [`WatchEnd::TooLarge`]. Default: 4 MiB.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.create.buffer_bytes = bytes;
        self
    }

    /// Whether the watch goes on when its stream is lost, over the next one: the default.
    /// Without, it ends in [`WatchEnd::Disconnected`], and its reader is told at once.
    pub fn resume(mut self, resume: bool) -> Self {
        self.create.resume = resume;
        self
    }

    /// Whether a watch whose reader fell behind by more than
    /// [`buffer_bytes`](CreateWatch::buffer_bytes) goes on: it is cancelled on the
    /// server, and once the reader has read all that waits, created again behind it. The
    /// reader misses nothing, and where the history was compacted meanwhile it comes to
    /// [`WatchEnd::Compacted`]. That is the default: the server still has what did not fit,
    /// and a watch that outlives its connection should outlive a slow minute too;
    /// [`Watch::catch_ups`] tells of it. Without, it ends in [`WatchEnd::Lagged`], for a
    /// reader that would rather drop what it has missed, or must learn that it is slow.
    pub fn catch_up(mut self, catch_up: bool) -> Self {
        self.create.catch_up = catch_up;
        self
    }

    /// Each reconnect is told in its place among the events, as a batch of the kind
    /// [`BatchKind::Reconnected`]: nothing is lost by it, but what came behind it came late.
    pub fn reconnect_notify(mut self) -> Self {
        self.create.reconnect_notify = true;
        self
    }

    /// It counts in the revisions of this cluster and ends at any other; 0 is whichever it
    /// comes to first.
    pub(super) fn of_cluster(mut self, cluster_id: u64) -> Self {
        self.create.cluster_id = cluster_id;
        self
    }

    /// The time that the creation may take, instead of the client's timeout for a call.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for CreateWatch<'_> {
    type Output = Result<Watch, WatchEnd>;
    type IntoFuture = CreatingWatch;

    fn into_future(self) -> CreatingWatch {
        let config = self.client.channel().config();
        let timer = Timer::new(clock::now() + self.timeout.unwrap_or(config.call_timeout));
        let mut create = self.create;
        let refused = |message| State::Over(WatchEnd::refused(Error::invalid(message)));
        let is_empty = create.request.key.is_empty();
        if let Some(namespace) = self.client.view().and_then(|view| view.namespace.clone()) {
            namespace.enter_range(&mut create.request.key, &mut create.request.range_end);
            create.namespace = Some(namespace);
        }
        let state = if is_empty {
            refused("a watch needs a key")
        } else if create.request.encoded_len() + ENVELOPE_BYTES > config.request_bytes_max {
            // It would end the stream, and with it every other watch.
            refused("the watched keys are larger than a request may be")
        } else {
            State::Asked {
                stream: Arc::clone(self.client.watch_stream()),
                create,
            }
        };
        let view = self.client.view().cloned();
        CreatingWatch { state, timer, view }
    }
}

pin_project! {
    /// The creation of a watch under way; see [`CreateWatch`].
    #[must_use = "a watch is created only once it is awaited"]
    pub struct CreatingWatch {
        state: State,
        #[pin]
        timer: Timer,
        view: Option<Arc<View>>,
    }
}

enum State {
    Asked {
        stream: Arc<WatchStream>,
        create: Create,
    },
    Waiting(WatchReader),
    Over(WatchEnd),
}

impl Future for CreatingWatch {
    type Output = Result<Watch, WatchEnd>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Watch, WatchEnd>> {
        let this = self.project();
        let mut reader = match std::mem::replace(this.state, State::Over(WatchEnd::Closed)) {
            State::Asked { stream, create } => stream.create(create),
            State::Waiting(reader) => reader,
            State::Over(end) => return Poll::Ready(Err(end)),
        };
        if let Poll::Ready(created) = reader.poll_created(cx) {
            let view = this.view.take();
            return Poll::Ready(created.map(|created| Watch {
                reader,
                created,
                view,
            }));
        }
        if reader.runtime().within(|| this.timer.poll(cx)).is_ready() {
            return Poll::Ready(Err(reader.too_late()));
        }
        *this.state = State::Waiting(reader);
        Poll::Pending
    }
}

impl fmt::Debug for CreatingWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatingWatch").finish_non_exhaustive()
    }
}

/// A live watch. Dropping it cancels it; it keeps the client's connections open.
///
/// # Guarantees
///
/// Events come in the order of their revisions, each once, none is left out, and
/// those of one transaction come in one [`Batch`], for as long as the watch has not
/// ended. A watch "from now" sees exactly what happens after
/// [`Watch::created_revision`].
///
/// All this holds across streams: when a server or a connection goes, the watch is
/// created again behind the last batch that it handed out, on whichever member
/// is up, for as long as it lives. That takes a wait which grows from 20 ms to 2 s
/// while stream after stream is lost. So it is, on its stream, when the server cancels
/// it for a reason that passes. It ends where the server refuses it
/// for good, or a few times in a row for no known reason, in [`WatchEnd::Compacted`] where the history was compacted meanwhile,
/// in [`WatchEnd::Breached`] where no server keeps to the protocol any more, and at once
/// where [`CreateWatch::resume`] was switched off.
///
/// A reader that does not read disturbs no other watch, and what waits for it is bounded:
/// see [`CreateWatch::buffer_bytes`] and [`CreateWatch::catch_up`].
#[derive(Debug)]
pub struct Watch {
    reader: WatchReader,
    created: Created,
    /// Whose answers are to be no older.
    view: Option<Arc<View>>,
}

impl Watch {
    /// The server's number for this watch when it was first created; unique on that
    /// stream only, and another one after it has resumed.
    #[must_use]
    pub fn id(&self) -> WatchId {
        self.created.id
    }

    /// The revision of the store when the server first created the watch. A watch that
    /// was given no start sees what happens after it.
    #[must_use]
    pub fn created_revision(&self) -> Revision {
        self.created.revision
    }

    /// The connection that the watch was first created on: a read [`via`](super::Get::via) it
    /// asks the same member, whose store is at least at [`Watch::created_revision`]. Once
    /// that connection is lost, so is such a read, while the watch goes on elsewhere.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.created.route
    }

    /// How many times the watch has been created again after its stream was lost.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.reader.resumes()
    }

    /// How many times the watch has been created again for a reader that had fallen behind
    /// and [catches up](CreateWatch::catch_up).
    #[must_use]
    pub fn catch_ups(&self) -> u64 {
        self.reader.catch_ups()
    }

    /// The next batch of events.
    ///
    /// # Errors
    ///
    /// Why the watch ended, once everything that came before is read. It is the same
    /// from then on, at once.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it has taken no batch.
    pub async fn next(&mut self) -> Result<Batch, WatchEnd> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`Watch::next`] for those who poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Batch, WatchEnd>> {
        let batch = ready!(self.reader.poll_next(cx));
        if let (Some(view), Ok(batch)) = (&self.view, &batch) {
            view.told(batch.revision);
        }
        Poll::Ready(batch)
    }

    /// Asks the server how far the watch has come; the answer is a batch without
    /// events. It is sent in the background, and the server may leave it unanswered
    /// while a watch of the client is still reading history. A lost stream loses it.
    ///
    /// Servers before 3.4.25 and 3.5.8 may answer with a revision whose events are still to
    /// come; a batch's [`resume_revision`](Batch::resume_revision) is right in any case.
    pub fn request_progress(&self) {
        self.reader.request_progress();
    }

    /// Ends the watch: what has been received can still be read, and then comes
    /// [`WatchEnd::Closed`].
    pub fn cancel(&mut self) {
        self.reader.cancel();
    }
}
