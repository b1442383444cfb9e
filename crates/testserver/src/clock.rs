//! The time of a server, counted from its start: tokio's, or one that is moved by
//! hand. It decides nothing; whoever waits for a time asks here.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::etcd::Clock;

#[derive(Debug)]
pub(crate) enum Time {
    Tokio { start: Instant },
    ByHand(watch::Sender<Duration>),
}

impl Time {
    pub(crate) fn new(clock: Clock) -> Time {
        match clock {
            Clock::Tokio => Time::Tokio {
                start: Instant::now(),
            },
            Clock::ByHand => Time::ByHand(watch::Sender::new(Duration::ZERO)),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        match self {
            Time::Tokio { start } => start.elapsed(),
            Time::ByHand(now) => *now.borrow(),
        }
    }

    /// Moves a clock that stands still.
    pub(crate) fn set(&self, now: Duration) {
        if let Time::ByHand(time) = self {
            time.send_replace(now);
        }
    }

    /// Waits for a time. Dropped before its end, nothing has happened.
    pub(crate) async fn until(&self, deadline: Duration) {
        match self {
            Time::Tokio { start } => tokio::time::sleep_until(*start + deadline).await,
            Time::ByHand(now) => {
                // The sender is here: the channel does not close.
                let _ = now.subscribe().wait_for(|now| *now >= deadline).await;
            }
        }
    }
}
