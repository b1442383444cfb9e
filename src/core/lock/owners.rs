//! The machine with a key that outlives the session that put it: taken over in place,
//! and told from what it was before by its mod_revision.

use super::tests::found;
use super::*;
use crate::types::LeaseId;

const LEASE: LeaseId = LeaseId(0x77);
const NOW: Instant = Instant(1_000);
const DEADLINE: Instant = Instant(1_000_000);
const OWN: &str = "jobs/@a";
const CREATED: i64 = 5;
/// When the own key was put last.
const SEEN: i64 = 7;
/// When it is taken over.
const OVER: i64 = 9;
const GATE: Revision = Revision::ZERO;

fn lock() -> Lock {
    Lock::new(Place::of_owner("jobs", "a", LEASE, "").unwrap(), DEADLINE, 7)
}

fn entry(key: &str, created: i64) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        create_revision: created,
        mod_revision: created,
        version: 1,
        lease: 1,
        ..KeyValue::default()
    }
}

/// The own key after it was taken over once, on this lease.
fn own(lease: i64) -> KeyValue {
    KeyValue {
        mod_revision: SEEN,
        version: 2,
        lease,
        ..entry(OWN, CREATED)
    }
}

fn drain(lock: &mut Lock) -> Vec<Action> {
    lock.check();
    std::iter::from_fn(|| lock.poll_action()).collect()
}

fn take_over(seen: i64) -> Action {
    let seen = Revision(seen);
    Action::TakeOver { gate: GATE, seen }
}

fn release(revision: i64, close_gate: bool) -> Action {
    let created = Revision(revision);
    Action::Release { created, close_gate }
}

fn range() -> Action {
    Action::Range {
        upto: Revision(CREATED),
        whole: false,
        linearizable: true,
    }
}

fn registers(lock: &mut Lock, answer: &Registered<'_>) -> Vec<Action> {
    lock.handle_registered(NOW, answer);
    drain(lock)
}

/// A lock whose register found the own key on this lease.
fn finding(lease: i64) -> (Lock, Vec<Action>) {
    let mut lock = lock();
    lock.handle_acquire(NOW);
    assert_eq!(drain(&mut lock), [Action::Register { gate: GATE }]);
    let own = own(lease);
    let actions = registers(&mut lock, &found(8, Some(&own), std::slice::from_ref(&own)));
    (lock, actions)
}

/// One that has taken it over, with these before it.
fn taken_over(older: &[KeyValue], more: bool) -> (Lock, Vec<Action>) {
    let (mut lock, actions) = finding(1);
    assert_eq!(actions, [take_over(SEEN)]);
    let mut queue = older.to_vec();
    queue.push(KeyValue {
        mod_revision: OVER,
        ..own(LEASE.0)
    });
    let answer = Registered {
        put: true,
        more,
        ..found(OVER, None, &queue)
    };
    let actions = registers(&mut lock, &answer);
    (lock, actions)
}

/// The same, with its watch begun.
fn waiting() -> Lock {
    let (mut lock, actions) = taken_over(&[entry("jobs/1", 2)], false);
    assert_eq!(actions, [Action::Watch(Watched::Queue)]);
    lock.handle_watching(Revision(OVER));
    assert_eq!(drain(&mut lock), []);
    lock
}

fn deleted(lock: &mut Lock, key: &'static str, revision: i64) -> Vec<Action> {
    lock.handle_deleted(NOW, [(&Bytes::from_static(key.as_bytes()), Revision(revision))]);
    drain(lock)
}

#[test]
fn the_key_of_an_earlier_session_is_taken_over_in_its_place() {
    let (mut lock, actions) = taken_over(&[], false);
    assert_eq!(actions, [Action::Grant(Revision(CREATED))]);
    let put = Put {
        created: Revision(CREATED),
        at: Revision(OVER),
        takeovers: 2,
    };
    assert_eq!(lock.put(), put);
    lock.handle_release();
    assert_eq!(
        drain(&mut lock),
        [release(OVER, false)],
        "not that of whoever comes after"
    );
}

#[test]
fn who_was_older_is_waited_for_and_who_was_younger_is_not() {
    let mut lock = waiting();
    assert_eq!(
        deleted(&mut lock, "jobs/1", 10),
        [Action::Grant(Revision(CREATED))]
    );
    let (_, actions) = taken_over(&[entry("jobs/1", 6)], false);
    assert_eq!(actions, [Action::Grant(Revision(CREATED))]);
}

#[test]
fn a_part_of_the_queue_may_end_before_an_old_key() {
    let (_, actions) = taken_over(&[entry("jobs/1", 6)], true);
    assert_eq!(actions, [range()]);
}

#[test]
fn what_two_take_over_goes_to_one() {
    let (mut lock, _) = finding(1);
    let other = KeyValue {
        mod_revision: OVER,
        ..own(3)
    };
    let actions = registers(&mut lock, &found(OVER, Some(&other), &[]));
    assert_eq!(actions, [Action::Fail(Failure::KeyTaken), Action::Freed]);
}

#[test]
fn what_the_earlier_session_still_put_is_taken_over_all_the_same() {
    let (mut lock, _) = finding(1);
    let again = KeyValue {
        mod_revision: OVER,
        ..own(1)
    };
    assert_eq!(
        registers(&mut lock, &found(OVER, Some(&again), &[])),
        [take_over(OVER)]
    );
}

#[test]
fn a_key_that_ran_out_meanwhile_is_registered_anew() {
    let (mut lock, _) = finding(1);
    let actions = registers(&mut lock, &found(OVER, None, &[]));
    assert_eq!(actions, [Action::Register { gate: GATE }]);
}

#[test]
fn a_gate_that_moved_is_taken_into_account() {
    let (mut lock, _) = finding(1);
    let (own, gate) = (own(1), Revision(8));
    let answer = Registered {
        gate,
        ..found(8, Some(&own), &[])
    };
    let seen = Revision(SEEN);
    assert_eq!(registers(&mut lock, &answer), [Action::TakeOver { gate, seen }]);
}

#[test]
fn a_lost_answer_is_found_out_and_the_gate_is_closed_in_the_end() {
    let (mut lock, _) = finding(1);
    lock.handle_register_failed(NOW, true);
    assert_eq!(drain(&mut lock), [Action::Register { gate: GATE }]);
    let own = KeyValue {
        mod_revision: OVER,
        version: 3,
        ..own(LEASE.0)
    };
    let actions = registers(&mut lock, &found(OVER, Some(&own), std::slice::from_ref(&own)));
    assert_eq!(actions, [Action::Grant(Revision(CREATED))]);
    assert_eq!(lock.put().takeovers, 2);
    lock.handle_release();
    assert_eq!(drain(&mut lock), [release(OVER, true)]);
}

#[test]
fn a_take_over_that_is_given_up_is_withdrawn() {
    let (mut lock, _) = finding(1);
    lock.handle_release();
    assert_eq!(drain(&mut lock), [Action::Withdraw { gate: GATE }]);
    // An earlier copy got through, and the key was taken over after it.
    let own = KeyValue {
        mod_revision: OVER,
        ..own(LEASE.0)
    };
    lock.handle_withdraw_passed(Revision(8), Some(&own));
    assert_eq!(drain(&mut lock), [release(OVER, false)]);
}

#[test]
fn a_waiter_whose_key_another_session_puts_is_out_and_deletes_nothing() {
    let mut lock = waiting();
    assert_eq!(deleted(&mut lock, OWN, OVER), [], "it was us");
    let out = [Action::Fail(Failure::KeyDeleted), Action::Freed];
    assert_eq!(deleted(&mut lock, OWN, 10), out);
}

#[test]
fn a_reading_that_shows_the_key_put_anew_ends_the_wait() {
    let mut lock = waiting();
    lock.handle_timeout(lock.poll_timeout().unwrap());
    assert_eq!(drain(&mut lock), [range()]);
    let other = KeyValue {
        mod_revision: 10,
        ..own(0)
    };
    lock.handle_ranged(NOW, Revision(11), &[other], false);
    assert_eq!(
        drain(&mut lock),
        [Action::Fail(Failure::KeyDeleted), Action::Freed]
    );
}

#[test]
fn a_try_takes_over_what_is_next_and_leaves_nothing_where_it_is_not() {
    for (older, then) in [
        (None, Action::Grant(Revision(CREATED))),
        (Some(2), Action::Fail(Failure::Busy)),
    ] {
        let mut lock = lock();
        lock.handle_try_acquire(NOW);
        assert_eq!(drain(&mut lock), [Action::RegisterIfEmpty { gate: GATE }]);
        let mut queue = vec![own(1)];
        queue.extend(older.map(|created| entry("jobs/1", created)));
        assert_eq!(
            registers(&mut lock, &found(8, Some(&queue[0].clone()), &queue)),
            [take_over(SEEN)]
        );
        queue[0].mod_revision = OVER;
        let answer = Registered {
            put: true,
            ..found(OVER, None, &queue)
        };
        let actions = registers(&mut lock, &answer);
        assert_eq!(actions[0], then);
        let left = older.map(|_| release(OVER, false));
        assert_eq!(
            actions.get(if older.is_some() { actions.len() - 1 } else { 1 }),
            left.as_ref()
        );
    }
}

#[test]
fn an_owner_has_a_key_like_nobody_elses() {
    let place = |owner| Place::of_owner("jobs", owner, LEASE, "");
    assert_eq!(place("77-r1").unwrap().key, "jobs/@77-r1");
    assert_eq!(Claim::of(b"@77-r1"), Claim::Exclusive);
    assert!(place("").is_none() && place("a/b").is_none());
    assert!(Place::of_owner("", "a", LEASE, "").is_none());
    assert_ne!(
        place("a").unwrap().gate,
        Place::new("jobs", LEASE, "").unwrap().gate
    );
}
