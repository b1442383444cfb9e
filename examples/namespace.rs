//! Two teams share a cluster and see nothing of one another: the same names, the same
//! ranges and the same locks mean other keys for each. What one deletes stays the other's.
//!
//! Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process.

use std::error::Error;

use tenure::{Client, Compare, KeyRange, Op};
use tenure_testserver::Server;

type Failure = Box<dyn Error + Send + Sync>;

const TEAMS: [&str; 2] = ["namespace-example/team-a/", "namespace-example/team-b/"];

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (endpoints, _server) = etcd().await?;
    let client = Client::connect(&endpoints).await?;
    // As cheap as clones: both use the connections of `client`.
    let [a, b] = TEAMS.map(|prefix| client.namespace(prefix));

    for (team, name) in [(&a, "a"), (&b, "b")] {
        team.put("config/owner", format!("team {name}")).await?;
        team.put("config/size", "small").await?;
    }
    println!("team a asks for all keys there are:");
    for kv in a.get(KeyRange::all()).await?.kvs {
        println!("    {} = {}", text(&kv.key), text(&kv.value));
    }

    // Everything goes through: here a transaction, and a lock of the same name for each.
    let resize = a.txn().when(Compare::value("config/size").equal("small"));
    let resized = resize.then(Op::put("config/size", "large")).await?.succeeded;
    println!("team a has resized: {resized}");
    let (ours, theirs) = (a.lock("nightly").await?, b.lock("nightly").await?);
    println!(
        "both teams hold \"nightly\", each its own, with tokens {} and {}",
        ours.token(),
        theirs.token()
    );
    ours.fenced().put("config/backup", "done").await?;
    ours.release().await?;
    theirs.release().await?;

    let deleted = a.delete(KeyRange::all()).await?.deleted;
    println!("team a deletes everything, which is {deleted} keys. In etcd there is left:");
    let left = client.get(KeyRange::prefix("namespace-example/")).await?.kvs;
    for kv in &left {
        println!("    {} = {}", text(&kv.key), text(&kv.value));
    }
    if left.len() != 2 || !left.iter().all(|kv| kv.key.starts_with(b.prefix())) {
        return Err("team a has deleted what is team b's".into());
    }
    client.delete(KeyRange::prefix("namespace-example/")).await?;
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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
