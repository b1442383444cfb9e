//! What a client counts, published to the facade `metrics`, for whatever recorder the program has
//! installed. Nothing is recorded where it happens: a publication adds what came since the one before, so
//! that calls and locks cost with the feature what they cost without.
//!
//! Driven by the program, which knows when its metrics are read. No task, no clock.

use std::fmt;
use std::time::Duration;

use ::metrics::{
    Histogram, Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::{Client, Telemetry};
use crate::core::histogram::Latencies;
use crate::error::{Delivery, Origin};

/// Publishes what a client counts to the `metrics` facade, from [`Client::metrics`].
///
/// Dropping it takes back what was there `now`: connections and leases that are kept alive.
pub struct Metrics {
    client: Client,
    labels: Vec<Label>,
    /// As it was published; none where nothing was.
    last: Option<Telemetry>,
}

impl Client {
    /// What this client counts, with all its clones and views, as metrics. Nothing is published yet; what is
    /// published first are the counts since the client was made.
    ///
    /// It is a handle of the client: connections live as long as it does. One is enough for each
    /// client, for two publish everything twice.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) {
    /// let mut metrics = client.metrics().label("cluster", "eu");
    /// tokio::spawn(async move {
    ///     loop {
    ///         metrics.publish();
    ///         tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    ///     }
    /// });
    /// # }
    /// ```
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics {
            client: self.clone(),
            labels: Vec::new(),
            last: None,
        }
    }
}

impl Metrics {
    /// Bounds for histograms of seconds, from 131 µs to 69 s: a Prometheus exporter is to be told of buckets, or it
    /// makes quantiles that cannot be added up. These are bounds that the client itself counts by, so that
    /// no time comes to lie in a neighbour's bucket.
    pub const BUCKETS_SECONDS: [f64; 20] = {
        let mut bounds = [0.000_131_072; 20];
        let mut at = 1;
        while at < bounds.len() {
            bounds[at] = bounds[at - 1] * 2.0;
            at += 1;
        }
        bounds
    };

    /// Adds a label to everything, such as which cluster this is. Without one the figures of several clients are
    /// added up. None that a metric has of its own (`outcome`, `origin`, `delivery`).
    ///
    /// To be called before the first publication. What was published before stays without it; what is there `now` is
    /// taken back there, by the recorder of this moment, and published with it.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Metrics {
        self.take_back();
        self.labels.push(Label::new(name.into(), value.into()));
        self
    }

    /// Publishes what was counted since the last time, by the recorder of this moment: install it before
    /// the first time. To be called every few seconds, or whenever the metrics are about to be read.
    ///
    /// The facade takes one time after the other: this costs some nanoseconds for each call and each grant of
    /// a lock since the last time.
    pub fn publish(&mut self) {
        if self.last.is_none() {
            describe();
        }
        let now = self.client.telemetry();
        publish(&self.labels, &self.last.take().unwrap_or_default(), &now);
        self.last = Some(now);
    }

    /// What is there now is published as nothing.
    fn take_back(&mut self) {
        if let Some(last) = &mut self.last {
            add_to_gauges(&self.labels, last, &Telemetry::default());
            forget_now(last);
        }
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.take_back();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("labels", &self.labels).finish_non_exhaustive()
    }
}

/// Something that only rises.
struct Counter {
    name: &'static str,
    labels: &'static [(&'static str, &'static str)],
    what: &'static str,
    of: fn(&Telemetry) -> u64,
}

/// Something of which there are so many.
struct Gauge {
    name: &'static str,
    what: &'static str,
    of: fn(&Telemetry) -> f64,
}

/// How long something took.
struct Times {
    name: &'static str,
    what: &'static str,
    of: fn(&Telemetry) -> &Latencies,
}

const CALLS: &str = "Unary calls, by how they ended. Those that were given up under way are dropped, those refused for being too many are shed";

/// Calls that failed, by [`ORIGINS`] and [`DELIVERIES`].
const FAILURES: (&str, &str) = (
    "tenure_call_failures_total",
    "Unary calls that failed, by whose fault it was and how far the request came",
);

const ORIGINS: [(&str, Origin); 4] = [
    ("caller", Origin::Caller),
    ("library", Origin::Library),
    ("transport", Origin::Transport),
    ("server", Origin::Server),
];

const DELIVERIES: [(&str, Delivery); 3] = [
    ("not_sent", Delivery::NotSent),
    ("unknown", Delivery::Unknown),
    ("answered", Delivery::Answered),
];

const fn counter(name: &'static str, what: &'static str, of: fn(&Telemetry) -> u64) -> Counter {
    Counter {
        name,
        labels: &[],
        what,
        of,
    }
}

const fn calls(labels: &'static [(&'static str, &'static str)], of: fn(&Telemetry) -> u64) -> Counter {
    Counter {
        labels,
        ..counter("tenure_calls_total", CALLS, of)
    }
}

const COUNTERS: &[Counter] = &[
    calls(&[("outcome", "ok")], |all| all.calls.ok),
    calls(&[("outcome", "failed")], |all| all.calls.failed.total()),
    calls(&[("outcome", "dropped")], |all| all.calls.dropped),
    calls(&[("outcome", "shed")], |all| all.calls.shed),
    counter(
        "tenure_call_retries_total",
        "How often a call was sent again after an attempt that failed",
        |all| all.calls.retries,
    ),
    counter(
        "tenure_call_failovers_total",
        "How often that went to another member",
        |all| all.calls.failovers,
    ),
    counter(
        "tenure_call_detours_total",
        "How often a read was asked of a second member in addition",
        |all| all.calls.detours,
    ),
    counter(
        "tenure_connections_dialled_total",
        "How often an endpoint was dialled",
        |all| all.connections.dialled,
    ),
    counter(
        "tenure_connections_failed_total",
        "Connections that did not come up",
        |all| all.connections.failed,
    ),
    counter(
        "tenure_connections_opened_total",
        "Connections that came up",
        |all| all.connections.opened,
    ),
    counter(
        "tenure_connections_reopened_total",
        "Connections to an endpoint that had been connected before",
        |all| all.connections.reopened,
    ),
    counter(
        "tenure_connections_drained_total",
        "Connections that the server asked to leave",
        |all| all.connections.drained,
    ),
    counter(
        "tenure_connections_lost_total",
        "Connections that broke or were given up as dead",
        |all| all.connections.lost,
    ),
    counter(
        "tenure_breakers_opened_total",
        "How often an endpoint came to be asked after the others, since it failed",
        |all| all.breakers.opened,
    ),
    counter(
        "tenure_watches_opened_total",
        "Watches that the server created",
        |all| all.watches.opened,
    ),
    counter(
        "tenure_watches_resumed_total",
        "How often a watch was created again after its stream was lost",
        |all| all.watches.resumed,
    ),
    counter(
        "tenure_watches_lagged_total",
        "How often a reader was so slow that its watch was created again, or ended",
        |all| all.watches.lagged,
    ),
    counter(
        "tenure_watches_ended_total",
        "Watches that ended otherwise and were not given up by their reader",
        |all| all.watches.ended,
    ),
    counter("tenure_leases_kept_total", "Leases that were kept alive", |all| {
        all.leases.kept
    }),
    counter(
        "tenure_lease_renewals_total",
        "Renewals that were answered in time",
        |all| all.leases.renewals,
    ),
    counter(
        "tenure_leases_lost_total",
        "Leases that ended and were not given up by this client",
        |all| all.leases.lost,
    ),
    counter("tenure_locks_granted_total", "Keys that etcd granted", |all| {
        all.locks.granted
    }),
    counter(
        "tenure_locks_waited_total",
        "Grants that had others before them in the queue",
        |all| all.locks.waited,
    ),
    counter(
        "tenure_locks_handed_off_total",
        "Locks that were passed on within a session, with no request",
        |all| all.locks.handed_off,
    ),
    counter(
        "tenure_locks_relocked_total",
        "Locks that lingered and were locked again, with no request",
        |all| all.locks.relocked,
    ),
    counter(
        "tenure_locks_lost_total",
        "Locks that were lost to their holder",
        |all| all.locks.lost,
    ),
];

const GAUGES: &[Gauge] = &[
    Gauge {
        name: "tenure_connections",
        what: "Connections that take calls",
        of: |all| all.connections.now as f64,
    },
    Gauge {
        name: "tenure_breakers_open",
        what: "Endpoints that are asked after the others, since they fail",
        of: |all| all.breakers.now as f64,
    },
    Gauge {
        name: "tenure_leases",
        what: "Leases that are kept alive",
        of: |all| all.leases.now as f64,
    },
];

const TIMES: &[Times] = &[
    Times {
        name: "tenure_call_seconds",
        what: "From the making of a call to its end, with all attempts",
        of: |all| &all.calls.latency,
    },
    Times {
        name: "tenure_lock_wait_seconds",
        what: "From asking etcd for a lock to its grant",
        of: |all| &all.locks.waits,
    },
    Times {
        name: "tenure_lock_hold_seconds",
        what: "How long a session had the key of a lock",
        of: |all| &all.locks.holds,
    },
];

fn describe() {
    for counter in COUNTERS {
        describe_counter!(counter.name, Unit::Count, counter.what);
    }
    describe_counter!(FAILURES.0, Unit::Count, FAILURES.1);
    for gauge in GAUGES {
        describe_gauge!(gauge.name, Unit::Count, gauge.what);
    }
    for times in TIMES {
        describe_histogram!(times.name, Unit::Seconds, times.what);
    }
}

/// What came between these two.
fn publish(labels: &[Label], last: &Telemetry, now: &Telemetry) {
    for counter in COUNTERS {
        let new = (counter.of)(now).saturating_sub((counter.of)(last));
        counter!(counter.name, labels_and(labels, counter.labels)).increment(new);
    }
    for (origin, of_origin) in ORIGINS {
        for (delivery, of_delivery) in DELIVERIES {
            let count = |telemetry: &Telemetry| telemetry.calls.failed.by(of_origin, of_delivery);
            let labels = labels_and(labels, &[("origin", origin), ("delivery", delivery)]);
            counter!(FAILURES.0, labels).increment(count(now).saturating_sub(count(last)));
        }
    }
    for times in TIMES {
        let new = (times.of)(now).since((times.of)(last));
        record(&histogram!(times.name, labels.to_vec()), &new);
    }
    add_to_gauges(labels, last, now);
}

/// By differences, so that clients add up.
fn add_to_gauges(labels: &[Label], last: &Telemetry, now: &Telemetry) {
    for gauge in GAUGES {
        gauge!(gauge.name, labels.to_vec()).increment((gauge.of)(now) - (gauge.of)(last));
    }
}

/// Of [`GAUGES`] there is nothing.
fn forget_now(telemetry: &mut Telemetry) {
    telemetry.connections.now = 0;
    telemetry.breakers.now = 0;
    telemetry.leases.now = 0;
}

fn labels_and(labels: &[Label], own: &[(&'static str, &'static str)]) -> Vec<Label> {
    let own = own.iter().map(|(name, value)| Label::from_static_parts(name, value));
    labels.iter().cloned().chain(own).collect()
}

/// The facade takes values, and what there is are counts: each value stands for so many times in
/// its bucket. All lie as far into their buckets as makes their sum right.
fn record(histogram: &Histogram, new: &Latencies) {
    let buckets = filled(new);
    let sum = new.sum().as_secs_f64();
    let least: f64 = buckets.iter().map(|bucket| bucket.from * bucket.count as f64).sum();
    let room: f64 = buckets.iter().map(|bucket| bucket.width * bucket.count as f64).sum();
    // Off the bounds, which are the neighbours' too.
    let share = ((sum - least) / room).clamp(0.001, 0.999);
    for bucket in buckets {
        let mut value = bucket.from + bucket.width * share;
        if bucket.is_last {
            // It takes what is longer, too, and so what no share accounts for.
            value += ((sum - least - room) / bucket.count as f64).max(0.0);
        }
        let count = usize::try_from(bucket.count).unwrap_or(usize::MAX);
        histogram.record_many(value, count);
    }
}

/// A bucket that has something in it, in seconds.
struct Filled {
    from: f64,
    width: f64,
    count: u64,
    is_last: bool,
}

fn filled(latencies: &Latencies) -> Vec<Filled> {
    let mut buckets = Vec::new();
    let (mut from, mut before) = (0.0, 0);
    for (bound, within) in latencies.buckets() {
        let is_last = bound == Duration::MAX;
        let to = match is_last {
            // As wide as its neighbours.
            true => from * 1.125,
            false => bound.as_secs_f64(),
        };
        if within > before {
            buckets.push(Filled {
                from,
                width: to - from,
                count: within - before,
                is_last,
            });
        }
        (from, before) = (to, within);
    }
    buckets
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::client::{
        BreakerTelemetry, CallTelemetry, ConnectionTelemetry, FailedCalls, LeaseTelemetry, LockTelemetry,
        WatchTelemetry,
    };
    use crate::core::histogram;

    fn latencies(times: impl IntoIterator<Item = Duration>) -> Latencies {
        let histogram = histogram::Histogram::new();
        times.into_iter().for_each(|time| histogram.record(time));
        histogram.latencies()
    }

    fn page(published: &Telemetry) -> String {
        let builder = PrometheusBuilder::new().set_buckets(&Metrics::BUCKETS_SECONDS);
        let recorder = builder.expect("there are buckets").build_recorder();
        ::metrics::with_local_recorder(&recorder, || publish(&[], &Telemetry::default(), published));
        recorder.handle().render()
    }

    fn value(page: &str, name: &str) -> f64 {
        let rest = page.lines().find_map(|line| line.strip_prefix(name));
        rest.expect("it is there").trim().parse().expect("a number")
    }

    #[test]
    fn each_figure_is_published() {
        // Each has a value of its own. A figure that is new has to be named here.
        let mut last = 100;
        let mut next = || {
            last += 1;
            last
        };
        let failed = FailedCalls([(); 4].map(|()| [(); 3].map(|()| next())));
        let mut times = || latencies((0..next()).map(Duration::from_millis));
        let (latency, waits, holds) = (times(), times(), times());
        let all = Telemetry {
            calls: CallTelemetry {
                ok: next(),
                failed,
                dropped: next(),
                shed: next(),
                retries: next(),
                failovers: next(),
                detours: next(),
                latency,
            },
            connections: ConnectionTelemetry {
                now: next(),
                dialled: next(),
                failed: next(),
                opened: next(),
                reopened: next(),
                drained: next(),
                lost: next(),
            },
            breakers: BreakerTelemetry {
                now: next(),
                opened: next(),
            },
            watches: WatchTelemetry {
                opened: next(),
                resumed: next(),
                lagged: next(),
                ended: next(),
            },
            leases: LeaseTelemetry {
                now: next(),
                kept: next(),
                renewals: next(),
                lost: next(),
            },
            locks: LockTelemetry {
                granted: next(),
                waited: next(),
                handed_off: next(),
                relocked: next(),
                lost: next(),
                waits,
                holds,
            },
        };
        let page = page(&all);
        for figure in (101..=last).chain([failed.total()]) {
            let has_it = |line: &str| line.ends_with(&format!(" {figure}"));
            assert!(page.lines().any(has_it), "{figure} of {all:?} is not in {page}");
        }
        let mut all = all;
        forget_now(&mut all);
        assert!(GAUGES.iter().all(|gauge| (gauge.of)(&all) == 0.0), "{all:?}");
    }

    #[test]
    fn sums_and_buckets_are_those_that_were_counted() {
        let week = Duration::from_secs(7 * 24 * 3600);
        let short = (1..500_u64).map(|number| Duration::from_nanos(number * number * 997));
        for times in [
            short.clone().collect::<Vec<_>>(),
            // What lies on bounds, and in buckets of which one has nothing before it.
            (0..20).map(|power| Duration::from_nanos(1024 << power)).collect(),
            vec![Duration::ZERO],
            vec![week],
            short.chain([week, 2 * week, Duration::from_secs(4500)]).collect(),
        ] {
            let mut all = Telemetry::default();
            all.calls.latency = latencies(times.iter().copied());
            let page = page(&all);
            let sum: Duration = times.iter().sum();
            let published = value(&page, "tenure_call_seconds_sum");
            let off = (published - sum.as_secs_f64()).abs();
            assert!(off <= sum.as_secs_f64() * 1e-3 + 2e-9, "{published} for {sum:?}");
            for bound in Metrics::BUCKETS_SECONDS {
                let counted = times.iter().filter(|time| time.as_secs_f64() < bound - 1e-9).count();
                let name = format!("tenure_call_seconds_bucket{{le=\"{bound}\"}}");
                assert_eq!(value(&page, &name), counted as f64, "{name} in {page}");
            }
        }
    }
}
