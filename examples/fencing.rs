//! What a lock alone cannot prevent: a holder that was stopped for longer than its lease lives, and
//! writes when it goes on. The fence keeps it out of etcd, and the token out of a store elsewhere.
//!
//! Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process.

use std::error::Error;
use std::time::Duration;

use tenure::{Client, Guard, Session, Token};
use tenure_testserver::Server;

type Failure = Box<dyn Error + Send + Sync>;

const LOCK: &str = "fencing/report";
const REPORT: &str = "fencing-report";

/// A store outside of etcd that has room for one number of 64 bits beside what is written: it keeps
/// the greatest it saw, and refuses a smaller one.
#[derive(Default)]
struct Store {
    token: i64,
    text: String,
}

impl Store {
    fn write(&mut self, token: Token, text: &str) -> bool {
        let is_late = token.create_revision().0 < self.token;
        if !is_late {
            (self.token, self.text) = (token.create_revision().0, text.to_owned());
        }
        !is_late
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (endpoints, _server) = etcd().await?;
    let mut store = Store::default();
    let slow = Client::connect(&endpoints).await?.session().ttl(Duration::from_secs(2)).await?;
    let quick = Client::connect(&endpoints).await?.session().await?;

    let slow = lock(&slow).await?;
    println!("the slow one has the lock, token {}", slow.token());
    slow.fenced().put(REPORT, "begun by the slow one").await?;
    store.write(slow.token(), "begun by the slow one");

    // What a suspended machine or a full garbage collection does: the lease is not renewed.
    println!("the slow one stops for longer than its lease lives");
    slow.session().clone().orphan();
    let quick = lock(&quick).await?;
    println!("the quick one has the lock, token {}", quick.token());
    quick.fenced().put(REPORT, "done by the quick one").await?;
    store.write(quick.token(), "done by the quick one");

    // It has looked at its guard before, so it goes straight on: etcd is asked by hand here.
    let fence = slow.fence();
    let late = quick.session().client().txn().when(fence).then(tenure::Op::put(REPORT, "late")).await?;
    println!("the slow one goes on; etcd took its write: {}", late.succeeded);
    let stored = store.write(slow.token(), "late");
    println!("the store took its write: {stored}");
    match slow.fenced().put(REPORT, "late").await {
        Err(error) if error.is_lost() => println!("and in one line: {error}"),
        other => return Err(format!("a late write: {other:?}").into()),
    }

    let answer = quick.session().client().get(REPORT).await?;
    println!(
        "etcd says {:?}, the store says {:?}",
        answer.kvs[0].value, store.text
    );
    quick.fenced().delete(REPORT).await?;
    quick.release().await?;
    if late.succeeded || stored {
        return Err("a late write was taken".into());
    }
    println!("Done.");
    Ok(())
}

/// Each grant has a revision of its own, so that 64 bits are enough for a token.
async fn lock(session: &Session) -> Result<Guard, tenure::Error> {
    session.mutex(LOCK).one_token_per_key().lock().await
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
