//! The machine when streams break under watches that resume.

use std::time::Duration;

use super::reopen::WAIT_MAX;
use super::tests::{BUFFER, NOW, Script, answer, created_answer, events, fragment, refused};
use super::*;
use crate::error::{Code, Delivery, Origin};

/// A connection that was lost.
pub(super) fn gone() -> Error {
    let cause = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    Error::new(Code::Unavailable, Origin::Transport, Delivery::Unknown, "gone").with_source(cause)
}

impl Script {
    /// Resuming watches from "now", live as in [`Script::with_live`].
    pub(super) fn with_resuming(count: u64, created: i64) -> Script {
        let mut script = Script::new();
        for id in 0..count {
            script.create_with(0, BUFFER, true);
            script.requests();
            script.answer(created_answer(id as i64, created));
        }
        script.actions();
        script
    }

    pub(super) fn lose(&mut self, now: Instant, error: Error) {
        self.watches.handle_disconnect(now, &Arc::new(error));
        self.watches.check();
    }

    /// Loses the stream, and opens the next one.
    pub(super) fn reconnect(&mut self) {
        self.lose(NOW, gone());
        assert_eq!(self.actions(), ["close"]);
        self.wait_and_open();
    }

    /// Opens a stream once that is due; says when.
    pub(super) fn wait_and_open(&mut self) -> Instant {
        let at = self.watches.poll_timeout().expect("a wait");
        self.watches.handle_timeout(at);
        assert!(self.watches.needs_stream());
        self.watches.handle_opened(at);
        at
    }
}

#[test]
fn resumes_behind_the_last_event_that_was_handed_out_with_the_same_request() {
    let mut script = Script::new();
    let request = WatchCreateRequest {
        key: "a".into(),
        range_end: "b".into(),
        start_revision: 4,
        progress_notify: true,
        prev_kv: true,
        fragment: true,
        filters: vec![1],
        watch_id: 0,
    };
    let create = Create {
        request: request.clone(),
        buffer_bytes: BUFFER,
        resume: true,
        ..Create::default()
    };
    script.watches.handle_create(WatchKey(1), create, 1);
    script.requests();
    script.answer(created_answer(5, 10));
    script.answer(events(5, 99, &[6, 7]));
    assert_eq!(script.actions(), ["1 created 5 at 10", "1 sees [6, 7], resume 8"]);
    script.reconnect();
    let union = script.watches.poll_request().and_then(|request| request.request_union);
    let Some(RequestUnion::CreateRequest(again)) = union else {
        panic!("{union:?}");
    };
    let expected = WatchCreateRequest {
        start_revision: 8,
        ..request
    };
    assert_eq!(again, expected);
    script.answer(created_answer(0, 20));
    script.answer(events(0, 20, &[8]));
    assert_eq!(script.actions(), ["1 resumed", "1 sees [8], resume 9"]);
}

#[test]
fn a_watch_from_now_resumes_behind_its_creation_however_often_the_stream_breaks() {
    let mut script = Script::with_resuming(1, 10);
    for id in 0..3 {
        script.reconnect();
        assert_eq!(script.requests(), ["create key 1 from 11"]);
        // The store has gone on, and what it did meanwhile is this watch's to see.
        script.answer(created_answer(id, 30 + id));
        assert_eq!(script.actions(), ["1 resumed"]);
    }
    script.answer(events(2, 40, &[10, 11, 35]));
    assert_eq!(script.actions(), ["1 sees [11, 35], resume 36"]);
}

#[test]
fn a_watch_that_was_created_at_an_odd_revision_is_not_created_at_zero() {
    for revision in [-1, -7, i64::MIN] {
        let mut script = Script::with_resuming(1, revision);
        script.reconnect();
        assert_eq!(
            script.requests(),
            ["create key 1 from 1"],
            "created at {revision}"
        );
    }
}

#[test]
fn a_watch_whose_creation_was_never_answered_is_created_as_it_was_asked_for() {
    let mut script = Script::new();
    script.create_with(0, BUFFER, true);
    script.create_with(7, BUFFER, true);
    script.watches.poll_request();
    script.reconnect();
    assert_eq!(script.requests(), ["create key 1", "create key 2 from 7"]);
    script.answer(created_answer(0, 12));
    script.answer(created_answer(1, 12));
    assert_eq!(script.actions(), ["1 created 0 at 12", "2 created 1 at 12"]);
}

#[test]
fn all_watches_are_created_again_before_the_first_answer_and_matched_by_order() {
    let mut script = Script::with_resuming(1000, 10);
    script.answer(events(499, 14, &[13]));
    script.actions();
    script.lose(NOW, gone());
    // One that came while there was no stream is behind those that were there.
    script.create_with(0, BUFFER, true);
    script.wait_and_open();
    let mut expected: Vec<_> = (1..=1000).map(|key| format!("create key {key} from 11")).collect();
    expected[499] = "create key 500 from 14".to_owned();
    expected.push("create key 1001".to_owned());
    assert_eq!(script.requests(), expected);
    script.actions();
    script.answer(created_answer(3, 20));
    script.answer(refused(-1, "etcdserver: permission denied"));
    script.answer(created_answer(4, 20));
    script.answer(events(4, 20, &[15]));
    script.answer(events(3, 20, &[16]));
    let expected = [
        "1 resumed",
        "2 canceled Some(PermissionDenied), resume 11",
        "3 resumed",
        "3 sees [15], resume 16",
        "1 sees [16], resume 17",
    ];
    assert_eq!(script.actions(), expected);
}

#[test]
fn fragments_that_the_break_cut_off_are_dropped_and_come_again_whole() {
    let mut script = Script::with_resuming(1, 10);
    script.answer(fragment(0, 20, &[11, 12, 12]));
    assert_eq!(script.actions(), ["1 sees [11], resume 12"]);
    script.reconnect();
    assert_eq!(script.requests(), ["create key 1 from 12"]);
    script.answer(created_answer(0, 20));
    script.answer(fragment(0, 20, &[12]));
    script.answer(events(0, 20, &[12, 12]));
    assert_eq!(script.actions(), ["1 resumed", "1 sees [12, 12, 12], resume 13"]);
}

#[test]
fn events_that_were_handed_out_are_dropped_when_the_server_sends_them_again() {
    let mut script = Script::with_resuming(1, 10);
    script.answer(events(0, 20, &[11, 12]));
    script.actions();
    script.reconnect();
    script.requests();
    script.answer(created_answer(0, 20));
    script.answer(events(0, 20, &[11, 12, 12, 13]));
    assert_eq!(script.actions(), ["1 resumed", "1 sees [13], resume 14"]);
}

#[test]
fn progress_moves_the_place_to_resume_and_an_answer_for_all_does_not() {
    let mut script = Script::with_resuming(2, 10);
    script.answer(answer(0, 40));
    script.watches.handle_progress_request(WatchKey(2));
    script.requests();
    script.answer(answer(-1, 50));
    script.watches.handle_progress_request(WatchKey(2));
    script.actions();
    script.reconnect();
    assert_eq!(
        script.requests(),
        ["create key 1 from 41", "create key 2 from 11"]
    );
}

#[test]
fn compaction_on_resume_ends_the_watch_once() {
    let compacted = |created, id| WatchResponse {
        created,
        canceled: true,
        compact_revision: 40,
        ..answer(id, 50)
    };
    let mut script = Script::with_resuming(2, 10);
    script.reconnect();
    script.requests();
    script.answer(created_answer(0, 50));
    script.answer(compacted(false, 0));
    script.answer(compacted(true, -1));
    script.answer(compacted(false, 0));
    assert_eq!(
        script.actions(),
        ["1 resumed", "1 compacted 40", "2 compacted 40"]
    );
    script.lose(NOW, gone());
    assert!(script.requests().is_empty() && script.watches.poll_timeout().is_none());
}

#[test]
fn a_resume_at_a_server_of_another_cluster_ends_the_watch_and_hands_nothing_out() {
    let of = |cluster_id: u64, mut response: WatchResponse| {
        response.header.get_or_insert_default().cluster_id = cluster_id;
        response
    };
    let mut script = Script::new();
    for id in 0..2 {
        script.create_with(0, BUFFER, true);
        script.requests();
        // The first does not say.
        script.answer(of(7 * id, created_answer(id as i64, 5)));
    }
    script.actions();
    for (cluster, ends) in [(7, false), (8, true)] {
        script.reconnect();
        script.requests();
        for id in 0..2 {
            let created = of(cluster, created_answer(id, 9));
            script.answer(WatchResponse {
                events: events(id, 9, &[6]).events,
                ..created
            });
        }
        let actions = script.actions();
        match ends {
            true => assert_eq!(actions, ["1 of 7 at 8", "2 of 7 at 8"]),
            false => assert!(
                actions.iter().all(|action| !action.contains("of 7")),
                "{actions:?}"
            ),
        }
    }
    assert_eq!(script.requests(), ["cancel 0", "cancel 1"]);
}

#[test]
fn a_cancel_without_a_stream_is_obeyed_on_this_side_alone() {
    let mut script = Script::with_resuming(3, 10);
    script.lose(NOW, gone());
    script.cancel(WatchKey(2));
    script.wait_and_open();
    script.watches.poll_request();
    script.cancel(WatchKey(1));
    assert_eq!(script.requests(), ["create key 3 from 11"]);
    script.answer(created_answer(0, 10));
    script.answer(created_answer(1, 10));
    assert_eq!(script.requests(), ["cancel 0"]);
    assert_eq!(script.actions(), ["close", "2 closed", "1 closed", "3 resumed"]);
}

#[test]
fn watches_that_resume_and_others_part_when_the_stream_breaks() {
    let mut script = Script::with_resuming(1, 10);
    script.create(0);
    script.requests();
    script.answer(created_answer(7, 12));
    script.actions();
    script.lose(NOW, gone());
    assert_eq!(script.actions(), ["2 Unavailable, resume 13", "close"]);
    script.wait_and_open();
    assert_eq!(script.requests(), ["create key 1 from 11"]);
}

#[test]
fn an_error_that_is_there_to_stay_ends_every_watch() {
    let server = |code| Error::new(code, Origin::Server, Delivery::Unknown, "no");
    for code in [Code::PermissionDenied, Code::Unauthenticated, Code::Unimplemented] {
        let mut script = Script::with_resuming(1, 10);
        script.create_with(0, BUFFER, true);
        script.lose(NOW, server(code));
        let expected = [
            format!("1 {code:?}, resume 11"),
            format!("2 {code:?}, resume 0"),
            "close".to_owned(),
        ];
        assert_eq!(script.actions(), expected);
    }
    for code in [
        Code::Unavailable,
        Code::Cancelled,
        Code::Unknown,
        Code::ResourceExhausted,
    ] {
        let mut script = Script::with_resuming(1, 10);
        script.lose(NOW, server(code));
        assert_eq!(script.actions(), ["close"], "{code:?}");
    }
    let mut script = Script::with_resuming(1, 10);
    let too_large = Error::new(
        Code::ResourceExhausted,
        Origin::Library,
        Delivery::Unknown,
        "large",
    );
    script.lose(NOW, too_large);
    assert_eq!(script.actions(), ["1 ResourceExhausted, resume 11", "close"]);
}

#[test]
fn a_channel_that_is_gone_and_a_shutdown_end_what_waits_for_a_stream() {
    let mut script = Script::with_resuming(1, 10);
    script.lose(NOW, gone());
    script.watches.handle_unreachable(&Arc::new(gone()));
    script.watches.check();
    assert_eq!(script.actions(), ["close", "1 Unavailable, resume 11", "close"]);
    let mut script = Script::with_resuming(1, 10);
    script.lose(NOW, gone());
    script.watches.handle_shutdown();
    assert_eq!(script.actions(), ["close", "1 closed"]);
    assert_eq!(script.watches.poll_timeout(), None);
}

/// The wait after a stream that held for `held` and brought what `script` gave it.
fn wait_after(script: &mut Script, opened: Instant, held: Duration) -> (Duration, Instant) {
    let lost = opened + held;
    script.lose(lost, gone());
    assert!(!script.watches.needs_stream());
    script.watches.handle_timeout(lost);
    assert!(!script.watches.needs_stream(), "the wait was cut short");
    let at = script.wait_and_open();
    (at.saturating_since(lost), at)
}

#[test]
fn a_server_that_ends_every_stream_at_once_is_asked_ever_more_rarely() {
    let mut script = Script::new();
    script.create_with(0, BUFFER, true);
    let mut now = NOW;
    let mut waits = Vec::new();
    for _ in 0..12 {
        // That it creates the watch, and tells how far it is, does not make it good.
        script.requests();
        script.answer(created_answer(0, 20));
        script.answer(answer(0, 20));
        let (wait, opened) = wait_after(&mut script, now, Duration::ZERO);
        waits.push(wait);
        now = opened;
    }
    assert!(waits[0] < Duration::from_millis(20), "{waits:?}");
    assert!(waits[11] >= WAIT_MAX / 2 && waits[11] < WAIT_MAX, "{waits:?}");
    assert!(waits.iter().sum::<Duration>() > 3 * WAIT_MAX, "{waits:?}");
}

#[test]
fn a_stream_that_was_good_makes_the_next_wait_a_short_one() {
    let mut script = Script::with_resuming(1, 10);
    let mut now = NOW;
    let tire = |script: &mut Script, now: &mut Instant| {
        for _ in 0..12 {
            *now = wait_after(script, *now, Duration::ZERO).1;
        }
    };
    tire(&mut script, &mut now);
    let (wait, opened) = wait_after(&mut script, now, WAIT_MAX);
    assert!(wait >= WAIT_MAX / 2, "it did not hold for long enough: {wait:?}");
    let (wait, opened) = wait_after(&mut script, opened, WAIT_MAX + Duration::from_nanos(1));
    assert!(wait < Duration::from_millis(20), "it held: {wait:?}");
    now = opened;
    tire(&mut script, &mut now);
    script.requests();
    script.answer(created_answer(0, 20));
    script.answer(events(0, 20, &[15]));
    let (wait, _) = wait_after(&mut script, now, Duration::ZERO);
    assert!(wait < Duration::from_millis(20), "it brought an event: {wait:?}");
}

#[test]
fn a_batch_that_is_refused_after_a_resume_ends_the_watch_before_that_batch() {
    let mut script = Script::with_resuming(1, 10);
    script.answer(events(0, 20, &[12]));
    script.actions();
    script.reconnect();
    script.requests();
    script.answer(created_answer(0, 20));
    script.answer(events(0, 20, &[13, 14]));
    script.actions();
    script.watches.handle_refused(WatchKey(1));
    assert_eq!(script.actions(), ["1 lagged, resume 13"]);
    assert_eq!(script.requests(), ["cancel 0"]);
}

#[test]
fn a_reader_that_asked_is_told_of_each_reconnect_before_what_follows() {
    let mut script = Script::with_resuming(1, 10);
    script.keys += 1;
    let create = Create {
        buffer_bytes: BUFFER,
        resume: true,
        reconnect_notify: true,
        ..Create::default()
    };
    script.watches.handle_create(WatchKey(2), create, 2);
    script.requests();
    script.answer(created_answer(1, 10));
    assert_eq!(script.actions(), ["2 created 1 at 10"], "creation is none");
    script.answer(events(1, 14, &[12]));
    script.actions();
    for round in 0..2 {
        script.reconnect();
        script.requests();
        script.answer(created_answer(0, 20));
        script.answer(created_answer(1, 20));
        let resume = 13 + round;
        assert_eq!(
            script.actions(),
            [
                "1 resumed".to_owned(),
                "2 resumed".to_owned(),
                format!("2 reconnected at 20, resume {resume}"),
            ]
        );
        script.answer(events(1, 20, &[resume]));
        script.actions();
    }
}
