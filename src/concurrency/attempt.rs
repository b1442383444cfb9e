//! One try for a lock: drives the machine of `core::lock` until it grants or
//! fails. Events in, actions out, one timer.

use std::future::{Future, IntoFuture, pending};
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;

use super::definite::may_pass;
use super::reading::{self, Read};
use super::requests;
use super::session::Session;
use super::slot::Slot;
use crate::client::{Batch, Call, Client, Event, Watch, WatchEnd};
use crate::core::backoff::Backoff;
use crate::core::lock::{Action, Failure, Lock, Place, Watched};
use crate::core::time::Instant;
use crate::error::{Delivery, Error, EtcdError};
use crate::net::clock;
use crate::net::race::{Either, both, race};
use crate::pb::etcdserverpb::TxnResponse;
use crate::types::{KeyRange, Revision};

/// Where the machine is kept that an attempt drives.
pub(super) trait Kept: Sync {
    fn place(&self) -> &Place;

    /// The transaction that registers the place, under way.
    fn register(&self, client: &Client, gate: Revision, value: &Bytes, if_empty: bool) -> Call<TxnResponse> {
        requests::register(client, self.place(), gate, value, if_empty).into_future()
    }

    /// Gives the machine an input, with the time and what the lease is worth.
    fn handle<T>(&self, input: impl FnOnce(&mut Lock, Instant) -> T) -> T;

    fn poll_action(&self) -> Option<Action>;

    fn has_action(&self) -> bool;

    /// When the machine is to be given the time.
    fn poll_timeout(&self) -> Option<Instant>;
}

/// See the head of this file.
pub(super) struct Attempt<'a, K> {
    session: &'a Session,
    kept: &'a K,
    value: &'a Bytes,
    /// Of the queue, or of the predecessor.
    watch: Option<Watch>,
    /// Of the own key, beside that of a predecessor.
    own_watch: Option<Watch>,
    /// When this began.
    begun: Instant,
    /// Others were before it.
    has_waited: bool,
    /// When the watches began.
    watched_since: Instant,
    backoff: Backoff,
    /// Registers that were answered and did not put the key.
    refusals: u32,
}

/// So many registers may be refused one right after the other: the gate has moved,
/// and nested names are in the way of a try.
const REFUSALS_MAX: u32 = 2;

/// A watch that has lived so long was good, though it had nothing to tell. One that is
/// created and cancelled over and over is not.
const GOOD_WATCH_LIFE: Duration = Duration::from_secs(1);

/// A watch, where one was asked for.
type Created = Result<Option<Watch>, WatchEnd>;

/// What a waiter waits for.
enum News {
    Told(Batch),
    WatchEnded(WatchEnd),
    Due,
    SessionEnded,
}

impl<'a, K: Kept> Attempt<'a, K> {
    pub(super) fn new(session: &'a Session, kept: &'a K, value: &'a Bytes) -> Attempt<'a, K> {
        let begun = clock::now();
        Attempt {
            session,
            kept,
            value,
            watch: None,
            own_watch: None,
            begun,
            has_waited: false,
            watched_since: begun,
            backoff: session.shared().backoff(),
            refusals: 0,
        }
    }

    /// The create_revision of the own key, once it owns the lock.
    pub(super) async fn run(&mut self) -> Result<Result<Revision, Failure>, Error> {
        loop {
            match self.kept.poll_action() {
                Some(Action::Register { gate }) => self.register(gate, false, None).await?,
                Some(Action::RegisterIfEmpty { gate }) => self.register(gate, true, None).await?,
                Some(Action::TakeOver { gate, seen }) => self.register(gate, false, Some(seen)).await?,
                Some(Action::Grant(created)) => {
                    self.count();
                    return Ok(Ok(created));
                }
                Some(Action::Fail(failure)) => return Ok(Err(failure)),
                // What is left to undo is the releaser's, once the seat is dropped.
                Some(Action::Release { .. } | Action::Withdraw { .. } | Action::Freed) => {}
                action @ (Some(Action::Watch(_) | Action::Range { .. }) | None) => self.wait(action).await?,
            }
        }
    }

    /// What there is to do where the lock is not free. In a box that is made out of the way, so that a
    /// free one is locked with a short stack: what lies on it is in the cache then.
    #[cold]
    fn wait(
        &mut self,
        action: Option<Action>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + '_>> {
        Box::pin(async move {
            match action {
                None => {
                    let news = self.news().await;
                    self.learn(news).await
                }
                Some(Action::Watch(watched)) => self.watch(watched).await,
                Some(Action::Range {
                    upto,
                    whole,
                    linearizable,
                }) => self.range(upto, whole, linearizable).await,
                Some(other) => {
                    debug_assert!(false, "{other:?} is for a free lock, too");
                    Ok(())
                }
            }
        })
    }

    fn count(&self) {
        let locks = &self.client().channel().figures().locks;
        locks.granted.add();
        if self.has_waited {
            locks.waited.add();
        }
        locks.waits.record(clock::now().saturating_since(self.begun));
    }

    /// `over`: the own key, as it was last put, is taken over.
    async fn register(
        &mut self,
        gate: Revision,
        if_empty: bool,
        over: Option<Revision>,
    ) -> Result<(), Error> {
        // No etcd gives cause for more, but what speaks for it may.
        if self.refusals > REFUSALS_MAX && self.pause().await.is_none() {
            return Ok(());
        }
        let (client, place) = (self.session.client(), self.kept.place());
        let call = match over {
            Some(seen) => requests::take_over(client, place, gate, seen, self.value).into_future(),
            None => self.kept.register(client, gate, self.value, if_empty),
        };
        let Some(answer) = self.unless_ended(pin!(call)).await else {
            return Ok(());
        };
        let answer = answer.and_then(|answer| {
            let mut several = Vec::new();
            let registered = requests::registered(&answer, place, if_empty, &mut several)?;
            self.refusals += u32::from(!registered.put);
            self.handle(|lock, now| lock.handle_registered(now, &registered));
            Ok(())
        });
        let Err(error) = answer else { return Ok(()) };
        if error.etcd() == Some(EtcdError::LeaseNotFound) {
            self.session.shared().gone();
            self.handle(|lock, _| lock.handle_session_ended());
            return Ok(());
        }
        let unknown = error.delivery() == Delivery::Unknown;
        if error.is_oversize() {
            // It may have been carried out: the seat undoes it.
            return Err(error);
        }
        if !unknown && !may_pass(&error) {
            self.handle(|lock, _| lock.handle_register_refused());
            return Err(error);
        }
        self.handle(|lock, now| lock.handle_register_failed(now, unknown));
        self.pause().await;
        Ok(())
    }

    async fn watch(&mut self, watched: Watched) -> Result<(), Error> {
        // One at a time: the old one goes first.
        self.watch = None;
        self.has_waited = true;
        let place = self.kept.place();
        let (keys, own) = match watched {
            Watched::Queue => {
                self.own_watch = None;
                (requests::queue(place), None)
            }
            Watched::Predecessor(key) => {
                let own = self.own_watch.is_none().then(|| KeyRange::key(place.key.clone()));
                (KeyRange::key(key), own)
            }
        };
        let Some((watch, own)) = self.create_both(keys, own).await else {
            return Ok(());
        };
        let (watch, own) = match (watch, own) {
            (Ok(watch), Ok(own)) => (watch, own),
            (Err(end), _) | (_, Err(end)) => return self.watch_ended(end).await,
        };
        let created = watch.iter().chain(&own).map(Watch::created_revision).max();
        self.watch = watch;
        self.own_watch = own.or(self.own_watch.take());
        self.watched_since = clock::now();
        self.handle(|lock, _| lock.handle_watching(created.unwrap_or_default()));
        Ok(())
    }

    /// `None` where the session has ended meanwhile.
    async fn create_both(&self, keys: KeyRange, own: Option<KeyRange>) -> Option<(Created, Created)> {
        let (watch, own) = (pin!(self.create(Some(keys))), pin!(self.create(own)));
        self.unless_ended(pin!(both(watch, own))).await
    }

    async fn create(&self, keys: Option<KeyRange>) -> Created {
        let Some(keys) = keys else {
            return Ok(None);
        };
        let watch = self.client().watch(keys).resume(false).catch_up(false);
        // A put of the own key is to be seen too, where it can be another session's.
        let watch = if self.kept.place().is_owned() {
            watch
        } else {
            watch.no_put()
        };
        watch.await.map(Some)
    }

    async fn watch_ended(&mut self, end: WatchEnd) -> Result<(), Error> {
        if self.watch.is_some() && clock::now() >= self.watched_since + GOOD_WATCH_LIFE {
            self.backoff.reset();
        }
        (self.watch, self.own_watch) = (None, None);
        let refused = match &end {
            WatchEnd::Canceled { etcd, .. } => *etcd == Some(EtcdError::PermissionDenied),
            WatchEnd::Refused { .. } => true,
            _ => false,
        };
        if refused {
            return Err(end.into());
        }
        self.handle(|lock, _| lock.handle_watch_lost());
        self.pause().await;
        Ok(())
    }

    /// Reads the queue; what the watch tells meanwhile goes before, for it may grant.
    async fn range(&mut self, upto: Revision, whole: bool, linearizable: bool) -> Result<(), Error> {
        // What the watch's own member has is what the watch goes on from.
        let near = self.watch.as_ref().filter(|_| !linearizable).map(Watch::route);
        let place = self.kept.place();
        let mut call = pin!(reading::read(self.session.client(), place, upto, whole, near));
        loop {
            match race(call.as_mut(), self.news()).await {
                Either::Left(read) => return self.ranged(read, whole, linearizable).await,
                Either::Right(news) => self.learn(news).await?,
            }
            if self.kept.has_action() {
                return Ok(());
            }
        }
    }

    async fn ranged(
        &mut self,
        read: Result<Read, Error>,
        whole: bool,
        linearizable: bool,
    ) -> Result<(), Error> {
        match read {
            Ok(read) => {
                let more = read.more && !whole;
                let is_recent =
                    self.handle(|lock, now| lock.handle_ranged(now, read.revision, &read.queue, more));
                // No etcd gives cause for that, but one whose revision went back may.
                if !is_recent && linearizable {
                    self.pause().await;
                }
                Ok(())
            }
            Err(error) if !may_pass(&error) => Err(error),
            Err(_) => {
                self.handle(|lock, _| lock.handle_range_failed());
                self.pause().await;
                Ok(())
            }
        }
    }

    /// Cancel safe: dropped, it has taken nothing.
    async fn news(&mut self) -> News {
        let due = self.kept.poll_timeout();
        let timer = async {
            match due {
                Some(due) => clock::sleep_until(due).await,
                None => pending().await,
            }
        };
        let told = race(next(&mut self.watch), next(&mut self.own_watch));
        match race(told, race(timer, self.session.ended())).await {
            Either::Left(Either::Left(told) | Either::Right(told)) => match told {
                Ok(batch) => News::Told(batch),
                Err(end) => News::WatchEnded(end),
            },
            Either::Right(Either::Left(())) => News::Due,
            Either::Right(Either::Right(_)) => News::SessionEnded,
        }
    }

    async fn learn(&mut self, news: News) -> Result<(), Error> {
        match news {
            News::Told(batch) => {
                self.backoff.reset();
                let place = self.kept.place();
                let deleted = batch.events.iter().filter_map(|event| deletion(place, event));
                self.handle(|lock, now| lock.handle_deleted(now, deleted));
            }
            News::WatchEnded(end) => self.watch_ended(end).await?,
            News::Due => self.handle(|lock, now| lock.handle_timeout(now)),
            News::SessionEnded => self.handle(|lock, _| lock.handle_session_ended()),
        }
        Ok(())
    }

    async fn unless_ended<T>(&self, call: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match race(call, self.session.ended()).await {
            Either::Left(answer) => Some(answer),
            Either::Right(_) => {
                self.handle(|lock, _| lock.handle_session_ended());
                None
            }
        }
    }

    /// `None` where the session has ended meanwhile.
    async fn pause(&mut self) -> Option<()> {
        let pause = clock::sleep_until(clock::now() + self.backoff.next_wait());
        self.unless_ended(pin!(pause)).await
    }

    fn handle<T>(&self, input: impl FnOnce(&mut Lock, Instant) -> T) -> T {
        self.kept.handle(input)
    }

    fn client(&self) -> &'a Client {
        self.session.client()
    }
}

impl Kept for Slot {
    fn place(&self) -> &Place {
        Slot::place(self)
    }

    fn register(&self, client: &Client, gate: Revision, value: &Bytes, if_empty: bool) -> Call<TxnResponse> {
        self.templates().register(client, self.place(), gate, value, if_empty)
    }

    fn handle<T>(&self, input: impl FnOnce(&mut Lock, Instant) -> T) -> T {
        Slot::handle(self, input)
    }

    fn poll_action(&self) -> Option<Action> {
        Slot::poll_action(self)
    }

    fn has_action(&self) -> bool {
        Slot::has_action(self)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Slot::poll_timeout(self)
    }
}

async fn next(watch: &mut Option<Watch>) -> Result<Batch, WatchEnd> {
    match watch {
        Some(watch) => watch.next().await,
        None => pending().await,
    }
}

/// What is there no more; the key of an owner is another session's once it is put anew.
fn deletion<'a>(place: &Place, event: &'a Event) -> Option<(&'a Bytes, Revision)> {
    match event {
        Event::Put { kv, .. } if !place.is_owned() || kv.key != place.key => None,
        Event::Delete { kv, .. } | Event::Put { kv, .. } => Some((&kv.key, Revision(kv.mod_revision))),
    }
}
