//! Scripted inputs to the machine, and what it asks for.

use super::*;

pub(super) const A: LeaseId = LeaseId(0xa);
pub(super) const B: LeaseId = LeaseId(0xb);
pub(super) const TTL: Duration = Duration::from_secs(60);
pub(super) const MARGIN: Duration = Duration::from_millis(1060);

pub(super) fn at(millis: u64) -> Instant {
    Instant(0) + Duration::from_millis(millis)
}

pub(super) fn drain(leases: &mut Leases) -> Vec<Action> {
    leases.check();
    let mut actions = Vec::new();
    while let Some(action) = leases.poll_action() {
        leases.check();
        actions.push(action);
    }
    actions
}

/// Keeps each lease as granted at time 0.
pub(super) fn keeping(ids: &[LeaseId], ttl: Duration) -> Leases {
    let mut leases = Leases::new(1);
    for &id in ids {
        leases.handle_kept(at(0), id, at(0), ttl);
        let deadline = valid_until(at(0), ttl);
        assert_eq!(drain(&mut leases), [Action::Extend(id, deadline)]);
    }
    leases
}

/// Comes back when the machine wants to; the time and what it asks for then.
pub(super) fn time_out(leases: &mut Leases) -> (Instant, Vec<Action>) {
    let now = leases.poll_timeout().expect("the machine waits for nothing");
    leases.handle_timeout(now);
    (now, drain(leases))
}

/// With the first renewal of A out, at the time it was sent.
pub(super) fn renewing_a(ttl: Duration) -> (Leases, Instant) {
    let mut leases = keeping(&[A], ttl);
    let (now, actions) = time_out(&mut leases);
    assert_eq!(actions, [Action::Open(0)]);
    leases.handle_opened(now, 0);
    assert_eq!(drain(&mut leases), [Action::Renew(0, A)]);
    leases.handle_sent(now, 0);
    assert_eq!(drain(&mut leases), []);
    (leases, now)
}

#[test]
fn renews_a_little_before_a_third_of_the_ttl() {
    let (_, sent) = renewing_a(TTL);
    assert!(sent > at(15_000) && sent <= at(20_000), "renewed at {sent:?}");
}

#[test]
fn opens_no_stream_before_a_renewal_is_due_and_closes_it_with_the_last_lease() {
    let (mut leases, sent) = renewing_a(TTL);
    leases.handle_given_up(sent, A, LeaseEnd::Closed);
    assert_eq!(
        drain(&mut leases),
        [Action::End(A, LeaseEnd::Closed), Action::Close(0)]
    );
    assert!(leases.is_empty());
    assert_eq!(leases.poll_timeout(), None);
}

#[test]
fn a_reply_counts_from_when_its_request_was_sent() {
    let (mut leases, sent) = renewing_a(TTL);
    leases.handle_reply(sent + Duration::from_secs(10), 0, A, 60);
    assert_eq!(drain(&mut leases), [Action::Extend(A, sent + TTL - MARGIN)]);
}

#[test]
fn the_ttl_that_the_server_returns_is_the_one_that_counts() {
    let (mut leases, sent) = renewing_a(TTL);
    leases.handle_reply(sent, 0, A, 30);
    assert_eq!(
        drain(&mut leases),
        [Action::Extend(A, valid_until(sent, TTL / 2))]
    );
    let due = leases.poll_timeout().unwrap();
    assert!(due > sent && due <= sent + Duration::from_secs(10));
}

#[test]
fn ends_at_the_deadline_without_the_network() {
    let (mut leases, sent) = renewing_a(TTL);
    leases.handle_closed(sent, 0, None);
    leases.handle_timeout(at(58_939));
    assert_eq!(drain(&mut leases), [Action::Open(0)]);
    assert_eq!(
        time_out(&mut leases),
        (
            at(58_940),
            vec![Action::End(A, LeaseEnd::Expired), Action::Close(0)]
        )
    );
}

#[test]
fn a_reply_after_the_deadline_revives_nothing() {
    let (mut leases, _) = renewing_a(TTL);
    leases.handle_kept(at(30_000), B, at(30_000), TTL * 10);
    drain(&mut leases);
    leases.handle_reply(at(58_940), 0, A, 60);
    assert_eq!(drain(&mut leases), [Action::End(A, LeaseEnd::Expired)]);
    assert!(!leases.is_empty());
}

#[test]
fn a_grant_that_took_its_whole_ttl_ends_at_once() {
    let mut leases = Leases::new(1);
    leases.handle_kept(at(58_940), A, at(0), TTL);
    assert_eq!(drain(&mut leases), [Action::End(A, LeaseEnd::Expired)]);
    assert!(leases.is_empty());
}

#[test]
fn a_ttl_of_zero_says_that_the_lease_is_gone() {
    for ttl in [0, -1, i64::MIN] {
        let (mut leases, sent) = renewing_a(TTL);
        leases.handle_reply(sent, 0, A, ttl);
        let gone = Action::End(A, LeaseEnd::UnknownToServer);
        assert_eq!(drain(&mut leases), [gone, Action::Close(0)]);
    }
}

#[test]
fn the_reserve_of_a_lease_counts_in_no_reply() {
    let reserve = Duration::from_secs(10);
    let (mut leases, sent) = renewing_a(TTL);
    let reserved = Term { ttl: TTL, reserve };
    leases.handle_kept(sent, A, sent, reserved);
    assert_eq!(
        drain(&mut leases),
        [Action::Extend(A, valid_until(sent, TTL - reserve))]
    );
    leases.handle_reply(sent + reserve, 0, A, 90);
    let renewed = valid_until(sent, Duration::from_secs(80));
    assert_eq!(drain(&mut leases), [Action::Extend(A, renewed)]);
}

#[test]
fn a_ttl_within_the_reserve_says_that_the_lease_is_gone() {
    let reserve = Duration::from_secs(10);
    let mut leases = Leases::new(1);
    leases.handle_kept(at(0), A, at(0), Term { ttl: TTL, reserve });
    drain(&mut leases);
    let (now, _) = time_out(&mut leases);
    leases.handle_opened(now, 0);
    drain(&mut leases);
    leases.handle_reply(now, 0, A, 10);
    let gone = Action::End(A, LeaseEnd::UnknownToServer);
    assert_eq!(drain(&mut leases), [gone, Action::Close(0)]);
}

#[test]
fn renewals_do_not_wait_for_replies_but_for_room_on_the_stream() {
    let mut leases = keeping(&[A, B], TTL);
    leases.handle_timeout(at(20_000));
    assert_eq!(drain(&mut leases), [Action::Open(0)]);
    leases.handle_opened(at(20_000), 0);
    let [Action::Renew(0, first)] = drain(&mut leases)[..] else {
        panic!("one renewal at a time");
    };
    leases.handle_timeout(at(20_001));
    assert_eq!(
        drain(&mut leases),
        [],
        "the stream has not taken the first renewal"
    );
    leases.handle_sent(at(20_001), 0);
    let second = if first == A { B } else { A };
    assert_eq!(drain(&mut leases), [Action::Renew(0, second)]);
}

#[test]
fn a_lease_ends_while_a_renewal_waits_for_room() {
    let mut leases = keeping(&[A], TTL);
    leases.handle_kept(at(0), B, at(0), TTL * 100);
    drain(&mut leases);
    leases.handle_timeout(at(20_000));
    assert_eq!(drain(&mut leases), [Action::Open(0)]);
    leases.handle_opened(at(58_000), 0);
    assert_eq!(drain(&mut leases), [Action::Renew(0, A)]);
    leases.handle_timeout(at(58_940));
    assert_eq!(drain(&mut leases), [Action::End(A, LeaseEnd::Expired)]);
}

#[test]
fn the_lease_that_ends_first_is_renewed_first() {
    let mut leases = keeping(&[A], TTL * 10);
    leases.handle_kept(at(0), B, at(0), TTL);
    drain(&mut leases);
    leases.handle_timeout(at(15_000));
    leases.handle_timeout(at(200_000 - 1));
    drain(&mut leases);
    // B ended long ago; a young B is due together with A.
    leases.handle_kept(at(200_000), B, at(179_000), TTL);
    drain(&mut leases);
    leases.handle_opened(at(200_000), 0);
    assert_eq!(drain(&mut leases), [Action::Renew(0, B)]);
    leases.handle_sent(at(200_000), 0);
    assert_eq!(drain(&mut leases), [Action::Renew(0, A)]);
}

#[test]
fn what_was_out_on_a_lost_stream_is_sent_again_on_the_next() {
    let (mut leases, sent) = renewing_a(TTL);
    let lost = sent + Duration::from_secs(1);
    leases.handle_closed(lost, 0, None);
    assert_eq!(drain(&mut leases), []);
    let (opening, actions) = time_out(&mut leases);
    assert_eq!(actions, [Action::Open(0)]);
    assert!(opening > lost && opening <= lost + BACKOFF_BASE);
    leases.handle_opened(opening, 0);
    assert_eq!(drain(&mut leases), [Action::Renew(0, A)]);
    leases.handle_sent(opening, 0);
    leases.handle_reply(opening, 0, A, 60);
    assert_eq!(drain(&mut leases), [Action::Extend(A, opening + TTL - MARGIN)]);
}

#[test]
fn a_lost_stream_is_not_opened_again_before_something_is_due() {
    let (mut leases, sent) = renewing_a(TTL);
    leases.handle_reply(sent, 0, A, 60);
    leases.handle_closed(sent, 0, None);
    drain(&mut leases);
    let (now, actions) = time_out(&mut leases);
    assert_eq!(actions, [Action::Open(0)]);
    assert!(now > sent + TTL / 5);
}

#[test]
fn attempts_to_open_space_out_until_a_reply_comes() {
    let (mut leases, mut now) = renewing_a(TTL * 1000);
    let mut waits = Vec::new();
    for _ in 0..12 {
        leases.handle_closed(now, 0, None);
        drain(&mut leases);
        let (opening, actions) = time_out(&mut leases);
        assert_eq!(actions, [Action::Open(0)]);
        waits.push(opening.saturating_since(now));
        now = opening;
        leases.handle_opened(now, 0);
        assert_eq!(drain(&mut leases), [Action::Renew(0, A)]);
        leases.handle_sent(now, 0);
    }
    assert!(waits[0] <= BACKOFF_BASE);
    assert!(waits[11] >= BACKOFF_MAX / 2 && waits[11] <= BACKOFF_MAX);
    leases.handle_reply(now, 0, A, 60_000);
    leases.handle_closed(now, 0, None);
    leases.handle_kept(now, B, at(0), TTL * 500);
    drain(&mut leases);
    leases.handle_timeout(now + BACKOFF_BASE);
    assert_eq!(drain(&mut leases), [Action::Open(0)]);
}

#[test]
fn a_backoff_is_never_longer_than_the_shortest_lease_can_wait() {
    let (mut leases, mut now) = renewing_a(TTL * 1000);
    for _ in 0..12 {
        leases.handle_closed(now, 0, None);
        drain(&mut leases);
        (now, _) = time_out(&mut leases);
    }
    let ttl = Duration::from_secs(2);
    leases.handle_kept(now, B, now, ttl);
    leases.handle_closed(now, 0, None);
    drain(&mut leases);
    leases.handle_timeout(now + ttl / 3);
    assert_eq!(drain(&mut leases), [Action::Open(0)]);
}

#[test]
fn an_idle_stream_may_be_silent() {
    let (mut leases, sent) = renewing_a(TTL);
    leases.handle_reply(sent, 0, A, 60);
    drain(&mut leases);
    let (later, actions) = time_out(&mut leases);
    assert!(later > sent + TTL / 5);
    assert_eq!(actions, [Action::Renew(0, A)]);
}

#[test]
fn a_stream_that_does_not_open_is_given_up() {
    let mut leases = keeping(&[A], TTL);
    let (opening, actions) = time_out(&mut leases);
    assert_eq!(actions, [Action::Open(0)]);
    assert_eq!(time_out(&mut leases), (opening + TTL / 3, vec![Action::Close(0)]));
    assert_eq!(time_out(&mut leases).1, [Action::Open(0)]);
}

#[test]
fn a_reply_from_before_a_lease_was_given_up_is_nothing_to_its_successor() {
    let (mut leases, sent) = renewing_a(TTL);
    leases.handle_kept(sent, B, sent, TTL);
    leases.handle_given_up(sent, A, LeaseEnd::Revoked);
    // Granted again under the same ID, and due at once.
    let (granted, ttl) = (sent - TTL / 6, TTL / 2);
    leases.handle_kept(sent, A, granted, ttl);
    assert_eq!(
        drain(&mut leases),
        [
            Action::Extend(B, sent + TTL - MARGIN),
            Action::End(A, LeaseEnd::Revoked),
            Action::Extend(A, valid_until(granted, ttl)),
            Action::Renew(0, A),
        ]
    );
    leases.handle_sent(sent, 0);
    // The first lease is gone, the second is not.
    leases.handle_reply(sent, 0, A, 0);
    assert_eq!(drain(&mut leases), []);
    leases.handle_reply(sent, 0, A, 30);
    assert_eq!(drain(&mut leases), [Action::Extend(A, valid_until(sent, ttl))]);
}

#[test]
fn a_reply_that_nobody_asked_for_proves_nothing() {
    let (mut leases, sent) = renewing_a(TTL);
    leases.handle_reply(sent, 0, B, 60);
    leases.handle_reply(sent, 0, B, 0);
    assert_eq!(drain(&mut leases), []);
    leases.handle_reply(sent, 0, A, 60);
    drain(&mut leases);
    leases.handle_reply(sent + TTL / 10, 0, A, 60);
    leases.handle_reply(sent + TTL / 10, 0, A, 0);
    assert_eq!(drain(&mut leases), []);
}

#[test]
fn a_second_keep_of_one_lease_counts_where_it_proves_more() {
    let (mut leases, sent) = renewing_a(TTL);
    let later = sent + Duration::from_secs(5);
    leases.handle_kept(later, A, later, TTL);
    assert_eq!(drain(&mut leases), [Action::Extend(A, later + TTL - MARGIN)]);
    leases.handle_reply(later, 0, A, 60);
    assert_eq!(drain(&mut leases), [Action::Extend(A, later + TTL - MARGIN)]);
    leases.handle_kept(later, A, at(0), TTL);
    assert_eq!(drain(&mut leases), [Action::Extend(A, later + TTL - MARGIN)]);
}

#[test]
fn a_thousand_leases_granted_together_renew_apart() {
    let ids: Vec<_> = (1..=1000).map(LeaseId).collect();
    let mut leases = Leases::new(1);
    for &id in &ids {
        leases.handle_kept(at(0), id, at(0), TTL);
    }
    let mut renewed_at = Vec::new();
    let mut wakes = 0;
    while renewed_at.len() < ids.len() {
        let now = leases.poll_timeout().unwrap();
        leases.handle_timeout(now);
        wakes += 1;
        while let Some(action) = leases.poll_action() {
            match action {
                Action::Open(0) => leases.handle_opened(now, 0),
                Action::Renew(_, id) => {
                    leases.handle_sent(now, 0);
                    leases.handle_reply(now, 0, id, 60);
                    renewed_at.push(now);
                }
                _ => {}
            }
        }
    }
    assert!(wakes <= 251, "{wakes} wakes in five seconds");
    // And still no burst: no tenth of a second of the five sees thrice the average.
    for tenth in 0..=50 {
        let (from, to) = (at(15_000 + tenth * 100), at(15_100 + tenth * 100));
        let burst = renewed_at.iter().filter(|&&sent| from <= sent && sent < to).count();
        assert!(burst < 60, "{burst} renewals within 100 ms");
    }
}

#[test]
fn given_up_leases_without_replies_do_not_pile_up() {
    let (mut leases, now) = renewing_a(TTL * 1_000_000);
    let mut closes = 0;
    for id in (1000..).take(2 * ABANDONED_MAX + 10).map(LeaseId) {
        leases.handle_kept(now, id, now - TTL / 2, TTL);
        while let Some(action) = leases.poll_action() {
            match action {
                Action::Open(0) => leases.handle_opened(now, 0),
                Action::Renew(..) => leases.handle_sent(now, 0),
                Action::Close(0) => closes += 1,
                _ => {}
            }
        }
        leases.handle_given_up(now, id, LeaseEnd::Closed);
    }
    drain(&mut leases);
    assert!(leases.table.entries.len() <= ABANDONED_MAX + 4);
    assert_eq!(closes, 1, "the stream that never answered is given up");
}

#[test]
fn the_longest_leases_do_not_overflow() {
    for ttl in [9_000_000_000, u64::MAX] {
        let ttl = Duration::from_secs(ttl);
        let (mut leases, sent) = {
            let mut leases = Leases::new(1);
            let late = Instant(u64::MAX / 2);
            leases.handle_kept(late, A, late, ttl);
            (leases, late)
        };
        drain(&mut leases);
        assert!(leases.poll_timeout().unwrap() > sent);
        leases.handle_timeout(Instant(u64::MAX - 1));
        drain(&mut leases);
        leases.handle_opened(Instant(u64::MAX - 1), 0);
        drain(&mut leases);
        leases.handle_reply(Instant(u64::MAX - 1), 0, A, i64::MAX);
        drain(&mut leases);
    }
}

#[test]
fn the_margin_is_a_tenth_up_to_a_second_and_the_drift() {
    let margin = |seconds| {
        let ttl = Duration::from_secs(seconds);
        ttl - valid_until(at(0), ttl).saturating_since(at(0))
    };
    assert_eq!(margin(2), Duration::from_millis(202));
    assert_eq!(margin(60), MARGIN);
    assert_eq!(margin(86_400), Duration::from_millis(87_400));
}

#[test]
fn time_that_seems_to_run_backwards_stands_still() {
    let (mut leases, sent) = renewing_a(TTL);
    leases.handle_reply(at(0), 0, A, 60);
    assert_eq!(drain(&mut leases), [Action::Extend(A, sent + TTL - MARGIN)]);
    leases.handle_kept(at(0), B, Instant(u64::MAX), TTL);
    assert_eq!(drain(&mut leases), [Action::Extend(B, sent + TTL - MARGIN)]);
}
