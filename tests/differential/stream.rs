//! One stream of watches of one server: what it was answered, sorted by what each
//! answer belongs to, and what is wrong with an answer whatever the other server says.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tenure::pb::etcdserverpb::watch_request::RequestUnion;
use tenure::pb::etcdserverpb::{WatchRequest, WatchResponse};
use tenure::pb::mvccpb::Event;
use tenure::pb::mvccpb::event::EventType;

use crate::answers::strip;
use crate::caller::{Call, Caller};

const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// Stands for no watch, or for all of a stream.
const NO_WATCH: i64 = -1;
/// A bound for what has to come at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(50);

pub(crate) struct Stream {
    call: Call,
    created: usize,
    /// Answers to creations and cancellations, which are in the order of the requests.
    pub(crate) answers: Vec<String>,
    /// The revisions of the answers to requests for progress.
    pub(crate) progress: Vec<i64>,
    pub(crate) watches: BTreeMap<i64, Watched>,
    /// Watches that are canceled because that was asked for.
    pub(crate) canceled: Vec<(i64, Watched)>,
}

/// What one watch was sent.
#[derive(Default)]
pub(crate) struct Watched {
    /// Each message is the events of one revision, as soon as they happen. Else
    /// the server catches up, and timing decides what comes in one message.
    pub(crate) is_live: bool,
    /// A message each if the watch is live, else an event each.
    pub(crate) sent: Vec<String>,
    pub(crate) events: Vec<Event>,
    /// The revision of the last event.
    pub(crate) last: i64,
    /// The revision up to which the server said that there is nothing more.
    told: i64,
    pub(crate) is_compacted: bool,
}

impl Stream {
    pub(crate) async fn open(caller: &Caller) -> Stream {
        Stream {
            call: caller.open(WATCH).await,
            created: 0,
            answers: Vec::new(),
            progress: Vec::new(),
            watches: BTreeMap::new(),
            canceled: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, request: Option<RequestUnion>) {
        let request = WatchRequest {
            request_union: request,
        };
        self.call.send(&request.encode_to_vec());
    }

    pub(crate) fn half_close(&mut self) {
        self.call.half_close();
    }

    pub(crate) async fn until_created(&mut self) -> Result<(), String> {
        let wanted = self.created + 1;
        self.until("the answer to a creation", |stream| stream.created == wanted).await
    }

    /// Waits for the event of a revision.
    pub(crate) async fn until_sent(&mut self, watch_id: i64, revision: i64) -> Result<(), String> {
        let what = format!("the event of watch {watch_id} at revision {revision}");
        self.until(&what, |stream| {
            stream.watches.get(&watch_id).is_some_and(|watch| watch.last >= revision)
        })
        .await
    }

    /// Waits for a cancellation because of a compaction.
    pub(crate) async fn until_compacted(&mut self, watch_id: i64) -> Result<(), String> {
        let what = format!("the cancellation of watch {watch_id}, which is compacted");
        self.until(&what, |stream| {
            stream.watches.get(&watch_id).is_some_and(|watch| watch.is_compacted)
        })
        .await
    }

    async fn until(&mut self, what: &str, is_done: impl Fn(&Stream) -> bool) -> Result<(), String> {
        while !is_done(self) {
            let next = tokio::time::timeout(PATIENCE, self.call.next()).await;
            match next {
                Ok(Ok(message)) => self.handle(message)?,
                Ok(Err((status, text))) => return Err(format!("{what}: the stream ended: {status} {text}")),
                Err(_) => return Err(format!("{what} has not come")),
            }
        }
        Ok(())
    }

    fn handle(&mut self, message: Bytes) -> Result<(), String> {
        let mut response = WatchResponse::decode(message).map_err(|error| format!("no answer: {error}"))?;
        let revision = strip(&mut response.header).ok_or("an answer without a header")?;
        let text = format!("{response:?}");
        let id = response.watch_id;
        if response.created {
            self.created += 1;
            self.answers.push(text);
            if !response.canceled && self.watches.insert(id, Watched::default()).is_some() {
                return Err(format!("watch {id} is created twice"));
            }
            return Ok(());
        }
        if response.events.is_empty() && !response.canceled {
            if id != NO_WATCH {
                return Err(format!("progress of one watch that nobody asked for: {text}"));
            }
            self.progress.push(revision);
            self.watches.values_mut().for_each(|watch| watch.told = revision);
            return Ok(());
        }
        if response.canceled && response.compact_revision == 0 {
            self.answers.push(text);
            let watch = self.watches.remove(&id);
            self.canceled.push((id, watch.ok_or("a cancellation of an unknown watch")?));
            return Ok(());
        }
        let unknown = || format!("an answer for an unknown watch: {text}");
        self.watches.get_mut(&id).ok_or_else(unknown)?.handle(response, revision, text)
    }
}

impl Watched {
    fn handle(&mut self, response: WatchResponse, revision: i64, text: String) -> Result<(), String> {
        if self.is_compacted {
            return Err(format!("an answer after the end of a watch: {text}"));
        }
        if response.canceled {
            self.is_compacted = true;
            self.sent.push(text);
            return Ok(());
        }
        let revisions: Vec<i64> = response.events.iter().map(mod_revision).collect();
        let (first, last) = (revisions[0], revisions[revisions.len() - 1]);
        // A revision that came in two messages, or twice, begins at the last one's end.
        if first <= self.last || !revisions.is_sorted() {
            return Err(format!("revision {} came before: {text}", self.last));
        }
        if first <= self.told {
            return Err(format!("progress was told at {}, and then: {text}", self.told));
        }
        if revision < last || response.fragment {
            return Err(format!("a header or a fragment that cannot be: {text}"));
        }
        self.last = last;
        match self.is_live {
            true => self.sent.push(text),
            false => self.sent.extend(response.events.iter().map(debug)),
        }
        self.events.extend(response.events);
        Ok(())
    }
}

pub(crate) fn mod_revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

pub(crate) fn is_delete(event: &Event) -> bool {
    event.r#type() == EventType::Delete
}

fn debug(value: impl Debug) -> String {
    format!("{value:?}")
}
