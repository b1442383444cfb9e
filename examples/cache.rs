//! Keeps a prefix in memory and reads it without a call.
//!
//! Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process.

use std::error::Error;

use tenure::{Client, KeyRange};
use tenure_testserver::Server;

const COLOR: &str = "cache/color";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let embedded = Server::start().await?;
    let endpoints = std::env::var("ETCD_ENDPOINTS").unwrap_or(embedded.endpoint().to_owned());
    let client = Client::connect(endpoints.split(',')).await?;
    client.put(COLOR, "red").await?;

    let config = client.list_watch(KeyRange::prefix("cache/")).into_cache();
    config.synced().await?;
    println!("{:?}", config.get(COLOR).map(|kv| kv.value));

    // What was written is in the cache a little later; who needs it there waits for it.
    let written = client.put(COLOR, "green").await?.revision();
    config.wait_for(written).await?;
    println!(
        "{:?}, as of revision {}",
        config.get(COLOR).map(|kv| kv.value),
        config.revision()
    );
    for kv in config.range(KeyRange::prefix("cache/")) {
        println!("{:?} has changed {} times", kv.key, kv.version);
    }
    Ok(())
}
