//! A watch that outlives its connection, and a reader that outlives its process: every revision is seen
//! once, whatever is cut in between. What was compacted away is told as that.
//!
//! Runs on two members in memory in this process, since the way to one of them is cut.

use std::collections::BTreeSet;
use std::error::Error;

use tenure::{BatchKind, Client, KeyRange, Op, Revision, Watch, WatchEnd};
use tenure_testserver::{Link, Server};

const PREFIX: &str = "watch-example/";
/// Of a round of writing.
const EVENTS: usize = 3;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let leader = Server::start().await?;
    let follower = leader.add_follower().await?;
    let writer = Client::connect([leader.endpoint()]).await?;
    let reader = Client::connect([follower.endpoint()]).await?;

    let mut watch = reader.watch(KeyRange::prefix(PREFIX)).reconnect_notify().await?;
    let mut seen = BTreeSet::new();
    write(&writer, 1).await?;
    let mut next = read(&mut watch, &mut seen).await?;

    println!("the connection is cut, and the world goes on");
    follower.faults().set_link(Link::Down);
    let last = write(&writer, 2).await?;
    follower.faults().set_link(Link::Up);
    while next <= last {
        next = read(&mut watch, &mut seen).await?;
    }
    println!("{} reconnect, {} events", watch.reconnects(), seen.len());

    // A program keeps this number with what it has made of the events, and goes on there.
    println!("the process ends, and the next one begins at revision {next}");
    drop(watch);
    let last = write(&writer, 3).await?;
    let resumed = next;
    let mut watch = reader.watch(KeyRange::prefix(PREFIX)).start_revision(resumed).await?;
    while next <= last {
        next = read(&mut watch, &mut seen).await?;
    }
    if seen.len() != 3 * EVENTS {
        return Err(format!("{} events of {}", seen.len(), 3 * EVENTS).into());
    }

    writer.compact(last).await?;
    let mut watch = reader.watch(KeyRange::prefix(PREFIX)).start_revision(resumed).await?;
    match watch.next().await {
        Err(WatchEnd::Compacted { compact_revision }) => {
            println!("whoever comes too late is told: what was before {compact_revision} is compacted");
            Ok(())
        }
        other => Err(format!("a watch from what was compacted: {other:?}").into()),
    }
}

/// Two keys at once, and then one of them again: two revisions.
async fn write(client: &Client, round: u32) -> Result<Revision, tenure::Error> {
    let [a, b] = ["a", "b"].map(|name| Op::put(format!("{PREFIX}{name}"), format!("round {round}")));
    client.txn().then(a).then(b).await?;
    let again = client.put(format!("{PREFIX}b"), format!("round {round}, again")).await?;
    Ok(again.revision())
}

/// Reads a batch, and says where a later watch would go on.
async fn read(watch: &mut Watch, seen: &mut BTreeSet<(i64, Vec<u8>)>) -> Result<Revision, Box<dyn Error>> {
    let batch = watch.next().await?;
    if batch.kind == BatchKind::Reconnected {
        println!("  a new stream");
    }
    for event in &batch.events {
        let kv = event.kv();
        println!("  revision {}: {:?} = {:?}", kv.mod_revision, kv.key, kv.value);
        if !seen.insert((kv.mod_revision, kv.key.to_vec())) {
            return Err("an event came twice".into());
        }
    }
    Ok(batch.resume_revision)
}
