//! A reader that stops reading while a great many bytes of events go to its prefix: what the
//! client holds for it stays within its bound, its neighbours on the same stream see every
//! event meanwhile, and afterwards it goes on where it stood, or has ended in the lag it chose.
//!
//! `TENURE_STALL_MB` says how many megabytes; the default is small:
//!
//! ```text
//! TENURE_STALL_MB=1024 cargo test --release --test stall -- embedded --nocapture
//! TENURE_STALL_MB=100 cargo test --release --test stall -- etcd --nocapture
//! ```
//!
//! Only the allocations of the thread that the client runs on count: the server and the
//! writer have their own.

use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use tenure::client::CreateWatch;
use tenure::{Client, Event, KeyRange, Revision, Watch, WatchEnd};
use tenure_etcd::{Binary, Cluster, Options};
use tenure_testserver::Server;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

const MB: usize = 1_000_000;
const MB_DEFAULT: usize = 64;
const VALUE_BYTES: usize = 250_000;

/// What may wait for each of the readers.
const BUFFER_BYTES: usize = 2 << 20;

/// Three readers at their bound and a quarter more, and what a client of one connection
/// needs besides: a message of the server's largest size in pieces and whole, and the
/// connection's own buffers.
const BYTES_MAX: u64 = 3 * BUFFER_BYTES as u64 * 5 / 4 + (12 << 20);

/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_reader_that_stalls_costs_its_bound_and_nobody_else_on_the_embedded_server() {
    let (started, endpoint) = mpsc::channel();
    let (running, ended) = oneshot::channel::<()>();
    let serving = std::thread::spawn(move || {
        runtime().block_on(async move {
            let server = Server::start().await.expect("a free port");
            started.send(server.endpoint().to_owned()).expect("the test waits");
            let _ = ended.await;
        });
    });
    stall(vec![endpoint.recv().expect("it starts")]);
    drop(running);
    serving.join().expect("it served");
}

#[test]
fn a_reader_that_stalls_costs_its_bound_and_nobody_else_on_etcd() {
    let binary = Binary::find().expect("an etcd");
    let cluster = Cluster::start(&binary, 1, Options::default()).expect("it starts");
    stall(cluster.endpoints());
}

fn stall(endpoints: Vec<String>) {
    let megabytes = std::env::var("TENURE_STALL_MB");
    let megabytes = megabytes.map_or(MB_DEFAULT, |text| text.parse().expect("a number of megabytes"));
    let puts = megabytes * MB / VALUE_BYTES;
    let (go, writer) = writer(endpoints.clone(), puts);
    let mut report = String::new();
    let cost = measure(|| {
        let runtime = runtime();
        report = runtime.block_on(async {
            let client = Client::connect(&endpoints).await.expect("a client");
            read(&client, puts, go).await
        });
    });
    let written = writer.join().expect("it wrote");
    assert_eq!(written.len(), puts);
    println!("{report}, {} bytes at most in {} puts", cost.bytes_max, puts);
    assert!(cost.bytes_max <= BYTES_MAX, "{cost:?}");
}

/// Puts so many values, once it is told to.
fn writer(endpoints: Vec<String>, puts: usize) -> (mpsc::Sender<()>, std::thread::JoinHandle<Vec<Revision>>) {
    let (go, begin) = mpsc::channel();
    let writing = std::thread::spawn(move || {
        begin.recv().expect("the watches are there");
        runtime().block_on(async {
            let client = Client::connect(&endpoints).await.expect("a client");
            let value = Bytes::from(vec![b'x'; VALUE_BYTES]);
            let mut written = Vec::new();
            for number in 0..puts {
                let put = client.put(format!("stall/{}", number % 16), value.clone());
                written.push(put.await.expect("written").revision());
            }
            written
        })
    });
    (go, writing)
}

/// Two that stall and one that does not, on one stream. Nobody else writes: each put is the
/// next revision.
async fn read(client: &Client, puts: usize, go: mpsc::Sender<()>) -> String {
    let mut stalled = watch(client).await.expect("a watch");
    let mut lagging = watch(client).catch_up(false).await.expect("a watch");
    let mut quick = watch(client).await.expect("a watch");
    let first = stalled.created_revision().0 + 1;
    go.send(()).expect("the writer waits");
    let mut seen = first;
    while seen < first + puts as i64 {
        seen = see(&mut quick, seen).await.expect("it keeps up");
    }
    assert_eq!(quick.reconnects(), 0, "the connection was the price");

    let mut seen = first;
    let resume_revision = loop {
        assert!(seen < first + puts as i64, "it has no bound");
        match see(&mut lagging, seen).await {
            Ok(next) => seen = next,
            Err(WatchEnd::Lagged { resume_revision }) => break resume_revision,
            Err(end) => panic!("{end:?}"),
        }
    };
    assert_eq!(resume_revision, Revision(seen));
    let kept = seen - first;
    assert!(0 < kept && kept < puts as i64, "{kept} of {puts}");

    let mut seen = first;
    while seen < first + puts as i64 {
        seen = see(&mut stalled, seen).await.expect("it catches up");
    }
    let catch_ups = stalled.catch_ups();
    assert!(catch_ups > 0 && stalled.reconnects() == 0);
    format!("{catch_ups} catch-ups, {kept} events kept for the one that lags")
}

fn watch(client: &Client) -> CreateWatch<'_> {
    client.watch(KeyRange::prefix("stall/")).buffer_bytes(BUFFER_BYTES)
}

/// The next batch, which begins at `next`; says where the one after it does.
async fn see(watch: &mut Watch, next: i64) -> Result<i64, WatchEnd> {
    let batch = patiently(watch.next()).await?;
    let revisions = batch.events.iter().map(Event::revision);
    let expected = (next..).map(Revision).take(batch.events.len());
    assert!(revisions.eq(expected), "an event is lost, or out of order");
    Ok(next + batch.events.len() as i64)
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens at last")
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}
