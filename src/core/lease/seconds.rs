//! When a second stream is opened beside the first, what either is for, and what
//! the leases are told that no stream was to be had for.

use super::tests::{A, B, MARGIN, TTL, at, drain, keeping, renewing_a, time_out};
use super::*;

/// With A out for a third of its TTL on stream 0, and sent on stream 1, too.
fn renewing_a_twice() -> (Leases, Instant) {
    let (mut leases, first) = renewing_a(TTL);
    let more = vec![Action::Open(1), Action::Renew(0, A)];
    assert_eq!(time_out(&mut leases), (first + TTL / 3, more));
    leases.handle_opened(first + TTL / 3, 1);
    assert_eq!(drain(&mut leases), [Action::Renew(1, A)]);
    leases.handle_sent(first + TTL / 3, 0);
    leases.handle_sent(first + TTL / 3, 1);
    (leases, first)
}

#[test]
fn a_reply_that_is_out_for_a_third_of_the_ttl_has_a_second_stream_opened() {
    let (mut leases, first) = renewing_a_twice();
    let second = first + TTL / 3;
    leases.handle_reply(second, 1, A, 60);
    assert_eq!(drain(&mut leases), [Action::Extend(A, second + TTL - MARGIN)]);
}

#[test]
fn a_late_reply_on_the_first_stream_counts_from_when_it_was_sent() {
    let (mut leases, first) = renewing_a_twice();
    leases.handle_reply(first + TTL / 2, 0, A, 60);
    assert_eq!(drain(&mut leases), [Action::Extend(A, first + TTL - MARGIN)]);
    leases.handle_reply(first + TTL / 2, 1, A, 60);
    let proven = first + TTL / 3 + TTL - MARGIN;
    assert_eq!(drain(&mut leases), [Action::Extend(A, proven)]);
}

#[test]
fn an_older_reply_takes_nothing_back() {
    let (mut leases, first) = renewing_a_twice();
    let second = first + TTL / 3;
    leases.handle_reply(second, 1, A, 60);
    leases.handle_reply(second, 0, A, 60);
    let proven = Action::Extend(A, second + TTL - MARGIN);
    assert_eq!(drain(&mut leases), [proven, proven]);
}

#[test]
fn a_second_stream_serves_alone_once_the_first_is_idle() {
    let (mut leases, first) = renewing_a_twice();
    let now = first + TTL / 3;
    leases.handle_reply(now, 0, A, 60);
    leases.handle_reply(now, 0, A, 60);
    leases.handle_reply(now, 1, A, 60);
    drain(&mut leases);
    let (due, actions) = time_out(&mut leases);
    assert_eq!(actions, [Action::Renew(1, A)]);
    leases.handle_sent(due, 1);
    leases.handle_reply(due, 1, A, 60);
    drain(&mut leases);
    assert_eq!(time_out(&mut leases), (now + TTL / 3, vec![Action::Close(0)]));
}

#[test]
fn a_stream_that_stays_silent_beside_another_is_given_up_after_a_ttl() {
    let (mut leases, first) = renewing_a_twice();
    let mut now = first + TTL / 3;
    loop {
        leases.handle_reply(now, 1, A, 60);
        drain(&mut leases);
        let (later, actions) = time_out(&mut leases);
        now = later;
        if actions.contains(&Action::Renew(1, A)) {
            leases.handle_sent(now, 1);
        }
        if actions.contains(&Action::Close(0)) {
            break;
        }
    }
    assert_eq!(now, first + TTL);
}

#[test]
fn a_second_stream_that_is_silent_too_takes_the_place_of_the_first() {
    let (mut leases, first) = renewing_a_twice();
    let now = first + TTL / 3;
    // Proven again, so that the lease lives on while nobody answers.
    leases.handle_kept(now, A, now, TTL);
    drain(&mut leases);
    leases.handle_timeout(now + TTL / 3);
    assert_eq!(drain(&mut leases)[0], Action::Close(0));
    let (_, actions) = time_out(&mut leases);
    assert_eq!(actions, [Action::Open(0)]);
}

#[test]
fn a_lease_that_is_due_while_the_stream_is_silent_waits_for_none_to_answer() {
    let mut leases = keeping(&[A], TTL * 10);
    leases.handle_kept(at(0), B, at(0), TTL);
    drain(&mut leases);
    leases.handle_timeout(at(20_000));
    leases.handle_opened(at(20_000), 0);
    assert_eq!(drain(&mut leases), [Action::Open(0), Action::Renew(0, B)]);
    leases.handle_sent(at(20_000), 0);
    // A is due for the first time, when B has been out for a third of its TTL.
    leases.handle_kept(at(40_000), A, at(0), TTL * 2);
    let extended = Action::Extend(A, valid_until(at(0), TTL * 2));
    assert_eq!(
        drain(&mut leases),
        [extended, Action::Open(1), Action::Renew(0, B)]
    );
    leases.handle_opened(at(40_000), 1);
    assert_eq!(drain(&mut leases), [Action::Renew(1, B)]);
    leases.handle_sent(at(40_000), 1);
    assert_eq!(drain(&mut leases), [Action::Renew(1, A)]);
}

#[test]
fn what_starved_goes_to_a_stream_that_answers_again() {
    let mut leases = keeping(&[A, B], TTL);
    leases.handle_timeout(at(20_000));
    leases.handle_opened(at(20_000), 0);
    let actions = drain(&mut leases);
    leases.handle_sent(at(20_000), 0);
    let [Action::Open(0), Action::Renew(0, first)] = actions[..] else {
        panic!("{actions:?}");
    };
    drain(&mut leases);
    leases.handle_sent(at(20_000), 0);
    leases.handle_timeout(at(40_000));
    let more = drain(&mut leases);
    assert_eq!(more[0], Action::Open(1));
    leases.handle_closed(at(40_000), 1, None);
    // The stream has no room for it yet.
    let third = LeaseId(3);
    leases.handle_kept(at(40_000), third, at(20_000), TTL / 2);
    drain(&mut leases);
    assert!(leases.starved.key(2).is_some());
    leases.handle_reply(at(40_001), 0, first, 60);
    drain(&mut leases);
    assert!(leases.starved.key(2).is_none());
    leases.handle_sent(at(40_001), 0);
    assert_eq!(drain(&mut leases), [Action::Renew(0, third)]);
}

#[test]
fn an_end_tells_why_no_stream_was_to_be_had() {
    let denied = Some(Code::PermissionDenied);
    for (refusals, end) in [
        (vec![denied], LeaseEnd::Refused(Code::PermissionDenied)),
        (
            vec![None, denied, Some(Code::Unauthenticated)],
            LeaseEnd::Refused(Code::Unauthenticated),
        ),
        (vec![denied, None], LeaseEnd::Expired),
    ] {
        let (mut leases, mut now) = renewing_a(TTL);
        for refusal in refusals {
            leases.handle_closed(now, 0, refusal);
            drain(&mut leases);
            (now, _) = time_out(&mut leases);
        }
        leases.handle_timeout(at(58_940));
        assert_eq!(drain(&mut leases)[0], Action::End(A, end));
    }
}

#[test]
fn a_reply_forgets_a_refusal() {
    let (mut leases, now) = renewing_a(TTL);
    leases.handle_closed(now, 0, Some(Code::PermissionDenied));
    drain(&mut leases);
    let (now, _) = time_out(&mut leases);
    assert_eq!(leases.refusal(), Some(Code::PermissionDenied));
    leases.handle_opened(now, 0);
    drain(&mut leases);
    leases.handle_sent(now, 0);
    leases.handle_reply(now, 0, A, 60);
    assert_eq!(leases.refusal(), None);
    leases.handle_timeout(now + TTL - MARGIN);
    assert!(drain(&mut leases).contains(&Action::End(A, LeaseEnd::Expired)));
}
