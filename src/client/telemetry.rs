//! What a client has counted, as plain numbers of one moment, and what becomes of it, as it happens.

use super::Client;
use crate::core::histogram::Latencies;
use crate::error::{Delivery, Origin};
use crate::net::feed::StateEvents;
use crate::net::figures::{self, DELIVERIES, Figures, ORIGINS};

/// What a client has counted since it was made, of all its clones and views. Numbers rise, but
/// for those that say how many there are `now`.
///
/// Counting is always on: a few additions for each call, and next to nothing for a lock that
/// is passed on within a session. The numbers are read one after the other, so that they may
/// differ by what happened meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Telemetry {
    /// Of unary calls, also those that the client makes of itself.
    pub calls: CallTelemetry,
    /// Of connections to all endpoints.
    pub connections: ConnectionTelemetry,
    /// Of endpoints that fail at what they answer.
    pub breakers: BreakerTelemetry,
    /// Of watches, also those of locks and other recipes.
    pub watches: WatchTelemetry,
    /// Of leases that are kept alive, also those of sessions.
    pub leases: LeaseTelemetry,
    /// Of locks and other recipes that queue in etcd.
    pub locks: LockTelemetry,
}

/// See [`Telemetry::calls`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallTelemetry {
    /// Calls that succeeded.
    pub ok: u64,
    /// Calls that ended in an error.
    pub failed: FailedCalls,
    /// Calls that were sent and whose future was dropped before they ended.
    pub dropped: u64,
    /// Calls, and streams of answers, that were refused since as many were in flight as
    /// [`Config::calls_max`](crate::Config::calls_max) allows. They count nowhere else.
    pub shed: u64,
    /// How often a call was sent again, or to be sent again, after an attempt that failed.
    pub retries: u64,
    /// How often that went to another member.
    pub failovers: u64,
    /// How often a read was asked of a second member, while the first one was silent or slow
    /// ([`Config::hedge_after`](crate::Config::hedge_after)).
    pub detours: u64,
    /// From the making of the call's future to its end, of those that succeeded or failed: with the wait
    /// for a connection, and all attempts.
    pub latency: Latencies,
}

/// Calls that failed, by whose fault it was and how far the request came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailedCalls(pub(super) [[u64; DELIVERIES]; ORIGINS]);

/// See [`Telemetry::connections`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionTelemetry {
    /// Those that take calls at this moment.
    pub now: u64,
    /// How often an endpoint was dialled.
    pub dialled: u64,
    /// How many of these did not come up.
    pub failed: u64,
    /// How many came up.
    pub opened: u64,
    /// How many of these to an endpoint that had been connected before: after a loss, or a further one beside others.
    pub reopened: u64,
    /// How many the server asked to leave (GOAWAY).
    pub drained: u64,
    /// How many broke, or were given up as dead. Those that this client closed are not among them.
    pub lost: u64,
}

/// See [`Telemetry::breakers`]; nothing without [`Config::breaker_failures`](crate::Config::breaker_failures).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerTelemetry {
    /// How many endpoints are asked after the others at this moment.
    pub now: u64,
    /// How often one came to be so.
    pub opened: u64,
}

/// See [`Telemetry::watches`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchTelemetry {
    /// How many the server has created.
    pub opened: u64,
    /// How often one was created again after its stream was lost.
    pub resumed: u64,
    /// How often a reader was so slow that its watch was created again, or ended.
    pub lagged: u64,
    /// How many ended otherwise, and were not given up by their reader.
    pub ended: u64,
}

/// See [`Telemetry::leases`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseTelemetry {
    /// Those that are kept alive at this moment.
    pub now: u64,
    /// How many were.
    pub kept: u64,
    /// Renewals that were answered in time.
    pub renewals: u64,
    /// How many ended and were not revoked or closed by this client.
    pub lost: u64,
}

/// See [`Telemetry::locks`].
///
/// How long a task waited for another one of its session, and how long each task had the lock, is not
/// measured: that would cost more than the hand-off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockTelemetry {
    /// Keys that etcd granted: to [`Mutex`](crate::Mutex), and to the other recipes that queue as it does.
    pub granted: u64,
    /// How many of these had others before them in the queue: hand-offs by way of etcd.
    pub waited: u64,
    /// How often a [`Mutex`](crate::Mutex) was passed on to a waiting task of the same session, with no request.
    pub handed_off: u64,
    /// How often one was locked again, with no request, that [lingered](crate::Mutex::linger) in the session.
    pub relocked: u64,
    /// Locks of a [`Mutex`](crate::Mutex) that were lost to their holder, each once and when it happens,
    /// whatever the holder does: when the session is over, be it closed here, or the guard's
    /// [maximum hold](crate::Mutex::hold_at_most). That somebody deleted the key is known where it is watched, for an
    /// [owner](crate::Mutex::owner) or since it [lingers](crate::Mutex::linger); else it counts with the
    /// guard's [release](crate::Guard::release), and where that is dropped, not at all.
    pub lost: u64,
    /// From asking etcd to its grant, of [`LockTelemetry::granted`]. The wait for the session's own turn is not in it.
    pub waits: Latencies,
    /// How long a session had the key of a [`Mutex`](crate::Mutex), from its grant to where it was
    /// given back, with all hand-offs and lingering.
    pub holds: Latencies,
}

impl Client {
    /// What this client has counted until now, with all its clones and views.
    ///
    /// It looks at each lock that a session has, and copies some kilobytes: for every few seconds, not for every call.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) {
    /// let telemetry = client.telemetry();
    /// let p99 = telemetry.calls.latency.percentile(0.99);
    /// println!("{} calls, 99 % within {p99:?}", telemetry.calls.ok);
    /// # }
    /// ```
    #[must_use]
    pub fn telemetry(&self) -> Telemetry {
        let figures = self.channel().figures();
        Telemetry {
            calls: calls(figures),
            connections: ConnectionTelemetry {
                now: self.channel().connections() as u64,
                dialled: figures.connections.dialled.count(),
                failed: figures.connections.failed.count(),
                opened: figures.connections.opened.count(),
                reopened: figures.connections.reopened.count(),
                drained: figures.connections.drained.count(),
                lost: figures.connections.lost.count(),
            },
            breakers: BreakerTelemetry {
                now: self.channel().open_breakers() as u64,
                opened: figures.breakers_opened.count(),
            },
            watches: WatchTelemetry {
                opened: figures.watches.opened.count(),
                resumed: figures.watches.resumed.count(),
                lagged: figures.watches.lagged.count(),
                ended: figures.watches.ended.count(),
            },
            leases: LeaseTelemetry {
                now: self.leases_kept().kept() as u64,
                kept: figures.leases.kept.count(),
                renewals: figures.leases.renewals.count(),
                lost: figures.leases.lost.count(),
            },
            locks: locks(figures),
        }
    }

    /// What becomes of this client from now on: connections that come and go, members that fail, elections, leases and sessions that
    /// are lost. Of all its clones and views, and as many readers as wanted.
    ///
    /// Up to 256 events wait for a reader that is slow; then the oldest go, and it is told how many
    /// ([`StateEvent::Missed`](super::StateEvent::Missed)). Elections are seen in the answers to key-value calls
    /// and statuses: a client that makes none hears of none.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) {
    /// let mut events = client.state_events();
    /// while let Some(event) = events.next().await {
    ///     println!("{event:?}");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn state_events(&self) -> StateEvents {
        self.channel().figures().feed.subscribe()
    }
}

impl FailedCalls {
    /// Those that failed so.
    #[must_use]
    pub fn by(&self, origin: Origin, delivery: Delivery) -> u64 {
        self.0[figures::row(origin)][figures::column(delivery)]
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.as_flattened().iter().sum()
    }
}

fn calls(figures: &Figures) -> CallTelemetry {
    CallTelemetry {
        ok: figures.calls.ok.count(),
        failed: FailedCalls(figures.calls.failed()),
        dropped: figures.calls.dropped.count(),
        shed: figures.calls.shed.count(),
        retries: figures.calls.retries.count(),
        failovers: figures.calls.failovers.count(),
        detours: figures.calls.detours.count(),
        latency: figures.calls.latency.latencies(),
    }
}

fn locks(figures: &Figures) -> LockTelemetry {
    let regrants = figures.locks.grants.regrants();
    LockTelemetry {
        granted: figures.locks.granted.count(),
        waited: figures.locks.waited.count(),
        handed_off: regrants.handed_off,
        relocked: regrants.relocked,
        lost: figures.locks.lost.count(),
        waits: figures.locks.waits.latencies(),
        holds: figures.locks.holds.latencies(),
    }
}
