//! Whatever goes on on a connection, its peer is pinged no more often than servers
//! bear, is told silent, mute and dead only when it is, and one that is frozen is
//! found dead in time.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use tenure::core::ping::{Action, PING_SPACING_MIN, Patience, Ping, Traffic};
use tenure::core::time::Instant;

use crate::inputs::inputs;

#[derive(Arbitrary, Debug)]
enum Input {
    Traffic {
        calls: u8,
        streams: u8,
        /// Before now, in milliseconds.
        quiet_since: u16,
        /// Before now, or the same as the last time.
        heard: Option<u16>,
    },
    Pong,
    Doubt,
    Timeout,
    TooSoon,
    Later(u16),
}

const INPUTS_MAX: usize = 1000;

struct Driver {
    now: Instant,
    patience: Patience,
    traffic: Traffic,
    pinged: Option<Instant>,
    /// The last ping is not answered, by itself or by anything else.
    is_out: bool,
    is_mute: bool,
    is_dead: bool,
    /// The last silence that was told.
    silent_since: Option<Instant>,
}

pub(crate) fn run(data: &[u8]) {
    let mut data = Unstructured::new(data);
    let Ok((silence, interval, timeout)) = <(u16, Option<u16>, u16)>::arbitrary(&mut data) else {
        return;
    };
    let patience = Patience {
        silence: millis(silence),
        interval: interval.map(millis),
        timeout: millis(timeout),
    };
    let mut driver = Driver {
        // Late enough for everything that lies before.
        now: Instant::default() + millis(u16::MAX),
        patience,
        traffic: Traffic::default(),
        pinged: None,
        is_out: false,
        is_mute: false,
        is_dead: false,
        silent_since: None,
    };
    let mut ping = Ping::new(driver.now, patience);
    for input in inputs(&mut data).take(INPUTS_MAX) {
        driver.feed(&mut ping, input);
        driver.drain(&mut ping);
    }
    if patience.interval.is_some() {
        driver.freeze(&mut ping);
    }
}

fn millis(millis: u16) -> Duration {
    Duration::from_millis(millis.into())
}

impl Driver {
    fn feed(&mut self, ping: &mut Ping, input: Input) {
        match input {
            Input::Traffic {
                calls,
                streams,
                quiet_since,
                heard,
            } => {
                self.traffic = Traffic {
                    calls: calls.into(),
                    streams: usize::from(calls) + usize::from(streams),
                    quiet_since: self.now - millis(quiet_since),
                    heard: heard.map_or(self.traffic.heard, |heard| self.now - millis(heard)),
                };
                self.traffic(ping);
            }
            Input::Pong => {
                self.is_out = false;
                ping.handle_pong(self.now);
            }
            Input::Doubt => ping.handle_doubt(self.now),
            Input::Timeout => {
                self.now = ping.poll_timeout().unwrap_or(self.now).max(self.now);
                ping.handle_timeout(self.now);
            }
            Input::TooSoon => ping.handle_timeout(self.now),
            Input::Later(later) => {
                self.now = self.now + millis(later);
                ping.handle_timeout(self.now);
            }
        }
    }

    fn traffic(&mut self, ping: &mut Ping) {
        self.is_out &= self.pinged.is_none_or(|pinged| self.traffic.heard <= pinged);
        ping.handle_traffic(self.now, self.traffic);
    }

    fn drain(&mut self, ping: &mut Ping) {
        ping.check();
        while let Some(action) = ping.poll_action() {
            match action {
                Action::Ping => self.pinged(),
                Action::Silent => {
                    let since = self.traffic.quiet_since;
                    assert!(self.traffic.calls > 0, "silent, and nobody waits");
                    assert!(self.now >= since + self.patience.silence, "silent too soon");
                    assert_ne!(self.silent_since, Some(since), "silent twice");
                    self.silent_since = Some(since);
                }
                Action::Mute => {
                    self.unanswered(self.patience.silence.min(self.patience.timeout));
                    assert!(!std::mem::replace(&mut self.is_mute, true), "mute twice");
                }
                Action::Heard => {
                    assert!(!self.is_out, "heard, and no answer came");
                    assert!(std::mem::take(&mut self.is_mute), "heard, and was not mute");
                }
                Action::Dead => {
                    self.unanswered(self.patience.timeout);
                    assert!(!std::mem::replace(&mut self.is_dead, true), "dead twice");
                }
            }
        }
        let due = ping.poll_timeout();
        assert!(
            due.is_none_or(|due| due > self.now),
            "a timer that is due for ever"
        );
        assert!(!self.is_dead || due.is_none(), "a timer for the dead");
    }

    fn pinged(&mut self) {
        assert!(!self.is_dead, "the dead are pinged");
        assert!(!self.is_out, "pinged, and the last ping is not answered");
        if let Some(pinged) = self.pinged {
            assert!(self.now >= pinged + PING_SPACING_MIN, "two pings at once");
            let is_strike = self.traffic.streams == 0 && self.traffic.heard <= pinged;
            assert!(
                !is_strike,
                "a second ping without a stream and without an answer to a call"
            );
        }
        assert!(self.patience.interval.is_some(), "pinged, and nobody wants it");
        self.pinged = Some(self.now);
        self.is_out = true;
    }

    fn unanswered(&self, patience: Duration) {
        assert!(!self.is_dead, "news of the dead");
        assert!(self.is_out, "a peer that answers is given up");
        let pinged = self.pinged.expect("a ping that is out was sent");
        assert!(self.now >= pinged + patience, "given up too soon");
    }

    /// A call waits from now on, and nothing is heard any more.
    fn freeze(&mut self, ping: &mut Ping) {
        let Patience { silence, timeout, .. } = self.patience;
        let spaced = self.pinged.map_or(self.now, |pinged| pinged + PING_SPACING_MIN);
        let latest = spaced.max(self.now + silence) + timeout;
        self.traffic = Traffic {
            calls: 1,
            streams: 1,
            quiet_since: self.now,
            heard: self.traffic.heard,
        };
        self.traffic(ping);
        self.drain(ping);
        while !self.is_dead {
            self.feed(ping, Input::Timeout);
            assert!(self.now <= latest, "a frozen peer is not found dead in time");
            self.drain(ping);
        }
    }
}
