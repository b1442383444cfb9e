//! When to ping a peer, when to call it silent, and when to call it dead. The task
//! of a connection drives it; it owns no socket and counts nothing.
//!
//! A server that is slow answers pings, one that is frozen or cut off does not: so
//! silence costs a peer its place, and only a ping without an answer costs it
//! the connection. A server bears a ping in five seconds while a stream is open, and
//! hangs up on more (gRPC's proposal A8, etcd's `--grpc-keepalive-min-time`).
//!
//! ```text
//!            a call waits, nothing was heard for `silence`: Silent
//!    quiet ─────────────────────────────────────────────▶ pinged at t
//!      ▲ ▲    or a doubt; or something is open for `interval`   │ │
//!      │ └──────────────────────── pong ────────────────────┘ │ t + silence: Mute
//!      │                                                      ▼
//!      └──────────── pong: Heard ◀──────────────────────── mute ──▶ t + timeout: Dead
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use super::time::Instant;

/// Between two pings: what a server demands, and half a second for what a network
/// may add to the first and not to the second.
pub const PING_SPACING_MIN: Duration = Duration::from_millis(5500);

/// What the caller wants of it.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long calls may wait without a sign of the peer before it is silent.
    pub silence: Duration,
    /// Between pings while anything is open; none where it is `None`.
    pub interval: Option<Duration>,
    /// How long the answer to a ping may take.
    pub timeout: Duration,
}

/// What goes on on the connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Calls that wait for their answer.
    pub calls: usize,
    /// Everything that is open, calls included.
    pub streams: usize,
    /// When the peer last answered anything, or when the first of those began that
    /// nothing was heard after.
    pub quiet_since: Instant,
    /// When the peer last answered anything.
    pub heard: Instant,
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a ping, and say [`Ping::handle_pong`] when it is answered.
    Ping,
    /// Calls wait and nothing is heard.
    Silent,
    /// Not even the ping is answered.
    Mute,
    /// It is, late.
    Heard,
    /// The connection is of no use.
    Dead,
}

/// The health of one connection.
#[derive(Debug)]
pub struct Ping {
    patience: Patience,
    traffic: Traffic,
    /// When the last ping was sent, answered or not.
    pinged: Option<Instant>,
    is_out: bool,
    is_mute: bool,
    /// The silence that began then was told.
    told: Option<Instant>,
    heard: Instant,
    /// Somebody else has doubts, since then.
    doubted: Option<Instant>,
    is_dead: bool,
    actions: VecDeque<Action>,
}

impl Ping {
    /// For a connection that came up at `now`.
    #[must_use]
    pub fn new(now: Instant, patience: Patience) -> Ping {
        Ping {
            patience,
            traffic: Traffic::default(),
            pinged: None,
            is_out: false,
            is_mute: false,
            told: None,
            heard: now,
            doubted: None,
            is_dead: false,
            actions: VecDeque::new(),
        }
    }

    /// What goes on now.
    pub fn handle_traffic(&mut self, now: Instant, traffic: Traffic) {
        self.traffic = traffic;
        if self.pinged.is_some_and(|pinged| traffic.heard > pinged) {
            // As good as the answer to the ping.
            self.alive(traffic.heard);
        }
        self.heard = self.heard.max(traffic.heard);
        self.settle(now);
    }

    /// The ping was answered.
    pub fn handle_pong(&mut self, now: Instant) {
        self.alive(now);
        self.settle(now);
    }

    /// Whoever used the connection has waited in vain: is anybody there?
    pub fn handle_doubt(&mut self, now: Instant) {
        // Nothing is asked where nothing may be.
        self.doubted = self.patience.interval.map(|_| now);
        self.settle(now);
    }

    /// The time that [`Ping::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.settle(now);
    }

    /// The next thing to do; drained after every input.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Ping::handle_timeout`], whatever else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_dead {
            return None;
        }
        [self.silent_at(), self.ping_at(), self.mute_at(), self.dead_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// How long it takes at least until traffic that begins now has anything come about. Where something was owed
    /// before that, it may be sooner, and is soon enough then. None while a ping is out or owed: anything may at once.
    #[must_use]
    pub fn lead(&self) -> Option<Duration> {
        let Patience {
            silence, interval, ..
        } = self.patience;
        (!self.is_out && self.doubted.is_none())
            .then(|| interval.map_or(silence, |interval| interval.min(silence)))
    }

    /// Panics if the machine contradicts itself.
    pub fn check(&self) {
        assert!(!self.is_out || self.pinged.is_some());
        assert!(!self.is_mute || self.is_out, "mute without a ping");
        assert!(self.actions.len() <= 5, "{:?} are too many at once", self.actions);
    }

    fn alive(&mut self, heard: Instant) {
        self.is_out = false;
        self.heard = self.heard.max(heard);
        if std::mem::take(&mut self.is_mute) {
            self.actions.push_back(Action::Heard);
        }
    }

    fn settle(&mut self, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.is_dead {
            return;
        }
        if is_due(self.silent_at()) {
            self.told = Some(self.traffic.quiet_since);
            self.actions.push_back(Action::Silent);
        }
        if is_due(self.ping_at()) {
            self.pinged = Some(now);
            self.is_out = true;
            self.doubted = None;
            self.actions.push_back(Action::Ping);
        }
        if is_due(self.mute_at()) {
            self.is_mute = true;
            self.actions.push_back(Action::Mute);
        }
        if is_due(self.dead_at()) {
            self.is_dead = true;
            self.actions.push_back(Action::Dead);
        }
    }

    fn silence(&self) -> Option<Instant> {
        (self.traffic.calls > 0).then(|| self.traffic.quiet_since + self.patience.silence)
    }

    /// Each silence is told once.
    fn silent_at(&self) -> Option<Instant> {
        self.silence().filter(|_| self.told != Some(self.traffic.quiet_since))
    }

    fn ping_at(&self) -> Option<Instant> {
        let interval = self.patience.interval.filter(|_| !self.is_out)?;
        let at = if self.traffic.streams > 0 {
            let turn = self.heard.max(self.traffic.quiet_since) + interval;
            [self.silence(), self.doubted, Some(turn)].into_iter().flatten().min()
        } else {
            // A ping without a stream is a strike, until the server sends anything
            // but its answer: it bears two, so one for each time that it did.
            self.doubted.filter(|_| self.pinged.is_none_or(|pinged| pinged < self.traffic.heard))
        }?;
        Some(self.pinged.map_or(at, |pinged| at.max(pinged + PING_SPACING_MIN)))
    }

    fn mute_at(&self) -> Option<Instant> {
        let pinged = self.pinged.filter(|_| self.is_out && !self.is_mute)?;
        Some(pinged + self.patience.silence.min(self.patience.timeout))
    }

    fn dead_at(&self) -> Option<Instant> {
        let pinged = self.pinged.filter(|_| self.is_out)?;
        Some(pinged + self.patience.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::jitter::Jitter;

    const MILLI: u64 = 1_000_000;
    const PATIENCE: Patience = Patience {
        silence: Duration::from_millis(300),
        interval: Some(Duration::from_secs(10)),
        timeout: Duration::from_secs(3),
    };

    fn at(millis: u64) -> Instant {
        Instant(millis * MILLI)
    }

    /// A call that began to wait then.
    fn waiting(since: u64) -> Traffic {
        Traffic {
            calls: 1,
            streams: 1,
            quiet_since: at(since),
            heard: at(0),
        }
    }

    fn actions(ping: &mut Ping) -> Vec<Action> {
        ping.check();
        std::iter::from_fn(|| ping.poll_action()).collect()
    }

    /// Lets the machine's time pass until `end`; what it did, and when in ms.
    fn run(ping: &mut Ping, end: u64) -> Vec<(u64, Action)> {
        let mut done = Vec::new();
        while let Some(due) = ping.poll_timeout().filter(|due| *due <= at(end)) {
            ping.handle_timeout(due);
            let now = actions(ping);
            assert!(!now.is_empty(), "a timeout at {due:?} for nothing");
            done.extend(now.into_iter().map(|action| (due.0 / MILLI, action)));
        }
        done
    }

    #[test]
    fn a_frozen_peer_is_silent_then_mute_then_dead() {
        let mut ping = Ping::new(at(0), PATIENCE);
        ping.handle_traffic(at(1000), waiting(1000));
        let done = run(&mut ping, 100_000);
        assert_eq!(
            done,
            [
                (1300, Action::Silent),
                (1300, Action::Ping),
                (1600, Action::Mute),
                (4300, Action::Dead)
            ]
        );
    }

    #[test]
    fn a_slow_peer_answers_pings_and_keeps_its_connection() {
        let mut ping = Ping::new(at(0), PATIENCE);
        ping.handle_traffic(at(1000), waiting(1000));
        assert_eq!(run(&mut ping, 1300).len(), 2);
        ping.handle_pong(at(1301));
        assert_eq!(actions(&mut ping), []);
        // It is asked again, but not sooner than the server bears.
        assert_eq!(run(&mut ping, 7100), [(6800, Action::Ping), (7100, Action::Mute)]);
        ping.handle_pong(at(7200));
        assert_eq!(actions(&mut ping), [Action::Heard], "it was mute in the meantime");
    }

    #[test]
    fn a_peer_that_answers_calls_and_no_ping_is_alive() {
        let mut ping = Ping::new(at(0), PATIENCE);
        ping.handle_traffic(at(1000), waiting(1000));
        assert_eq!(run(&mut ping, 1600).len(), 3, "silent, pinged, mute");
        let answered = Traffic {
            heard: at(1700),
            ..waiting(1700)
        };
        ping.handle_traffic(at(1700), answered);
        assert_eq!(actions(&mut ping), [Action::Heard]);
        assert_eq!(run(&mut ping, 4500), [(2000, Action::Silent)], "and not dead");
    }

    #[test]
    fn a_doubt_brings_one_ping_although_nothing_is_open() {
        let mut ping = Ping::new(at(0), PATIENCE);
        ping.handle_doubt(at(1000));
        assert_eq!(actions(&mut ping), [Action::Ping]);
        ping.handle_pong(at(1001));
        ping.handle_doubt(at(9000));
        assert_eq!(actions(&mut ping), [], "it would be a strike");
        ping.handle_traffic(at(9500), waiting(9500));
        assert_eq!(actions(&mut ping), [Action::Ping]);
        assert_eq!(run(&mut ping, 100_000).last(), Some(&(12_500, Action::Dead)));
    }

    #[test]
    fn a_peer_without_streams_is_never_pinged() {
        let mut ping = Ping::new(at(0), PATIENCE);
        ping.handle_traffic(at(5), Traffic::default());
        assert_eq!(ping.poll_timeout(), None);
    }

    #[test]
    fn streams_without_calls_are_pinged_at_the_interval_and_are_not_silent() {
        let mut ping = Ping::new(at(0), PATIENCE);
        let traffic = Traffic {
            calls: 0,
            ..waiting(2000)
        };
        ping.handle_traffic(at(2000), traffic);
        assert_eq!(run(&mut ping, 12_000), [(12_000, Action::Ping)]);
        ping.handle_pong(at(12_001));
        assert_eq!(run(&mut ping, 22_001), [(22_001, Action::Ping)]);
    }

    #[test]
    fn a_peer_that_answers_calls_is_not_pinged() {
        let mut ping = Ping::new(at(0), PATIENCE);
        for millis in (0..100_000).step_by(200) {
            let traffic = Traffic {
                heard: at(millis),
                ..waiting(millis)
            };
            ping.handle_traffic(at(millis), traffic);
            assert_eq!(actions(&mut ping), []);
        }
    }

    #[test]
    fn without_an_interval_nothing_is_pinged_and_silence_is_told_all_the_same() {
        let patience = Patience {
            interval: None,
            ..PATIENCE
        };
        let mut ping = Ping::new(at(0), patience);
        ping.handle_traffic(at(1000), waiting(1000));
        assert_eq!(run(&mut ping, 100_000), [(1300, Action::Silent)]);
        assert_eq!(ping.poll_timeout(), None);
    }

    #[test]
    fn traffic_brings_nothing_nearer_than_its_lead() {
        let (mut led, mut unled) = (0, 0);
        for seed in 0..500 {
            let mut chance = Jitter::new(seed);
            let interval = (seed % 3 > 0).then(|| Duration::from_millis(seed * 5));
            let mut ping = Ping::new(at(0), Patience { interval, ..PATIENCE });
            let mut now = 0;
            for _ in 0..100 {
                now += chance.next_u64() % 3000;
                match chance.next_u64() % 5 {
                    0 => ping.handle_timeout(at(now)),
                    1 => ping.handle_pong(at(now)),
                    2 => ping.handle_doubt(at(now)),
                    _ => {
                        ping.handle_timeout(at(now));
                        actions(&mut ping);
                        let (due, lead) = (ping.poll_timeout(), ping.lead());
                        let heard = at(now - chance.next_u64() % 2 * now);
                        ping.handle_traffic(
                            at(now),
                            Traffic {
                                heard,
                                ..waiting(now)
                            },
                        );
                        let Some(lead) = lead else {
                            unled += 1;
                            continue;
                        };
                        led += 1;
                        let soonest = due.map_or(at(now) + lead, |due| due.min(at(now) + lead));
                        let next = ping.poll_timeout();
                        assert!(
                            next.is_none_or(|next| soonest <= next),
                            "seed {seed}: {next:?} before {soonest:?}"
                        );
                        assert_eq!(actions(&mut ping), [], "seed {seed}");
                    }
                }
                actions(&mut ping);
            }
        }
        assert!(led > 1000 && unled > 1000, "{led} with a lead, {unled} without");
    }

    #[test]
    fn whatever_happens_no_server_has_a_reason_to_complain() {
        for seed in 0..500 {
            let mut chance = Jitter::new(seed);
            let mut ping = Ping::new(at(0), PATIENCE);
            let (mut now, mut last, mut traffic) = (0, None, Traffic::default());
            for _ in 0..400 {
                now += chance.next_u64() % 3000;
                match chance.next_u64() % 4 {
                    0 => ping.handle_timeout(at(now)),
                    1 => ping.handle_pong(at(now)),
                    _ => {
                        let calls = (chance.next_u64() % 3) as usize;
                        let streams = calls + (chance.next_u64() % 2) as usize;
                        let quiet_since = at(now - chance.next_u64() % (now + 1).min(2000));
                        let heard = match chance.next_u64() % 2 {
                            0 => quiet_since,
                            _ => traffic.heard,
                        };
                        traffic = Traffic {
                            calls,
                            streams,
                            quiet_since,
                            heard,
                        };
                        ping.handle_traffic(at(now), traffic);
                    }
                }
                if actions(&mut ping).contains(&Action::Ping) {
                    assert!(traffic.streams > 0, "seed {seed}: a ping without a stream");
                    let spaced = last.is_none_or(|last| at(now) >= last + PING_SPACING_MIN);
                    assert!(spaced, "seed {seed}: two pings at once");
                    last = Some(at(now));
                }
            }
        }
    }
}
