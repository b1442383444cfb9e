//! What a client publishes to the `metrics` facade, as Prometheus reads it: the page is read by a parser that is not
//! ours and held against [`Client::telemetry`]. And that rules and guide name what is on it, and nothing else.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use prometheus_parse::{HistogramCount, Scrape, Value};
use tenure::{Client, Delivery, Latencies, LeaseId, Metrics, Origin, Telemetry};
use tenure_testserver::Server;

const RULES: &str = include_str!("../docs/alerts.yml");
const RULES_TEST: &str = include_str!("../docs/alerts_test.yml");
const GUIDE: &str = include_str!("../docs/observability.md");

const TTL: Duration = Duration::from_secs(60);
/// A third of it is the wait for the renewal that tells of a loss.
const TTL_SHORT: Duration = Duration::from_secs(6);
/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(50);

/// A recorder of one test alone.
fn recorder() -> PrometheusRecorder {
    let builder = PrometheusBuilder::new().set_buckets(&Metrics::BUCKETS_SECONDS);
    builder.expect("there are buckets").build_recorder()
}

fn publish(recorder: &PrometheusRecorder, metrics: &mut Metrics) {
    metrics::with_local_recorder(recorder, || metrics.publish());
}

fn parsed(recorder: &PrometheusRecorder) -> Scrape {
    let page = recorder.handle().render();
    Scrape::parse(page.lines().map(|line| Ok(line.to_owned()))).expect("a page that Prometheus reads")
}

/// The one sample of this name with these labels and no other.
fn value<'a>(page: &'a Scrape, name: &str, labels: &[(&str, &str)]) -> &'a Value {
    let found = page.samples.iter().filter(|sample| {
        let same = labels.iter().all(|(label, value)| sample.labels.get(label) == Some(value));
        sample.metric == name && same && sample.labels.len() == labels.len()
    });
    let found: Vec<_> = found.collect();
    assert_eq!(found.len(), 1, "{name} {labels:?} in {page:?}");
    &found[0].value
}

fn number(page: &Scrape, name: &str, labels: &[(&str, &str)]) -> u64 {
    match value(page, name, labels) {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => *value as u64,
        other => panic!("{name} is {other:?}"),
    }
}

fn count(page: &Scrape, name: &str) -> u64 {
    assert!(matches!(value(page, name, &[]), Value::Counter(_)), "{name}");
    number(page, name, &[])
}

fn gauge(page: &Scrape, name: &str) -> u64 {
    assert!(matches!(value(page, name, &[]), Value::Gauge(_)), "{name}");
    number(page, name, &[])
}

fn histogram<'a>(page: &'a Scrape, name: &str) -> &'a [HistogramCount] {
    match value(page, name, &[]) {
        Value::Histogram(buckets) => buckets,
        other => panic!("{name} is {other:?}"),
    }
}

/// What was published of these times: each bucket's count, and their sum.
fn assert_times(page: &Scrape, name: &str, counted: &Latencies) {
    let buckets = histogram(page, name);
    assert_eq!(
        buckets.len(),
        Metrics::BUCKETS_SECONDS.len() + 1,
        "and the infinite one"
    );
    for bucket in buckets {
        let within =
            counted.buckets().take_while(|(bound, _)| bound.as_secs_f64() <= bucket.less_than + 1e-9);
        let within = within.last().map_or(0, |(_, within)| within);
        assert_eq!(bucket.count as u64, within, "{name} below {} s", bucket.less_than);
    }
    assert_eq!(
        number(page, &format!("{name}_count"), &[]),
        counted.count(),
        "{name}"
    );
    let Value::Untyped(sum) = value(page, &format!("{name}_sum"), &[]) else {
        panic!("{name} has no sum");
    };
    let off = (sum - counted.sum().as_secs_f64()).abs();
    assert!(
        off <= counted.sum().as_secs_f64() * 1e-3,
        "{sum} for {:?}",
        counted.sum()
    );
}

async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    let bounded = tokio::time::timeout(PATIENCE, future).await;
    bounded.unwrap_or_else(|_| panic!("{what} has not happened"))
}

/// Calls that succeed, fail and are given up, locks of all kinds, a watch.
async fn work(client: &Client, other: &Client) {
    for number in 0..30 {
        client.put(format!("metrics/{number}"), "value").await.expect("a put");
    }
    client
        .put("metrics/0", "")
        .lease(LeaseId(0x0d0))
        .await
        .expect_err("there is no such lease");
    client.put("metrics/0", vec![0; 64 << 20]).await.expect_err("it is too large");
    let watch = client.watch("metrics/watched").await.expect("a watch");
    let session = client.session().ttl(TTL).await.expect("a session");
    let mutex = session.mutex("metrics/lock");
    let guard = mutex.lock().await.expect("the lock");
    let (next, ()) = tokio::join!(mutex.lock(), async { drop(guard) });
    next.expect("the lock").release().await.expect("it is ours");
    let short = client.session().ttl(TTL_SHORT).await.expect("a session");
    let lost = short.mutex("metrics/lost").lock().await.expect("the lock");
    other.lease_revoke(short.lease_id()).await.expect("there is such a lease");
    patiently("the loss", short.ended()).await;
    lost.release().await.expect_err("it is lost");
    drop(watch);
    // What is left renews nothing for a while.
    client.lease(TTL).await.expect("a lease").revoke().await.expect("it is there");
}

/// What is published of a client, beside what it says itself when it is at rest.
async fn at_rest(recorder: &PrometheusRecorder, metrics: &mut Metrics, client: &Client) -> Telemetry {
    patiently("rest", async {
        loop {
            let before = client.telemetry();
            publish(recorder, metrics);
            if client.telemetry() == before {
                return before;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

fn assert_same(page: &Scrape, all: &Telemetry) {
    let calls = |outcome| number(page, "tenure_calls_total", &[("outcome", outcome)]);
    assert_eq!(calls("ok"), all.calls.ok);
    assert_eq!(calls("failed"), all.calls.failed.total());
    assert_eq!(calls("dropped"), all.calls.dropped);
    for (origin, of_origin) in [("caller", Origin::Caller), ("server", Origin::Server)] {
        for (delivery, of_delivery) in [("not_sent", Delivery::NotSent), ("answered", Delivery::Answered)] {
            let labels = [("origin", origin), ("delivery", delivery)];
            let published = number(page, "tenure_call_failures_total", &labels);
            assert_eq!(
                published,
                all.calls.failed.by(of_origin, of_delivery),
                "{labels:?}"
            );
        }
    }
    let (connections, watches, leases, locks) = (&all.connections, &all.watches, &all.leases, &all.locks);
    for (name, counted) in [
        ("tenure_call_retries_total", all.calls.retries),
        ("tenure_connections_dialled_total", connections.dialled),
        ("tenure_connections_opened_total", connections.opened),
        ("tenure_watches_opened_total", watches.opened),
        ("tenure_leases_kept_total", leases.kept),
        ("tenure_lease_renewals_total", leases.renewals),
        ("tenure_leases_lost_total", leases.lost),
        ("tenure_locks_granted_total", locks.granted),
        ("tenure_locks_handed_off_total", locks.handed_off),
        ("tenure_locks_lost_total", locks.lost),
    ] {
        assert_eq!(count(page, name), counted, "{name}");
    }
    assert_eq!(gauge(page, "tenure_connections"), connections.now);
    assert_eq!(gauge(page, "tenure_leases"), leases.now);
    assert_times(page, "tenure_call_seconds", &all.calls.latency);
    assert_times(page, "tenure_lock_wait_seconds", &locks.waits);
    assert_times(page, "tenure_lock_hold_seconds", &locks.holds);
}

async fn the_page_says_what_the_client_says(endpoints: &[String]) {
    let client = Client::connect(endpoints).await.expect("a client");
    let other = Client::connect(endpoints).await.expect("a client");
    let (recorder, mut metrics) = (recorder(), client.metrics());
    publish(&recorder, &mut metrics);
    for rounds in 1..=2 {
        work(&client, &other).await;
        let all = at_rest(&recorder, &mut metrics, &client).await;
        // It was no idle day.
        assert!(
            all.calls.ok > 30 * rounds && all.calls.failed.total() == 2 * rounds,
            "{all:?}"
        );
        assert_eq!(
            (all.locks.granted, all.locks.handed_off),
            (2 * rounds, rounds),
            "{all:?}"
        );
        assert_eq!((all.locks.lost, all.leases.lost), (rounds, rounds), "{all:?}");
        assert_same(&parsed(&recorder), &all);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_what_a_client_of_etcd_says() {
    the_page_says_what_the_client_says(&tenure_etcd::shared().endpoints()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_what_a_client_of_the_embedded_server_says() {
    let server = Server::start().await.expect("a server in memory");
    the_page_says_what_the_client_says(&[server.endpoint().to_owned()]).await;
}

#[tokio::test]
async fn clients_add_up_and_one_that_goes_takes_with_it_what_is_now() {
    let server = Server::start().await.expect("a server in memory");
    let recorder = recorder();
    let mut clients = Vec::new();
    for puts in [3, 4] {
        let client = Client::connect([server.endpoint()]).await.expect("a client");
        for _ in 0..puts {
            client.put("metrics/added", "").await.expect("a put");
        }
        let mut metrics = client.metrics();
        publish(&recorder, &mut metrics);
        publish(&recorder, &mut metrics);
        clients.push(metrics);
    }
    let mut apart = Client::connect([server.endpoint()]).await.expect("a client").metrics().label("of", "c");
    publish(&recorder, &mut apart);
    let page = parsed(&recorder);
    assert_eq!(number(&page, "tenure_calls_total", &[("outcome", "ok")]), 7);
    assert_eq!(gauge(&page, "tenure_connections"), 2);
    assert_eq!(number(&page, "tenure_connections", &[("of", "c")]), 1);
    metrics::with_local_recorder(&recorder, || drop(clients.pop()));
    let page = parsed(&recorder);
    assert_eq!(number(&page, "tenure_calls_total", &[("outcome", "ok")]), 7);
    assert_eq!(gauge(&page, "tenure_connections"), 1);
}

#[tokio::test]
async fn a_label_that_comes_late_is_on_what_is_counted_from_then_on_and_on_what_is_there_now() {
    let server = Server::start().await.expect("a server in memory");
    let client = Client::connect([server.endpoint()]).await.expect("a client");
    let lease = client.lease(TTL).await.expect("a lease");
    let (recorder, mut metrics) = (recorder(), client.metrics());
    client.put("metrics/early", "").await.expect("a put");
    publish(&recorder, &mut metrics);
    let before = number(&parsed(&recorder), "tenure_calls_total", &[("outcome", "ok")]);
    let mut metrics = metrics::with_local_recorder(&recorder, || metrics.label("of", "late"));
    client.put("metrics/late", "").await.expect("a put");
    publish(&recorder, &mut metrics);
    let page = parsed(&recorder);
    let calls = |labels: &[_]| number(&page, "tenure_calls_total", labels);
    assert_eq!(calls(&[("outcome", "ok")]), before);
    assert_eq!(
        calls(&[("outcome", "ok"), ("of", "late")]),
        1,
        "each is counted once"
    );
    for name in ["tenure_connections", "tenure_leases"] {
        assert_eq!(
            (gauge(&page, name), number(&page, name, &[("of", "late")])),
            (0, 1),
            "{name}"
        );
    }
    metrics::with_local_recorder(&recorder, || drop(metrics));
    assert_eq!(number(&parsed(&recorder), "tenure_leases", &[("of", "late")]), 0);
    drop(lease);
}

/// The page of a client that has done nothing: all names are on it.
async fn fresh_page() -> String {
    let server = Server::start().await.expect("a server in memory");
    let client = Client::connect([server.endpoint()]).await.expect("a client");
    let recorder = recorder();
    publish(&recorder, &mut client.metrics());
    recorder.handle().render()
}

/// The names of metrics in a text, without what Prometheus puts behind those of a histogram.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    let names = words.filter(|word| word.starts_with("tenure_"));
    let stem = |name| ["_bucket", "_sum", "_count"].iter().find_map(|end| str::strip_suffix(name, end));
    names.map(|name| stem(name).unwrap_or(name)).collect()
}

/// What a text says of labels: `name="value"`, whether that is asked for or ruled out.
fn labels(text: &str) -> BTreeSet<String> {
    let parts = text.split(['{', '}', ',', ' ']);
    let matches = parts.filter(|part| part.ends_with('"') && part.contains('='));
    matches.map(|label| label.replace("!=", "=")).collect()
}

#[tokio::test]
async fn the_rules_and_their_tests_name_what_there_is() {
    let page = fresh_page().await;
    let there_is = names(&page);
    let expressions: String = RULES.split("labels:").filter_map(|rule| rule.split("expr:").nth(1)).collect();
    for text in [&expressions, RULES_TEST] {
        let unknown: Vec<_> = names(text).difference(&there_is).copied().collect();
        assert_eq!(unknown, [""; 0], "there is no such metric");
        let known = |label: &str| {
            let of_prometheus = ["instance=", "cluster=", "le="].iter().any(|name| label.starts_with(name));
            of_prometheus || page.contains(label)
        };
        let unknown: Vec<_> = labels(text).into_iter().filter(|label| !known(label)).collect();
        assert_eq!(unknown, [""; 0], "there is no such label");
    }
    assert!(
        names(&expressions).len() >= 9 && labels(&expressions).len() >= 4,
        "{expressions}"
    );
}

#[tokio::test]
async fn the_guide_names_what_there_is_and_all_of_it() {
    let page = fresh_page().await;
    assert_eq!(names(GUIDE), names(&page));
    let alerts = |text: &str| -> BTreeSet<String> {
        let words = text.split(|char: char| !char.is_ascii_alphanumeric());
        words
            .filter(|word| word.starts_with("Tenure") && *word != "Tenure")
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(alerts(GUIDE), alerts(RULES));
    assert_eq!(alerts(RULES_TEST), alerts(RULES), "each has a test");
}
