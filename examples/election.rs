//! Three replicas elect who schedules. The leader says where it can be found, and writes
//! under its fence; it crashes, the next one takes over once its lease has run out, and
//! the crashed one, had it only slept, could write nothing any more.
//!
//! Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process.

use std::error::Error;
use std::time::Duration;

use tenure::{Client, KeyRange, Leadership, Op};
use tenure_testserver::Server;

type Failure = Box<dyn Error + Send + Sync>;

const ELECTION: &str = "election/scheduler";
const SCHEDULE: &str = "election-schedule";
const REPLICAS: u32 = 3;
/// How long a leader that crashed keeps the others waiting.
const TTL: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (endpoints, _server) = etcd().await?;
    let client = Client::connect(&endpoints).await?;
    let followed = tokio::spawn(follow(client.clone()));
    let mut replicas = Vec::new();
    for replica in 1..=REPLICAS {
        let endpoints = endpoints.clone();
        replicas.push(tokio::spawn(async move { stand(replica, &endpoints).await }));
        until_candidates_are(&client, replica).await?;
    }
    let mut deposed = None;
    for replica in replicas {
        let leadership = replica.await??;
        if let Some(fence) = deposed.take() {
            let late = client.txn().when(fence).then(Op::put(SCHEDULE, "from the one before")).await?;
            println!(
                "a late write of the leader before it is carried out: {}",
                late.succeeded
            );
            if late.succeeded {
                return Err("a leader that was deposed has written".into());
            }
        }
        deposed = Some(leadership.fence());
        // No word to anybody: its lease runs out.
        println!("... and crashes");
        leadership.session().clone().orphan();
    }
    let told = followed.await??;
    client.delete(SCHEDULE).await?;
    println!("{told} leaders were seen from outside. Done.");
    Ok(())
}

/// A replica: waits until it leads, says where it is, and writes.
async fn stand(replica: u32, endpoints: &[String]) -> Result<Leadership, Failure> {
    let session = Client::connect(endpoints).await?.session().ttl(TTL).await?;
    let mut leadership = session.election(ELECTION).campaign(format!("replica {replica} warms up")).await?;
    println!("replica {replica} leads with token {}", leadership.token());
    leadership.proclaim(format!("replica {replica} is at 10.0.0.{replica}")).await?;
    let write = session.client().txn().when(leadership.fence());
    let written = write.then(Op::put(SCHEDULE, format!("by replica {replica}"))).await?;
    match written.succeeded {
        true => Ok(leadership),
        false => Err("a leader could not write".into()),
    }
}

/// What everybody else sees: how many led until nobody does.
async fn follow(client: Client) -> Result<u32, Failure> {
    let mut leaders = client.observe_leader(ELECTION);
    let (mut told, mut last) = (0, None);
    loop {
        match leaders.next().await? {
            Some(leader) => {
                println!("    seen: {}", String::from_utf8_lossy(&leader.value));
                told += u32::from(last != Some(leader.created));
                last = Some(leader.created);
            }
            None if told == REPLICAS => return Ok(told),
            None => {}
        }
    }
}

async fn until_candidates_are(client: &Client, count: u32) -> Result<(), Failure> {
    while client.get(KeyRange::prefix(ELECTION)).count_only().await?.count < i64::from(count) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
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
