//! The breaker step by step, what counts, and random inputs.

use std::time::Duration;

use super::*;
use crate::core::jitter::Jitter;
use crate::error::Delivery;

const RULES: Rules = Rules {
    failures: 3,
    pause: Duration::from_millis(1000),
    probe: Duration::from_millis(8000),
    silence: Duration::from_millis(300),
};

fn at(millis: u64) -> Instant {
    Instant(millis * 1_000_000)
}

fn breaker() -> Breaker {
    Breaker::new(RULES, 1)
}

/// A call at this time that ends at once.
fn call(breaker: &mut Breaker, millis: u64, sign: Sign) -> Option<Turn> {
    breaker.handle_call(at(millis));
    let turn = breaker.handle_sign(at(millis), at(millis), sign);
    breaker.check();
    turn
}

/// Open since this time.
fn opened(millis: u64) -> Breaker {
    let mut breaker = breaker();
    let turns: Vec<_> = (0..3).map(|_| call(&mut breaker, millis, Sign::Ill)).collect();
    assert_eq!(turns, [None, None, Some(Turn::Opened)]);
    breaker
}

/// When the next probe is due: the first millisecond.
fn due(breaker: &Breaker, from: u64) -> u64 {
    (from..from + 1_000_000)
        .find(|millis| breaker.is_due(at(*millis)))
        .expect("it is due at some time")
}

#[test]
fn opens_at_exactly_so_many_failures_in_a_row() {
    let mut breaker = breaker();
    for round in 0..5 {
        assert_eq!(call(&mut breaker, round, Sign::Ill), None);
        assert_eq!(call(&mut breaker, round, Sign::Nothing), None);
        assert_eq!(call(&mut breaker, round, Sign::Ill), None);
        assert_eq!(
            call(&mut breaker, round, Sign::Well),
            None,
            "and the count begins anew"
        );
        assert!(breaker.is_closed() && !breaker.is_due(at(round)));
    }
    assert_eq!(call(&mut breaker, 9, Sign::Ill), None);
    assert_eq!(call(&mut breaker, 9, Sign::Ill), None);
    assert_eq!(call(&mut breaker, 9, Sign::Ill), Some(Turn::Opened));
    assert!(!breaker.is_closed() && !breaker.is_due(at(9)));
}

#[test]
fn a_pause_is_between_half_and_the_whole_of_its_length_and_each_is_twice_as_long_up_to_a_bound() {
    let mut breaker = opened(0);
    let mut now = 0;
    for length in [1, 2, 4, 8, 16, 32, 32, 32].map(|times| 1000 * times) {
        let next = due(&breaker, now);
        let pause = next - now;
        assert!(
            (length / 2..=length).contains(&pause),
            "{pause} is not near {length}"
        );
        assert_eq!(call(&mut breaker, next, Sign::Ill), None, "it was open before");
        now = next;
    }
    let next = due(&breaker, now);
    assert_eq!(call(&mut breaker, next, Sign::Well), Some(Turn::Closed));
    for _ in 0..3 {
        call(&mut breaker, next + 1, Sign::Ill);
    }
    assert!(
        due(&breaker, next + 1) - next <= 1001,
        "and the first pause is short again"
    );
}

#[test]
fn one_probe_is_out_at_a_time_and_it_alone_decides() {
    for (sign, closes) in [(Sign::Well, true), (Sign::Ill, false)] {
        let mut breaker = opened(0);
        let probed = due(&breaker, 0);
        breaker.handle_call(at(probed));
        assert!(
            !breaker.is_due(at(probed)) && !breaker.is_due(at(probed + 7999)),
            "one is out"
        );
        for late in [Sign::Well, Sign::Ill, Sign::Nothing] {
            assert_eq!(
                breaker.handle_sign(at(probed + 1), at(0), late),
                None,
                "sent before it opened"
            );
        }
        assert!(!breaker.is_closed() && !breaker.is_due(at(probed + 1)));
        let turn = breaker.handle_sign(at(probed + 2), at(probed), sign);
        assert_eq!(
            (turn, breaker.is_closed()),
            (closes.then_some(Turn::Closed), closes)
        );
        breaker.check();
    }
}

#[test]
fn of_many_calls_in_flight_the_first_open_it_and_the_others_change_nothing() {
    let mut breaker = breaker();
    let turns: Vec<_> = (0..64).filter_map(|_| breaker.handle_sign(at(50), at(10), Sign::Ill)).collect();
    assert_eq!(turns, [Turn::Opened]);
    assert_eq!(
        breaker.handle_sign(at(51), at(10), Sign::Well),
        None,
        "it was sent before, too"
    );
    let next = due(&breaker, 50);
    assert!(next - 50 <= 1000, "one pause, not one for each");
    assert_eq!(call(&mut breaker, next, Sign::Well), Some(Turn::Closed));
    for _ in 0..64 {
        assert_eq!(breaker.handle_sign(at(next + 1), at(10), Sign::Ill), None);
    }
    assert!(breaker.is_closed());
}

#[test]
fn where_nobody_better_was_there_any_call_that_goes_well_closes_it() {
    let mut breaker = opened(0);
    assert_eq!(call(&mut breaker, 1, Sign::Ill), None);
    assert!(
        !breaker.is_due(at(1)),
        "a failure that was to be expected is no probe"
    );
    let before = due(&breaker, 1);
    assert!(before <= 1000, "nor does it make the pause longer");
    assert_eq!(call(&mut breaker, 2, Sign::Well), Some(Turn::Closed));
}

#[test]
fn a_probe_that_is_dropped_is_followed_by_another_and_one_that_is_silent_counts_as_failed() {
    let mut breaker = opened(0);
    let first = due(&breaker, 0);
    assert_eq!(call(&mut breaker, first, Sign::Nothing), None);
    assert!(breaker.is_due(at(first)));
    breaker.handle_call(at(first + 1));
    assert_eq!(
        breaker.handle_sign(at(first + 301), at(first + 1), Sign::Nothing),
        None
    );
    assert!(
        !breaker.is_due(at(first + 302)),
        "who waits so long before he drops it has learnt something"
    );
    let first = due(&breaker, first + 302);
    breaker.handle_call(at(first + 1));
    let second = due(&breaker, first + 1);
    assert!(
        second > first + 8000,
        "its time, and then the pause after a failure: {second}"
    );
    breaker.handle_call(at(second));
    assert_eq!(
        breaker.handle_sign(at(second), at(first + 1), Sign::Well),
        None,
        "that one was given up"
    );
    assert!(!breaker.is_closed());
}

#[test]
fn probes_that_are_dropped_do_not_make_the_pause_longer() {
    let mut breaker = opened(0);
    let probed = due(&breaker, 0);
    for _ in 0..6 {
        assert_eq!(call(&mut breaker, probed, Sign::Nothing), None);
    }
    call(&mut breaker, probed, Sign::Ill);
    let pause = due(&breaker, probed) - probed;
    assert!(pause <= 2000, "{pause} after the first probe that failed");
}

fn of(code: Code, origin: Origin) -> Sign {
    let failure = Failure {
        delivery: Delivery::Unknown,
        code,
        origin,
        etcd: None,
    };
    Sign::of(&failure, Duration::from_secs(8), Duration::from_millis(300))
}

fn said(etcd: EtcdError) -> Sign {
    let failure = Failure {
        delivery: Delivery::Unknown,
        // Some arrive with another code than the one that etcd documents.
        code: Code::Unknown,
        origin: Origin::Server,
        etcd: Some(etcd),
    };
    Sign::of(&failure, Duration::from_secs(8), Duration::from_millis(300))
}

#[test]
fn a_refusal_is_a_sign_of_health_and_what_a_member_cannot_do_is_none() {
    let codes: Vec<_> = (1..17).map(Code::from_number).collect();
    let ill =
        |origin| codes.iter().filter(|code| of(**code, origin) == Sign::Ill).copied().collect::<Vec<_>>();
    let well =
        |origin| codes.iter().filter(|code| of(**code, origin) == Sign::Well).copied().collect::<Vec<_>>();
    assert_eq!(
        ill(Origin::Server),
        [
            Code::DeadlineExceeded,
            Code::Internal,
            Code::Unavailable,
            Code::DataLoss
        ]
    );
    assert_eq!(
        well(Origin::Server),
        [
            Code::InvalidArgument,
            Code::NotFound,
            Code::AlreadyExists,
            Code::PermissionDenied,
            Code::FailedPrecondition,
            Code::OutOfRange,
            Code::Unimplemented,
            Code::Unauthenticated,
        ]
    );
    assert_eq!(
        ill(Origin::Library),
        [Code::DeadlineExceeded],
        "too large an answer says nothing"
    );
    assert_eq!(well(Origin::Transport), []);
    assert!(
        [Code::Unavailable, Code::Internal, Code::Unimplemented].map(|code| of(code, Origin::Transport))
            == [Sign::Ill; 3]
    );
}

#[test]
fn of_all_that_etcd_says_little_is_about_the_member() {
    let all = EtcdError::ALL.iter().copied();
    let ill: Vec<_> = all.clone().filter(|etcd| said(*etcd) == Sign::Ill).collect();
    let nothing: Vec<_> = all.filter(|etcd| said(*etcd) == Sign::Nothing).collect();
    assert_eq!(
        ill,
        [
            EtcdError::TooManyRequests,
            EtcdError::Stopped,
            EtcdError::Timeout,
            EtcdError::TimeoutConnectionLost,
            EtcdError::TimeoutWaitAppliedIndex,
            EtcdError::Corrupt,
            EtcdError::DeadlineExceeded,
        ]
    );
    assert_eq!(
        nothing,
        [
            EtcdError::NotSupportedForLearner,
            EtcdError::NoLeader,
            EtcdError::LeaderChanged,
            EtcdError::TimeoutLeaderFailure,
            EtcdError::Unhealthy,
            EtcdError::WatchCanceled,
            EtcdError::RequestCanceled,
        ]
    );
}

#[test]
fn a_caller_without_patience_says_nothing_of_the_member() {
    // The caller's clock, or that of a server which knows the deadline: it cancels the stream.
    for (code, origin) in [
        (Code::DeadlineExceeded, Origin::Library),
        (Code::Cancelled, Origin::Transport),
    ] {
        let failure = Failure {
            delivery: Delivery::Unknown,
            code,
            origin,
            etcd: None,
        };
        let after = |millis| {
            Sign::of(
                &failure,
                Duration::from_millis(millis),
                Duration::from_millis(300),
            )
        };
        assert_eq!((after(299), after(300)), (Sign::Nothing, Sign::Ill), "{code:?}");
    }
}

#[test]
fn what_else_goes_there_and_says_nothing_does_not_speak_for_the_probe() {
    for waited in [0, 301] {
        let mut breaker = opened(0);
        let probed = due(&breaker, 0);
        breaker.handle_call(at(probed));
        let turn = breaker.handle_sign(at(probed + 1 + waited), at(probed + 1), Sign::Nothing);
        assert_eq!(
            (turn, breaker.is_due(at(probed + 7999))),
            (None, false),
            "the probe is out"
        );
        let turn = breaker.handle_sign(at(probed + 400), at(probed), Sign::Well);
        assert_eq!(turn, Some(Turn::Closed));
    }
}

#[test]
fn whatever_happens_at_most_one_probe_is_due_and_failures_alone_open_it() {
    for seed in 0..200 {
        let mut chance = Jitter::new(seed);
        let mut breaker = Breaker::new(RULES, seed);
        let mut flight: Vec<Instant> = Vec::new();
        let mut now = at(0);
        for _ in 0..500 {
            now = now + Duration::from_millis(chance.next_u64() % 400);
            let was_closed = breaker.is_closed();
            if chance.next_u64() % 2 == 0 {
                breaker.handle_call(now);
                assert!(!breaker.is_due(now), "seed {seed}: two probes at a time");
                assert_eq!(breaker.is_closed(), was_closed, "seed {seed}");
                flight.push(now);
            } else if !flight.is_empty() {
                let index = usize::try_from(chance.next_u64()).unwrap_or(0) % flight.len();
                let begun = flight.swap_remove(index);
                let sign =
                    [Sign::Well, Sign::Ill, Sign::Ill, Sign::Nothing][(chance.next_u64() % 4) as usize];
                let turn = breaker.handle_sign(now, begun, sign);
                let expected = match (was_closed, breaker.is_closed()) {
                    (true, false) => Some((Turn::Opened, Sign::Ill)),
                    (false, true) => Some((Turn::Closed, Sign::Well)),
                    _ => None,
                };
                assert_eq!(turn, expected.map(|(turn, _)| turn), "seed {seed}");
                assert!(
                    expected.is_none_or(|(_, by)| by == sign),
                    "seed {seed}: {turn:?} by {sign:?}"
                );
            }
            breaker.check();
        }
    }
}
