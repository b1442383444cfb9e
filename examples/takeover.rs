//! A process that holds a lock is restarted. Under the same owner's name the next one has the lock back at
//! once, before everybody who waits, and nothing that the earlier one still sends is carried out.
//!
//! Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process.

use std::error::Error;
use std::time::Duration;

use tenure::{Client, Op};
use tenure_testserver::Server;

type Failure = Box<dyn Error + Send + Sync>;

const LOCK: &str = "takeover-example/shard-7";
const STATE: &str = "takeover-example-state";
/// The wait that a restart would cost without an owner.
const TTL: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (endpoints, _server) = etcd().await?;
    let first = Client::connect(&endpoints).await?.session().ttl(TTL).await?;
    let before = first.mutex(LOCK).owner("node-7").lock().await?;
    let late = before.fence();
    println!("node 7 has the lock, token {}", before.token());

    let other = Client::connect(&endpoints).await?.session().await?;
    let waiting = other.mutex(LOCK).owner("node-8");
    let waiting = tokio::spawn(async move { waiting.lock().await });
    while other.client().who(LOCK).await?.len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("node 8 waits");

    // As in a crash: the lease, and with it the key, stays for up to a minute.
    first.orphan();
    let second = Client::connect(&endpoints).await?.session().ttl(TTL).await?;
    let after = second.mutex(LOCK).owner("node-7").lock().await?;
    println!("node 7 is back and has it, token {}", after.token());
    for entry in second.client().who(LOCK).await? {
        println!("    {:?}, since revision {}", entry.key, entry.created);
    }
    after.fenced().put(STATE, "from the later life").await?;
    let late = second.client().txn().when(late).then(Op::put(STATE, "from the earlier")).await?;
    println!("what the earlier life sends is carried out: {}", late.succeeded);
    let rises = before.token() < after.token();

    after.release().await?;
    let next = waiting.await??;
    println!("then it is node 8's turn, token {}", next.token());
    next.fenced().delete(STATE).await?;
    next.release().await?;
    match rises && !late.succeeded {
        true => Ok(()),
        false => Err("the earlier life is not kept out".into()),
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
