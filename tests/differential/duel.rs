//! Both servers, which get the same steps one at a time: no request is sent before
//! the one ahead of it is answered by both.
//!
//! A write is answered before its events come. What is sent on watches is
//! therefore compared later, when all of it is there: one watch of everything
//! tells which events there were, and so what to wait for on each other watch.
//! Whether a server has come to the watches that are behind a watch of the last
//! revision tells, which is served together with them.

use tenure::pb::etcdserverpb::watch_request::RequestUnion;
use tenure::pb::etcdserverpb::{PutRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest};
use tenure::pb::mvccpb::Event;

use crate::answers::comparable;
use crate::caller::Caller;
use crate::episode::Tally;
use crate::lane::Lane;
use crate::requests::Request;
use crate::steps::{IDS_CHOSEN, STREAMS, Step};
use crate::stream::Stream;

/// The id of a watch of everything, which every stream has.
const EVERYTHING: i64 = 1 << 40;
/// How many revisions a watch that is behind is sent at a time.
const REVISIONS_PER_TURN: i64 = 1000;
/// The release that the server in memory follows.
pub(crate) const FOLLOWED: (u32, u32) = (3, 6);
/// Keys without values are without leases from here on.
const LEASES_HIDDEN_SINCE: (u32, u32) = (3, 7);

pub(crate) struct Duel {
    release: (u32, u32),
    real: Caller,
    embedded: Caller,
    /// The present one.
    pub(crate) revision: i64,
    compacted: i64,
    /// Whether progress was asked for since the last write.
    is_progress_due: bool,
    /// The watch of everything and nothing else.
    control: Lane,
    log: Vec<Event>,
    lanes: Vec<Lane>,
    tally: Tally,
}

impl Duel {
    pub(crate) async fn new(release: (u32, u32), real: &str, embedded: &str) -> Result<Duel, String> {
        let (real, embedded) = (Caller::connect(real).await, Caller::connect(embedded).await);
        let control = open(&real, &embedded).await;
        let mut lanes = Vec::new();
        for _ in 0..STREAMS {
            lanes.push(open(&real, &embedded).await);
        }
        let mut duel = Duel {
            release,
            real,
            embedded,
            revision: 1,
            compacted: -1,
            is_progress_due: false,
            control,
            log: Vec::new(),
            lanes,
            tally: Tally::default(),
        };
        duel.control.ask(Some(everything(EVERYTHING, 0)), duel.revision, duel.compacted).await?;
        for lane in &mut duel.lanes {
            lane.ask(Some(everything(EVERYTHING, 0)), duel.revision, duel.compacted).await?;
        }
        Ok(duel)
    }

    /// # Errors
    ///
    /// What differs.
    pub(crate) async fn handle(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Unary(request) => {
                self.tally.requests += 1;
                // What a watch that is behind is sent depends on what is compacted.
                if matches!(request, Request::Compact(_)) {
                    self.settle(true).await?;
                }
                self.ask(request).await
            }
            Step::Watch(index, request) if !self.lanes[*index].is_half_closed => {
                self.tally.requests += 1;
                self.watch(*index, request).await
            }
            Step::Watch(..) => Ok(()),
            Step::HalfClose(index) => {
                if !self.lanes[*index].is_half_closed {
                    self.lanes[*index].half_close();
                }
                Ok(())
            }
            Step::Reopen(index, asks_progress) => self.reopen(*index, *asks_progress).await,
            Step::Settle => self.settle(true).await,
        }
    }

    /// What was compared until now.
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = self.tally;
        for lane in &self.lanes {
            tally.add(lane.tally);
        }
        tally
    }

    /// Waits until all is delivered, and compares it; without those that are behind
    /// it need not wait for a server's next turn.
    async fn settle(&mut self, with_behind: bool) -> Result<(), String> {
        if self.is_progress_due || self.revision == 1 {
            // The events of one stream come in order behind its progress.
            let put = PutRequest {
                key: "f".into(),
                value: "settled".into(),
                ..PutRequest::default()
            };
            self.ask(&Request::Put(put)).await?;
        }
        for (name, stream) in [
            ("etcd", &mut self.control.real),
            ("embedded", &mut self.control.embedded),
        ] {
            let sent = stream.until_sent(EVERYTHING, self.revision).await;
            sent.map_err(|what| format!("{name}, of everything: {what}"))?;
        }
        let events = self.control.real.watches.get_mut(&EVERYTHING).map(|watch| &mut watch.events);
        self.log.append(events.ok_or("the watch of everything is gone")?);
        if with_behind && self.lanes.iter().any(Lane::is_behind) {
            for _ in 0..=self.revision / REVISIONS_PER_TURN {
                self.wait_for_turn().await?;
            }
        }
        self.control.compare(true)?;
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            let named = |what| format!("stream {index}, {what}");
            lane.until_sent(&self.log, with_behind).await.map_err(named)?;
            lane.compare(with_behind).map_err(named)?;
        }
        Ok(())
    }

    /// Waits until both servers have served the watches that are behind.
    async fn wait_for_turn(&mut self) -> Result<(), String> {
        let (revision, compacted) = (self.revision, self.compacted);
        let create = everything(0, revision);
        self.control.ask(Some(create), revision, compacted).await?;
        let id = self.control.watches.keys().find(|id| **id != EVERYTHING).copied();
        let watch_id = id.ok_or("a watch of the last revision is refused")?;
        self.control.real.until_sent(watch_id, revision).await?;
        self.control.embedded.until_sent(watch_id, revision).await?;
        let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id });
        self.control.ask(Some(cancel), revision, compacted).await
    }

    async fn ask(&mut self, request: &Request) -> Result<(), String> {
        let (path, body) = request.encoded();
        let (expected, found) = tokio::join!(self.real.call(path, &body), self.embedded.call(path, &body));
        let hides_leases = self.release >= LEASES_HIDDEN_SINCE;
        let [expected, found] = [expected, found].map(|answer| comparable(request, answer, hides_leases));
        let may_differ = self.release != FOLLOWED && matches!(request, Request::Txn(_));
        if may_differ && found.revision.or(expected.revision).is_none() {
            return Ok(());
        }
        if found.text != expected.text {
            return Err(format!("etcd: {}\nembedded: {}", expected.text, found.text));
        }
        let Some(revision) = expected.revision else {
            self.tally.refused += 1;
            return Ok(());
        };
        self.is_progress_due &= revision == self.revision;
        self.revision = revision;
        if let Request::Compact(compact) = request {
            self.compacted = compact.revision;
        }
        Ok(())
    }

    async fn watch(&mut self, index: usize, request: &Option<RequestUnion>) -> Result<(), String> {
        if let Some(RequestUnion::CancelRequest(cancel)) = request {
            let id = cancel.watch_id;
            let is_behind = self.lanes[index].watches.get(&id).map(|watch| watch.is_behind);
            match is_behind {
                // A server may forget what it has not sent, or send it to the next watch
                // of this id: only an id that is not used again is left to chance.
                Some(true) if !IDS_CHOSEN.contains(&id) => {}
                Some(is_behind) => self.settle(is_behind).await?,
                None => {}
            }
        }
        self.is_progress_due |= matches!(request, Some(RequestUnion::ProgressRequest(_)));
        let asked = self.lanes[index].ask(request.clone(), self.revision, self.compacted).await;
        asked.map_err(|what| format!("stream {index}, {what}"))
    }

    async fn reopen(&mut self, index: usize, asks_progress: bool) -> Result<(), String> {
        self.settle(false).await?;
        let mut lane = open(&self.real, &self.embedded).await;
        if asks_progress {
            let request = RequestUnion::ProgressRequest(WatchProgressRequest {});
            lane.ask(Some(request), self.revision, self.compacted).await?;
            self.is_progress_due = true;
        }
        lane.ask(Some(everything(EVERYTHING, 0)), self.revision, self.compacted).await?;
        let old = std::mem::replace(&mut self.lanes[index], lane);
        self.tally.add(old.tally);
        Ok(())
    }
}

async fn open(real: &Caller, embedded: &Caller) -> Lane {
    Lane::new(Stream::open(real).await, Stream::open(embedded).await)
}

fn everything(watch_id: i64, start_revision: i64) -> RequestUnion {
    RequestUnion::CreateRequest(WatchCreateRequest {
        key: [0][..].into(),
        range_end: [0][..].into(),
        start_revision,
        watch_id,
        ..WatchCreateRequest::default()
    })
}
