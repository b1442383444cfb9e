//! Members that answer, but with failures.

use std::time::Duration;

use super::*;

const FAILING: Limits = Limits {
    breaker: Some(breaker::Rules {
        failures: 3,
        pause: Duration::from_millis(1000),
        probe: Duration::from_millis(8000),
        silence: Duration::from_millis(300),
    }),
    ..LIMITS
};

/// As [`super::pool`], with breakers.
fn pool(endpoints: usize) -> (Pool, Vec<ConnectionId>) {
    let mut pool = Pool::new(FAILING, 1);
    for _ in 0..endpoints {
        pool.handle_added(at(0));
    }
    let connections = dials(&mut pool);
    connections.iter().for_each(|id| pool.handle_connected(at(0), *id, 100));
    (pool, connections)
}

/// Where the next call goes; it ends so. Whoever is asked answers.
fn ends(pool: &mut Pool, millis: u64, sign: impl Fn(ConnectionId) -> Sign) -> ConnectionId {
    let (endpoint, picked) = pool.pick(at(millis), Want::call(Class::Bulk)).expect("somebody is there");
    pool.handle_answer(picked);
    pool.handle_sign(at(millis), endpoint, at(millis), sign(picked));
    pool.handle_closed(at(millis), picked);
    pool.check();
    picked
}

/// The first endpoint, and a call for it alone.
fn for_the_first(pool: &Pool) -> (EndpointId, Want) {
    let first = pool.members[0].id;
    let only = Want {
        only: Some(first),
        ..Want::call(Class::Bulk)
    };
    (first, only)
}

/// So many calls, of which those at this member fail: how many went there.
fn asked(pool: &mut Pool, millis: u64, failing: ConnectionId, calls: usize) -> usize {
    let sign = |id| if id == failing { Sign::Ill } else { Sign::Well };
    (0..calls).filter(|_| ends(pool, millis, sign) == failing).count()
}

#[test]
fn after_so_many_failures_calls_go_to_the_others_and_one_in_each_pause_finds_out() {
    let (mut pool, ids) = pool(3);
    assert_eq!(asked(&mut pool, 1, ids[1], 100), 3);
    assert_eq!(pool.open_breakers(), 1);
    assert_eq!(asked(&mut pool, 1001, ids[1], 100), 1, "the pause is over");
    assert_eq!(asked(&mut pool, 1002, ids[1], 100), 0);
    assert_eq!(
        asked(&mut pool, 3001, ids[1], 100),
        1,
        "and the next one, twice as long"
    );
    let mut round: Vec<_> = (0..9).map(|_| ends(&mut pool, 7001, |_| Sign::Well)).collect();
    round.sort_unstable();
    assert_eq!(pool.open_breakers(), 0);
    assert!(ids.iter().all(|id| round.contains(id)), "{round:?}");
}

#[test]
fn while_the_probe_is_out_no_other_call_goes_there() {
    let (mut pool, ids) = pool(2);
    asked(&mut pool, 1, ids[0], 100);
    let probe = (0..2).filter_map(|_| pick(&mut pool, 1001, Class::Bulk)).find(|id| *id == ids[0]);
    let probe = probe.expect("one of two goes there");
    assert!((0..20).all(|_| call(&mut pool, 1002) == Some(ids[1])));
    assert!(!pool.is_outranked(at(1002), ids[1], false) && pool.is_outranked(at(1002), probe, false));
    let failing = pool.members[0].id;
    pool.handle_sign(at(1003), failing, at(1001), Sign::Well);
    assert!((0..2).any(|_| call(&mut pool, 1004) == Some(ids[0])));
}

#[test]
fn where_all_fail_calls_go_round_over_all_of_them_and_the_first_that_goes_well_is_preferred() {
    let (mut pool, ids) = pool(2);
    for _ in 0..20 {
        ends(&mut pool, 1, |_| Sign::Ill);
    }
    assert_eq!(pool.open_breakers(), 2);
    let round: Vec<_> = (0..4).map(|_| ends(&mut pool, 2, |_| Sign::Ill)).collect();
    assert_eq!(round.iter().filter(|id| **id == ids[0]).count(), 2, "{round:?}");
    let well = ends(&mut pool, 3, |_| Sign::Well);
    assert_eq!(pool.open_breakers(), 1);
    assert!((0..4).all(|_| ends(&mut pool, 4, |_| Sign::Well) == well));
}

#[test]
fn one_endpoint_alone_is_asked_whatever_it_answers() {
    let (mut pool, ids) = pool(1);
    assert_eq!(asked(&mut pool, 1, ids[0], 50), 50);
    assert!(!pool.is_outranked(at(2), ids[0], false));
    ends(&mut pool, 2, |_| Sign::Well);
    assert_eq!(pool.open_breakers(), 0);
}

#[test]
fn a_member_that_owes_a_ping_comes_after_one_that_fails() {
    let (mut pool, ids) = pool(2);
    asked(&mut pool, 1, ids[0], 20);
    pool.handle_mute(ids[1], true);
    assert!((0..4).all(|_| call(&mut pool, 2) == Some(ids[0])));
}

#[test]
fn beside_a_member_that_is_silent_one_that_failed_is_asked_too_and_is_preferred_once_it_is_well() {
    let (mut pool, ids) = pool(2);
    asked(&mut pool, 1, ids[0], 20);
    pool.handle_suspect(at(2), ids[1]);
    let round: Vec<_> = (0..2).filter_map(|_| call(&mut pool, 3)).collect();
    assert!(ids.iter().all(|id| round.contains(id)), "{round:?}");
    let failing = pool.members[0].id;
    pool.handle_sign(at(4), failing, at(3), Sign::Well);
    assert!((0..4).all(|_| call(&mut pool, 5) == Some(ids[0])));
}

#[test]
fn what_is_for_one_endpoint_goes_there_and_a_stream_is_no_probe() {
    let (mut pool, ids) = pool(2);
    asked(&mut pool, 1, ids[0], 20);
    let (failing, only) = for_the_first(&pool);
    assert_eq!(pool.pick(at(2), only), Some((failing, ids[0])));
    assert_eq!(
        pool.pick(at(1001), only),
        Some((failing, ids[0])),
        "which is no probe either"
    );
    for _ in 0..4 {
        assert_eq!(pool.pick(at(1001), STREAM).map(|(_, id)| id), Some(ids[1]));
    }
    assert_eq!(asked(&mut pool, 1001, ids[0], 20), 1, "that is for a call");
}

#[test]
fn who_waits_for_somebody_else_is_no_probe_and_goes_there_where_nobody_better_is() {
    let (mut pool, ids) = pool(2);
    asked(&mut pool, 1, ids[0], 20);
    let waits = Want {
        waits: true,
        ..Want::call(Class::Control)
    };
    for _ in 0..4 {
        assert_eq!(pool.pick(at(1001), waits).map(|(_, id)| id), Some(ids[1]));
    }
    pool.handle_lost(at(1002), ids[1]);
    for want in [waits, STREAM] {
        assert_eq!(
            pool.pick(at(1003), want).map(|(_, id)| id),
            Some(ids[0]),
            "{want:?}"
        );
    }
    let breaker = pool.members[0].breaker.as_ref().expect("it has one");
    assert!(breaker.is_due(at(1004)), "and the probe is still to come");
}

#[test]
fn an_endpoint_that_was_removed_is_no_open_breaker_while_its_calls_end() {
    let (mut pool, ids) = pool(2);
    asked(&mut pool, 1, ids[0], 20);
    let (failing, only) = for_the_first(&pool);
    pool.pick(at(2), only).expect("it is under way");
    pool.handle_removed(at(3), failing);
    assert_eq!((pool.members.len(), pool.open_breakers()), (2, 0));
}
