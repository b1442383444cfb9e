//! Workers share a queue. One of them dies with a job in its hands: when its lease has run out another
//! one gets that job, so that each is done at least once.
//!
//! Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process.

use std::error::Error;
use std::time::Duration;

use tenure::{Client, Latch, Session};
use tenure_testserver::Server;
use tokio::task::JoinSet;

type Failure = Box<dyn Error + Send + Sync>;

const QUEUE: &str = "queue-example/mail";
const DONE: &str = "queue-example/done";
const JOBS: u32 = 6;
const WORKERS: usize = 2;
const TTL: Duration = Duration::from_secs(2);
const WORK: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (endpoints, _server) = etcd().await?;
    let client = Client::connect(&endpoints).await?;
    let session = client.session().await?;
    let queue = session.queue(QUEUE);
    for number in 2..=JOBS {
        queue.put(format!("letter {number}")).await?;
    }
    // The least priority is first; without one it is 0x8000.
    queue.put_with_priority(1, "letter 1, urgent").await?;

    let doomed = client.session().ttl(TTL).await?;
    let job = doomed.queue(QUEUE).consumer().take().await?;
    println!("a worker has {:?}, and dies", job.value());
    doomed.orphan();

    let done = client.latch(DONE, JOBS);
    let mut workers = JoinSet::new();
    for worker in 1..=WORKERS {
        let session = Client::connect(&endpoints).await?.session().await?;
        workers.spawn(work(worker, session, done.clone()));
    }
    tokio::select! {
        all = done.wait() => all?,
        Some(failed) = workers.join_next() => return Err(format!("a worker ended: {failed:?}").into()),
    }
    // What they wait for is no job any more.
    workers.shutdown().await;
    println!("all {JOBS} are done, {} are left", queue.count().await?);
    done.delete().await?;
    Ok(())
}

async fn work(worker: usize, session: Session, done: Latch) -> Result<(), Failure> {
    let mut jobs = session.queue(QUEUE).consumer();
    loop {
        let job = jobs.take().await?;
        let letter = String::from_utf8_lossy(job.value()).into_owned();
        // The work. Whoever is to do it once tells by `job.put_revision()` whether it is done already.
        tokio::time::sleep(WORK).await;
        job.done().await?;
        println!("worker {worker} has done {letter:?}");
        done.count_down_as(&letter).await?;
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
