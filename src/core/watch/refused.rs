//! The machine when the server refuses watches that resume, or cancels them, for a
//! reason that passes, for one that stays, and for none.

use super::reopen::WAIT_MAX;
use super::resume::gone;
use super::retries::UNEXPLAINED_MAX;
use super::tests::{BUFFER, NOW, Script, answer, created_answer, events, refused};
use super::*;
use crate::error::Code;

const NO_LEADER: &str = "etcdserver: no leader";
const TOKEN: &str = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
const DENIED: &str = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";

fn canceled(id: i64, reason: &str) -> WatchResponse {
    WatchResponse {
        canceled: true,
        cancel_reason: reason.to_owned(),
        ..answer(id, 20)
    }
}

impl Script {
    /// Lets the first wait be over; says when.
    fn wait(&mut self) -> Instant {
        let at = self.watches.poll_timeout().expect("a wait");
        let queued = self.watches.creates.len();
        self.watches.handle_timeout(Instant(at.0 - 1));
        assert_eq!(self.watches.creates.len(), queued, "the wait was cut short");
        self.watches.handle_timeout(at);
        self.watches.check();
        at
    }

    fn answer_at(&mut self, now: Instant, response: WatchResponse) {
        self.watches.handle_response(now, response);
        self.watches.check();
    }
}

#[test]
fn a_watch_that_is_canceled_for_a_reason_that_passes_goes_on_where_it_was() {
    let mut script = Script::with_resuming(2, 10);
    script.answer(events(0, 14, &[14]));
    script.answer(canceled(0, NO_LEADER));
    script.answer(events(0, 15, &[15]));
    script.answer(events(1, 15, &[15]));
    let expected = [
        "1 sees [14], resume 15",
        "1 refused: etcdserver: no leader",
        "2 sees [15], resume 16",
    ];
    assert_eq!(script.actions(), expected);
    script.wait();
    assert_eq!(script.requests(), ["create key 1 from 15"]);
    script.answer(created_answer(2, 20));
    script.answer(events(2, 20, &[15]));
    assert_eq!(script.actions(), ["1 resumed", "1 sees [15], resume 16"]);
}

#[test]
fn a_creation_that_is_refused_for_a_reason_that_passes_is_asked_for_as_it_was() {
    let mut script = Script::new();
    script.create_with(0, BUFFER, true);
    script.create_with(7, BUFFER, true);
    script.create(0);
    script.requests();
    for id in [-1, 0, -1] {
        script.answer(refused(id, NO_LEADER));
    }
    assert_eq!(
        script.actions(),
        [
            "1 refused: etcdserver: no leader",
            "2 refused: etcdserver: no leader",
            "3 canceled Some(NoLeader), resume 0",
        ]
    );
    script.wait();
    script.wait();
    let mut requests = script.requests();
    requests.sort();
    assert_eq!(requests, ["create key 1", "create key 2 from 7"]);
}

#[test]
fn a_refusal_for_good_ends_a_watch_that_resumes_whenever_it_comes() {
    let mut script = Script::with_resuming(1, 10);
    script.create_with(0, BUFFER, true);
    script.requests();
    script.answer(refused(-1, "mvcc: watcher range is empty"));
    script.answer(canceled(0, DENIED));
    let expected = [
        "2 canceled None, resume 0",
        "1 canceled Some(PermissionDenied), resume 11",
    ];
    assert_eq!(script.actions(), expected);
    assert_eq!(script.watches.poll_timeout(), None);
}

#[test]
fn a_server_that_keeps_refusing_is_asked_ever_more_rarely_also_while_others_see_events() {
    let mut script = Script::with_resuming(1, 10);
    script.create_with(0, BUFFER, true);
    script.requests();
    let mut now = NOW;
    let mut waits = Vec::new();
    for round in 0..20 {
        script.answer_at(now, refused(-1, NO_LEADER));
        script.answer_at(now, events(0, 20 + round, &[20 + round]));
        let at = script.wait();
        assert_eq!(script.requests(), ["create key 2"]);
        waits.push(at.saturating_since(now));
        now = at;
    }
    assert!(waits[0] < WAIT_MAX / 50, "{waits:?}");
    assert!(waits[19] >= WAIT_MAX / 2 && waits[19] < WAIT_MAX, "{waits:?}");
    script.answer_at(now, created_answer(1, 50));
    script.answer_at(now, events(1, 51, &[51]));
    script.answer_at(now, canceled(1, NO_LEADER));
    assert!(
        script.wait().saturating_since(now) < WAIT_MAX / 50,
        "an event makes it good"
    );
}

#[test]
fn refusals_that_nobody_can_explain_end_the_watch_after_a_few() {
    let mut script = Script::with_resuming(1, 10);
    script.answer(canceled(0, ""));
    for round in 1..UNEXPLAINED_MAX {
        assert_eq!(script.actions(), ["1 refused: "], "round {round}");
        script.wait();
        assert_eq!(script.requests(), ["create key 1 from 11"]);
        script.answer(refused(-1, ""));
    }
    assert_eq!(script.actions(), ["1 canceled None, resume 11"]);
    assert_eq!(script.watches.poll_timeout(), None);
}

#[test]
fn a_refusal_that_passes_is_patience_renewed_with_those_that_nobody_can_explain() {
    let mut script = Script::with_resuming(1, 10);
    script.answer(canceled(0, ""));
    script.actions();
    for round in 1..=2 * UNEXPLAINED_MAX {
        script.wait();
        script.requests();
        let reason = if round % (UNEXPLAINED_MAX - 1) == 0 {
            NO_LEADER
        } else {
            ""
        };
        script.answer(refused(-1, reason));
        assert_eq!(script.actions().len(), 1, "round {round}");
    }
    assert!(script.watches.poll_timeout().is_some());
}

#[test]
fn a_refused_watch_waits_on_while_the_stream_breaks_and_can_be_given_up() {
    let mut script = Script::with_resuming(3, 10);
    script.answer(canceled(0, NO_LEADER));
    script.answer(canceled(1, NO_LEADER));
    script.actions();
    script.lose(NOW, gone());
    script.cancel(WatchKey(2));
    assert_eq!(script.actions(), ["close", "2 closed"]);
    script.wait();
    script.wait();
    script.watches.handle_opened(NOW);
    assert_eq!(
        script.requests(),
        ["create key 1 from 11", "create key 3 from 11"]
    );
    script.answer(created_answer(0, 20));
    script.answer(canceled(0, NO_LEADER));
    script.actions();
    script.watches.handle_unreachable(&Arc::new(breach("no way")));
    script.watches.check();
    assert_eq!(script.actions().len(), 3);
    assert_eq!(script.watches.poll_timeout(), None);
}

#[test]
fn a_refused_token_takes_every_watch_to_the_next_stream_and_ends_none() {
    let mut script = Script::with_resuming(1, 10);
    script.watches = std::mem::replace(&mut script.watches, Watches::new(1)).renewing_tokens(true);
    script.create_with(0, BUFFER, false);
    script.requests();
    script.answer(created_answer(1, 12));
    script.answer(events(1, 14, &[14]));
    script.actions();
    script.create_with(0, BUFFER, false);
    script.requests();
    script.answer(refused(-1, TOKEN));
    assert_eq!(script.actions(), ["another token", "close"]);
    script.wait_and_open();
    let expected = ["create key 1 from 11", "create key 2 from 15", "create key 3"];
    assert_eq!(script.requests(), expected);
    script.answer(created_answer(0, 20));
    script.answer(created_answer(1, 20));
    script.answer(created_answer(2, 20));
    let expected = ["1 resumed", "2 resumed", "3 created 2 at 20"];
    assert_eq!(script.actions(), expected);
    let ended = || Error::answered(Code::Unauthenticated, "etcdserver: invalid auth token");
    script.lose(NOW, ended());
    assert_eq!(script.actions(), ["another token", "close"]);
}

#[test]
fn a_token_that_nobody_renews_is_refused_for_good() {
    let mut script = Script::new();
    script.create_with(0, BUFFER, true);
    script.requests();
    script.answer(refused(-1, TOKEN));
    assert_eq!(script.actions(), ["1 canceled Some(InvalidAuthToken), resume 0"]);
}
