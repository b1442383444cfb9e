//! The lock's machine against scripted answers: each rule of a correct lock that
//! it is to keep has a test that fails without it.

use super::*;
use crate::types::LeaseId;

const LEASE: LeaseId = LeaseId(0x77);
const NOW: Instant = Instant(1_000);
const DEADLINE: Instant = Instant(1_000_000);

fn lock() -> Lock {
    Lock::new(Place::new("jobs", LEASE, "").unwrap(), DEADLINE, 7)
}

fn entry(key: &str, created: i64) -> KeyValue {
    let lease = if key == "jobs/77" { LEASE.0 } else { 1 };
    KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        create_revision: created,
        lease,
        ..KeyValue::default()
    }
}

fn drain(lock: &mut Lock) -> Vec<Action> {
    lock.check();
    std::iter::from_fn(|| lock.poll_action()).collect()
}

/// Registers at `revision` behind `older`, and returns what is to be done then.
fn registered(lock: &mut Lock, revision: i64, older: &[KeyValue]) -> Vec<Action> {
    lock.handle_acquire(NOW);
    assert!(matches!(drain(lock)[..], [Action::Register { .. }]));
    answer_register(lock, revision, older)
}

fn answer_register(lock: &mut Lock, revision: i64, older: &[KeyValue]) -> Vec<Action> {
    let mut queue = older.to_vec();
    queue.push(entry("jobs/77", revision));
    let revision = Revision(revision);
    let answer = Registered {
        put: true,
        revision,
        gate: Revision::ZERO,
        own: None,
        queue: &queue,
        more: false,
    };
    lock.handle_registered(NOW, &answer);
    drain(lock)
}

/// The answer to a register that did not put the key.
pub(super) fn found<'a>(revision: i64, own: Option<&'a KeyValue>, queue: &'a [KeyValue]) -> Registered<'a> {
    Registered {
        put: false,
        revision: Revision(revision),
        gate: Revision::ZERO,
        own,
        queue,
        more: false,
    }
}

/// A reading of the queue down from revision 5.
fn range(linearizable: bool) -> Action {
    Action::Range {
        upto: Revision(5),
        whole: false,
        linearizable,
    }
}

/// A lock that waits for `older`, with its watch begun at the register's revision.
fn waiting(revision: i64, older: &[KeyValue]) -> Lock {
    let mut lock = lock();
    assert_eq!(
        registered(&mut lock, revision, older),
        [Action::Watch(Watched::Queue)]
    );
    lock.handle_watching(Revision(revision));
    assert_eq!(drain(&mut lock), []);
    lock
}

fn deleted(lock: &mut Lock, events: &[(&'static str, i64)]) -> Vec<Action> {
    let events: Vec<_> = events
        .iter()
        .map(|(key, at)| (Bytes::from_static(key.as_bytes()), Revision(*at)))
        .collect();
    lock.handle_deleted(NOW, events.iter().map(|(key, at)| (key, *at)));
    drain(lock)
}

#[test]
fn a_free_lock_takes_one_register_and_one_release() {
    let mut lock = lock();
    assert_eq!(registered(&mut lock, 5, &[]), [Action::Grant(Revision(5))]);
    lock.handle_release();
    assert_eq!(
        drain(&mut lock),
        [Action::Release {
            created: Revision(5),
            close_gate: false
        }]
    );
    lock.handle_released(Revision(6), false, None);
    assert_eq!(drain(&mut lock), [Action::Freed]);
    assert!(lock.is_free());
}

#[test]
fn the_last_older_key_to_go_grants_without_a_read() {
    let mut lock = waiting(5, &[entry("jobs/1", 2), entry("jobs/2", 3)]);
    assert_eq!(deleted(&mut lock, &[("jobs/2", 6)]), []);
    assert_eq!(deleted(&mut lock, &[("jobs/1", 7)]), [Action::Grant(Revision(5))]);
}

#[test]
fn a_revision_that_deletes_the_own_key_too_grants_nothing() {
    let mut lock = waiting(5, &[entry("jobs/1", 2)]);
    let actions = deleted(&mut lock, &[("jobs/1", 6), ("jobs/77", 6)]);
    assert_eq!(actions, [Action::Fail(Failure::KeyDeleted), Action::Freed]);
}

#[test]
fn a_waiter_learns_that_its_own_key_is_gone() {
    let mut lock = waiting(5, &[entry("jobs/1", 2)]);
    assert_eq!(
        deleted(&mut lock, &[("jobs/77", 6)]),
        [Action::Fail(Failure::KeyDeleted), Action::Freed]
    );
}

#[test]
fn nothing_is_granted_after_the_deadline() {
    let mut lock = waiting(5, &[entry("jobs/1", 2)]);
    lock.handle_deleted(DEADLINE, [(&Bytes::from_static(b"jobs/1"), Revision(6))]);
    let actions = drain(&mut lock);
    assert_eq!(actions[0], Action::Fail(Failure::SessionEnded));
    assert!(!actions.iter().any(|action| matches!(action, Action::Grant(_))));
}

#[test]
fn the_end_of_the_session_ends_the_wait() {
    let mut lock = waiting(5, &[entry("jobs/1", 2)]);
    lock.handle_session_ended();
    assert_eq!(
        drain(&mut lock),
        [Action::Fail(Failure::SessionEnded), Action::Freed]
    );
}

#[test]
fn a_renewal_moves_the_deadline_of_a_grant() {
    let mut lock = waiting(5, &[entry("jobs/1", 2)]);
    lock.handle_deadline(Instant(DEADLINE.0 + 5));
    lock.handle_deleted(DEADLINE, [(&Bytes::from_static(b"jobs/1"), Revision(6))]);
    assert_eq!(drain(&mut lock), [Action::Grant(Revision(5))]);
}

#[test]
fn an_event_up_to_the_last_reading_is_old_news() {
    // A member that lags replays the end of an earlier life of jobs/1.
    let mut lock = waiting(5, &[entry("jobs/1", 4)]);
    assert_eq!(deleted(&mut lock, &[("jobs/1", 3)]), []);
    assert_eq!(deleted(&mut lock, &[("jobs/1", 5)]), []);
    assert_eq!(deleted(&mut lock, &[("jobs/1", 6)]), [Action::Grant(Revision(5))]);
}

#[test]
fn a_watch_that_began_late_is_joined_to_a_reading() {
    let mut lock = lock();
    registered(&mut lock, 5, &[entry("jobs/1", 2), entry("jobs/2", 3)]);
    lock.handle_watching(Revision(9));
    assert_eq!(drain(&mut lock), [range(false)]);
    // jobs/1 went between 5 and 9; jobs/2 goes at 10, before the reading arrives.
    assert_eq!(deleted(&mut lock, &[("jobs/2", 10)]), []);
    lock.handle_ranged(
        NOW,
        Revision(9),
        &[entry("jobs/2", 3), entry("jobs/77", 5)],
        false,
    );
    assert_eq!(drain(&mut lock), [Action::Grant(Revision(5))]);
}

#[test]
fn nothing_is_granted_while_the_own_key_may_have_gone_unseen() {
    let mut lock = lock();
    registered(&mut lock, 5, &[entry("jobs/1", 2)]);
    lock.handle_watching(Revision(9));
    drain(&mut lock);
    assert_eq!(deleted(&mut lock, &[("jobs/1", 10)]), [], "the gap is open");
    lock.handle_ranged(NOW, Revision(10), &[], false);
    assert_eq!(
        drain(&mut lock),
        [Action::Fail(Failure::KeyDeleted), Action::Freed]
    );
}

#[test]
fn a_reading_older_than_the_watch_is_done_again_elsewhere() {
    let mut lock = lock();
    registered(&mut lock, 5, &[entry("jobs/1", 2)]);
    lock.handle_watching(Revision(9));
    drain(&mut lock);
    lock.handle_ranged(NOW, Revision(8), &[entry("jobs/77", 5)], false);
    assert_eq!(drain(&mut lock), [range(true)]);
}

#[test]
fn an_older_key_that_came_back_is_behind_us() {
    // jobs/1 went and came back between the register and the watch: a new life.
    let mut lock = lock();
    registered(&mut lock, 5, &[entry("jobs/1", 2)]);
    lock.handle_watching(Revision(9));
    drain(&mut lock);
    lock.handle_ranged(
        NOW,
        Revision(9),
        &[entry("jobs/1", 8), entry("jobs/77", 5)],
        false,
    );
    assert_eq!(drain(&mut lock), [Action::Grant(Revision(5))]);
}

#[test]
fn a_broken_watch_is_watched_and_read_again() {
    let mut lock = waiting(5, &[entry("jobs/1", 2)]);
    lock.handle_watch_lost();
    assert_eq!(drain(&mut lock), [Action::Watch(Watched::Queue)]);
    lock.handle_watching(Revision(12));
    assert_eq!(drain(&mut lock), [range(false)]);
    lock.handle_range_failed();
    assert_eq!(drain(&mut lock), [range(true)]);
    lock.handle_ranged(NOW, Revision(13), &[entry("jobs/77", 5)], false);
    assert_eq!(drain(&mut lock), [Action::Grant(Revision(5))]);
}

#[test]
fn keys_of_nested_names_do_not_queue_here() {
    let mut lock = lock();
    let nested = [entry("jobs/nightly/1", 2), entry("jobs/nightly#gate/1", 3)];
    assert_eq!(registered(&mut lock, 5, &nested), [Action::Grant(Revision(5))]);
}

#[test]
fn a_lost_answer_is_asked_for_again_and_the_key_adopted() {
    let mut lock = lock();
    lock.handle_acquire(NOW);
    drain(&mut lock);
    lock.handle_register_failed(NOW, true);
    assert_eq!(drain(&mut lock), [Action::Register { gate: Revision::ZERO }]);
    let own = entry("jobs/77", 5);
    let queue = [own.clone()];
    lock.handle_registered(NOW, &found(8, Some(&own), &queue));
    assert_eq!(drain(&mut lock), [Action::Grant(Revision(5))]);
    // The other copy may still be under way: the release stops it at the gate.
    lock.handle_release();
    assert_eq!(
        drain(&mut lock),
        [Action::Release {
            created: Revision(5),
            close_gate: true
        }]
    );
    lock.handle_released(Revision(9), true, None);
    assert_eq!(drain(&mut lock), [Action::Freed]);
    lock.handle_acquire(NOW);
    assert_eq!(drain(&mut lock), [Action::Register { gate: Revision(9) }]);
}

#[test]
fn a_key_on_somebody_elses_lease_is_not_adopted() {
    let mut lock = lock();
    lock.handle_acquire(NOW);
    drain(&mut lock);
    let own = KeyValue {
        lease: 99,
        ..entry("jobs/77", 5)
    };
    lock.handle_registered(NOW, &found(8, Some(&own), &[]));
    assert_eq!(drain(&mut lock), [Action::Fail(Failure::KeyTaken), Action::Freed]);
}

#[test]
fn a_key_on_somebody_elses_lease_is_not_deleted_either() {
    let mut lock = lock();
    lock.handle_acquire(NOW);
    drain(&mut lock);
    lock.handle_register_failed(NOW, true);
    drain(&mut lock);
    let own = KeyValue {
        lease: 99,
        ..entry("jobs/77", 5)
    };
    lock.handle_registered(NOW, &found(8, Some(&own), &[]));
    let release = Action::Release {
        created: Revision::ZERO,
        close_gate: true,
    };
    assert_eq!(drain(&mut lock), [Action::Fail(Failure::KeyTaken), release]);
}

#[test]
fn events_up_to_a_second_reading_are_old_news_too() {
    let mut lock = lock();
    registered(&mut lock, 5, &[entry("jobs/1", 2)]);
    lock.handle_watching(Revision(9));
    drain(&mut lock);
    lock.handle_ranged(
        NOW,
        Revision(20),
        &[entry("jobs/1", 2), entry("jobs/77", 5)],
        false,
    );
    assert_eq!(deleted(&mut lock, &[("jobs/1", 15)]), []);
    assert_eq!(
        deleted(&mut lock, &[("jobs/1", 21)]),
        [Action::Grant(Revision(5))]
    );
}

#[test]
fn a_register_that_was_given_up_is_withdrawn_until_its_gate_is_past() {
    let mut lock = lock();
    lock.handle_acquire(NOW);
    drain(&mut lock);
    lock.handle_release();
    assert_eq!(drain(&mut lock), [Action::Withdraw { gate: Revision::ZERO }]);
    lock.handle_undo_failed();
    assert_eq!(drain(&mut lock), [Action::Withdraw { gate: Revision::ZERO }]);
    // The first copy got through after all: it put the gate at 6.
    lock.handle_withdraw_passed(Revision(6), None);
    assert_eq!(drain(&mut lock), [Action::Freed]);
    lock.handle_acquire(NOW);
    assert_eq!(drain(&mut lock), [Action::Register { gate: Revision(6) }]);
}

#[test]
fn what_registers_after_a_withdrawal_goes_through_the_gate_that_it_put() {
    let mut lock = lock();
    lock.handle_acquire(NOW);
    drain(&mut lock);
    lock.handle_release();
    drain(&mut lock);
    lock.handle_withdrawn(Revision(6));
    assert_eq!(drain(&mut lock), [Action::Freed]);
    lock.handle_acquire(NOW);
    assert_eq!(drain(&mut lock), [Action::Register { gate: Revision(6) }]);
}

#[test]
fn a_key_of_another_lease_that_an_undoing_finds_is_left_alone() {
    let theirs = KeyValue {
        lease: 99,
        ..entry("jobs/77", 8)
    };
    let mut lock = lock();
    lock.handle_acquire(NOW);
    drain(&mut lock);
    lock.handle_release();
    drain(&mut lock);
    lock.handle_withdraw_passed(Revision(6), Some(&theirs));
    assert_eq!(drain(&mut lock), [Action::Freed]);

    let mut lock = waiting(5, &[entry("jobs/1", 2)]);
    lock.handle_release();
    drain(&mut lock);
    lock.handle_released(Revision(10), true, Some(&theirs));
    assert_eq!(drain(&mut lock), [Action::Freed]);
}

#[test]
fn nothing_is_registered_after_the_deadline() {
    let over = [Action::Fail(Failure::SessionEnded), Action::Freed];
    let mut lock = lock();
    lock.handle_acquire(DEADLINE);
    assert_eq!(drain(&mut lock), over);
    lock.handle_acquire(NOW);
    drain(&mut lock);
    lock.handle_register_failed(DEADLINE, false);
    assert_eq!(drain(&mut lock), over);
}

#[test]
fn the_end_of_the_session_leaves_a_held_lock_to_its_holder() {
    let mut lock = lock();
    registered(&mut lock, 5, &[]);
    lock.handle_session_ended();
    assert_eq!(drain(&mut lock), []);
    lock.handle_release();
    assert!(matches!(drain(&mut lock)[..], [Action::Release { .. }]));
}

#[test]
fn a_try_that_queued_behind_somebody_does_not_wait() {
    let mut lock = lock();
    lock.handle_try_acquire(NOW);
    drain(&mut lock);
    let nested = [entry("jobs/nightly/1", 2)];
    lock.handle_registered(NOW, &found(4, None, &nested));
    drain(&mut lock);
    let actions = answer_register(&mut lock, 5, &[entry("jobs/1", 3)]);
    let release = Action::Release {
        created: Revision(5),
        close_gate: false,
    };
    assert_eq!(actions, [Action::Fail(Failure::Busy), release]);
}

#[test]
fn a_refused_register_leaves_nothing_to_withdraw() {
    let mut lock = lock();
    lock.handle_acquire(NOW);
    drain(&mut lock);
    lock.handle_register_refused();
    lock.handle_release();
    assert_eq!(drain(&mut lock), [Action::Freed]);
}

#[test]
fn a_refusal_does_not_excuse_an_earlier_register_of_unknown_fate() {
    let mut lock = lock();
    lock.handle_acquire(NOW);
    drain(&mut lock);
    lock.handle_register_failed(NOW, true);
    drain(&mut lock);
    lock.handle_register_refused();
    lock.handle_release();
    assert_eq!(drain(&mut lock), [Action::Withdraw { gate: Revision::ZERO }]);
}

#[test]
fn a_withdrawal_at_an_unmoved_gate_is_not_believed_to_have_passed() {
    let mut lock = lock();
    lock.handle_acquire(NOW);
    drain(&mut lock);
    lock.handle_release();
    drain(&mut lock);
    lock.handle_withdraw_passed(Revision::ZERO, None);
    assert_eq!(drain(&mut lock), [Action::Withdraw { gate: Revision::ZERO }]);
}

#[test]
fn a_gate_that_moved_is_learnt_and_the_register_retried() {
    let mut lock = lock();
    lock.handle_acquire(NOW);
    drain(&mut lock);
    let answer = Registered {
        gate: Revision(7),
        ..found(8, None, &[])
    };
    lock.handle_registered(NOW, &answer);
    assert_eq!(drain(&mut lock), [Action::Register { gate: Revision(7) }]);
}

#[test]
fn a_waiter_that_gives_up_deletes_its_key_until_it_is_certain() {
    let mut lock = waiting(5, &[entry("jobs/1", 2)]);
    lock.handle_release();
    let release = [Action::Release {
        created: Revision(5),
        close_gate: false,
    }];
    assert_eq!(drain(&mut lock), release);
    lock.handle_undo_failed();
    assert_eq!(drain(&mut lock), release);
    lock.handle_release();
    assert_eq!(
        drain(&mut lock),
        release,
        "the task was dropped while it released"
    );
    assert_eq!(
        deleted(&mut lock, &[("jobs/1", 9)]),
        [],
        "nothing is granted any more"
    );
    lock.handle_released(Revision(10), false, None);
    assert_eq!(drain(&mut lock), [Action::Freed]);
}

#[test]
fn a_session_that_ends_needs_no_undoing() {
    let mut lock = lock();
    lock.handle_acquire(NOW);
    drain(&mut lock);
    lock.handle_register_failed(NOW, true);
    lock.handle_release();
    lock.handle_session_ended();
    assert_eq!(drain(&mut lock), [Action::Freed]);
    lock.check();
}

#[test]
fn a_name_that_would_be_a_gate_is_refused() {
    assert!(Place::new("", LEASE, "").is_none());
    assert!(Place::new("jobs#gate", LEASE, "").is_none());
    let place = Place::new("jobs/nightly", LEASE, "").unwrap();
    assert_eq!(
        (place.key, place.gate),
        ("jobs/nightly/77".into(), "jobs/nightly#gate/77".into())
    );
    let elsewhere = Place::new("jobs/nightly", LEASE, "gates/").unwrap();
    assert_eq!(elsewhere.gate, "gates/jobs/nightly#gate/77");
}

#[test]
fn how_an_attempt_came_out_is_told_though_the_session_ends_before_anybody_asks() {
    let mut late = lock();
    late.handle_acquire(NOW);
    drain(&mut late);
    late.handle_register_failed(DEADLINE, false);
    late.handle_session_ended();
    assert!(drain(&mut late).contains(&Action::Fail(Failure::SessionEnded)));
    assert!(late.is_free());

    let mut deleted = waiting(5, &[entry("jobs/1", 3)]);
    deleted.handle_deleted(NOW, [(&Bytes::from_static(b"jobs/77"), Revision(6))]);
    deleted.handle_session_ended();
    assert!(drain(&mut deleted).contains(&Action::Fail(Failure::KeyDeleted)));

    let mut granted = waiting(5, &[entry("jobs/1", 3)]);
    granted.handle_deleted(NOW, [(&Bytes::from_static(b"jobs/1"), Revision(6))]);
    granted.handle_session_ended();
    assert_eq!(drain(&mut granted), [Action::Grant(Revision(5))]);
}
