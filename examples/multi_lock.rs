//! Philosophers at a round table: each locks the fork on its left and the one on its
//! right at once, so nobody starves with one fork in the hand.
//!
//! Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tenure::{Client, KeyRange, Op, Session};
use tenure_testserver::Server;

type Failure = Box<dyn Error + Send + Sync>;

const PHILOSOPHERS: usize = 5;
const MEALS: usize = 3;
const EATING: Duration = Duration::from_millis(10);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (endpoints, _server) = etcd().await?;
    let forks: Arc<[AtomicBool; PHILOSOPHERS]> = Arc::default();
    let mut table = Vec::new();
    for seat in 0..PHILOSOPHERS {
        let session = Client::connect(&endpoints).await?.session().await?;
        table.push(tokio::spawn(dine(seat, session, forks.clone())));
    }
    for philosopher in table {
        philosopher.await??;
    }
    let client = Client::connect(&endpoints).await?;
    let plates = client.delete(KeyRange::prefix("multi-plate-")).await?.deleted;
    let left = client.get(KeyRange::prefix("multi/fork")).count_only().await?.count;
    println!("{plates} plates are empty after {MEALS} meals each; {left} keys of the forks are left.");
    println!("Done.");
    Ok(())
}

async fn dine(seat: usize, session: Session, forks: Arc<[AtomicBool; PHILOSOPHERS]>) -> Result<(), Failure> {
    // Given in any order: a ring of two-step locks would end with everybody waiting.
    let both = [seat, (seat + 1) % PHILOSOPHERS];
    let lock = session.multi_lock(both.map(|fork| format!("multi/fork/{fork}")));
    for meal in 1..=MEALS {
        let guard = lock.lock().await?;
        for fork in both {
            if forks[fork].swap(true, Ordering::SeqCst) {
                return Err("two have the same fork".into());
            }
        }
        // Written only while both forks are still ours in etcd itself.
        let txn = guard.fences().into_iter().fold(session.client().txn(), |txn, fence| txn.when(fence));
        let ate = txn.then(Op::put(format!("multi-plate-{seat}"), meal.to_string())).await?;
        println!(
            "philosopher {seat} eats with forks {both:?}, token {}",
            guard.token()
        );
        tokio::time::sleep(EATING).await;
        for fork in both {
            forks[fork].store(false, Ordering::SeqCst);
        }
        guard.release().await?;
        if !ate.succeeded {
            return Err("a fork was lost".into());
        }
    }
    session.close().await?;
    Ok(())
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
