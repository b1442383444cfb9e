//! The machine with a server that breaks the protocol, overdoes it, or says nothing.

use super::reopen::BREACHES_MAX;
use super::tests::{BUFFER, Script, answer, created_answer, event, events, fragment, refused};
use super::*;
use crate::pb::mvccpb;

#[test]
fn a_server_that_breaks_the_protocol_loses_the_stream_and_nothing_panics() {
    let no_kv = WatchResponse {
        events: vec![mvccpb::Event::default()],
        ..answer(0, 11)
    };
    let no_type = WatchResponse {
        events: vec![mvccpb::Event {
            r#type: 2,
            ..event(11)
        }],
        ..answer(0, 11)
    };
    let breaches = [
        ("an answer nobody waits for", created_answer(1, 10)),
        ("a refusal nobody waits for", refused(-1, "")),
        ("an id that was never given", events(1, 11, &[11])),
        ("events without a watch", events(-1, 11, &[11])),
        (
            "a cancel without a watch",
            WatchResponse {
                canceled: true,
                ..answer(-1, 11)
            },
        ),
        ("events out of order", events(0, 12, &[12, 11])),
        ("no key", no_kv),
        ("no such type", no_type),
        ("nowhere to resume behind it", events(0, i64::MAX, &[i64::MAX])),
    ];
    for (what, response) in breaches {
        let mut script = Script::with_live(1, 10);
        script.answer(response);
        assert_eq!(script.actions(), ["1 Internal, resume 11", "close"], "{what}");
    }
}

#[test]
fn an_id_that_was_given_before_ends_the_stream() {
    for id in [0, 1] {
        let mut script = Script::with_live(2, 10);
        script.cancel(WatchKey(1));
        script.create(0);
        script.requests();
        script.actions();
        script.answer(created_answer(id, 10));
        assert_eq!(
            script.actions(),
            ["2 Internal, resume 11", "3 Internal, resume 0", "close"]
        );
    }
}

#[test]
fn fragments_out_of_order_end_the_stream() {
    let mut script = Script::with_live(1, 10);
    script.answer(fragment(0, 20, &[12]));
    script.answer(events(0, 20, &[11]));
    assert_eq!(script.actions(), ["1 Internal, resume 11", "close"]);
}

#[test]
fn extreme_numbers_do_no_harm() {
    let mut script = Script::new();
    script.create(i64::MIN);
    script.requests();
    script.answer(created_answer(i64::MAX, i64::MAX));
    script.answer(answer(i64::MAX, i64::MAX));
    script.answer(events(i64::MAX, i64::MIN, &[i64::MIN, -1, 0, i64::MAX - 1]));
    script.answer(WatchResponse {
        header: None,
        ..answer(i64::MAX, 0)
    });
    script.create(0);
    script.requests();
    script.answer(created_answer(i64::MAX, 0));
    let last = script.actions().pop();
    assert_eq!(last.as_deref(), Some("close"));
}

#[test]
fn the_number_of_watches_is_bounded_also_where_the_server_never_answers() {
    let mut script = Script::new();
    for _ in 0..WATCHES_MAX {
        let key = WatchKey(script.keys + 1);
        script.keys += 1;
        script.watches.handle_create(key, Create::default(), key.0);
        script.watches.poll_request();
        script.watches.handle_cancel(key);
        script.watches.poll_action();
    }
    script.watches.handle_create(WatchKey(u64::MAX), Create::default(), 0);
    assert_eq!(script.actions(), ["0 refused ResourceExhausted"]);
    script.answer(created_answer(0, 10));
    script.create(0);
    assert!(script.actions().is_empty());
}

#[test]
fn a_server_that_breaks_the_protocol_again_and_again_is_given_up() {
    let mut script = Script::with_resuming(2, 10);
    script.create(0);
    script.requests();
    let lose = |script: &mut Script| script.answer(events(77, 11, &[11]));
    for breaches in 1..BREACHES_MAX {
        lose(&mut script);
        // What is not sent yet is for the next stream, also where it does not resume.
        let actions = script.actions();
        assert_eq!(actions.last().map(String::as_str), Some("close"), "{actions:?}");
        assert_eq!(actions.len(), if breaches == 1 { 2 } else { 1 }, "{actions:?}");
        script.wait_and_open();
    }
    script.create(3);
    lose(&mut script);
    let expected = [
        "1 breached 8 times, resume 11",
        "2 breached 8 times, resume 11",
        "4 breached 8 times, resume 3",
        "close",
    ];
    assert_eq!(script.actions(), expected);
    assert!(!script.watches.needs_stream() && script.watches.poll_timeout().is_none());
    // Who asks again is given as many tries.
    script.create_with(0, BUFFER, true);
    script.wait_and_open();
    lose(&mut script);
    assert_eq!(script.actions(), ["close"]);
}

#[test]
fn an_event_between_two_breaches_and_streams_that_are_merely_lost_are_patience_renewed() {
    let mut script = Script::with_resuming(1, 10);
    for round in 0..4 * i64::from(BREACHES_MAX) {
        if round % i64::from(BREACHES_MAX - 1) == 6 {
            script.requests();
            script.answer(created_answer(0, 20));
            script.answer(answer(0, 20));
            script.answer(events(0, 30 + round, &[30 + round]));
            script.actions();
        }
        script.answer(events(77, 11, &[11]));
        assert_eq!(script.actions(), ["close"], "round {round}");
        script.wait_and_open();
    }
    let mut script = Script::with_resuming(1, 10);
    for _ in 0..4 * BREACHES_MAX {
        script.reconnect();
    }
}
