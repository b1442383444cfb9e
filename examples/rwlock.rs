//! Readers of a document side by side, and a writer alone: what it writes is seen whole,
//! and after its downgrade it reads on before any other writer comes.
//!
//! Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tenure::{Client, KeyRange, Op, Session};
use tenure_testserver::Server;

type Failure = Box<dyn Error + Send + Sync>;

const LOCK: &str = "rwlock/document";
/// What the lock protects: two keys that are to say the same.
const PAGES: [&str; 2] = ["rwlock-page-1", "rwlock-page-2"];
const READERS: usize = 4;
const EDITIONS: usize = 3;
const READING: Duration = Duration::from_millis(30);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (endpoints, _server) = etcd().await?;
    let client = Client::connect(&endpoints).await?;
    let reading = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let session = Client::connect(&endpoints).await?.session().await?;
        readers.push(tokio::spawn(read(session, reading.clone(), most.clone())));
    }
    write(client.session().await?, &reading).await?;
    for reader in readers {
        reader.await??;
    }
    let most = most.load(Ordering::SeqCst);
    let left = client.get(KeyRange::prefix(LOCK)).count_only().await?.count;
    for page in PAGES {
        client.delete(page).await?;
    }
    println!("{most} readers at the same time, never beside a writer; {left} keys of the lock are left.");
    println!("Done.");
    Ok(())
}

/// Writes the editions, one page after the other.
async fn write(session: Session, reading: &AtomicUsize) -> Result<(), Failure> {
    let lock = session.rw_lock(LOCK).value("the writer");
    for edition in 1..=EDITIONS {
        let guard = lock.write().await?;
        if reading.load(Ordering::SeqCst) != 0 {
            return Err("a reader beside the writer".into());
        }
        for page in PAGES {
            // Written only while the lock is still ours in etcd itself.
            let text = format!("edition {edition}");
            let txn = session.client().txn().when(guard.fence()).then(Op::put(page, text));
            if !txn.await?.succeeded {
                return Err("the lock was lost".into());
            }
        }
        println!("wrote edition {edition} with token {}", guard.token());
        let guard = guard.downgrade().await?;
        println!("  and reads on beside the others, with token {}", guard.token());
        tokio::time::sleep(READING).await;
        guard.release().await?;
    }
    session.close().await?;
    Ok(())
}

/// Reads until it has seen the last edition.
async fn read(session: Session, reading: Arc<AtomicUsize>, most: Arc<AtomicUsize>) -> Result<(), Failure> {
    let lock = session.rw_lock(LOCK).value("a reader");
    loop {
        let guard = lock.read().await?;
        most.fetch_max(reading.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let mut pages = Vec::new();
        for page in PAGES {
            let answer = session.client().get(page).await?;
            pages.extend(answer.kvs.first().map(|kv| kv.value.clone()));
            tokio::time::sleep(READING / 4).await;
        }
        reading.fetch_sub(1, Ordering::SeqCst);
        guard.release().await?;
        if pages.windows(2).any(|two| two[0] != two[1]) || pages.len() == 1 {
            return Err("a reader saw half an edition".into());
        }
        if pages.iter().any(|page| *page == format!("edition {EDITIONS}")) {
            session.close().await?;
            return Ok(());
        }
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
