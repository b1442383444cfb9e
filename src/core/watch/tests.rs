//! The machine with scripted answers of a server that keeps to the protocol.

use super::event::bytes_of;
use super::*;
use crate::pb::etcdserverpb::ResponseHeader;
use crate::pb::mvccpb;

pub(super) const NOW: Instant = Instant(1_000_000_000);
pub(super) const BUFFER: usize = 1 << 20;

/// A machine whose readers are their keys.
pub(super) struct Script {
    pub(super) watches: Watches<u64>,
    pub(super) keys: u64,
}

impl Script {
    pub(super) fn new() -> Script {
        Script {
            watches: Watches::new(1),
            keys: 0,
        }
    }

    /// A script with live watches from "now", named 1, 2, .. with the ids 0, 1, ..
    pub(super) fn with_live(count: u64, created: i64) -> Script {
        let mut script = Script::new();
        for id in 0..count {
            script.create(0);
            script.requests();
            script.answer(created_answer(id as i64, created));
        }
        script.actions();
        script
    }

    pub(super) fn create(&mut self, start: i64) -> WatchKey {
        self.create_with(start, BUFFER, false)
    }

    pub(super) fn create_with(&mut self, start: i64, buffer_bytes: usize, resume: bool) -> WatchKey {
        self.keys += 1;
        let request = WatchCreateRequest {
            key: format!("key {}", self.keys).into(),
            start_revision: start,
            ..WatchCreateRequest::default()
        };
        let key = WatchKey(self.keys);
        let create = Create {
            request,
            buffer_bytes,
            resume,
            ..Create::default()
        };
        self.watches.handle_create(key, create, self.keys);
        self.watches.check();
        key
    }

    pub(super) fn answer(&mut self, response: WatchResponse) {
        self.watches.handle_response(NOW, response);
        self.watches.check();
    }

    pub(super) fn cancel(&mut self, key: WatchKey) {
        self.watches.handle_cancel(key);
        self.watches.check();
    }

    /// What it sends, in words.
    pub(super) fn requests(&mut self) -> Vec<String> {
        let requests = std::iter::from_fn(|| self.watches.poll_request());
        let words = requests.map(|request| match request.request_union.unwrap() {
            RequestUnion::CreateRequest(create) => {
                let from = Some(create.start_revision).filter(|&start| start != 0);
                let from = from.map_or(String::new(), |start| format!(" from {start}"));
                format!("create {}{from}", std::str::from_utf8(&create.key).unwrap())
            }
            RequestUnion::CancelRequest(cancel) => format!("cancel {}", cancel.watch_id),
            RequestUnion::ProgressRequest(_) => "progress".to_owned(),
        });
        words.collect()
    }

    /// What it does, in words.
    pub(super) fn actions(&mut self) -> Vec<String> {
        let actions = std::iter::from_fn(|| self.watches.poll_action());
        actions.map(|action| words(&action)).collect()
    }
}

fn words(action: &Action<u64>) -> String {
    match action {
        Action::Created { reader, id, revision } => format!("{reader} created {} at {revision}", id.0),
        Action::Resumed {
            reader,
            caught_up: false,
        } => format!("{reader} resumed"),
        Action::Resumed { reader, .. } => format!("{reader} caught up"),
        Action::Refused { reader, reason } => format!("{reader} refused: {reason}"),
        Action::Deliver { reader, batch, .. } => {
            if batch.kind == BatchKind::Reconnected {
                return format!(
                    "{reader} reconnected at {}, resume {}",
                    batch.revision, batch.resume_revision
                );
            }
            let events: Vec<_> = batch.events.iter().map(|event| event.revision().0).collect();
            format!("{reader} sees {events:?}, resume {}", batch.resume_revision)
        }
        Action::End { reader, end } => match end {
            WatchEnd::Compacted { compact_revision } => format!("{reader} compacted {compact_revision}"),
            WatchEnd::Canceled {
                etcd,
                resume_revision,
                ..
            } => {
                format!("{reader} canceled {etcd:?}, resume {resume_revision}")
            }
            WatchEnd::Lagged { resume_revision } => format!("{reader} lagged, resume {resume_revision}"),
            WatchEnd::TooLarge { revision, .. } => format!("{reader} too large {revision}"),
            WatchEnd::Disconnected {
                error,
                resume_revision,
            } => {
                format!("{reader} {:?}, resume {resume_revision}", error.code())
            }
            WatchEnd::Breached {
                breaches,
                resume_revision,
                ..
            } => format!("{reader} breached {breaches} times, resume {resume_revision}"),
            WatchEnd::Refused { error } => format!("{reader} refused {:?}", error.code()),
            WatchEnd::OtherCluster { expected, found } => format!("{reader} of {expected} at {found}"),
            WatchEnd::Closed => format!("{reader} closed"),
        },
        Action::TokenRefused(_) => "another token".to_owned(),
        Action::Close => "close".to_owned(),
    }
}

pub(super) fn answer(id: i64, revision: i64) -> WatchResponse {
    WatchResponse {
        header: Some(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        }),
        watch_id: id,
        ..WatchResponse::default()
    }
}

pub(super) fn created_answer(id: i64, revision: i64) -> WatchResponse {
    WatchResponse {
        created: true,
        ..answer(id, revision)
    }
}

pub(super) fn refused(id: i64, reason: &str) -> WatchResponse {
    WatchResponse {
        created: true,
        canceled: true,
        cancel_reason: reason.to_owned(),
        ..answer(id, 9)
    }
}

pub(super) fn event(revision: i64) -> mvccpb::Event {
    let kv = mvccpb::KeyValue {
        key: "key".into(),
        mod_revision: revision,
        ..mvccpb::KeyValue::default()
    };
    mvccpb::Event {
        kv: Some(kv),
        ..mvccpb::Event::default()
    }
}

pub(super) fn events(id: i64, header: i64, revisions: &[i64]) -> WatchResponse {
    WatchResponse {
        events: revisions.iter().map(|&revision| event(revision)).collect(),
        ..answer(id, header)
    }
}

pub(super) fn fragment(id: i64, header: i64, revisions: &[i64]) -> WatchResponse {
    WatchResponse {
        fragment: true,
        ..events(id, header, revisions)
    }
}

#[test]
fn creates_are_sent_without_waiting_and_answered_in_order() {
    let mut script = Script::new();
    script.create(0);
    script.create(0);
    script.create(5);
    assert!(script.watches.needs_stream());
    assert_eq!(
        script.requests(),
        ["create key 1", "create key 2", "create key 3 from 5"]
    );
    assert!(!script.watches.needs_stream());
    script.answer(created_answer(7, 10));
    script.answer(refused(-1, "etcdserver: permission denied"));
    script.answer(created_answer(8, 11));
    let expected = [
        "1 created 7 at 10",
        "2 canceled Some(PermissionDenied), resume 0",
        "3 created 8 at 11",
    ];
    assert_eq!(script.actions(), expected);
    script.answer(events(8, 11, &[5, 6]));
    script.answer(events(7, 12, &[12]));
    assert_eq!(
        script.actions(),
        ["3 sees [5, 6], resume 7", "1 sees [12], resume 13"]
    );
}

#[test]
fn a_refusal_with_the_id_of_a_live_watch_leaves_that_alone() {
    // etcd before 3.4.25 answers with the id of the request, which is 0.
    let mut script = Script::with_live(1, 10);
    script.create(0);
    script.requests();
    script.answer(refused(
        0,
        "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
    ));
    script.answer(events(0, 11, &[11]));
    let expected = [
        "2 canceled Some(PermissionDenied), resume 0",
        "1 sees [11], resume 12",
    ];
    assert_eq!(script.actions(), expected);
    assert!(script.requests().is_empty());
}

#[test]
fn a_watch_from_now_begins_behind_the_revision_it_was_created_at() {
    let mut script = Script::with_live(1, 10);
    script.answer(events(0, 12, &[9, 10]));
    assert!(script.actions().is_empty());
    script.answer(events(0, 12, &[10, 11, 12]));
    assert_eq!(script.actions(), ["1 sees [11, 12], resume 13"]);
}

#[test]
fn a_watch_from_now_resumes_behind_its_creation_until_the_first_event() {
    let mut script = Script::with_live(1, 10);
    script.watches.handle_disconnect(NOW, &Arc::new(breach("gone")));
    script.watches.check();
    assert_eq!(script.actions(), ["1 Internal, resume 11", "close"]);
}

#[test]
fn a_watch_from_a_revision_resumes_there_until_the_first_event() {
    let mut script = Script::new();
    script.create(4);
    script.create(400);
    script.requests();
    script.answer(created_answer(0, 10));
    script.answer(created_answer(1, 10));
    script.actions();
    script.watches.handle_disconnect(NOW, &Arc::new(breach("gone")));
    assert_eq!(
        script.actions(),
        ["1 Internal, resume 4", "2 Internal, resume 400", "close"]
    );
}

#[test]
fn a_header_ahead_of_the_events_is_no_place_to_resume_from() {
    let mut script = Script::with_live(1, 10);
    script.answer(events(0, 99, &[11]));
    script.watches.handle_disconnect(NOW, &Arc::new(breach("gone")));
    let expected = ["1 sees [11], resume 12", "1 Internal, resume 12", "close"];
    assert_eq!(script.actions(), expected);
}

#[test]
fn the_watchs_own_progress_moves_its_place_forward_only() {
    let mut script = Script::with_live(1, 10);
    script.answer(answer(0, 40));
    script.answer(answer(0, 30));
    assert_eq!(script.actions(), ["1 sees [], resume 41", "1 sees [], resume 41"]);
}

#[test]
fn an_answer_to_a_progress_request_goes_to_who_asked_and_moves_nothing() {
    let mut script = Script::with_live(3, 10);
    for key in [1, 2, 3] {
        script.watches.handle_progress_request(WatchKey(key));
    }
    script.cancel(WatchKey(2));
    assert_eq!(script.actions(), ["2 closed"]);
    assert_eq!(script.requests(), ["cancel 1", "progress"]);
    script.answer(answer(-1, 40));
    assert_eq!(script.actions(), ["1 sees [], resume 11", "3 sees [], resume 11"]);
    script.answer(answer(-1, 41));
    assert!(script.actions().is_empty());
}

#[test]
fn progress_is_asked_for_behind_the_creates_that_wait() {
    let mut script = Script::with_live(1, 10);
    script.create(0);
    script.watches.handle_progress_request(WatchKey(1));
    script.watches.handle_progress_request(WatchKey(2));
    assert_eq!(script.requests(), ["create key 2", "progress"]);
}

#[test]
fn a_batch_has_whole_revisions_whatever_the_fragments() {
    let mut script = Script::with_live(1, 10);
    script.answer(fragment(0, 20, &[11, 12, 12]));
    assert_eq!(script.actions(), ["1 sees [11], resume 12"]);
    script.answer(fragment(0, 20, &[12]));
    script.answer(fragment(0, 20, &[]));
    assert!(script.actions().is_empty());
    script.answer(fragment(0, 20, &[12, 13, 14]));
    assert_eq!(script.actions(), ["1 sees [12, 12, 12, 12, 13], resume 14"]);
    script.answer(events(0, 20, &[14, 15]));
    assert_eq!(script.actions(), ["1 sees [14, 14, 15], resume 16"]);
}

#[test]
fn a_stream_cut_between_fragments_resumes_at_the_revision_that_is_not_whole() {
    let mut script = Script::with_live(1, 10);
    script.answer(fragment(0, 20, &[11, 12]));
    script.watches.handle_disconnect(NOW, &Arc::new(breach("gone")));
    let expected = ["1 sees [11], resume 12", "1 Internal, resume 12", "close"];
    assert_eq!(script.actions(), expected);
}

#[test]
fn progress_behind_fragments_moves_the_place_and_an_answer_for_all_between_them_does_not() {
    let mut script = Script::with_live(1, 10);
    script.answer(fragment(0, 40, &[11, 12]));
    script.watches.handle_progress_request(WatchKey(1));
    script.answer(answer(-1, 40));
    script.answer(events(0, 40, &[12]));
    script.answer(answer(0, 50));
    assert_eq!(
        script.actions(),
        [
            "1 sees [11], resume 12",
            "1 sees [], resume 12",
            "1 sees [12, 12], resume 13",
            "1 sees [], resume 51",
        ]
    );
    script.answer(fragment(0, 60, &[52, 53]));
    script.answer(events(0, 60, &[53]));
    assert_eq!(
        script.actions(),
        ["1 sees [52], resume 53", "1 sees [53, 53], resume 54"]
    );
}

#[test]
fn fragments_of_two_watches_do_not_mix() {
    let mut script = Script::with_live(2, 10);
    script.answer(fragment(0, 20, &[11]));
    script.answer(fragment(1, 20, &[11, 11]));
    script.answer(events(0, 20, &[11, 12]));
    script.answer(events(1, 20, &[]));
    assert_eq!(
        script.actions(),
        ["1 sees [11, 11, 12], resume 13", "2 sees [11, 11], resume 12"]
    );
}

#[test]
fn events_below_a_watch_from_now_are_dropped_from_fragments_too() {
    let mut script = Script::with_live(1, 10);
    script.answer(fragment(0, 20, &[9, 10]));
    script.answer(fragment(0, 20, &[10, 11]));
    script.answer(events(0, 20, &[11]));
    assert_eq!(script.actions(), ["1 sees [11, 11], resume 12"]);
}

#[test]
fn a_revision_that_is_too_large_ends_the_watch_behind_all_before_it() {
    let mut script = Script::new();
    let two = Event::from_wire(event(1)).unwrap();
    script.create_with(0, bytes_of(&[two.clone(), two]), false);
    script.requests();
    script.answer(created_answer(0, 10));
    script.answer(fragment(0, 20, &[11, 12, 12]));
    script.answer(fragment(0, 20, &[12]));
    assert_eq!(script.actions(), ["1 created 0 at 10", "1 sees [11], resume 12"]);
    script.answer(fragment(0, 20, &[12]));
    assert_eq!(script.actions(), ["1 too large 12"]);
    assert_eq!(script.requests(), ["cancel 0"]);
    script.answer(fragment(0, 20, &[12]));
    assert!(script.actions().is_empty());
}

#[test]
fn compaction_is_reported_once_and_cancelled_on_the_server_too() {
    let mut script = Script::new();
    script.create(2);
    script.requests();
    script.answer(created_answer(0, 50));
    let compacted = WatchResponse {
        canceled: true,
        compact_revision: 40,
        ..answer(0, 50)
    };
    script.answer(compacted.clone());
    assert_eq!(script.actions(), ["1 created 0 at 50", "1 compacted 40"]);
    assert_eq!(script.requests(), ["cancel 0"]);
    script.answer(compacted);
    assert!(script.actions().is_empty() && script.requests().is_empty());
}

#[test]
fn a_cancel_by_the_server_says_why_and_where_to_go_on() {
    let mut script = Script::with_live(2, 10);
    script.answer(events(0, 14, &[14]));
    let canceled = WatchResponse {
        canceled: true,
        cancel_reason: "etcdserver: no leader".to_owned(),
        ..answer(0, 20)
    };
    script.answer(canceled);
    script.answer(events(1, 15, &[15]));
    let expected = [
        "1 sees [14], resume 15",
        "1 canceled Some(NoLeader), resume 15",
        "2 sees [15], resume 16",
    ];
    assert_eq!(script.actions(), expected);
}

#[test]
fn a_canceled_watch_is_silent_and_its_late_messages_are_ignored() {
    let mut script = Script::with_live(2, 10);
    script.cancel(WatchKey(1));
    script.cancel(WatchKey(1));
    assert_eq!(script.actions(), ["1 closed"]);
    script.answer(events(0, 11, &[11]));
    assert_eq!(script.requests(), ["cancel 0"]);
    script.answer(WatchResponse {
        canceled: true,
        ..answer(0, 11)
    });
    script.answer(events(1, 11, &[11]));
    assert_eq!(script.actions(), ["2 sees [11], resume 12"]);
}

#[test]
fn a_create_that_was_not_sent_is_canceled_without_a_word() {
    let mut script = Script::new();
    let key = script.create(0);
    script.create(0);
    script.cancel(key);
    assert_eq!(script.requests(), ["create key 2"]);
    script.answer(created_answer(0, 10));
    assert_eq!(script.actions(), ["1 closed", "2 created 0 at 10"]);
}

#[test]
fn a_cancel_ahead_of_the_answer_follows_once_the_id_is_known() {
    let mut script = Script::new();
    let keys = [script.create(0), script.create(0), script.create(0)];
    script.requests();
    script.cancel(keys[0]);
    script.cancel(keys[1]);
    script.answer(created_answer(0, 10));
    script.answer(refused(-1, ""));
    script.answer(created_answer(1, 10));
    assert_eq!(script.requests(), ["cancel 0"]);
    script.answer(events(0, 11, &[11]));
    script.answer(events(1, 11, &[11]));
    let expected = [
        "1 closed",
        "2 closed",
        "3 created 1 at 10",
        "3 sees [11], resume 12",
    ];
    assert_eq!(script.actions(), expected);
}

#[test]
fn a_batch_that_is_refused_ends_the_watch_before_that_batch() {
    let mut script = Script::with_live(2, 10);
    script.answer(events(0, 20, &[12, 13]));
    script.actions();
    script.answer(events(0, 20, &[14, 15, 15]));
    script.actions();
    script.watches.handle_refused(WatchKey(1));
    script.watches.check();
    assert_eq!(script.actions(), ["1 lagged, resume 14"]);
    assert_eq!(script.requests(), ["cancel 0"]);
    script.answer(events(0, 20, &[16]));
    script.answer(events(1, 20, &[16]));
    assert_eq!(script.actions(), ["2 sees [16], resume 17"]);
}

#[test]
fn a_progress_notification_that_is_refused_loses_nothing() {
    let mut script = Script::with_live(1, 10);
    script.answer(answer(0, 40));
    script.actions();
    script.watches.handle_refused(WatchKey(1));
    assert_eq!(script.actions(), ["1 lagged, resume 11"]);
}

#[test]
fn a_lost_stream_ends_what_it_carried_and_keeps_what_was_not_sent() {
    let mut script = Script::with_live(1, 10);
    script.create(3);
    script.watches.poll_request();
    script.create(0);
    script.watches.handle_disconnect(NOW, &Arc::new(breach("gone")));
    script.watches.check();
    assert_eq!(
        script.actions(),
        ["1 Internal, resume 11", "2 Internal, resume 3", "close"]
    );
    assert_eq!(script.requests(), ["create key 3"]);
    script.answer(created_answer(0, 12));
    assert_eq!(script.actions(), ["3 created 0 at 12"]);
}

#[test]
fn what_was_meant_for_a_lost_stream_is_not_sent_on_the_next() {
    let mut script = Script::with_live(2, 10);
    script.cancel(WatchKey(1));
    script.watches.handle_progress_request(WatchKey(2));
    script.watches.handle_disconnect(NOW, &Arc::new(breach("gone")));
    script.watches.check();
    assert!(script.requests().is_empty());
}

#[test]
fn without_a_stream_every_watch_ends() {
    let mut script = Script::new();
    script.create(0);
    script.create(7);
    script.watches.handle_unreachable(&Arc::new(breach("no way")));
    script.watches.check();
    assert_eq!(
        script.actions(),
        ["1 Internal, resume 0", "2 Internal, resume 7", "close"]
    );
    assert!(!script.watches.needs_stream());
}

#[test]
fn a_shutdown_leaves_no_reader_waiting() {
    let mut script = Script::with_live(1, 10);
    script.create(0);
    script.requests();
    script.create(0);
    script.watches.handle_shutdown();
    script.watches.check();
    assert_eq!(script.actions(), ["1 closed", "2 closed", "3 closed"]);
}
