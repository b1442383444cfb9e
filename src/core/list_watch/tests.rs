//! The machine on a script: what it asks for, what it tells, and when it gives up.

use std::time::Duration;

use super::*;
use crate::core::watch::Event;
use crate::pb::etcdserverpb::ResponseHeader;

const NOW: Instant = Instant(1_000_000_000);
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

fn machine(page_keys: u32) -> ListThenWatch {
    let mut machine = ListThenWatch::new(KeyRange::prefix("k"), 7);
    machine.set_page_keys(page_keys);
    machine
}

/// What it does, in words.
fn actions(machine: &mut ListThenWatch) -> Vec<String> {
    machine.check();
    std::iter::from_fn(|| machine.poll_action()).map(words).collect()
}

fn words(action: Action) -> String {
    let event = |event: &Event| {
        let key = String::from_utf8_lossy(&event.kv().key).into_owned();
        match event {
            Event::Put { kv, .. } => format!("{key}={}", kv.mod_revision),
            Event::Delete { kv, .. } => format!("-{key}={}", kv.mod_revision),
        }
    };
    let events = |events: &[Event]| events.iter().map(event).collect::<Vec<_>>().join(" ");
    match action {
        Action::Read {
            keys,
            limit,
            revision,
        } => {
            let key = keys.key.escape_ascii();
            let end = keys.range_end.escape_ascii();
            format!("read {limit} of {key}..{end} at {revision}")
        }
        Action::Watch { start } => format!("watch from {start}"),
        Action::Tell(Update::Listed(listed)) => format!("listed {}", events(&listed)),
        Action::Tell(Update::Synced { revision }) => format!("synced {revision}"),
        Action::Tell(Update::Changed(batch)) => format!("changed {}", events(&batch.events)),
        Action::Tell(Update::Progress { revision }) => format!("progress {revision}"),
        Action::Tell(Update::Relisting) => "relisting".to_owned(),
    }
}

fn kv(key: &str, mod_revision: i64) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        mod_revision,
        ..KeyValue::default()
    }
}

fn page(revision: i64, kvs: &[(&str, i64)], more: bool) -> RangeResponse {
    RangeResponse {
        header: Some(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        }),
        kvs: kvs.iter().map(|(key, revision)| kv(key, *revision)).collect(),
        more,
        ..RangeResponse::default()
    }
}

fn batch(events: Vec<Event>, next: i64) -> Batch {
    Batch {
        kind: match events.is_empty() {
            true => BatchKind::Progress,
            false => BatchKind::Events,
        },
        revision: Revision(next - 1),
        resume_revision: Revision(next),
        events,
    }
}

fn put(key: &str, revision: i64) -> Event {
    Event::Put {
        kv: kv(key, revision),
        prev_kv: None,
    }
}

fn compacted() -> WatchEnd {
    WatchEnd::Compacted {
        compact_revision: Revision(40),
    }
}

fn unavailable() -> Error {
    Error::new(Code::Unavailable, Origin::Transport, Delivery::Unknown, "gone")
}

/// One that follows a list of `ka` at 5 and `kc` at 6, read at 10.
fn following() -> ListThenWatch {
    let mut machine = machine(500);
    actions(&mut machine);
    machine.handle_page(NOW, Ok(page(10, &[("ka", 5), ("kc", 6)], false)));
    actions(&mut machine);
    machine.handle_watching(NOW);
    machine
}

fn wait(machine: &mut ListThenWatch) -> Duration {
    let at = machine.poll_timeout().expect("it waits");
    machine.handle_timeout(Instant(at.0 - 1));
    assert!(machine.poll_action().is_none(), "the wait was cut short");
    machine.handle_timeout(at);
    at.saturating_since(NOW)
}

#[test]
fn a_list_is_read_in_pages_at_the_revision_of_its_first_and_watched_from_the_next() {
    let mut machine = machine(2);
    assert_eq!(actions(&mut machine), ["read 2 of k..l at 0"]);
    machine.handle_page(NOW, Ok(page(10, &[("ka", 5), ("kb", 6)], true)));
    let second = ["listed ka=5 kb=6", "read 2 of kb\\x00..l at 10"];
    assert_eq!(actions(&mut machine), second);
    // The store has gone on.
    machine.handle_page(NOW, Ok(page(17, &[("kc", 7)], false)));
    assert_eq!(
        actions(&mut machine),
        ["listed kc=7", "synced 10", "watch from 11"]
    );
    machine.handle_batch(batch(vec![put("ka", 12)], 13));
    machine.handle_batch(batch(Vec::new(), 20));
    assert_eq!(actions(&mut machine), ["changed ka=12", "progress 19"]);
    assert!(machine.poll_timeout().is_none() && machine.end().is_none());
}

#[test]
fn an_empty_range_is_synced_at_once_and_a_single_key_is_one_page() {
    let mut empty = machine(2);
    actions(&mut empty);
    empty.handle_page(NOW, Ok(page(10, &[], false)));
    assert_eq!(actions(&mut empty), ["synced 10", "watch from 11"]);
    let mut single = ListThenWatch::new(KeyRange::key("k"), 7);
    assert_eq!(actions(&mut single), ["read 500 of k.. at 0"]);
    single.handle_page(NOW, Ok(page(10, &[("k", 5)], true)));
    assert_eq!(actions(&mut single), ["listed k=5", "synced 10", "watch from 11"]);
}

#[test]
fn after_a_compaction_only_what_is_different_is_told() {
    let mut machine = following();
    machine.handle_batch(batch(vec![put("kb", 12), put("kd", 12)], 13));
    actions(&mut machine);
    machine.handle_watch_end(NOW, compacted());
    assert_eq!(actions(&mut machine), ["relisting"]);
    wait(&mut machine);
    assert_eq!(actions(&mut machine), ["read 500 of k..l at 0"]);
    // ka as it was, kb gone, kc another one, kd gone and back, ke new.
    machine.handle_page(
        NOW,
        Ok(page(50, &[("ka", 5), ("kc", 41), ("kd", 42), ("ke", 43)], false)),
    );
    assert_eq!(
        actions(&mut machine),
        ["listed -kb=50 kc=41 kd=42 ke=43", "synced 50", "watch from 51"]
    );
}

#[test]
fn what_is_gone_is_told_in_pieces_however_much_it_is() {
    let mut machine = following();
    machine.set_page_keys(1);
    machine.handle_watch_end(NOW, compacted());
    actions(&mut machine);
    wait(&mut machine);
    actions(&mut machine);
    machine.handle_page(NOW, Ok(page(50, &[], false)));
    assert_eq!(
        actions(&mut machine),
        ["listed -ka=50", "listed -kc=50", "synced 50", "watch from 51"]
    );
}

#[test]
fn a_compaction_between_two_pages_begins_another_list_and_repeats_nothing() {
    let mut machine = machine(1);
    actions(&mut machine);
    machine.handle_page(NOW, Ok(page(10, &[("ka", 5)], true)));
    actions(&mut machine);
    machine.handle_page(NOW, Err(Error::answered(Code::OutOfRange, COMPACTED)));
    assert_eq!(actions(&mut machine), ["relisting"]);
    wait(&mut machine);
    assert_eq!(actions(&mut machine), ["read 1 of k..l at 0"]);
    machine.handle_page(NOW, Ok(page(60, &[("ka", 5)], true)));
    assert_eq!(actions(&mut machine), ["read 1 of ka\\x00..l at 60"]);
    machine.handle_page(NOW, Ok(page(60, &[("kb", 8)], false)));
    assert_eq!(
        actions(&mut machine),
        ["listed kb=8", "synced 60", "watch from 61"]
    );
}

#[test]
fn lists_that_cannot_be_followed_come_ever_more_rarely_and_then_no_more() {
    let mut machine = following();
    let mut waits = Vec::new();
    for _ in 0..RELISTS_MAX {
        machine.handle_watch_end(NOW, compacted());
        actions(&mut machine);
        waits.push(wait(&mut machine));
        assert_eq!(actions(&mut machine).len(), 1);
        machine.handle_page(NOW, Ok(page(50, &[("ka", 5), ("kc", 6)], false)));
        actions(&mut machine);
        machine.handle_watching(NOW);
    }
    assert!(
        waits[0] >= RELIST_WAIT_FIRST / 2 && waits[0] <= RELIST_WAIT_FIRST,
        "{waits:?}"
    );
    assert!(waits[15] >= RELIST_WAIT_MAX / 2, "{waits:?}");
    machine.handle_watch_end(NOW, compacted());
    assert!(actions(&mut machine).is_empty());
    let end = machine.end();
    assert!(
        matches!(end, Some(ListWatchEnd::Compacted { relists: RELISTS_MAX })),
        "{end:?}"
    );
}

#[test]
fn a_list_that_was_followed_for_long_makes_the_next_wait_a_short_one() {
    let mut machine = following();
    for round in 0..3 * RELISTS_MAX {
        let lost = NOW + RELIST_WAIT_MAX + Duration::from_nanos(1);
        machine.handle_watch_end(lost, compacted());
        actions(&mut machine);
        let waited = machine.poll_timeout().unwrap().saturating_since(lost);
        assert!(waited <= RELIST_WAIT_FIRST, "round {round}: {waited:?}");
        wait(&mut machine);
        actions(&mut machine);
        machine.handle_page(NOW, Ok(page(50, &[], false)));
        actions(&mut machine);
        machine.handle_watching(NOW);
    }
}

#[test]
fn the_first_page_may_fail_once_and_another_is_asked_for_again() {
    let mut first = machine(1);
    actions(&mut first);
    first.handle_page(NOW, Err(unavailable()));
    assert!(actions(&mut first).is_empty());
    assert!(matches!(first.end(), Some(ListWatchEnd::Read { .. })));

    let mut machine = machine(1);
    actions(&mut machine);
    machine.handle_page(NOW, Ok(page(10, &[("ka", 5)], true)));
    actions(&mut machine);
    let late = Error::new(
        Code::DeadlineExceeded,
        Origin::Library,
        Delivery::Unknown,
        "too late",
    );
    let mut waits = Vec::new();
    for error in [unavailable(), late, unavailable()] {
        machine.handle_page(NOW, Err(error));
        assert!(actions(&mut machine).is_empty());
        waits.push(wait(&mut machine));
        assert_eq!(actions(&mut machine), ["read 1 of ka\\x00..l at 10"]);
    }
    assert!(waits[2] > waits[0], "{waits:?}");
    machine.handle_page(NOW, Err(Error::answered(Code::PermissionDenied, "no")));
    assert!(matches!(machine.end(), Some(ListWatchEnd::Read { .. })));
}

#[test]
fn a_page_that_is_too_large_is_read_in_halves_down_to_one_key() {
    let too_large = || {
        Error::new(
            Code::ResourceExhausted,
            Origin::Library,
            Delivery::Answered,
            "large",
        )
    };
    let mut machine = machine(5);
    assert_eq!(actions(&mut machine), ["read 5 of k..l at 0"]);
    for limit in [2, 1] {
        machine.handle_page(NOW, Err(too_large()));
        assert_eq!(actions(&mut machine), [format!("read {limit} of k..l at 0")]);
    }
    machine.handle_page(NOW, Err(too_large()));
    assert!(matches!(machine.end(), Some(ListWatchEnd::Read { .. })));
}

#[test]
fn a_watch_that_could_not_be_created_is_created_where_it_was() {
    let mut machine = following();
    machine.handle_batch(batch(vec![put("ka", 12)], 13));
    actions(&mut machine);
    let gone = || WatchEnd::disconnected(&Arc::new(unavailable()), Revision(13));
    machine.handle_watch_end(NOW, gone());
    assert!(actions(&mut machine).is_empty());
    wait(&mut machine);
    assert_eq!(actions(&mut machine), ["watch from 13"]);
    let denied = Arc::new(Error::answered(Code::PermissionDenied, "no"));
    machine.handle_watch_end(NOW, WatchEnd::disconnected(&denied, Revision(13)));
    assert!(matches!(machine.end(), Some(ListWatchEnd::Watch { .. })));
}

#[test]
fn pages_that_are_none_end_it_typed() {
    let at = |at, kvs: &[(&str, i64)], more| page(at, kvs, more);
    let pages = [
        ("no revision", at(0, &[], false)),
        ("a revision that nothing follows", at(i64::MAX, &[], false)),
        ("out of order", at(10, &[("kb", 5), ("ka", 5)], false)),
        ("twice", at(10, &[("ka", 5), ("ka", 5)], false)),
        ("below the range", at(10, &[("j", 5)], false)),
        ("above the range", at(10, &[("ka", 5), ("l", 5)], false)),
        ("from the future", at(10, &[("ka", 11)], false)),
        ("never written", at(10, &[("ka", 0)], false)),
        ("more of nothing", at(10, &[], true)),
    ];
    for (what, page) in pages {
        let mut machine = machine(5);
        actions(&mut machine);
        machine.handle_page(NOW, Ok(page));
        assert!(actions(&mut machine).is_empty(), "{what}");
        assert!(matches!(machine.end(), Some(ListWatchEnd::Read { .. })), "{what}");
    }
}

#[test]
fn answers_that_nobody_asked_for_change_nothing() {
    let mut machine = following();
    machine.handle_page(NOW, Ok(page(90, &[], false)));
    assert!(actions(&mut machine).is_empty());
    machine.handle_watch_end(NOW, compacted());
    actions(&mut machine);
    machine.handle_batch(batch(vec![put("ka", 12)], 13));
    machine.handle_watch_end(NOW, compacted());
    machine.handle_watching(NOW);
    assert!(actions(&mut machine).is_empty() && machine.end().is_none());
}
