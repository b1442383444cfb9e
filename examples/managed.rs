//! A worker's registration is to come back by itself: a session that is replaced when it is lost, and a
//! loop that puts the key again. What was locked is not locked again by itself.
//!
//! Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process.

use std::error::Error;
use std::time::Duration;

use tenure::Client;
use tenure_testserver::Server;

type Failure = Box<dyn Error + Send + Sync>;

const WORKER: &str = "managed-example/workers/7";
const LOCK: &str = "managed-example/lock";
const TTL: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (endpoints, _server) = etcd().await?;
    let client = Client::connect(&endpoints).await?;
    let managed = client.session().ttl(TTL).managed().await?;
    let session = managed.session().await?;
    client.put(WORKER, "here").lease(session.lease_id()).await?;
    let guard = session.mutex(LOCK).lock().await?;
    println!("registered under lease {}", session.lease_id());

    // An operator's mistake, or an outage that was longer than the lease.
    client.lease_revoke(session.lease_id()).await?;
    println!("the lock is lost: {}", guard.lost().await);
    let replaced = managed.replaced(0).await?;
    println!("session {} has lease {}", replaced.generation, replaced.lease);

    let gone = client.get(WORKER).await?.kvs.is_empty();
    let session = managed.session().await?;
    client.put(WORKER, "here again").lease(session.lease_id()).await?;
    let again = session.mutex(LOCK).lock().await?;
    println!(
        "registered again; locked again, with token {} after {}",
        again.token(),
        guard.token()
    );
    let rises = guard.token() < again.token();
    managed.close().await?;
    let left = client.get(WORKER).await?.kvs.len();
    println!("closed in order, {left} keys are left");
    match gone && rises && left == 0 {
        true => Ok(()),
        false => Err("the sessions did not follow one another".into()),
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
