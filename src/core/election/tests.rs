//! What the machine says of an election on a script, and that it says what is so after
//! any changes.

use std::collections::BTreeMap;

use super::*;
use crate::core::jitter::Jitter;
use crate::core::watch::{Batch, BatchKind};

fn put(key: &str, value: &'static str, (created, modified): (i64, i64)) -> Event {
    Event::Put {
        kv: KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: value.into(),
            create_revision: created,
            mod_revision: modified,
            lease: 7,
            ..KeyValue::default()
        },
        prev_kv: None,
    }
}

fn delete(key: &str, modified: i64) -> Event {
    Event::Delete {
        kv: KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            mod_revision: modified,
            ..KeyValue::default()
        },
        prev_kv: None,
    }
}

fn changed(events: Vec<Event>) -> Update {
    Update::Changed(Batch {
        kind: BatchKind::Events,
        revision: Revision(100),
        resume_revision: Revision(101),
        events,
    })
}

fn synced() -> Update {
    Update::Synced {
        revision: Revision(9),
    }
}

fn observation() -> Observation {
    Observation::new("jobs/".into())
}

/// What is said after these updates.
fn said(election: &mut Observation, updates: &[Update]) -> Vec<Option<String>> {
    let mut said = Vec::new();
    for update in updates {
        election.handle_update(update);
        election.check();
        let words = |leader: Leader| format!("{}", leader.value.escape_ascii());
        said.extend(election.poll_change().map(|leader| leader.map(words)));
        assert_eq!(election.poll_change(), None, "twice");
    }
    said
}

fn is(value: &str) -> Option<String> {
    Some(value.to_owned())
}

#[test]
fn the_oldest_leads_and_then_the_next_and_then_nobody() {
    let candidates = vec![put("jobs/1", "b", (5, 5)), put("jobs/2", "a", (3, 3))];
    let updates = [
        Update::Listed(candidates),
        synced(),
        changed(vec![delete("jobs/2", 10)]),
        changed(vec![delete("jobs/1", 11)]),
        changed(vec![put("jobs/1", "c", (12, 12))]),
    ];
    assert_eq!(
        said(&mut observation(), &updates),
        [is("a"), is("b"), None, is("c")]
    );
}

#[test]
fn an_empty_election_is_said_once() {
    let updates = [synced(), changed(Vec::new()), synced()];
    assert_eq!(said(&mut observation(), &updates), [None]);
}

#[test]
fn what_the_leader_proclaims_is_said_and_what_others_do_is_not() {
    let updates = [
        Update::Listed(vec![put("jobs/1", "a", (3, 3)), put("jobs/2", "b", (4, 4))]),
        synced(),
        changed(vec![put("jobs/2", "b2", (4, 10))]),
        changed(vec![put("jobs/1", "a2", (3, 11))]),
        changed(vec![delete("jobs/2", 12)]),
        changed(vec![put("jobs/1", "a2", (3, 13))]),
    ];
    assert_eq!(said(&mut observation(), &updates), [is("a"), is("a2"), is("a2")]);
}

#[test]
fn nothing_is_said_before_the_list_is_whole() {
    let updates = [
        Update::Listed(vec![put("jobs/1", "late", (8, 8))]),
        Update::Listed(vec![put("jobs/2", "first", (3, 3))]),
        synced(),
        Update::Relisting,
        Update::Listed(vec![delete("jobs/2", 20)]),
        Update::Listed(vec![put("jobs/3", "early", (6, 6))]),
        synced(),
    ];
    assert_eq!(said(&mut observation(), &updates), [is("first"), is("early")]);
}

#[test]
fn a_batch_is_folded_whole() {
    let updates = [
        Update::Listed(vec![put("jobs/1", "a", (3, 3)), put("jobs/2", "b", (4, 4))]),
        synced(),
        // Both go, and the first comes back behind a third.
        changed(vec![
            delete("jobs/1", 10),
            delete("jobs/2", 10),
            put("jobs/3", "c", (11, 11)),
            put("jobs/1", "a", (12, 12)),
        ]),
    ];
    assert_eq!(said(&mut observation(), &updates), [is("a"), is("c")]);
}

#[test]
fn candidates_of_nested_and_of_other_names_are_none_of_ours() {
    let strangers = vec![put("jobs/nightly/1", "x", (1, 1)), put("job/1", "y", (2, 2))];
    let kvs: Vec<KeyValue> = strangers.iter().map(|event| event.kv().clone()).collect();
    assert_eq!(first(b"jobs/", &kvs), None);
    let updates = [Update::Listed(strangers), synced()];
    assert_eq!(said(&mut observation(), &updates), [None]);
}

#[test]
fn whoever_is_said_to_lead_is_the_oldest_after_any_changes() {
    let mut chance = Jitter::new(1);
    let mut below = |bound: u64| (chance.next_u64() % bound) as i64;
    for _ in 0..200 {
        let (mut election, mut store) = (observation(), BTreeMap::<String, KeyValue>::new());
        let mut says = None;
        election.handle_update(&synced());
        for revision in 1..60 {
            let key = format!("jobs/{}", below(5));
            let there = store.get(&key).map(|kv| kv.create_revision);
            let event = match there {
                Some(_) if below(2) == 0 => delete(&key, revision),
                there => put(&key, "v", (there.unwrap_or(revision), revision)),
            };
            match &event {
                Event::Put { kv, .. } => drop(store.insert(key, kv.clone())),
                Event::Delete { .. } => drop(store.remove(&key)),
            }
            election.handle_update(&changed(vec![event]));
            election.check();
            says = election.poll_change().unwrap_or(says);
            let keys: Vec<KeyValue> = store.values().cloned().collect();
            assert_eq!(says, first(b"jobs/", &keys));
        }
    }
}
