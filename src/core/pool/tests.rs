//! The pool step by step.

mod failing;

use super::member::IDLE_MAX;
use super::*;

const LIMITS: Limits = Limits {
    connections_max: 2,
    streams_full: 4,
    breaker: None,
};

fn at(millis: u64) -> Instant {
    Instant(millis * 1_000_000)
}

fn actions(pool: &mut Pool) -> Vec<Action> {
    pool.check();
    std::iter::from_fn(|| pool.poll_action()).collect()
}

/// The connections that are to be dialled.
fn dials(pool: &mut Pool) -> Vec<ConnectionId> {
    let dialled = |action| match action {
        Action::Dial(_, connection) => Some(connection),
        _ => None,
    };
    actions(pool).into_iter().filter_map(dialled).collect()
}

/// A pool with this many endpoints, each connected, at 0 ms.
fn pool(endpoints: usize) -> (Pool, Vec<ConnectionId>) {
    let mut pool = Pool::new(LIMITS, 1);
    for _ in 0..endpoints {
        pool.handle_added(at(0));
    }
    let connections = dials(&mut pool);
    connections.iter().for_each(|id| pool.handle_connected(at(0), *id, 100));
    (pool, connections)
}

fn pick(pool: &mut Pool, millis: u64, class: Class) -> Option<ConnectionId> {
    pool.pick(at(millis), Want::call(class)).map(|(_, connection)| connection)
}

/// Where the next call goes, and it is over.
fn call(pool: &mut Pool, millis: u64) -> Option<ConnectionId> {
    let picked = pick(pool, millis, Class::Bulk)?;
    pool.handle_closed(at(millis), picked);
    Some(picked)
}

#[test]
fn calls_go_round_over_the_endpoints_that_are_up() {
    let (mut pool, ids) = pool(3);
    let round: Vec<_> = (0..6).filter_map(|_| call(&mut pool, 1)).collect();
    assert_eq!(round, [ids[0], ids[1], ids[2], ids[0], ids[1], ids[2]]);
    pool.handle_lost(at(2), ids[1]);
    let round: Vec<_> = (0..4).filter_map(|_| call(&mut pool, 2)).collect();
    assert!(!round.contains(&ids[1]), "{round:?}");
    assert_eq!(round.iter().filter(|id| **id == ids[0]).count(), 2);
}

#[test]
fn an_endpoint_that_said_no_hello_is_asked_nothing() {
    let mut pool = Pool::new(LIMITS, 1);
    pool.handle_added(at(0));
    let dialled = dials(&mut pool);
    assert_eq!(dialled.len(), 1);
    assert_eq!(call(&mut pool, 1), None);
    assert_eq!(dials(&mut pool), [], "one dial at a time");
    pool.handle_connected(at(2), dialled[0], 100);
    assert_eq!(call(&mut pool, 2), Some(dialled[0]));
}

#[test]
fn a_suspect_is_asked_last_until_it_answers() {
    let (mut pool, ids) = pool(2);
    let held = pick(&mut pool, 0, Class::Bulk).unwrap();
    pool.handle_suspect(at(300), held);
    assert!(pool.is_outranked(at(300), held, false));
    assert!((0..10).all(|_| call(&mut pool, 301) == Some(ids[1])));
    pool.handle_suspect(at(302), ids[1]);
    assert!(
        call(&mut pool, 303).is_some(),
        "all are suspect, and somebody has to do it"
    );
    pool.handle_answer(held);
    assert!((0..10).all(|_| call(&mut pool, 304) == Some(held)));
}

#[test]
fn of_a_suspect_whose_time_is_over_one_call_finds_out() {
    let (mut pool, ids) = pool(2);
    pool.handle_suspect(at(0), ids[0]);
    let later = 1001;
    let asked: Vec<_> = (0..10).filter_map(|_| call(&mut pool, later)).collect();
    assert_eq!(asked.iter().filter(|id| **id == ids[0]).count(), 1, "{asked:?}");
    pool.handle_answer(ids[0]);
    assert!((0..2).any(|_| call(&mut pool, later) == Some(ids[0])));
}

#[test]
fn a_suspect_whose_time_is_over_is_outranked_for_those_who_wait_there_in_silence() {
    let (mut pool, ids) = pool(2);
    pool.handle_suspect(at(0), ids[0]);
    let later = at(1001);
    assert!(!pool.is_outranked(later, ids[0], false) && pool.is_outranked(later, ids[0], true));
    // Whoever owes the answer to a ping is worse.
    pool.handle_mute(ids[1], true);
    assert!(!pool.is_outranked(later, ids[0], true));
}

#[test]
fn who_owes_the_answer_to_a_ping_comes_after_all_others() {
    let (mut pool, ids) = pool(2);
    pool.handle_suspect(at(0), ids[1]);
    pool.handle_mute(ids[0], true);
    assert!((0..4).all(|_| call(&mut pool, 1) == Some(ids[1])));
    pool.handle_mute(ids[0], false);
    assert!((0..4).all(|_| call(&mut pool, 1) == Some(ids[0])));
}

#[test]
fn a_call_for_one_endpoint_goes_to_no_other() {
    let (mut pool, ids) = pool(2);
    let (first, _) = pool.pick(at(0), Want::call(Class::Bulk)).unwrap();
    let want = Want {
        only: Some(first),
        ..Want::call(Class::Bulk)
    };
    for _ in 0..4 {
        assert_eq!(pool.pick(at(0), want), Some((first, ids[0])));
    }
    pool.handle_lost(at(1), ids[0]);
    while pool.poll_action().is_some() {}
    assert_eq!(pool.pick(at(1), want), None, "the other one is up");
    assert_eq!(dials(&mut pool), [], "and is not dialled for it");
}

#[test]
fn an_endpoint_to_avoid_is_taken_only_where_there_is_no_other() {
    let (mut pool, ids) = pool(2);
    let (first, _) = pool.pick(at(0), Want::call(Class::Bulk)).unwrap();
    let want = Want {
        avoid: Some(first),
        ..Want::call(Class::Bulk)
    };
    pool.pick(at(0), want).unwrap();
    assert_eq!(pool.pick(at(0), want).unwrap().1, ids[1], "twice in a row");
    pool.handle_lost(at(1), ids[1]);
    assert_eq!(pool.pick(at(1), want).unwrap().0, first);
}

#[test]
fn no_call_goes_above_the_peers_limit_and_another_connection_is_dialled() {
    let (mut pool, ids) = pool(1);
    pool.handle_streams_max(ids[0], 2);
    assert_eq!(pick(&mut pool, 0, Class::Bulk), Some(ids[0]));
    assert_eq!(pick(&mut pool, 0, Class::Bulk), Some(ids[0]));
    assert_eq!(pick(&mut pool, 0, Class::Bulk), None);
    assert_eq!(pool.has_room(ids[0]), Some(false));
    let second = dials(&mut pool);
    assert_eq!(second.len(), 1);
    pool.handle_connected(at(1), second[0], 2);
    assert_eq!(pick(&mut pool, 1, Class::Bulk), Some(second[0]));
    assert_eq!(pick(&mut pool, 1, Class::Bulk), Some(second[0]));
    assert_eq!(pick(&mut pool, 1, Class::Bulk), None);
    assert_eq!(dials(&mut pool), [], "two is the bound");
    pool.handle_closed(at(2), ids[0]);
    assert_eq!(pick(&mut pool, 2, Class::Bulk), Some(ids[0]));
}

#[test]
fn streams_that_fill_a_connection_bring_another_which_retires_when_it_is_idle() {
    let (mut pool, ids) = pool(1);
    let picked: Vec<_> = (0..4).filter_map(|_| pick(&mut pool, 0, Class::Bulk)).collect();
    assert_eq!(picked, [ids[0]; 4]);
    let second = dials(&mut pool);
    assert_eq!(second.len(), 1);
    pool.handle_connected(at(5), second[0], 100);
    assert_eq!(pick(&mut pool, 5, Class::Bulk), Some(second[0]));
    for id in [ids[0], ids[0], ids[0], ids[0], second[0]] {
        pool.handle_closed(at(10), id);
    }
    let idle = pool.poll_timeout().unwrap();
    assert_eq!(idle, at(10) + IDLE_MAX);
    pool.handle_timeout(idle);
    let retired = actions(&mut pool);
    assert!(matches!(retired[..], [Action::Retire(_)]), "{retired:?}");
    let end = pool.poll_timeout().unwrap();
    pool.handle_timeout(end);
    let closed = actions(&mut pool);
    assert!(
        matches!(closed[..], [Action::Close(_)]),
        "somebody holds its route: {closed:?}"
    );
    assert!(pool.poll_timeout().is_none(), "the last one stays");
    assert!(call(&mut pool, 70_100).is_some());
}

#[test]
fn control_and_bulk_share_a_connection_until_they_meet_on_it() {
    let (mut pool, ids) = pool(1);
    let want = Want {
        stream: true,
        ..Want::call(Class::Control)
    };
    assert_eq!(pool.pick(at(0), want).map(|(_, id)| id), Some(ids[0]));
    assert_eq!(pick(&mut pool, 0, Class::Control), Some(ids[0]));
    assert_eq!(dials(&mut pool), [], "there is no bulk");
    assert_eq!(
        pick(&mut pool, 1, Class::Bulk),
        Some(ids[0]),
        "the other is not up yet"
    );
    let bulk = dials(&mut pool);
    assert_eq!(bulk.len(), 1);
    pool.handle_connected(at(2), bulk[0], 100);
    assert_eq!(pick(&mut pool, 3, Class::Bulk), Some(bulk[0]));
    assert_eq!(pick(&mut pool, 3, Class::Control), Some(ids[0]));
}

#[test]
fn a_stream_waits_for_a_connection_apart_from_bulk_but_not_for_long() {
    let (mut pool, ids) = pool(1);
    let want = Want {
        stream: true,
        ..Want::call(Class::Control)
    };
    assert_eq!(pick(&mut pool, 0, Class::Bulk), Some(ids[0]));
    assert_eq!(pool.pick(at(0), want), None);
    assert_eq!(dials(&mut pool).len(), 1);
    assert_eq!(
        pick(&mut pool, 0, Class::Control),
        Some(ids[0]),
        "a call does not wait"
    );
    let timeout = pool.poll_timeout().unwrap();
    pool.handle_timeout(timeout);
    assert_eq!(pool.pick(timeout, want).map(|(_, id)| id), Some(ids[0]));
}

#[test]
fn a_goaway_drains_and_another_connection_is_dialled_at_once() {
    let (mut pool, ids) = pool(1);
    let held = pick(&mut pool, 0, Class::Bulk).unwrap();
    pool.handle_answer(held);
    pool.handle_goaway(at(1), held);
    let done = actions(&mut pool);
    assert!(
        matches!(done[..], [Action::Retire(id), Action::Dial(..)] if id == ids[0]),
        "{done:?}"
    );
    assert_eq!(pick(&mut pool, 1, Class::Bulk), None);
    pool.handle_lost(at(2), held);
    assert_eq!(dials(&mut pool), [], "one is being dialled");
}

const STREAM: Want = Want {
    class: Class::Control,
    stream: true,
    waits: true,
    avoid: None,
    only: None,
};

#[test]
fn streams_on_a_connection_that_drains_have_a_moment_and_calls_their_time() {
    let (mut pool, ids) = pool(1);
    pool.pick(at(0), STREAM).unwrap();
    let held = pick(&mut pool, 0, Class::Control).unwrap();
    pool.handle_answer(held);
    pool.handle_goaway(at(1), held);
    let second = dials(&mut pool);
    pool.handle_connected(at(2), second[0], 100);
    let by = pool.poll_timeout().unwrap();
    assert_eq!(by, at(1) + STREAMS_DRAIN_MAX);
    pool.handle_timeout(by);
    assert_eq!(actions(&mut pool), [], "a call is out");
    assert_eq!(pool.poll_timeout(), None, "the end of the call says so itself");
    pool.handle_closed(at(9000), held);
    assert_eq!(actions(&mut pool), [Action::Close(ids[0])]);
    assert!(call(&mut pool, 9001).is_some());
}

#[test]
fn a_connection_that_drains_with_nothing_but_streams_is_closed_in_a_moment() {
    let (mut pool, ids) = pool(1);
    pool.pick(at(0), STREAM).unwrap();
    pool.pick(at(0), STREAM).unwrap();
    pool.handle_stream_closed(at(0), ids[0]);
    pool.handle_answer(ids[0]);
    pool.handle_goaway(at(1), ids[0]);
    let second = dials(&mut pool);
    pool.handle_connected(at(2), second[0], 100);
    pool.handle_timeout(at(1) + STREAMS_DRAIN_MAX);
    assert_eq!(actions(&mut pool), [Action::Close(ids[0])]);
    assert_eq!(pool.poll_timeout(), None);
}

#[test]
fn of_too_many_connections_that_drain_the_first_is_closed() {
    let (mut pool, mut ids) = pool(1);
    for turn in 0..=DRAINING_MAX {
        let held = pick(&mut pool, 1, Class::Bulk).unwrap();
        assert_eq!(held, ids[turn]);
        pool.handle_answer(held);
        pool.handle_goaway(at(1), held);
        let closed: Vec<_> =
            pool.actions.iter().filter(|action| matches!(action, Action::Close(_))).collect();
        assert_eq!(
            closed.first(),
            (turn == DRAINING_MAX).then_some(&&Action::Close(ids[0]))
        );
        ids.extend(dials(&mut pool));
        pool.handle_connected(at(1), ids[turn + 1], 100);
    }
}

#[test]
fn dials_that_fail_and_connections_that_come_to_nothing_back_off() {
    let mut pool = Pool::new(LIMITS, 1);
    pool.handle_added(at(0));
    let mut now = at(0);
    let mut waits = Vec::new();
    for turn in 0..12 {
        let dialled = dials(&mut pool);
        assert_eq!(dialled.len(), 1);
        match turn % 3 {
            0 => pool.handle_connected(now, dialled[0], 100),
            1 => {
                pool.handle_connected(now, dialled[0], 100);
                pool.handle_goaway(now, dialled[0]);
                assert_eq!(actions(&mut pool), [Action::Retire(dialled[0])]);
            }
            _ => {}
        }
        pool.handle_lost(now, dialled[0]);
        let next = pool.poll_timeout().unwrap();
        waits.push(next.saturating_since(now));
        now = next;
        pool.handle_timeout(now);
    }
    assert!(
        waits[0] < DIAL_WAIT_FIRST && waits[11] >= DIAL_WAIT_MAX / 2,
        "{waits:?}"
    );
    // One that answered anything was good.
    let dialled = dials(&mut pool);
    pool.handle_connected(now, dialled[0], 100);
    pool.handle_answer(dialled[0]);
    pool.handle_lost(now, dialled[0]);
    assert!(pool.poll_timeout().unwrap() < now + DIAL_WAIT_FIRST);
}

#[test]
fn an_endpoint_that_is_removed_finishes_what_is_open_and_is_asked_no_more() {
    let (mut pool, ids) = pool(2);
    let (first, held) = pool.pick(at(0), Want::call(Class::Bulk)).unwrap();
    pool.handle_removed(at(1), first);
    assert_eq!(actions(&mut pool), [Action::Retire(held)]);
    assert!((0..4).all(|_| call(&mut pool, 2) == Some(ids[1])));
    pool.handle_timeout(at(1) + STREAMS_DRAIN_MAX);
    assert_eq!(actions(&mut pool), [], "a call is out");
    let end = pool.poll_timeout().unwrap();
    assert_eq!(end, at(1) + DRAIN_MAX);
    pool.handle_timeout(end);
    assert_eq!(actions(&mut pool), [Action::Close(held)]);
    assert_eq!(pool.poll_timeout(), None);
}

#[test]
fn news_of_connections_that_are_gone_change_nothing() {
    let (mut pool, ids) = pool(1);
    pool.handle_lost(at(0), ids[0]);
    let before = format!("{pool:?}");
    pool.handle_lost(at(1), ids[0]);
    pool.handle_answer(ids[0]);
    pool.handle_suspect(at(1), ids[0]);
    pool.handle_goaway(at(1), ids[0]);
    pool.handle_closed(at(1), ids[0]);
    pool.handle_connected(at(1), ids[0], 7);
    assert_eq!(format!("{pool:?}"), before);
    assert_eq!(pool.has_room(ids[0]), None);
}
