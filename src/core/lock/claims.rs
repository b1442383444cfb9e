//! What the machine makes of claims other than the mutex's: readers and writers,
//! permits, and several names at once. Where a rule is at stake it goes wrong with that
//! one rule out of force.

use super::*;
use crate::types::LeaseId;

const LEASE: LeaseId = LeaseId(0x77);
const NOW: Instant = Instant(1_000);
const DEADLINE: Instant = Instant(1_000_000_000_000);
/// The register's revision, so the own keys' create_revision.
const CREATED: i64 = 10;
const GRANT: Action = Action::Grant(Revision(CREATED));

type Outcome = Result<(), &'static str>;

/// The scenario goes well, and does not with this rule out of force.
fn needs(rule: Rule, scenario: fn(Rules) -> Outcome) {
    assert_eq!(scenario(Rules::default()), Ok(()));
    let outcome = scenario(Rules { off: Some(rule) });
    assert!(outcome.is_err(), "{rule:?} makes no difference");
}

fn expect(holds: bool, otherwise: &'static str) -> Outcome {
    holds.then_some(()).ok_or(otherwise)
}

fn lock(rules: Rules, names: &[&str], claim: Claim) -> Lock {
    let place = Place::once(names, claim, 5, LEASE, "").unwrap();
    let mut lock = Lock::new(place, DEADLINE, 1);
    lock.rules = rules;
    lock
}

fn permits(count: u32, of: u32) -> Claim {
    Claim::Permits { count, of }
}

fn kv(key: &str, created: i64, lease: LeaseId) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        create_revision: created,
        lease: lease.0,
        ..KeyValue::default()
    }
}

fn drain(lock: &mut Lock) -> Vec<Action> {
    lock.check();
    std::iter::from_fn(|| lock.poll_action()).collect()
}

/// The own keys and these.
fn queue(lock: &Lock, others: &[(&str, i64)]) -> Vec<KeyValue> {
    let own = lock.place.keys().map(|key| KeyValue {
        key: key.clone(),
        ..kv("", CREATED, LEASE)
    });
    own.chain(others.iter().map(|(key, at)| kv(key, *at, LeaseId(1)))).collect()
}

/// Registers behind these, and says what is to be done then.
fn register(lock: &mut Lock, older: &[(&str, i64)]) -> Vec<Action> {
    lock.handle_acquire(NOW);
    drain(lock);
    let queue = queue(lock, older);
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

/// The same, with its watch begun at once.
fn wait(lock: &mut Lock, older: &[(&str, i64)]) -> Vec<Action> {
    let actions = register(lock, older);
    lock.handle_watching(Revision(CREATED));
    assert_eq!(drain(lock), []);
    actions
}

fn deleted(lock: &mut Lock, events: &[(&'static str, i64)]) -> Vec<Action> {
    let events: Vec<_> = events.iter().map(|(key, at)| (Bytes::from(*key), Revision(*at))).collect();
    lock.handle_deleted(NOW, events.iter().map(|(key, at)| (key, *at)));
    drain(lock)
}

fn read(lock: &mut Lock, revision: i64, others: &[(&str, i64)]) -> Vec<Action> {
    let queue = queue(lock, others);
    lock.handle_ranged(NOW, Revision(revision), &queue, false);
    drain(lock)
}

fn range(linearizable: bool) -> Action {
    Action::Range {
        upto: Revision(CREATED),
        whole: false,
        linearizable,
    }
}

fn predecessor(key: &'static str) -> Action {
    Action::Watch(Watched::Predecessor(key.into()))
}

#[test]
fn a_reader_is_granted_beside_readers_and_a_writer_is_not() {
    let readers = [("jobs/11-r1", 3), ("jobs/12-r1", 4)];
    let mut reader = lock(Rules::default(), &["jobs"], Claim::Reader);
    assert_eq!(register(&mut reader, &readers), [GRANT]);
    let mut writer = lock(Rules::default(), &["jobs"], Claim::Writer);
    assert_eq!(wait(&mut writer, &readers), [Action::Watch(Watched::Queue)]);
    assert_eq!(deleted(&mut writer, &[("jobs/11-r1", 11)]), []);
    assert_eq!(deleted(&mut writer, &[("jobs/12-r1", 12)]), [GRANT]);
}

#[test]
fn a_reader_waits_for_the_older_writer() {
    needs(Rule::OlderWriters, |rules| {
        let mut lock = lock(rules, &["jobs"], Claim::Reader);
        let actions = register(&mut lock, &[("jobs/11-r1", 3), ("jobs/11-w1", 3)]);
        expect(actions != [GRANT], "granted beside a writer")
    });
}

#[test]
fn a_writer_that_became_a_reader_lets_readers_in() {
    needs(Rule::Downgrade, |rules| {
        let mut lock = lock(rules, &["jobs"], Claim::Reader);
        wait(&mut lock, &[("jobs/11-r1", 3), ("jobs/11-w1", 3)]);
        let actions = deleted(&mut lock, &[("jobs/11-w1", 11)]);
        expect(actions == [GRANT], "waits for a reader")
    });
}

#[test]
fn a_writer_waits_for_the_writer_that_became_a_reader() {
    let mut lock = lock(Rules::default(), &["jobs"], Claim::Writer);
    wait(&mut lock, &[("jobs/11-r1", 3), ("jobs/11-w1", 3)]);
    assert_eq!(deleted(&mut lock, &[("jobs/11-w1", 11)]), []);
    assert_eq!(deleted(&mut lock, &[("jobs/11-r1", 12)]), [GRANT]);
}

#[test]
fn a_mutex_of_any_client_is_a_writer() {
    for key in ["jobs/694d7a1c", "jobs/11-x1", "jobs/11-p1.2.1", "jobs/by hand"] {
        let mut lock = lock(Rules::default(), &["jobs"], Claim::Reader);
        assert_eq!(register(&mut lock, &[(key, 3)]), [Action::Watch(Watched::Queue)]);
    }
}

#[test]
fn behind_many_writers_a_reader_watches_the_nearest_and_reads_when_it_goes() {
    needs(Rule::Predecessor, |rules| {
        let mut lock = lock(rules, &["jobs"], Claim::Reader);
        lock.watched_max = 1;
        let older = [("jobs/11-w1", 3), ("jobs/12-w1", 4), ("jobs/13-r1", 5)];
        expect(
            wait(&mut lock, &older) == [predecessor("jobs/12-w1")],
            "watches a reader",
        )?;
        let actions = deleted(&mut lock, &[("jobs/12-w1", 11)]);
        expect(actions == [range(false)], "granted beside a writer")?;
        // That one had given up; an older one is still there, and few are watched one and all.
        let actions = read(&mut lock, 11, &[("jobs/11-w1", 3), ("jobs/13-r1", 5)]);
        expect(actions == [Action::Watch(Watched::Queue)], "it was a reader")
    });
}

#[test]
fn permits_are_granted_as_long_as_there_are_enough_with_the_own_ones() {
    needs(Rule::OwnPermits, |rules| {
        let older = [("jobs/11-p1.3.1", 3), ("jobs/12-p1.3.1", 4)];
        let mut one = lock(rules, &["jobs"], permits(1, 3));
        expect(register(&mut one, &older) == [GRANT], "there was one left")?;
        let mut two = lock(rules, &["jobs"], permits(2, 3));
        expect(wait(&mut two, &older) != [GRANT], "more than there are")?;
        expect(
            deleted(&mut two, &[("jobs/12-p1.3.1", 11)]) == [GRANT],
            "there are enough",
        )
    });
}

#[test]
fn one_who_wants_few_permits_does_not_overtake_one_who_wants_many() {
    let mut lock = lock(Rules::default(), &["jobs"], permits(1, 3));
    wait(&mut lock, &[("jobs/11-p1.3.1", 3), ("jobs/12-p3.3.1", 4)]);
    assert_eq!(deleted(&mut lock, &[("jobs/11-p1.3.1", 11)]), []);
    assert_eq!(deleted(&mut lock, &[("jobs/12-p3.3.1", 12)]), [GRANT]);
}

#[test]
fn permits_are_not_added_up_from_a_part_of_the_queue() {
    let mut lock = lock(Rules::default(), &["jobs"], permits(1, 2));
    lock.handle_acquire(NOW);
    drain(&mut lock);
    let queue = queue(&lock, &[("jobs/12-p1.2.1", 4)]);
    let answer = Registered {
        put: true,
        revision: Revision(CREATED),
        gate: Revision::ZERO,
        own: None,
        queue: &queue,
        more: true,
    };
    lock.handle_registered(NOW, &answer);
    let whole = Action::Range {
        upto: Revision(CREATED),
        whole: true,
        linearizable: true,
    };
    assert_eq!(drain(&mut lock), [whole]);
}

#[test]
fn a_try_for_permits_that_are_there_queues_beside_the_others() {
    let mut lock = lock(Rules::default(), &["jobs"], permits(1, 2));
    lock.handle_try_acquire(NOW);
    drain(&mut lock);
    let found = |queue: &[KeyValue], lock: &mut Lock| {
        let answer = Registered {
            put: false,
            revision: Revision(9),
            gate: Revision::ZERO,
            own: None,
            queue,
            more: false,
        };
        lock.handle_registered(NOW, &answer);
        drain(lock)
    };
    let one = [kv("jobs/12-p1.2.1", 4, LeaseId(1))];
    assert_eq!(
        found(&one, &mut lock),
        [Action::Register { gate: Revision::ZERO }]
    );
    let both = [one[0].clone(), kv("jobs/13-p1.2.1", 5, LeaseId(1))];
    assert_eq!(
        found(&both, &mut lock),
        [Action::Fail(Failure::Busy), Action::Freed]
    );
}

#[test]
fn several_names_are_granted_when_no_queue_has_anybody_older() {
    let names = ["jobs", "runs", "tasks"];
    let mut free = lock(Rules::default(), &names, Claim::Exclusive);
    assert_eq!(
        register(&mut free, &[("other/11", 3), ("jobs/nightly/1", 3)]),
        [GRANT]
    );
    let mut held = lock(Rules::default(), &names, Claim::Exclusive);
    let older = [("runs/11", 3), ("tasks/12", 4)];
    assert_eq!(wait(&mut held, &older), [predecessor("tasks/12")]);
    assert_eq!(deleted(&mut held, &[("tasks/12", 11)]), [range(false)]);
    assert_eq!(read(&mut held, 11, &[("runs/11", 3)]), [predecessor("runs/11")]);
    held.handle_watching(Revision(15));
    assert_eq!(
        drain(&mut held),
        [range(false)],
        "what went before the watch began"
    );
    assert_eq!(read(&mut held, 15, &[]), [GRANT]);
}

#[test]
fn several_names_are_not_granted_where_one_of_the_keys_is_gone() {
    needs(Rule::EveryKey, |rules| {
        let mut lock = lock(rules, &["jobs", "runs"], Claim::Exclusive);
        wait(&mut lock, &[("jobs/11", 3)]);
        deleted(&mut lock, &[("jobs/11", 11)]);
        let first = &queue(&lock, &[])[..1];
        lock.handle_ranged(NOW, Revision(11), first, false);
        let release = Action::Release {
            created: Revision(CREATED),
            close_gate: false,
        };
        let gives_up = drain(&mut lock) == [Action::Fail(Failure::KeyDeleted), release];
        expect(gives_up, "granted without a key")
    });
}

#[test]
fn several_keys_that_are_found_after_a_lost_answer_are_looked_at() {
    let mut lock = lock(Rules::default(), &["jobs", "runs"], Claim::Exclusive);
    lock.handle_acquire(NOW);
    drain(&mut lock);
    lock.handle_register_failed(NOW, true);
    drain(&mut lock);
    let own = queue(&lock, &[]);
    let answer = Registered {
        put: false,
        revision: Revision(CREATED + 2),
        gate: Revision::ZERO,
        own: Some(&own[0]),
        queue: &own,
        more: false,
    };
    lock.handle_registered(NOW, &answer);
    assert_eq!(drain(&mut lock), [range(true)]);
    assert_eq!(read(&mut lock, CREATED + 2, &[]), [GRANT]);
}

#[test]
fn an_attempt_begins_at_the_gate_that_others_have_seen() {
    let mut lock = lock(Rules::default(), &["jobs"], Claim::Reader);
    lock.handle_gate(Revision(7));
    lock.handle_gate(Revision(6));
    lock.handle_acquire(NOW);
    assert_eq!(drain(&mut lock), [Action::Register { gate: Revision(7) }]);
    lock.handle_release();
    assert_eq!(drain(&mut lock), [Action::Withdraw { gate: Revision(7) }]);
    lock.handle_withdrawn(Revision(12));
    assert_eq!(
        (drain(&mut lock), lock.gate()),
        (vec![Action::Freed], Revision(12))
    );
}

#[test]
fn a_place_of_one_attempt_has_a_key_in_each_queue_and_one_gate() {
    let place = Place::once(&["a", "a/b"], Claim::Exclusive, 3, LEASE, "gates/").unwrap();
    assert_eq!(place.keys().collect::<Vec<_>>(), ["a/77-x3", "a/b/77-x3"]);
    assert_eq!(place.prefixes().collect::<Vec<_>>(), ["a/", "a/b/"]);
    assert_eq!(place.gate, "gates/a#gate/77-3");
    let writer = Place::once(&["a"], Claim::Writer, 3, LEASE, "").unwrap();
    assert_eq!(writer.keys().collect::<Vec<_>>(), ["a/77-r3", "a/77-w3"]);
    assert_eq!(writer.writers_key().unwrap(), "a/77-w3");
    for names in [&[][..], &[""], &["a", ""], &["a", "b#gate"]] {
        assert!(Place::once(names, Claim::Exclusive, 3, LEASE, "").is_none());
    }
}

#[test]
fn a_register_of_several_keys_of_which_the_first_was_deleted_is_given_up() {
    let mut lock = lock(Rules::default(), &["jobs", "runs"], Claim::Exclusive);
    lock.handle_acquire(NOW);
    drain(&mut lock);
    lock.handle_register_failed(NOW, true);
    drain(&mut lock);
    let second = &queue(&lock, &[])[1..];
    let answer = Registered {
        put: false,
        revision: Revision(CREATED + 2),
        gate: Revision::ZERO,
        own: None,
        queue: second,
        more: false,
    };
    lock.handle_registered(NOW, &answer);
    let release = Action::Release {
        created: Revision::ZERO,
        close_gate: true,
    };
    assert_eq!(drain(&mut lock), [Action::Fail(Failure::KeyDeleted), release]);
}

#[test]
fn a_key_that_is_there_already_is_granted_once_nobody_older_is_left() {
    let place = Place::of_key("jobs", "jobs/by hand".into(), LEASE, "").unwrap();
    let mut lock = Lock::new(place, DEADLINE, 1);
    lock.handle_resume(NOW, Revision(CREATED));
    assert_eq!(drain(&mut lock), [range(true)]);
    assert_eq!(
        read(&mut lock, 12, &[("jobs/11", 3)]),
        [Action::Watch(Watched::Queue)]
    );
    lock.handle_watching(Revision(12));
    assert_eq!(deleted(&mut lock, &[("jobs/11", 13)]), [GRANT]);
    lock.handle_release();
    let release = Action::Release {
        created: Revision(CREATED),
        close_gate: false,
    };
    assert_eq!(drain(&mut lock), [release]);
}

#[test]
fn a_key_that_was_put_anew_is_not_gone_on_with() {
    let place = Place::of_key("jobs", "jobs/77".into(), LEASE, "").unwrap();
    let mut lock = Lock::new(place, DEADLINE, 1);
    lock.handle_resume(NOW, Revision(CREATED));
    drain(&mut lock);
    let anew = [kv("jobs/77", CREATED + 1, LEASE)];
    lock.handle_ranged(NOW, Revision(CREATED + 1), &anew, false);
    assert_eq!(
        drain(&mut lock),
        [Action::Fail(Failure::KeyDeleted), Action::Freed]
    );
    for key in ["jobs", "job/77", "jobs/nightly/77"] {
        assert!(Place::of_key("jobs", key.into(), LEASE, "").is_none(), "{key}");
    }
}
