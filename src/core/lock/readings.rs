//! What the machine makes of readings that show a part of the queue, too much of
//! it, or an earlier state; and of queues that are too long to be watched.

use super::tests::found;
use super::*;
use crate::types::LeaseId;

const NOW: Instant = Instant(1_000);
const DEADLINE: Instant = Instant(1_000_000_000_000);
const OWN: &str = "jobs/77";
/// The own key's create_revision; that of an older key is its number.
const CREATED: i64 = 1_000;

fn entry(key: &str, created: i64) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        create_revision: created,
        lease: if key == OWN { 0x77 } else { 1 },
        ..KeyValue::default()
    }
}

/// Our key, and before it the keys of these numbers.
fn queue(older: impl DoubleEndedIterator<Item = i64>) -> Vec<KeyValue> {
    let older = older.rev().map(|number| entry(&format!("jobs/{number}"), number));
    [entry(OWN, CREATED)].into_iter().chain(older).collect()
}

fn drain(lock: &mut Lock) -> Vec<Action> {
    lock.check();
    std::iter::from_fn(|| lock.poll_action()).collect()
}

/// A lock whose register showed this of the queue, and what it does then.
fn registered(queue: &[KeyValue], more: bool) -> (Lock, Vec<Action>) {
    let place = Place::new("jobs", LeaseId(0x77), "").unwrap();
    let mut lock = Lock::new(place, DEADLINE, 1);
    lock.handle_acquire(NOW);
    drain(&mut lock);
    let answer = Registered {
        put: true,
        revision: Revision(CREATED),
        gate: Revision::ZERO,
        own: None,
        queue,
        more,
    };
    lock.handle_registered(NOW, &answer);
    let actions = drain(&mut lock);
    (lock, actions)
}

/// The same, with what it watches begun at once.
fn waiting(queue: &[KeyValue]) -> Lock {
    let (mut lock, actions) = registered(queue, false);
    assert!(matches!(actions[..], [Action::Watch(_)]));
    lock.handle_watching(Revision(CREATED));
    assert_eq!(drain(&mut lock), []);
    lock
}

fn predecessor(number: i64) -> Action {
    Action::Watch(Watched::Predecessor(format!("jobs/{number}").into()))
}

fn range(whole: bool, linearizable: bool) -> Action {
    Action::Range {
        upto: Revision(CREATED),
        whole,
        linearizable,
    }
}

fn read(lock: &mut Lock, revision: i64, queue: &[KeyValue], more: bool) -> Vec<Action> {
    lock.handle_ranged(NOW, Revision(revision), queue, more);
    drain(lock)
}

fn deleted(lock: &mut Lock, number: i64, revision: i64) -> Vec<Action> {
    let key = Bytes::from(format!("jobs/{number}"));
    lock.handle_deleted(NOW, [(&key, Revision(revision))]);
    drain(lock)
}

#[test]
fn behind_more_keys_than_can_be_watched_the_nearest_is() {
    let few = WATCHED_MAX as i64;
    assert_eq!(
        registered(&queue(1..=few), false).1,
        [Action::Watch(Watched::Queue)]
    );
    assert_eq!(registered(&queue(1..=few + 1), false).1, [predecessor(few + 1)]);
    // What is not shown is older than what is.
    assert_eq!(registered(&queue(7..=8), true).1, [predecessor(8)]);
}

#[test]
fn a_predecessor_that_is_still_there_is_not_watched_anew() {
    let all = queue(1..=40);
    let mut lock = waiting(&all);
    let due = lock.poll_timeout().unwrap();
    lock.handle_timeout(due);
    assert_eq!(drain(&mut lock), [range(false, true)]);
    assert_eq!(read(&mut lock, CREATED + 5, &all, false), []);
}

#[test]
fn who_is_before_a_predecessor_that_gave_up_is_watched_next() {
    let mut lock = waiting(&queue(1..=40));
    assert_eq!(deleted(&mut lock, 40, CREATED + 1), [range(false, false)]);
    let behind = read(&mut lock, CREATED, &queue(1..=40), false);
    assert_eq!(behind, [range(false, true)], "a reading from before that");
    assert_eq!(
        read(&mut lock, CREATED + 1, &queue(1..=39), false),
        [predecessor(39)]
    );
    lock.handle_watching(Revision(CREATED + 1));
    assert_eq!(drain(&mut lock), []);
    assert_eq!(deleted(&mut lock, 39, CREATED + 2), [range(false, false)]);
    assert_eq!(
        read(&mut lock, CREATED + 2, &queue(0..0), false),
        [Action::Grant(Revision(CREATED))]
    );
}

#[test]
fn a_watch_that_is_lost_with_the_predecessor_leads_to_a_reading() {
    let mut lock = waiting(&queue(1..=40));
    deleted(&mut lock, 40, CREATED + 1);
    lock.handle_watch_lost();
    assert_eq!(drain(&mut lock), [range(false, true)]);
}

#[test]
fn a_part_of_a_watched_queue_grants_nothing() {
    // Only from a server that does not keep to what is asked for.
    let mut lock = waiting(&queue(1..=2));
    lock.handle_watching(Revision(CREATED + 9));
    drain(&mut lock);
    let part = [&[entry("jobs/88", CREATED + 3)], &queue(2..=2)[..]].concat();
    assert_eq!(read(&mut lock, CREATED + 9, &part, true), [range(true, true)]);
    assert_eq!(read(&mut lock, CREATED + 9, &queue(1..=2), false), []);
    assert_eq!(
        deleted(&mut lock, 2, CREATED + 10),
        [],
        "the other is still there"
    );
}

#[test]
fn a_part_without_our_key_does_not_say_that_it_is_gone() {
    let mut lock = waiting(&queue(1..=2));
    let part = [entry("jobs/88", CREATED + 3)];
    assert_eq!(read(&mut lock, CREATED + 9, &part, true), [range(true, true)]);
    let gone = [Action::Fail(Failure::KeyDeleted), Action::Freed];
    assert_eq!(read(&mut lock, CREATED + 9, &queue(1..=2)[1..], false), gone);
}

#[test]
fn our_key_in_a_later_life_is_not_the_one_that_queued() {
    let mut lock = waiting(&queue(1..=2));
    let again = [entry(OWN, CREATED + 3)];
    let gone = [Action::Fail(Failure::KeyDeleted), Action::Freed];
    assert_eq!(read(&mut lock, CREATED + 9, &again, false), gone);
}

#[test]
fn a_reading_from_before_our_key_says_nothing_about_it() {
    let (mut lock, actions) = registered(&queue(0..0), true);
    assert_eq!(actions, [range(true, true)]);
    assert_eq!(read(&mut lock, CREATED - 1, &[], false), [range(true, true)]);
    assert_eq!(
        read(&mut lock, CREATED, &queue(0..0), false),
        [Action::Grant(Revision(CREATED))]
    );
}

#[test]
fn an_adopted_key_is_looked_for_where_the_newest_are_not() {
    let place = Place::new("jobs", LeaseId(0x77), "").unwrap();
    let mut lock = Lock::new(place, DEADLINE, 1);
    lock.handle_acquire(NOW);
    drain(&mut lock);
    let (own, newer) = (entry(OWN, CREATED), [entry("jobs/88", CREATED + 3)]);
    let answer = Registered {
        more: true,
        ..found(CREATED + 5, Some(&own), &newer)
    };
    lock.handle_registered(NOW, &answer);
    assert_eq!(drain(&mut lock), [range(false, true)], "from it downwards");
}

#[test]
fn an_own_key_from_after_its_answer_or_older_than_itself_breaks_nothing() {
    let place = Place::new("jobs", LeaseId(0x77), "").unwrap();
    let mut lock = Lock::new(place, DEADLINE, 1);
    lock.handle_acquire(NOW);
    drain(&mut lock);
    let own = entry(OWN, CREATED);
    let queue = [own.clone(), entry(OWN, 3), entry("jobs/4", 4)];
    lock.handle_registered(NOW, &found(CREATED - 10, Some(&own), &queue));
    assert_eq!(drain(&mut lock), [Action::Watch(Watched::Queue)]);
    lock.handle_watching(Revision(CREATED));
    assert_eq!(deleted(&mut lock, 4, CREATED - 5), [], "old news");
    assert_eq!(
        deleted(&mut lock, 4, CREATED + 1),
        [Action::Grant(Revision(CREATED))]
    );
}
