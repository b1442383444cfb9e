//! When to ask for a token, and what the calls that need one are told meanwhile.
//! `net/auth` asks, keeps the token itself, and has the calls wait; this machine only
//! counts tokens, by generation.
//!
//! ```text
//!            wanted, not before `until`            a token, or: authentication is
//!   Due ──────────────Authenticate──────▶ Asking ──────────not enabled─────────▶ Settled
//!   ▲ ▲ ▲                                  │  │                                     │
//!   │ │ '──── failed, the wait is over ────'  '── the name or the password ──▶ Denied
//!   │ '─────────────────────── `until` is over ───────── is refused ──────────────┘ │
//!   '───────────────── the token of this generation was refused ────────────────────'
//! ```
//!
//! One question is out at any time, however many calls run into an expired token:
//! a refusal counts only where the refused token is the one that is held. The server
//! compares passwords with bcrypt, which it can do some ten times a second: after the restart
//! of a cluster, which forgets all tokens, clients do not ask in the same instant, and
//! whoever fails or is refused asks ever more rarely.

use std::time::Duration;

use super::backoff::Backoff;
use super::jitter::Jitter;
use super::time::Instant;
use crate::error::EtcdError;

/// Clients whose tokens were lost together ask for others within this time; less than
/// what the server takes for two of them.
pub const SPREAD: Duration = Duration::from_millis(100);

/// After a question that failed, or a token that was refused as soon as it came.
pub const WAIT_FIRST: Duration = Duration::from_millis(100);

/// Longer than an election, and not much longer than somebody waits.
pub const WAIT_MAX: Duration = Duration::from_secs(5);

/// The first time that a refused name or password is not tried again.
pub const DENIED_FIRST: Duration = Duration::from_secs(2);

/// Somebody may set the password right on the server's side.
pub const DENIED_MAX: Duration = Duration::from_secs(60);

/// A member that lags refuses a token that it has yet to hear of: etcd 3.5 to 3.7 have it
/// wait for the entry before the one with the token. A follower hears of the latter
/// with the leader's next heartbeat, a tenth of a second later at most by default.
pub const KNOWN_AFTER: Duration = Duration::from_millis(500);

/// A token that was refused when it was young, and again sooner than this, was
/// never good.
pub const GOOD_AFTER: Duration = Duration::from_secs(10);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask for a token, and say [`Auth::handle_token`] or [`Auth::handle_failed`].
    Authenticate,
    /// Wake those who wait: [`Auth::standing`] has an answer for them.
    Wake,
}

/// What a call is told that is about to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It goes, with the token of this generation; which may be that there is none.
    Go(u64),
    /// It waits.
    Wait,
    /// It fails as the last question did.
    Denied,
}

/// What a refused call is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is a newer token already.
    Stale,
    /// The token is too young for every member to know it: the same again in a moment.
    Young,
    /// Another token is fetched.
    Renewed,
}

/// The token of one client; see the module.
#[derive(Debug)]
pub struct Auth {
    state: State,
    /// How many tokens there were.
    generation: u64,
    action: Option<Action>,
    backoff: Backoff,
    denied: Backoff,
    jitter: Jitter,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Due { until: Instant },
    Asking,
    Settled { since: Instant, is_doubted: bool },
    Denied { until: Instant },
}

impl Auth {
    /// No token yet. The seed spreads the questions of many clients.
    #[must_use]
    pub fn new(seed: u64) -> Auth {
        Auth {
            state: State::Due { until: Instant(0) },
            generation: 0,
            action: None,
            backoff: Backoff::new(WAIT_FIRST, WAIT_MAX, seed),
            denied: Backoff::new(DENIED_FIRST, DENIED_MAX, !seed),
            jitter: Jitter::new(seed),
        }
    }

    /// How a call stands that wants to go now. Where it has to wait, somebody has to
    /// see to the machine's time.
    #[must_use]
    pub fn standing(&self, now: Instant) -> Standing {
        match self.state {
            State::Settled { .. } => Standing::Go(self.generation),
            State::Denied { until } if now < until => Standing::Denied,
            State::Due { .. } | State::Asking | State::Denied { .. } => Standing::Wait,
        }
    }

    /// The server refused a call for its token, which was of this generation, and said
    /// this of it. Where there is a newer one already, that is no news.
    pub fn handle_refused(&mut self, now: Instant, generation: u64, etcd: EtcdError) -> Refusal {
        if generation != self.generation {
            return Refusal::Stale;
        }
        let State::Settled { since, is_doubted } = &mut self.state else {
            return Refusal::Renewed;
        };
        let age = now.saturating_since(*since);
        if etcd == EtcdError::InvalidAuthToken && age < KNOWN_AFTER {
            *is_doubted = true;
            return Refusal::Young;
        }
        let was_good = !*is_doubted && age >= KNOWN_AFTER || age >= GOOD_AFTER;
        let wait = if was_good {
            self.backoff.reset();
            self.jitter.below(SPREAD)
        } else {
            self.backoff.next_wait()
        };
        self.state = State::Due { until: now + wait };
        Refusal::Renewed
    }

    /// The server gave a token.
    pub fn handle_token(&mut self, now: Instant) {
        if let State::Asking = self.state {
            self.generation += 1;
            self.state = State::Settled {
                since: now,
                is_doubted: false,
            };
            self.denied.reset();
            self.action = Some(Action::Wake);
        }
    }

    /// The server gave none, for this reason where it named one of etcd's. Where it
    /// asks nobody who they are, calls go without one.
    pub fn handle_failed(&mut self, now: Instant, etcd: Option<EtcdError>) {
        let State::Asking = self.state else {
            return;
        };
        match etcd {
            Some(EtcdError::AuthNotEnabled) => self.handle_token(now),
            Some(etcd) if is_denial(etcd) => {
                let until = now + self.denied.next_wait();
                self.state = State::Denied { until };
                self.action = Some(Action::Wake);
            }
            _ => {
                let until = now + self.backoff.next_wait();
                self.state = State::Due { until };
            }
        }
    }

    /// Somebody waits, and a time may have come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let State::Due { until } | State::Denied { until } = self.state {
            if until <= now {
                self.state = State::Asking;
                self.action = Some(Action::Authenticate);
            }
        }
    }

    /// What to do next; drained after each input.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.action.take()
    }

    /// When the next question is due, if somebody waits for its answer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Due { until } | State::Denied { until } => Some(until),
            State::Asking | State::Settled { .. } => None,
        }
    }

    /// Asserts what must hold between two inputs.
    pub fn check(&self) {
        match self.action {
            Some(Action::Authenticate) => assert!(matches!(self.state, State::Asking)),
            Some(Action::Wake) => {
                assert!(matches!(self.state, State::Settled { .. } | State::Denied { .. }));
            }
            None => {}
        }
        if let State::Settled { .. } = self.state {
            assert!(self.generation > 0, "settled without an answer");
        }
    }
}

/// Whether a call was refused for its token, and may fare better with another. Each
/// of these is said instead of applying the request, so that it may be sent again
/// whatever it is.
#[must_use]
pub fn is_token_refusal(etcd: EtcdError) -> bool {
    matches!(
        etcd,
        EtcdError::UserEmpty | EtcdError::InvalidAuthToken | EtcdError::AuthOldRevision
    )
}

/// Whether the same name and password get the same answer.
fn is_denial(etcd: EtcdError) -> bool {
    matches!(
        etcd,
        EtcdError::AuthFailed | EtcdError::UserEmpty | EtcdError::UserNotFound | EtcdError::PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Instant;

    const NOW: Instant = Instant(1_000_000_000_000);
    const LATER: Duration = Duration::from_secs(3600);

    /// The machine, checked after each input, and how often it asked.
    struct Script {
        auth: Auth,
        now: Instant,
        asked: u32,
    }

    impl Script {
        fn new() -> Script {
            Script {
                auth: Auth::new(5),
                now: NOW,
                asked: 0,
            }
        }

        /// One that has the token of the first generation.
        fn settled() -> Script {
            let mut script = Script::new();
            script.wait();
            script.tell(Auth::handle_token);
            script
        }

        fn tell(&mut self, input: impl FnOnce(&mut Auth, Instant)) -> Option<Action> {
            input(&mut self.auth, self.now);
            self.auth.check();
            let action = self.auth.poll_action();
            self.asked += u32::from(action == Some(Action::Authenticate));
            assert_eq!(self.auth.poll_action(), None);
            action
        }

        /// Lets the time come that the machine names; says how long that took.
        fn wait(&mut self) -> Duration {
            let at = self.auth.poll_timeout().expect("a time").max(self.now);
            let waited = at.saturating_since(self.now);
            if !waited.is_zero() {
                self.now = Instant(at.0 - 1);
                assert_eq!(self.tell(Auth::handle_timeout), None, "the wait was cut short");
            }
            self.now = at;
            assert_eq!(self.tell(Auth::handle_timeout), Some(Action::Authenticate));
            waited
        }

        fn failed(&mut self, etcd: Option<EtcdError>) -> Option<Action> {
            self.tell(|auth, now| auth.handle_failed(now, etcd))
        }

        fn refused(&mut self, generation: u64) -> Refusal {
            let mut refusal = Refusal::Stale;
            let action = self.tell(|auth, now| {
                refusal = auth.handle_refused(now, generation, EtcdError::InvalidAuthToken);
            });
            assert_eq!(action, None);
            refusal
        }

        fn standing(&self) -> Standing {
            self.auth.standing(self.now)
        }
    }

    #[test]
    fn the_first_call_asks_at_once_and_the_others_wait_for_its_answer() {
        let mut script = Script::new();
        assert_eq!(script.standing(), Standing::Wait);
        assert_eq!(script.wait(), Duration::ZERO);
        assert_eq!(script.standing(), Standing::Wait);
        assert_eq!(script.tell(Auth::handle_timeout), None);
        assert_eq!(script.tell(Auth::handle_token), Some(Action::Wake));
        assert_eq!(script.standing(), Standing::Go(1));
        assert_eq!((script.asked, script.auth.poll_timeout()), (1, None));
    }

    #[test]
    fn fifty_calls_that_run_into_one_expired_token_ask_once() {
        let mut script = Script::settled();
        script.now = script.now + LATER;
        for _ in 0..25 {
            assert_eq!(script.refused(1), Refusal::Renewed);
        }
        assert!(script.wait() < SPREAD);
        assert_eq!(script.refused(1), Refusal::Renewed);
        script.tell(Auth::handle_token);
        // These were on their way with the old one.
        for _ in 0..24 {
            assert_eq!(script.refused(1), Refusal::Stale);
        }
        assert_eq!(script.standing(), Standing::Go(2));
        assert_eq!(script.asked, 2);
    }

    #[test]
    fn clients_whose_tokens_were_lost_together_ask_at_different_times() {
        let wait = |seed| {
            let mut script = Script::settled();
            script.auth.jitter = Jitter::new(seed);
            script.now = script.now + LATER;
            script.refused(1);
            script.wait()
        };
        let waits: Vec<_> = (0..100).map(wait).collect();
        assert!(waits.iter().all(|wait| *wait < SPREAD));
        assert!(waits.iter().any(|wait| *wait < SPREAD / 5));
        assert!(waits.iter().any(|wait| *wait > SPREAD * 4 / 5));
    }

    #[test]
    fn a_server_that_fails_is_asked_ever_more_rarely_until_it_answers() {
        let mut script = Script::new();
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(script.wait());
            assert_eq!(script.failed(Some(EtcdError::NoLeader)), None);
            assert_eq!(script.standing(), Standing::Wait);
        }
        assert!(waits[1] < WAIT_FIRST && waits[11] >= WAIT_MAX / 2, "{waits:?}");
        script.wait();
        assert_eq!(script.tell(Auth::handle_token), Some(Action::Wake));
    }

    #[test]
    fn a_member_that_has_not_heard_of_a_new_token_makes_nobody_ask_for_another() {
        let mut script = Script::settled();
        for _ in 0..50 {
            assert_eq!(script.refused(1), Refusal::Young);
            assert_eq!(script.standing(), Standing::Go(1));
        }
        assert_eq!((script.asked, script.auth.poll_timeout()), (1, None));
        // No member is ever late with these.
        let old = EtcdError::AuthOldRevision;
        let refusal = script.auth.handle_refused(script.now, 1, old);
        assert_eq!((refusal, script.standing()), (Refusal::Renewed, Standing::Wait));
    }

    #[test]
    fn tokens_that_are_refused_all_the_time_are_asked_for_ever_more_rarely() {
        let mut script = Script::settled();
        let mut waits = Vec::new();
        for generation in 1..12 {
            assert_eq!(script.refused(generation), Refusal::Young);
            script.now = script.now + KNOWN_AFTER;
            assert_eq!(script.refused(generation), Refusal::Renewed);
            waits.push(script.wait());
            script.tell(Auth::handle_token);
        }
        assert!(waits[10] >= WAIT_MAX / 2, "{waits:?}");
        script.refused(12);
        script.now = script.now + GOOD_AFTER;
        script.refused(12);
        assert!(script.wait() < SPREAD, "one that was good makes it good");
    }

    #[test]
    fn a_wrong_password_is_told_to_all_and_tried_again_only_after_a_while() {
        let mut script = Script::new();
        let mut waits = Vec::new();
        for _ in 0..10 {
            waits.push(script.wait());
            assert_eq!(script.failed(Some(EtcdError::AuthFailed)), Some(Action::Wake));
            assert_eq!(script.standing(), Standing::Denied);
        }
        assert!(
            waits[1] >= DENIED_FIRST / 2 && waits[9] >= DENIED_MAX / 2,
            "{waits:?}"
        );
        let at = script.auth.poll_timeout().expect("a time");
        assert_eq!(script.auth.standing(at), Standing::Wait);
        script.wait();
        script.tell(Auth::handle_token);
        assert_eq!(script.standing(), Standing::Go(1));
    }

    #[test]
    fn where_nobody_is_asked_calls_go_without_a_token_until_one_is_refused() {
        let mut script = Script::new();
        script.wait();
        let wake = script.failed(Some(EtcdError::AuthNotEnabled));
        assert_eq!((wake, script.standing()), (Some(Action::Wake), Standing::Go(1)));
        script.now = script.now + LATER;
        // Somebody has enabled it.
        script.refused(1);
        assert_eq!(script.standing(), Standing::Wait);
        script.wait();
        script.tell(Auth::handle_token);
        assert_eq!(script.standing(), Standing::Go(2));
    }

    #[test]
    fn answers_that_nobody_asked_for_change_nothing() {
        let mut script = Script::settled();
        assert_eq!(script.tell(Auth::handle_token), None);
        assert_eq!(script.failed(Some(EtcdError::AuthFailed)), None);
        script.refused(7);
        assert_eq!(script.standing(), Standing::Go(1));
    }

    #[test]
    fn of_all_that_etcd_says_three_are_of_the_token() {
        let refusals: Vec<_> = EtcdError::ALL.iter().filter(|etcd| is_token_refusal(**etcd)).collect();
        let expected = [
            &EtcdError::UserEmpty,
            &EtcdError::AuthOldRevision,
            &EtcdError::InvalidAuthToken,
        ];
        assert_eq!(refusals, expected);
    }

    #[test]
    fn whatever_happens_in_whatever_order_one_question_is_out_at_most() {
        for seed in 0..200 {
            let mut chance = Jitter::new(seed);
            let mut auth = Auth::new(seed);
            let mut now = NOW;
            let mut out = false;
            for _ in 0..500 {
                now = now + chance.below(Duration::from_secs(2));
                match chance.next_u64() % 6 {
                    0 => auth.handle_timeout(now),
                    1 => {
                        let generation = auth.generation.saturating_sub(chance.next_u64() % 2);
                        auth.handle_refused(now, generation, EtcdError::InvalidAuthToken);
                    }
                    2 if out => auth.handle_token(now),
                    3 if out => auth.handle_failed(now, None),
                    4 if out => {
                        let at = chance.next_u64() as usize % EtcdError::ALL.len();
                        auth.handle_failed(now, Some(EtcdError::ALL[at]));
                    }
                    _ => continue,
                }
                auth.check();
                match auth.poll_action() {
                    Some(Action::Authenticate) => assert!(!std::mem::replace(&mut out, true), "seed {seed}"),
                    Some(Action::Wake) => out = false,
                    None => out &= matches!(auth.state, State::Asking),
                }
                let waits = auth.standing(now) == Standing::Wait;
                assert!(
                    !waits || out || auth.poll_timeout().is_some(),
                    "seed {seed}: waits for nothing"
                );
            }
        }
    }
}
