//! Whatever a server answers on a watch stream, the watches keep their invariants:
//! each is created and ended once, and no reader sees a revision twice.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use tenure::core::time::Instant;
use tenure::core::watch::{Action, Create, WatchKey, Watches};
use tenure::pb::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use tenure::pb::mvccpb::{Event, KeyValue};
use tenure::{Error, Revision};

use crate::inputs::inputs;

#[derive(Arbitrary, Debug)]
enum Input {
    Create {
        start: u8,
        resume: bool,
        catch_up: bool,
        notify: bool,
        fragment: bool,
    },
    Cancel(u8),
    Drained(u8),
    Progress(u8),
    Opened,
    Response(Answer),
    Lost,
    Unreachable,
    Timeout,
    Requests,
    Later(u32),
    RefuseNext,
}

#[derive(Arbitrary, Debug)]
struct Answer {
    id: i8,
    header: Option<i16>,
    created: bool,
    canceled: bool,
    compacted: i8,
    fragment: bool,
    reason: u8,
    /// The type of each event, its revision, and whether it has a key.
    events: Vec<(i8, i16, bool)>,
}

const INPUTS_MAX: usize = 400;
const WATCHES_MAX: u64 = 64;
const BUFFER_BYTES: usize = 2048;
const REASONS: &[&str] = &[
    "",
    "rpc error: code = Unavailable desc = etcdserver: no leader",
    "etcdserver: mvcc: required revision has been compacted",
    "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
    "nonsense",
];

struct Driver {
    now: Instant,
    error: Arc<Error>,
    keys: u64,
    /// The last revision that each watch was given, by reader; gone once it ended.
    readers: BTreeMap<u64, Revision>,
    open: bool,
    refuses: bool,
}

pub(crate) fn run(data: &[u8]) {
    let mut data = Unstructured::new(data);
    let Ok(seed) = u64::arbitrary(&mut data) else {
        return;
    };
    let mut watches = Watches::new(seed);
    let mut driver = Driver {
        now: Instant::default(),
        error: an_error(),
        keys: 0,
        readers: BTreeMap::new(),
        open: false,
        refuses: false,
    };
    for input in inputs(&mut data).take(INPUTS_MAX) {
        driver.feed(&mut watches, input);
        driver.drain(&mut watches);
        watches.check();
    }
    watches.handle_shutdown();
    driver.drain(&mut watches);
    assert!(
        driver.readers.is_empty(),
        "some have no end: {:?}",
        driver.readers
    );
}

/// Any will do: that of a client of no endpoints.
fn an_error() -> Arc<Error> {
    let connecting = pin!(tenure::Client::connect([""; 0]));
    match connecting.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Err(error)) => Arc::new(error),
        _ => unreachable!("there is nothing to connect to"),
    }
}

impl Driver {
    fn feed(&mut self, watches: &mut Watches<u64>, input: Input) {
        let now = self.now;
        let key = |at: u8| WatchKey(u64::from(at) % self.keys.max(1));
        match input {
            Input::Create {
                start,
                resume,
                catch_up,
                notify,
                fragment,
            } if self.keys < WATCHES_MAX => {
                let request = WatchCreateRequest {
                    key: Bytes::from_static(b"key"),
                    start_revision: start.into(),
                    fragment,
                    progress_notify: notify,
                    ..WatchCreateRequest::default()
                };
                let create = Create {
                    request,
                    buffer_bytes: BUFFER_BYTES,
                    resume,
                    catch_up,
                    reconnect_notify: notify,
                };
                self.readers.insert(self.keys, Revision(0));
                watches.handle_create(WatchKey(self.keys), create, self.keys);
                self.keys += 1;
            }
            Input::Create { .. } => {}
            Input::Cancel(at) => watches.handle_cancel(key(at)),
            Input::Drained(at) => watches.handle_drained(key(at)),
            Input::Progress(at) => watches.handle_progress_request(key(at)),
            Input::Opened if !self.open && watches.needs_stream() => {
                self.open = true;
                watches.handle_opened(now);
            }
            Input::Response(answer) if self.open => watches.handle_response(now, response(answer)),
            Input::Lost if self.open => {
                self.open = false;
                watches.handle_disconnect(now, &self.error);
            }
            Input::Unreachable if !self.open => watches.handle_unreachable(&self.error),
            Input::Requests if self.open => while watches.poll_request().is_some() {},
            Input::Opened | Input::Response(_) | Input::Lost | Input::Unreachable | Input::Requests => {}
            Input::Timeout => {
                self.now = watches.poll_timeout().unwrap_or(now).max(now);
                watches.handle_timeout(self.now);
            }
            Input::Later(micros) => self.now = now + Duration::from_micros(micros.into()) * 10,
            Input::RefuseNext => self.refuses = true,
        }
    }

    fn drain(&mut self, watches: &mut Watches<u64>) {
        while let Some(action) = watches.poll_action() {
            match action {
                Action::Deliver { key, reader, batch } => {
                    if std::mem::take(&mut self.refuses) {
                        watches.handle_refused(key);
                        continue;
                    }
                    let seen = self.readers.get_mut(&reader).expect("a watch that has not ended");
                    for event in &batch.events {
                        assert!(event.revision() > *seen || event.revision() == batch.events[0].revision());
                    }
                    if let Some(last) = batch.events.last() {
                        assert!(batch.events[0].revision() > *seen, "a revision came twice");
                        *seen = last.revision();
                    }
                }
                Action::End { reader, .. } => {
                    assert!(self.readers.remove(&reader).is_some(), "{reader} ended twice");
                }
                Action::TokenRefused(etcd) => panic!("no token is renewed here, {etcd:?}"),
                Action::Close => self.open = false,
                Action::Created { reader, .. }
                | Action::Resumed { reader, .. }
                | Action::Refused { reader, .. } => {
                    assert!(self.readers.contains_key(&reader), "{reader} has ended");
                }
            }
        }
    }
}

fn response(answer: Answer) -> WatchResponse {
    let header = |revision: i16| ResponseHeader {
        revision: revision.into(),
        ..ResponseHeader::default()
    };
    let event = |(kind, revision, has_key): (i8, i16, bool)| Event {
        r#type: kind.into(),
        kv: has_key.then(|| KeyValue {
            key: Bytes::from_static(b"key"),
            mod_revision: revision.into(),
            ..KeyValue::default()
        }),
        prev_kv: None,
    };
    WatchResponse {
        header: answer.header.map(header),
        watch_id: answer.id.into(),
        created: answer.created,
        canceled: answer.canceled,
        compact_revision: answer.compacted.into(),
        cancel_reason: REASONS[usize::from(answer.reason) % REASONS.len()].to_owned(),
        fragment: answer.fragment,
        events: answer.events.into_iter().map(event).collect(),
    }
}
