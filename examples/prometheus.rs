//! What a client counts, as a page for Prometheus: published to the `metrics` facade whenever somebody asks, and
//! served on a loopback port. Some work is done, then the page is fetched as Prometheus would, and printed.
//!
//! `docs/alerts.yml` has rules for what is on it. Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in
//! memory in this process: `cargo run --features metrics --example prometheus`.

use std::error::Error;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tenure::{Client, KeyRange, Metrics};
use tenure_testserver::Server;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const PREFIX: &str = "prometheus-example/";
const TTL: Duration = Duration::from_secs(5);
/// Whoever asks for the page has so long to say so.
const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Before anything is published. Without buckets there would be quantiles, which cannot be added up.
    let recorder = PrometheusBuilder::new().set_buckets(&Metrics::BUCKETS_SECONDS)?.install_recorder()?;

    let (endpoints, _server) = etcd().await?;
    let client = Client::connect(&endpoints).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("the page is at http://{address}/metrics");
    tokio::spawn(serve(
        listener,
        client.metrics().label("cluster", "example"),
        recorder,
    ));

    work(&client).await?;

    let page = fetch(&address.to_string()).await?;
    println!("{page}");
    let expected = r#"tenure_locks_granted_total{cluster="example"} 1"#;
    match page.lines().any(|line| line == expected) {
        true => Ok(()),
        false => Err("the lock was not counted".into()),
    }
}

/// Calls, of which one fails, and a lock that is passed on.
async fn work(client: &Client) -> Result<(), tenure::Error> {
    for number in 0..20 {
        client.put(format!("{PREFIX}{number}"), "value").await?;
    }
    client.get(KeyRange::prefix(PREFIX)).await?;
    if let Err(error) = client.put("", "no key").await {
        println!("counted as a failure: {error}");
    }
    let session = client.session().ttl(TTL).await?;
    let mutex = session.mutex("prometheus-example/lock");
    let guard = mutex.lock().await?;
    let (next, ()) = tokio::join!(mutex.lock(), async { drop(guard) });
    next?.release().await?;
    session.close().await
}

/// One request after the other: that is how Prometheus asks.
async fn serve(listener: TcpListener, mut metrics: Metrics, recorder: PrometheusHandle) {
    while let Ok((stream, _)) = listener.accept().await {
        // One that says nothing, or goes away, is no reason to serve no others.
        let _ = tokio::time::timeout(PATIENCE, answer(stream, &mut metrics, &recorder)).await;
    }
}

async fn answer(
    stream: TcpStream,
    metrics: &mut Metrics,
    recorder: &PrometheusHandle,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request).await?;
    let mut header = String::new();
    while stream.read_line(&mut header).await? > 2 {
        header.clear();
    }
    let (status, page) = match request.starts_with("GET /metrics ") {
        true => {
            // The figures of this moment, and not of some seconds ago.
            metrics.publish();
            ("200 OK", recorder.render())
        }
        false => ("404 Not Found", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        page.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(page.as_bytes()).await?;
    stream.flush().await
}

/// As Prometheus does.
async fn fetch(address: &str) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, page) = answer.split_once("\r\n\r\n").ok_or("no end of the head")?;
    Ok(page.to_owned())
}

/// The endpoints to use, and the server behind them where this starts one.
async fn etcd() -> Result<(Vec<String>, Option<Server>), Box<dyn Error>> {
    if let Ok(endpoints) = std::env::var("ETCD_ENDPOINTS") {
        return Ok((endpoints.split(',').map(str::to_owned).collect(), None));
    }
    println!("ETCD_ENDPOINTS is not set: this runs on an etcd in memory.");
    let server = Server::start().await?;
    Ok((vec![server.endpoint().to_owned()], Some(server)))
}
