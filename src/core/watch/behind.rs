//! The machine when readers fall behind that may catch up.

use super::resume::gone;
use super::tests::{BUFFER, NOW, Script, answer, created_answer, events};
use super::*;

impl Script {
    /// A live watch from "now", the first, that catches up.
    fn with_catching_up(resume: bool) -> Script {
        let mut script = Script::new();
        script.keys += 1;
        let create = Create {
            request: WatchCreateRequest {
                key: "key".into(),
                ..WatchCreateRequest::default()
            },
            buffer_bytes: BUFFER,
            resume,
            catch_up: true,
            reconnect_notify: true,
            ..Create::default()
        };
        script.watches.handle_create(WatchKey(1), create, 1);
        script.requests();
        script.answer(created_answer(0, 10));
        script.actions();
        script
    }

    /// The reader's queue refuses what the server sends.
    fn refuse(&mut self, response: WatchResponse) {
        self.answer(response);
        assert_eq!(self.actions().len(), 1);
        self.watches.handle_refused(WatchKey(1), Full::default());
        self.watches.check();
    }

    fn drain(&mut self) {
        self.watches.handle_drained(WatchKey(1));
        self.watches.check();
    }
}

#[test]
fn a_watch_whose_reader_is_behind_is_canceled_and_created_anew_before_what_was_refused() {
    let mut script = Script::with_catching_up(false);
    script.create(0);
    script.requests();
    script.answer(created_answer(1, 10));
    script.answer(events(0, 12, &[12]));
    script.actions();
    script.refuse(events(0, 20, &[14, 15, 15]));
    assert_eq!(script.requests(), ["cancel 0"]);
    script.answer(events(0, 20, &[16]));
    script.answer(events(1, 20, &[16]));
    script.answer(WatchResponse {
        canceled: true,
        ..answer(0, 20)
    });
    assert_eq!(
        script.actions(),
        ["2 sees [16], resume 17"],
        "the other one is not disturbed"
    );
    assert!(script.requests().is_empty(), "not before the reader is done");
    script.drain();
    assert_eq!(script.requests(), ["create key from 13"]);
    script.drain();
    script.answer(created_answer(2, 20));
    script.answer(events(2, 20, &[14, 15, 15]));
    assert_eq!(
        script.actions(),
        ["1 caught up", "1 sees [14, 15, 15], resume 16"]
    );
    script.drain();
    assert!(
        script.requests().is_empty(),
        "a reader that keeps up has nothing to catch up with"
    );
}

#[test]
fn large_events_are_caught_up_with_in_pieces_and_small_ones_as_they_come() {
    for is_large in [false, true] {
        let mut script = Script::with_catching_up(true);
        script.answer(events(0, 20, &[14]));
        script.actions();
        script.watches.handle_refused(WatchKey(1), Full { is_large });
        script.watches.poll_request();
        script.drain();
        assert_eq!(script.fragments(), [is_large]);
    }
}

#[test]
fn a_stream_that_is_lost_while_a_reader_is_behind_is_nothing_to_it() {
    for resume in [false, true] {
        let mut script = Script::with_catching_up(resume);
        script.refuse(events(0, 20, &[14]));
        script.lose(NOW, gone());
        assert_eq!(script.actions(), ["close"], "resumes: {resume}");
        assert!(!script.watches.needs_stream() && script.watches.poll_timeout().is_none());
        script.drain();
        script.wait_and_open();
        assert_eq!(script.requests(), ["create key from 11"]);
        script.answer(created_answer(0, 20));
        assert_eq!(script.actions(), ["1 caught up"]);
    }
}

#[test]
fn a_refused_first_batch_never_makes_it_a_watch_from_now() {
    let mut script = Script::new();
    let create = Create {
        catch_up: true,
        ..Create::default()
    };
    script.watches.handle_create(WatchKey(1), create, 1);
    script.requests();
    script.answer(created_answer(0, -5));
    script.actions();
    script.refuse(events(0, 20, &[1]));
    script.drain();
    assert_eq!(script.requests(), ["cancel 0", "create  from 1"]);
}

#[test]
fn a_compaction_while_a_reader_is_behind_ends_the_watch_once() {
    let mut script = Script::with_catching_up(true);
    script.refuse(events(0, 20, &[14]));
    script.drain();
    assert_eq!(script.requests(), ["cancel 0", "create key from 11"]);
    script.answer(created_answer(1, 50));
    let compacted = WatchResponse {
        canceled: true,
        compact_revision: 40,
        ..answer(1, 50)
    };
    script.answer(compacted.clone());
    script.answer(compacted);
    script.drain();
    assert_eq!(script.actions(), ["1 caught up", "1 compacted 40"]);
    assert_eq!(script.requests(), ["cancel 1"]);
    assert!(!script.watches.needs_stream());
}

#[test]
fn a_reader_that_is_behind_can_give_up_and_is_told_of_an_end() {
    let mut script = Script::with_catching_up(true);
    script.refuse(events(0, 20, &[14]));
    script.cancel(WatchKey(1));
    script.drain();
    assert_eq!(script.actions(), ["1 closed"]);
    let mut script = Script::with_catching_up(true);
    script.refuse(events(0, 20, &[14]));
    script.watches.handle_unreachable(&Arc::new(gone()));
    assert_eq!(script.actions(), ["1 Unavailable, resume 11", "close"]);
}

#[test]
fn nothing_is_delivered_behind_a_notice_that_was_refused() {
    let mut script = Script::with_catching_up(true);
    script.reconnect();
    script.requests();
    // No etcd sends events with `created`.
    script.answer(WatchResponse {
        created: true,
        ..events(0, 20, &[14])
    });
    assert!(matches!(
        script.watches.poll_action(),
        Some(Action::Resumed { .. })
    ));
    assert!(matches!(
        script.watches.poll_action(),
        Some(Action::Deliver { .. })
    ));
    script.watches.handle_refused(WatchKey(1), Full::default());
    assert!(script.actions().is_empty());
    script.drain();
    assert_eq!(script.requests(), ["cancel 0", "create key from 11"]);
}

#[test]
fn a_stream_that_is_lost_after_a_reader_has_caught_up_is_a_reconnect() {
    let mut script = Script::with_catching_up(true);
    script.refuse(events(0, 12, &[12]));
    script.drain();
    script.requests();
    script.answer(created_answer(1, 12));
    assert_eq!(script.actions(), ["1 caught up"]);
    script.reconnect();
    script.requests();
    script.answer(created_answer(0, 12));
    assert!(script.actions().contains(&"1 resumed".to_owned()));
}
