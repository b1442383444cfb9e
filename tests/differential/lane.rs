//! The same stream of watches on both servers, what is expected on it, and the
//! comparison of what came.

use std::collections::BTreeMap;

use bytes::Bytes;
use tenure::pb::etcdserverpb::WatchCreateRequest;
use tenure::pb::etcdserverpb::watch_create_request::FilterType;
use tenure::pb::etcdserverpb::watch_request::RequestUnion;
use tenure::pb::mvccpb::Event;

use crate::episode::Tally;
use crate::stream::{Stream, Watched, is_delete, mod_revision};

pub(crate) struct Lane {
    pub(crate) real: Stream,
    pub(crate) embedded: Stream,
    pub(crate) watches: BTreeMap<i64, Watch>,
    pub(crate) is_half_closed: bool,
    /// Progress was asked for while a watch was behind: timing decides whether that is answered.
    is_progress_open: bool,
    pub(crate) tally: Tally,
}

/// What a watch is going to be sent, as far as that is needed to wait for it.
pub(crate) struct Watch {
    key: Bytes,
    range_end: Bytes,
    no_put: bool,
    no_delete: bool,
    /// The first revision that it shows.
    first: i64,
    /// How many events of the log have been looked at.
    looked: usize,
    /// The revision of the last event to come.
    last: i64,
    /// It was created in the past, and may not have been served yet.
    pub(crate) is_behind: bool,
    /// It was created below the last compaction: it is going to be canceled.
    is_compacted: bool,
}

impl Watch {
    fn new(create: WatchCreateRequest, revision: i64, compacted: i64) -> Watch {
        let start = create.start_revision;
        let is_behind = start > 0 && start <= revision;
        let filters = |filter: FilterType| create.filters.contains(&(filter as i32));
        Watch {
            no_put: filters(FilterType::Noput),
            no_delete: filters(FilterType::Nodelete),
            key: if create.key.is_empty() {
                Bytes::from_static(&[0])
            } else {
                create.key
            },
            range_end: create.range_end,
            first: if start == 0 { revision + 1 } else { start },
            looked: 0,
            last: 0,
            is_behind,
            is_compacted: is_behind && start < compacted,
        }
    }

    fn look(&mut self, log: &[Event]) {
        let shown = log[self.looked..].iter().rev().find(|event| self.shows(event));
        self.last = shown.map_or(self.last, mod_revision);
        self.looked = log.len();
    }

    fn shows(&self, event: &Event) -> bool {
        let key = event.kv.as_ref().map_or(&[][..], |kv| &kv.key);
        let in_range = match &self.range_end[..] {
            [] => key == self.key,
            [0] => key >= &self.key[..],
            end => key >= &self.key[..] && key < end,
        };
        let is_filtered = if is_delete(event) {
            self.no_delete
        } else {
            self.no_put
        };
        in_range && !is_filtered && mod_revision(event) >= self.first
    }
}

impl Lane {
    pub(crate) fn new(real: Stream, embedded: Stream) -> Lane {
        Lane {
            real,
            embedded,
            watches: BTreeMap::new(),
            is_half_closed: false,
            is_progress_open: false,
            tally: Tally::default(),
        }
    }

    /// Sends a request to both and waits until it is done, and what it is answered
    /// is there, but for events and progress.
    pub(crate) async fn ask(
        &mut self,
        request: Option<RequestUnion>,
        revision: i64,
        compacted: i64,
    ) -> Result<(), String> {
        self.send(request.clone());
        match request {
            Some(RequestUnion::CreateRequest(create)) => {
                self.until_created().await?;
                self.handle_created(create, revision, compacted);
            }
            request => {
                let asks_progress = matches!(request, Some(RequestUnion::ProgressRequest(_)));
                self.is_progress_open |= asks_progress && self.is_behind();
                // Nothing else need be answered. Requests are served in their order, so
                // it is done when one that is always answered is: an impossible creation.
                self.send(Some(RequestUnion::CreateRequest(impossible())));
                self.until_created().await?;
            }
        }
        same("answers", &self.real.answers, &self.embedded.answers)?;
        self.compare_canceled()
    }

    pub(crate) fn half_close(&mut self) {
        self.real.half_close();
        self.embedded.half_close();
        self.is_half_closed = true;
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.watches.values().any(|watch| watch.is_behind)
    }

    /// The id of the watch that is there since the last creation.
    fn created(&self) -> Option<i64> {
        self.real.watches.keys().find(|id| !self.watches.contains_key(id)).copied()
    }

    /// Waits for the events of a log, of the watches that are behind only where that is asked for.
    pub(crate) async fn until_sent(&mut self, log: &[Event], with_behind: bool) -> Result<(), String> {
        for (id, watch) in &mut self.watches {
            if watch.is_behind && !with_behind {
                continue;
            }
            watch.look(log);
            for (name, stream) in [("etcd", &mut self.real), ("embedded", &mut self.embedded)] {
                let sent = match watch.is_compacted {
                    true => stream.until_compacted(*id).await,
                    false if watch.last > 0 => stream.until_sent(*id, watch.last).await,
                    false => Ok(()),
                };
                sent.map_err(|what| format!("{name}: {what}"))?;
            }
        }
        Ok(())
    }

    /// Compares what came, once all of it is there, and forgets it.
    pub(crate) fn compare(&mut self, with_behind: bool) -> Result<(), String> {
        for (id, watch) in &mut self.watches {
            if watch.is_behind && !with_behind {
                continue;
            }
            watch.is_behind = false;
            let both = (self.real.watches.get_mut(id), self.embedded.watches.get_mut(id));
            let (Some(real), Some(embedded)) = both else {
                return Err(format!("watch {id} is not on both sides"));
            };
            same(&format!("watch {id}"), &real.sent, &embedded.sent)?;
            self.tally.events += real.events.len();
            for watched in [real, embedded] {
                watched.sent.clear();
                watched.events.clear();
                watched.is_live = true;
            }
        }
        if !self.is_progress_open {
            self.tally.progress += self.real.progress.len();
            same("progress", &self.real.progress, &self.embedded.progress)?;
        }
        if !self.is_progress_open || with_behind {
            self.is_progress_open = false;
            self.real.progress.clear();
            self.embedded.progress.clear();
        }
        self.real.answers.clear();
        self.embedded.answers.clear();
        Ok(())
    }

    fn send(&mut self, request: Option<RequestUnion>) {
        self.real.send(request.clone());
        self.embedded.send(request);
    }

    async fn until_created(&mut self) -> Result<(), String> {
        self.real.until_created().await.map_err(|what| format!("etcd: {what}"))?;
        self.embedded.until_created().await.map_err(|what| format!("embedded: {what}"))
    }

    fn handle_created(&mut self, create: WatchCreateRequest, revision: i64, compacted: i64) {
        let Some(id) = self.created() else {
            self.tally.unwatched += 1;
            return;
        };
        self.tally.watches += 1;
        let watch = Watch::new(create, revision, compacted);
        for stream in [&mut self.real, &mut self.embedded] {
            if let Some(watched) = stream.watches.get_mut(&id) {
                watched.is_live = !watch.is_behind;
            }
        }
        self.tally.compacted += usize::from(watch.is_compacted);
        self.watches.insert(id, watch);
    }

    fn compare_canceled(&mut self) -> Result<(), String> {
        let real = std::mem::take(&mut self.real.canceled);
        let embedded = std::mem::take(&mut self.embedded.canceled);
        for ((id, real), (_, embedded)) in real.into_iter().zip(embedded) {
            let what = format!("canceled watch {id}");
            match self.watches.remove(&id) {
                // Timing decides how much of it came before the cancellation.
                Some(watch) if watch.is_behind => prefix(&what, &real, &embedded)?,
                _ => same(&what, &real.sent, &embedded.sent)?,
            }
        }
        Ok(())
    }
}

fn prefix(what: &str, real: &Watched, embedded: &Watched) -> Result<(), String> {
    let common = real.sent.len().min(embedded.sent.len());
    same(what, &real.sent[..common], &embedded.sent[..common])
}

fn same<T: std::fmt::Debug + PartialEq>(what: &str, real: &[T], embedded: &[T]) -> Result<(), String> {
    if real == embedded {
        return Ok(());
    }
    let common = real.iter().zip(embedded).take_while(|(a, b)| a == b).count();
    Err(format!(
        "{what}, after {common} that are alike:\n    etcd:     {:?}\n    embedded: {:?}",
        real.get(common),
        embedded.get(common)
    ))
}

fn impossible() -> WatchCreateRequest {
    WatchCreateRequest {
        key: "b".into(),
        range_end: "a".into(),
        ..WatchCreateRequest::default()
    }
}
