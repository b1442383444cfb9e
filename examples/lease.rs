//! A worker is registered for as long as it lives: its key hangs on a lease that is kept alive by itself.
//! One leaves in order, one is gone without a word, and a watcher sees both go.
//!
//! Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process.

use std::error::Error;
use std::time::Duration;

use tenure::{Client, Event, KeyRange, Lease};
use tenure_testserver::Server;

const WORKERS: &str = "lease-example/workers/";
const TTL: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (endpoints, _server) = etcd().await?;
    let client = Client::connect(&endpoints).await?;
    let mut watch = client.watch(KeyRange::prefix(WORKERS)).no_put().await?;

    let ann = register(&client, "ann").await?;
    let bob = register(&client, "bob").await?;
    let there = client.get(KeyRange::prefix(WORKERS)).keys_only().await?;
    println!("{} workers are there", there.count);

    // The deadline is this side's: nothing has to be asked for it, and no answer is waited for.
    println!("ann's lease is proven for {:.1?} more", ann.valid_for());
    let asked = client.lease_time_to_live(ann.id()).keys().await?;
    println!(
        "the server gives it {} of {} s, and {} key",
        asked.ttl,
        asked.granted_ttl,
        asked.keys.len()
    );

    // In order: the key goes at once.
    ann.revoke().await?;
    println!("ann says: {}", ann.ended().await);
    // As in a crash: nobody renews, and the key goes with the time to live.
    drop(bob);

    let mut gone = 0;
    while gone < 2 {
        for event in watch.next().await?.events {
            if let Event::Delete { kv, .. } = event {
                println!("{:?} is gone", kv.key);
                gone += 1;
            }
        }
    }
    Ok(())
}

async fn register(client: &Client, name: &str) -> Result<Lease, tenure::Error> {
    let lease = client.lease(TTL).await?;
    client.put(format!("{WORKERS}{name}"), "here").lease(lease.id()).await?;
    Ok(lease)
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
