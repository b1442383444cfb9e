//! Cheap reads from any member, none of them older than what was seen before: a member that lags is
//! asked, its answer is refused, and another one is asked.
//!
//! Runs on two members in memory in this process, since one of them has to lag.

use std::error::Error;
use std::time::Duration;

use tenure::{Client, Stale};
use tenure_testserver::{Lag, Server};

const KEY: &str = "monotonic-example/price";
const READS: usize = 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let leader = Server::start().await?;
    let follower = leader.add_follower().await?;
    let both = Client::connect([leader.endpoint(), follower.endpoint()]).await?;

    // One process writes. What it has seen can be told to another one, with a request, say.
    let writer = Client::connect([leader.endpoint()]).await?.monotonic();
    writer.put(KEY, "old").await?;
    follower.set_lag(Lag::Held);
    writer.put(KEY, "new").await?;
    let seen = writer.seen().ok_or("a monotonic client knows what it has seen")?;
    println!(
        "written up to revision {}; one of two members lags",
        seen.revision
    );

    println!("a plain client reads {} old values of {READS}", old(&both).await?);
    let monotonic = both.monotonic_from(seen);
    let stale = old(&monotonic).await?;
    println!("a monotonic one reads {stale}");

    // Where nobody else is there to be asked it says so, and does not give the old value.
    let alone = Client::connect([follower.endpoint()]).await?.monotonic_from(seen);
    let read = alone.get(KEY).serializable().timeout(Duration::from_secs(1));
    match read.await.map_err(|error| error.stale()) {
        Err(Some(Stale::Behind { seen, found })) => {
            println!("the member that lags alone: at {found}, and {seen} was seen");
        }
        other => return Err(format!("a read of the member that lags: {other:?}").into()),
    }
    follower.set_lag(Lag::By(Duration::ZERO));
    let caught_up = alone.get(KEY).serializable().await?;
    println!("once it has caught up: {:?}", caught_up.kvs[0].value);
    match stale {
        0 => Ok(()),
        _ => Err("an answer went back".into()),
    }
}

/// How many of the reads have the old value.
async fn old(client: &Client) -> Result<usize, tenure::Error> {
    let mut old = 0;
    for _ in 0..READS {
        let answer = client.get(KEY).serializable().await?;
        old += usize::from(answer.kvs[0].value == "old");
    }
    Ok(old)
}
