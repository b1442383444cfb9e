//! The rules of a correct lock, one by one: what happens to the machine where the
//! rule matters, and that it goes wrong with that one rule out of force. The
//! numbers in parentheses are the order in which the rules are usually told.

use super::tests::found;
use super::*;
use crate::types::LeaseId;

const NOW: Instant = Instant(1_000);
const DEADLINE: Instant = Instant(1_000_000_000_000);
const OWN: &str = "jobs/77";
const OLDER: &str = "jobs/11";
/// The register's revision, so the own key's create_revision.
const CREATED: i64 = 10;

type Outcome = Result<(), &'static str>;

/// The scenario goes well, and does not with this rule out of force.
fn needs(rule: Rule, scenario: fn(Rules) -> Outcome) {
    assert_eq!(scenario(Rules::default()), Ok(()));
    let outcome = scenario(Rules { off: Some(rule) });
    assert!(outcome.is_err(), "{rule:?} makes no difference");
}

fn lock(rules: Rules) -> Lock {
    let place = Place::new("jobs", LeaseId(0x77), "").unwrap();
    let mut lock = Lock::new(place, DEADLINE, 1);
    lock.rules = rules;
    lock
}

fn entry(key: &'static str, created: i64) -> KeyValue {
    KeyValue {
        key: key.into(),
        create_revision: created,
        lease: if key == OWN { 0x77 } else { 1 },
        ..KeyValue::default()
    }
}

fn drain(lock: &mut Lock) -> Vec<Action> {
    std::iter::from_fn(|| lock.poll_action()).collect()
}

fn granted(actions: &[Action]) -> bool {
    actions.contains(&Action::Grant(Revision(CREATED)))
}

/// Registers behind these keys, and says what is to be done then.
fn register(lock: &mut Lock, older: &[KeyValue]) -> Vec<Action> {
    lock.handle_acquire(NOW);
    drain(lock);
    let queue = [&[entry(OWN, CREATED)], older].concat();
    let answer = Registered {
        put: true,
        revision: Revision(CREATED),
        gate: Revision::ZERO,
        own: None,
        queue: &queue,
        more: false,
    };
    lock.handle_registered(NOW, &answer);
    drain(lock)
}

/// A lock that waits for [`OLDER`], whose watch begins after `watching`.
fn waiting(rules: Rules, watching: i64) -> Lock {
    let mut lock = lock(rules);
    register(&mut lock, &[entry(OLDER, 3)]);
    lock.handle_watching(Revision(watching));
    drain(&mut lock);
    lock
}

fn deleted(lock: &mut Lock, now: Instant, events: &[(&'static str, i64)]) -> Vec<Action> {
    let events: Vec<_> = events.iter().map(|(key, at)| (Bytes::from(*key), Revision(*at))).collect();
    lock.handle_deleted(now, events.iter().map(|(key, at)| (key, *at)));
    drain(lock)
}

fn expect(holds: bool, otherwise: &'static str) -> Outcome {
    holds.then_some(()).ok_or(otherwise)
}

#[test]
fn one_revision_with_the_predecessors_and_the_own_deletion_grants_nothing() {
    // (1) In key order the predecessor comes first.
    needs(Rule::WholeRevisions, |rules| {
        let mut lock = waiting(rules, CREATED);
        let actions = deleted(&mut lock, NOW, &[(OLDER, 11), (OWN, 11)]);
        expect(!granted(&actions), "granted without a key")
    });
}

#[test]
fn a_waiter_whose_own_key_goes_is_told_and_never_granted() {
    // (2)
    needs(Rule::OwnKey, |rules| {
        let mut lock = waiting(rules, CREATED);
        let mut actions = deleted(&mut lock, NOW, &[(OWN, 11)]);
        actions.extend(deleted(&mut lock, NOW, &[(OLDER, 12)]));
        expect(!granted(&actions), "granted without a key")
    });
}

#[test]
fn a_deletion_that_comes_after_the_deadline_grants_nothing() {
    // (4)
    needs(Rule::Deadline, |rules| {
        let mut lock = waiting(rules, CREATED);
        let actions = deleted(&mut lock, DEADLINE, &[(OLDER, 11)]);
        expect(!granted(&actions), "granted after the deadline")
    });
}

#[test]
fn a_register_that_lands_after_it_was_given_up_leaves_no_ghost() {
    // (7) The server carries the withdrawal out first, and then the register.
    needs(Rule::Gate, |rules| {
        let mut lock = lock(rules);
        lock.handle_acquire(NOW);
        let late = drain(&mut lock);
        lock.handle_release();
        let gate = withdraw(&mut lock)?;
        expect(lock.is_free(), "not at rest")?;
        let lands = late == [Action::Register { gate }];
        expect(!lands, "a key that nobody holds")
    });
}

#[test]
fn a_register_that_lands_after_the_unlock_leaves_no_ghost() {
    // (7) The answer to the first copy was lost, the second found the key.
    needs(Rule::Gate, |rules| {
        let mut lock = lock(rules);
        lock.handle_acquire(NOW);
        let late = drain(&mut lock);
        lock.handle_register_failed(NOW, true);
        drain(&mut lock);
        let own = entry(OWN, CREATED);
        let queue = [own.clone()];
        lock.handle_registered(NOW, &found(CREATED, Some(&own), &queue));
        expect(granted(&drain(&mut lock)), "our own key is not adopted")?;
        lock.handle_release();
        let closes = matches!(drain(&mut lock)[..], [Action::Release { close_gate: true, .. }]);
        let gate = if closes {
            Revision(CREATED + 1)
        } else {
            Revision::ZERO
        };
        let lands = late == [Action::Register { gate }];
        expect(!lands, "a key that nobody holds")
    });
}

/// What a server makes of the actions: the gate's mod_revision at the end.
fn withdraw(lock: &mut Lock) -> Result<Revision, &'static str> {
    let mut gate = Revision::ZERO;
    while let Some(action) = lock.poll_action() {
        match action {
            Action::Withdraw { gate: at } => {
                expect(at == gate, "a withdrawal at another gate")?;
                gate = Revision(CREATED + 1);
                lock.handle_withdrawn(gate);
            }
            Action::Freed => {}
            _ => return Err("neither a withdrawal nor the end"),
        }
    }
    Ok(gate)
}

#[test]
fn a_lagging_member_that_tells_of_an_earlier_life_grants_nothing() {
    // (9) The older key was deleted at 2 and created again at 3; it is still there.
    needs(Rule::OldNews, |rules| {
        let mut lock = waiting(rules, CREATED);
        let actions = deleted(&mut lock, NOW, &[(OLDER, 2)]);
        expect(!granted(&actions), "granted while somebody older is there")
    });
}

#[test]
fn a_deletion_that_no_watch_tells_of_is_found_by_reading_again() {
    // (10)
    needs(Rule::Reread, |rules| {
        let mut lock = waiting(rules, CREATED);
        let due = lock.poll_timeout().ok_or("waits for the watch alone")?;
        expect(due < DEADLINE, "never reads")?;
        lock.handle_timeout(due);
        let range = Action::Range {
            upto: Revision(CREATED),
            whole: false,
            linearizable: true,
        };
        expect(drain(&mut lock) == [range], "does not read")?;
        lock.handle_ranged(due, Revision(12), &[entry(OWN, CREATED)], false);
        expect(granted(&drain(&mut lock)), "waits for ever")
    });
}

#[test]
fn an_older_key_that_came_back_behind_us_is_not_waited_for() {
    // (11) It went and came back before the watch began: no event will tell.
    needs(Rule::Incarnations, |rules| {
        let mut lock = waiting(rules, 20);
        let queue = [entry(OLDER, 15), entry(OWN, CREATED)];
        lock.handle_ranged(NOW, Revision(20), &queue, false);
        expect(granted(&drain(&mut lock)), "waits for ever")
    });
}

#[test]
fn keys_of_nested_names_are_not_waited_for() {
    // (12)
    needs(Rule::NestedNames, |rules| {
        let actions = register(&mut lock(rules), &[entry("jobs/nightly/11", 3)]);
        expect(granted(&actions), "waits for the holder of another lock")
    });
}

#[test]
fn keys_of_nested_names_do_not_keep_a_try_from_a_free_lock() {
    // (12)
    needs(Rule::NestedNames, |rules| {
        let mut lock = lock(rules);
        lock.handle_try_acquire(NOW);
        drain(&mut lock);
        let queue = [entry("jobs/nightly/11", 3)];
        lock.handle_registered(NOW, &found(9, None, &queue));
        let queues = drain(&mut lock) == [Action::Register { gate: Revision::ZERO }];
        expect(queues, "taken for held")
    });
}
