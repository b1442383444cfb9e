//! The machine with a server that breaks the protocol, overdoes it, or says nothing.

use super::tests::{Script, answer, created_answer, event, events, fragment, refused};
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
    script.answer(events(i64::MAX, i64::MIN, &[i64::MIN, -1, 0, i64::MAX]));
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
