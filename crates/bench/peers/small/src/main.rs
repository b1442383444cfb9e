//! Connects, locks, unlocks, with the etcd-client crate: beside it, tenure's size and number of
//! crates are measured. It has one thread and no TLS.

#![forbid(unsafe_code)]

use std::error::Error;

use etcd_client::{Client, LockOptions};

const LOCK: &str = "small/lock";
const TTL_SECONDS: i64 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:2379".to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(lock(&endpoint))?;
    Ok(())
}

async fn lock(endpoint: &str) -> Result<(), etcd_client::Error> {
    let mut client = Client::connect([endpoint], None).await?;
    let lease = client.lease_grant(TTL_SECONDS, None).await?.id();
    let locked = client.lock(LOCK, Some(LockOptions::new().with_lease(lease))).await?;
    println!("locked with key {}", String::from_utf8_lossy(locked.key()));
    client.unlock(locked.key()).await?;
    client.lease_revoke(lease).await?;
    Ok(())
}
