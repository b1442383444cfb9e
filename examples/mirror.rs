//! One cluster's configuration is kept in step in another: first what differs, then each
//! change. The mirror crashes, things happen meanwhile, and the next one goes on where it was.
//!
//! Runs on two etcds in memory in this process, or with `ETCD_ENDPOINTS` (comma-separated)
//! between two prefixes of that one.

use std::error::Error;

use tenure::{Client, KeyRange, Mirror, Op, Revision};
use tenure_testserver::Server;

type Failure = Box<dyn Error + Send + Sync>;

const FROM: &str = "mirror-example/live/";
const TO: &str = "mirror-example/copy/";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (here, there, _servers) = clusters().await?;
    let (live, copy) = (here.namespace(FROM), there.namespace(TO));
    for key in ["colour", "size", "weight"] {
        live.put(key, "medium").await?;
    }
    copy.put("left over", "from long ago").await?;

    let mut mirror = here.mirror(FROM, &there, TO);
    let last = live.put("size", "large").await?.revision();
    reach(&mut mirror, last).await?;
    show("the copy, as of the live cluster's", last, &copy).await?;

    // Two keys change at once, and so they do in the copy.
    let txn = live.txn().then(Op::put("colour", "red")).then(Op::delete("weight"));
    let last = txn.await?.revision();
    reach(&mut mirror, last).await?;
    show("it follows, to", last, &copy).await?;

    println!("The mirror crashes. Meanwhile two things happen.");
    drop(mirror);
    live.put("shape", "round").await?;
    let last = live.put("size", "small").await?.revision();

    let mut mirror = here.mirror(FROM, &there, TO);
    reach(&mut mirror, last).await?;
    let progress = mirror.progress();
    println!(
        "The next one went on where it was: {} puts, {} comparisons of everything.",
        progress.puts, progress.comparisons
    );
    show("the copy, as of", last, &copy).await?;
    let same = all(&live).await? == all(&copy).await?;
    here.delete(KeyRange::prefix("mirror-example/")).await?;
    there.delete(KeyRange::prefix("mirror-example/")).await?;
    there.delete(KeyRange::prefix("tenure-mirror/mirror-example/")).await?;
    match same && progress.comparisons == 0 {
        true => Ok(()),
        false => Err("the copy is not what it should be".into()),
    }
}

/// A program that only mirrors awaits `mirror.run()` instead.
async fn reach(mirror: &mut Mirror, revision: Revision) -> Result<(), Failure> {
    loop {
        let progress = mirror.next().await?;
        if progress.is_following && progress.revision >= revision {
            return Ok(());
        }
    }
}

async fn all(client: &Client) -> Result<Vec<(String, String)>, Failure> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let kvs = client.get(KeyRange::all()).await?.kvs;
    Ok(kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect())
}

async fn show(what: &str, revision: Revision, client: &Client) -> Result<(), Failure> {
    println!("{what} revision {revision}:");
    for (key, value) in all(client).await? {
        println!("    {key} = {value}");
    }
    Ok(())
}

/// Two clusters, and the servers behind them where this starts them.
async fn clusters() -> Result<(Client, Client, Vec<Server>), Failure> {
    if let Ok(endpoints) = std::env::var("ETCD_ENDPOINTS") {
        let client = Client::connect(endpoints.split(',')).await?;
        return Ok((client.clone(), client, Vec::new()));
    }
    println!("ETCD_ENDPOINTS is not set: this runs on two etcds in memory.");
    let servers = vec![Server::start().await?, Server::start().await?];
    let here = Client::connect([servers[0].endpoint()]).await?;
    let there = Client::connect([servers[1].endpoint()]).await?;
    Ok((here, there, servers))
}
