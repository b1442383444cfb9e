//! Six workers share a printer park of five: small jobs take one printer, large ones
//! three, and a large job that waits is not overtaken.
//!
//! Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tenure::{Client, KeyRange, Session};
use tenure_testserver::Server;

type Failure = Box<dyn Error + Send + Sync>;

const SEMAPHORE: &str = "semaphore/printers";
const PRINTERS: u32 = 5;
const WORKERS: u32 = 6;
const JOBS: u32 = 3;
const PRINTING: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (endpoints, _server) = etcd().await?;
    let busy = Arc::new(AtomicU32::new(0));
    let mut workers = Vec::new();
    for worker in 1..=WORKERS {
        let session = Client::connect(&endpoints).await?.session().await?;
        workers.push(tokio::spawn(work(worker, session, busy.clone())));
    }
    let mut most = 0;
    for worker in workers {
        most = most.max(worker.await??);
    }
    let client = Client::connect(&endpoints).await?;
    overtake(&client).await?;
    let left = client.get(KeyRange::prefix(SEMAPHORE)).count_only().await?.count;
    println!("{most} of {PRINTERS} printers were busy at most; {left} keys of the semaphore are left.");
    println!("Done.");
    Ok(())
}

/// Says how many printers it saw busy at most.
async fn work(worker: u32, session: Session, busy: Arc<AtomicU32>) -> Result<u32, Failure> {
    let printers = session.semaphore(SEMAPHORE, PRINTERS).value(format!("worker {worker}"));
    let mut most = 0;
    for job in 0..JOBS {
        let count = if (worker + job) % 3 == 0 { 3 } else { 1 };
        let permits = printers.acquire(count).await?;
        let now = busy.fetch_add(count, Ordering::SeqCst) + count;
        println!("worker {worker} prints on {count}, {now} of {PRINTERS} are busy");
        if now > PRINTERS {
            return Err("more printers than there are".into());
        }
        most = most.max(now);
        tokio::time::sleep(PRINTING).await;
        busy.fetch_sub(count, Ordering::SeqCst);
        permits.release().await?;
    }
    session.close().await?;
    Ok(most)
}

/// A large job waits, and a small one that would fit does not get in before it.
async fn overtake(client: &Client) -> Result<(), Failure> {
    let session = client.session().await?;
    let printers = session.semaphore(SEMAPHORE, PRINTERS);
    let first = printers.acquire(1).await?;
    let large = tokio::spawn({
        let printers = printers.clone();
        async move { printers.acquire(PRINTERS).await }
    });
    while client.get(KeyRange::prefix(SEMAPHORE)).count_only().await?.count < 2 {
        tokio::time::sleep(PRINTING).await;
    }
    let small = printers.try_acquire(1).await?;
    println!(
        "while a job for all {PRINTERS} waits, a small one gets in: {}",
        small.is_some()
    );
    first.release().await?;
    large.await??.release().await?;
    session.close().await?;
    match small {
        Some(_) => Err("a small job has overtaken a large one".into()),
        None => Ok(()),
    }
}

/// The endpoints to use, and the server behind them where this starts one.
async fn etcd() -> Result<(Vec<String>, Option<Server>), Failure> {
    if let Ok(endpoints) = std::env::var("ETCD_ENDPOINTS") {
        return Ok((endpoints.split(',').map(str::to_owned).collect(), None));
    }
    println!("ETCD_ENDPOINTS is not set: this runs on an etcd in memory.");
    let server = Server::start().await?;
    Ok((vec![server.endpoint().to_owned()], Some(server)))
}
