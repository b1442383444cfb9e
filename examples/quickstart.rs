//! Three workers contend for one lock; then a holder crashes, and is kept out.
//!
//! Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tenure::{Client, Guard, KeyRange, Op, Session};
use tenure_testserver::Server;

type Failure = Box<dyn Error + Send + Sync>;

const LOCK: &str = "quickstart/lock";
const RESULT: &str = "quickstart/result";
const WORKERS: usize = 3;
const ROUNDS: usize = 4;
const WORK: Duration = Duration::from_millis(20);
const TTL: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let etcd = Etcd::find().await?;
    println!("etcd: {}", etcd.endpoints.join(", "));
    contend(&etcd).await?;
    let kept_out = crash(&etcd).await?;
    finish(&etcd, kept_out).await
}

/// The lock goes round among workers that each have a client of their own.
async fn contend(etcd: &Etcd) -> Result<(), Failure> {
    println!("\n{WORKERS} workers, {ROUNDS} rounds each, one lock:");
    let released = Arc::new(Mutex::new(None));
    let mut workers = Vec::new();
    for worker in 1..=WORKERS {
        let session = etcd.client().await?.session().ttl(TTL).await?;
        workers.push(tokio::spawn(work(worker, session, released.clone())));
    }
    let mut hand_offs = Vec::new();
    for worker in workers {
        hand_offs.extend(worker.await??);
    }
    hand_offs.sort();
    println!(
        "{} hand-offs, the median took {:.2?}",
        hand_offs.len(),
        hand_offs[hand_offs.len() / 2]
    );
    Ok(())
}

async fn work(
    worker: usize,
    session: Session,
    released: Arc<Mutex<Option<Instant>>>,
) -> Result<Vec<Duration>, Failure> {
    let mutex = session.mutex(LOCK).value(format!("worker {worker}"));
    let mut hand_offs = Vec::new();
    for _ in 0..ROUNDS {
        let guard = mutex.lock().await?;
        let hand_off = last(&released).take().map(|since: Instant| since.elapsed());
        match hand_off {
            Some(took) => println!(
                "  worker {worker} holds it, token {}, handed over in {took:.2?}",
                guard.token()
            ),
            None => println!("  worker {worker} holds it, token {}", guard.token()),
        }
        hand_offs.extend(hand_off);
        tokio::time::sleep(WORK).await;
        *last(&released) = Some(Instant::now());
        guard.release().await?;
    }
    session.close().await?;
    Ok(hand_offs)
}

fn last(released: &Mutex<Option<Instant>>) -> std::sync::MutexGuard<'_, Option<Instant>> {
    released.lock().expect("no worker panics while it tells the time")
}

/// A holder crashes: all its tasks are gone at once. Its lease runs out, the next
/// one gets the lock, and what the late holder still writes is refused by the fence.
async fn crash(etcd: &Etcd) -> Result<bool, Failure> {
    println!("\nA holder crashes:");
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let endpoints = etcd.endpoints.clone();
    let holding = doomed.spawn(async move {
        let session = Client::connect(&endpoints).await?.session().ttl(TTL).await?;
        session.mutex(LOCK).value("the one that crashes").lock().await
    });
    let old = holding.await??;
    println!(
        "  it held the lock with token {}, and renews its lease of {TTL:?} no more",
        old.token()
    );
    doomed.shutdown_background();

    let since = Instant::now();
    let next = etcd.client().await?.session().ttl(TTL).await?;
    let mutex = next.mutex(LOCK).value("the next one");
    let (new, ()) = tokio::join!(mutex.lock(), async {
        let end = old.lost().await;
        println!("  after {:.2?} its own guard says: {end}", since.elapsed());
    });
    let new = new?;
    println!(
        "  after {:.2?} the next one holds it, token {}",
        since.elapsed(),
        new.token()
    );

    let written = fenced_write(next.client(), &old, "from the late one").await?;
    println!(
        "  the late one writes with token {}: {}",
        old.token(),
        verdict(written)
    );
    let kept_out = !written;
    let written = fenced_write(next.client(), &new, "from the next one").await?;
    println!(
        "  the next one writes with token {}: {}",
        new.token(),
        verdict(written)
    );
    new.release().await?;
    next.close().await?;
    Ok(kept_out && written)
}

async fn fenced_write(client: &Client, guard: &Guard, text: &'static str) -> Result<bool, Failure> {
    let answer = client.txn().when(guard.fence()).then(Op::put(RESULT, text)).await?;
    Ok(answer.succeeded)
}

fn verdict(written: bool) -> &'static str {
    if written { "accepted" } else { "refused" }
}

async fn finish(etcd: &Etcd, kept_out: bool) -> Result<(), Failure> {
    let client = etcd.client().await?;
    let result = client.get(RESULT).await?;
    let value = result.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
    client.delete(RESULT).await?;
    let left = client.get(KeyRange::prefix(LOCK)).count_only().await?.count;
    println!(
        "\nThe result is {:?}; {left} keys of the lock are left.",
        value.unwrap_or_default()
    );
    if !kept_out || left != 0 {
        return Err("the lock did not keep its promise".into());
    }
    println!("Done.");
    Ok(())
}

/// The etcd to run on.
struct Etcd {
    endpoints: Vec<String>,
    /// Stopped with the example, where the example started it.
    _started: Option<Server>,
}

impl Etcd {
    async fn find() -> Result<Etcd, Failure> {
        if let Ok(endpoints) = std::env::var("ETCD_ENDPOINTS") {
            let endpoints = endpoints.split(',').map(str::to_owned).collect();
            return Ok(Etcd {
                endpoints,
                _started: None,
            });
        }
        println!("ETCD_ENDPOINTS is not set: this runs on an etcd in memory.");
        let server = Server::start().await?;
        Ok(Etcd {
            endpoints: vec![server.endpoint().to_owned()],
            _started: Some(server),
        })
    }

    async fn client(&self) -> Result<Client, tenure::Error> {
        Client::connect(&self.endpoints).await
    }
}
