//! A range of keys, listed and then watched: the calls and the watch of one reader, who
//! drives them by asking for the next update. What to read and what to tell is decided
//! by `core::list_watch`.

use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::watch::{CreatingWatch, Watch};
use super::{Call, Client, chance};
use crate::core::list_watch::{Action, ListThenWatch};
pub use crate::core::list_watch::{ListWatchEnd, Update};
use crate::net::clock::{self, Timer};
use crate::pb::etcdserverpb::RangeResponse;
use crate::types::{KeyRange, Revision};

impl Client {
    /// Lists a key or a [`KeyRange`], and then watches it from where the list ends:
    /// nothing falls between the two. When the history that the watch needs is compacted
    /// away, it lists again by itself, and tells what is different.
    ///
    /// Nothing is sent before the first update is asked for.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
    /// use tenure::{KeyRange, Update};
    ///
    /// let mut jobs = client.list_watch(KeyRange::prefix("jobs/"));
    /// loop {
    ///     match jobs.next().await? {
    ///         Update::Listed(events) => println!("{} keys differ", events.len()),
    ///         Update::Synced { revision } => println!("this is all, as of {revision}"),
    ///         Update::Changed(batch) => println!("{} events", batch.events.len()),
    ///         _ => {}
    ///     }
    /// }
    /// # }
    /// ```
    pub fn list_watch(&self, keys: impl Into<KeyRange>) -> ListWatch {
        ListWatch {
            machine: ListThenWatch::new(keys.into(), chance()),
            client: self.clone(),
            prev_kv: false,
            buffer_bytes: None,
            io: Io::Idle,
        }
    }
}

/// A list and the watch behind it, under way. Dropping it ends both; it keeps the
/// client's connections open.
///
/// # Guarantees
///
/// Whoever applies each update's events in turn, putting and deleting keys, has at each
/// [`Update::Synced`] the range as it was at that revision, and after each
/// [`Update::Changed`] as it was at the last revision of that batch. No event comes twice, and
/// of what happened while it is synced none is left out; the events of one
/// transaction come in one batch. For any key, revisions only rise.
///
/// What was compacted before it was read cannot be told any more. Then comes
/// [`Update::Relisting`], and between it and the next `Synced` what is different since:
/// also the keys that are gone. A key that was changed, or deleted and put anew, is
/// told as one put.
///
/// A list is read in pages, all at the revision of its first one, and each is read only when the
/// reader has taken the last. Beside the pages and the watch's buffer it holds each
/// key of the range, and its revision, to tell what is gone.
///
/// It goes on whatever happens to connections, members and the watch, for as long as it
/// lives; between attempts it waits. It ends where the server refuses it for good, where
/// the first page cannot be read, and where it was compacted 16 times in a row before it could
/// follow a list for half a minute.
pub struct ListWatch {
    machine: ListThenWatch,
    client: Client,
    prev_kv: bool,
    buffer_bytes: Option<usize>,
    io: Io,
}

/// What is under way for the machine; one thing at a time.
enum Io {
    Idle,
    Reading(Pin<Box<Call<RangeResponse>>>),
    Creating(Pin<Box<CreatingWatch>>),
    Watching(Watch),
    Waiting(Pin<Box<Timer>>),
}

impl ListWatch {
    /// So many keys are read at a time, and told at a time. Default: 500. Where a page is larger than a
    /// [response may be](crate::Config::response_bytes_max) it is read in halves from then on.
    #[must_use]
    pub fn page_size(mut self, keys: u32) -> ListWatch {
        self.machine.set_page_keys(keys);
        self
    }

    /// Events that the watch brings have the key as it was before the change.
    #[must_use]
    pub fn prev_kv(mut self) -> ListWatch {
        self.prev_kv = true;
        self
    }

    /// How many bytes of events may wait; see [`CreateWatch::buffer_bytes`](super::CreateWatch::buffer_bytes).
    /// A reader that is further behind catches up.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> ListWatch {
        self.buffer_bytes = Some(bytes);
        self
    }

    /// The next update.
    ///
    /// # Errors
    ///
    /// Why it ended, once everything that came before is told. It is the same from then
    /// on, at once.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it has taken no update, and what is under way goes on
    /// with the next call.
    pub async fn next(&mut self) -> Result<Update, ListWatchEnd> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`ListWatch::next`] for those who poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Update, ListWatchEnd>> {
        loop {
            while let Some(action) = self.machine.poll_action() {
                match action {
                    Action::Tell(update) => return Poll::Ready(Ok(update)),
                    Action::Read {
                        keys,
                        limit,
                        revision,
                    } => self.read(keys, limit, revision),
                    Action::Watch { start } => self.watch(start),
                }
            }
            if let Some(end) = self.machine.end() {
                return Poll::Ready(Err(end.clone()));
            }
            ready!(self.poll_io(cx));
        }
    }

    /// Asks the server how far the watch has come; the answer is an [`Update::Progress`].
    /// Nothing happens while it lists. See [`Watch::request_progress`].
    pub fn request_progress(&self) {
        if let Io::Watching(watch) = &self.io {
            watch.request_progress();
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn keys(&self) -> &KeyRange {
        self.machine.keys()
    }

    fn read(&mut self, keys: KeyRange, limit: u32, revision: Revision) {
        let page = self.client.get(keys).limit(limit).revision(revision);
        self.io = Io::Reading(Box::pin(page.into_future()));
    }

    fn watch(&mut self, start: Revision) {
        let watch = self.client.watch(self.machine.keys().clone());
        // Where nothing happens, its place moves on: a compaction then takes nothing from it.
        let mut watch = watch.start_revision(start).progress_notify().catch_up(true);
        if self.prev_kv {
            watch = watch.prev_kv();
        }
        if let Some(bytes) = self.buffer_bytes {
            watch = watch.buffer_bytes(bytes);
        }
        self.io = Io::Creating(Box::pin(watch.into_future()));
    }

    /// Hands the machine what has come of what is under way.
    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.io {
            Io::Idle => {
                let until = self.machine.poll_timeout().unwrap_or(clock::now());
                self.io = Io::Waiting(Box::pin(Timer::new(until)));
            }
            Io::Reading(call) => {
                let page = ready!(call.as_mut().poll(cx));
                self.io = Io::Idle;
                self.machine.handle_page(clock::now(), page);
            }
            Io::Creating(creating) => match ready!(creating.as_mut().poll(cx)) {
                Ok(watch) => {
                    self.io = Io::Watching(watch);
                    self.machine.handle_watching(clock::now());
                }
                Err(end) => {
                    self.io = Io::Idle;
                    self.machine.handle_watch_end(clock::now(), end);
                }
            },
            Io::Watching(watch) => match ready!(watch.poll_next(cx)) {
                Ok(batch) => self.machine.handle_batch(batch),
                Err(end) => {
                    self.io = Io::Idle;
                    self.machine.handle_watch_end(clock::now(), end);
                }
            },
            Io::Waiting(timer) => {
                let runtime = self.client.channel().runtime();
                ready!(runtime.within(|| timer.as_mut().poll(cx)));
                self.io = Io::Idle;
                self.machine.handle_timeout(clock::now());
            }
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for ListWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListWatch").field("keys", self.machine.keys()).finish_non_exhaustive()
    }
}
