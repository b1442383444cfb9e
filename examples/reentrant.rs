//! A function that needs a lock calls another one that needs it too. The owner is a value that is handed
//! on, so it may: there is one grant, with one token. Another owner waits.
//!
//! Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process.

use std::error::Error;

use tenure::{Client, Reentrant};
use tenure_testserver::Server;

type Failure = Box<dyn Error + Send + Sync>;

const LOCK: &str = "reentrant-example/accounts";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (endpoints, _server) = etcd().await?;
    let session = Client::connect(&endpoints).await?.session().await?;
    let accounts = session.mutex(LOCK);
    let ours = accounts.reentrant();
    let theirs = accounts.reentrant();

    let outer = ours.lock().await?;
    println!(
        "transferring with token {}, {} guard",
        outer.token(),
        outer.depth()
    );
    audit(&ours).await?;
    let gets_in = theirs.try_lock().await?.is_some();
    println!("another owner gets in meanwhile: {gets_in}");

    outer.release().await?;
    let next = theirs.lock().await?;
    println!("and now it does, with token {}", next.token());
    next.release().await?;
    match gets_in {
        false => Ok(()),
        true => Err("two owners had the lock".into()),
    }
}

/// Called by whoever has the lock, and by whoever has not.
async fn audit(accounts: &Reentrant) -> Result<(), tenure::Error> {
    let guard = accounts.lock().await?;
    println!("auditing with token {}, {} guards", guard.token(), guard.depth());
    guard.release().await
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
