//! Waits until three workers have done their parts, whoever they were: the count is in etcd, and what is
//! counted stays counted.
//!
//! Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process.

use std::error::Error;
use std::time::Duration;

use tenure::Client;
use tenure_testserver::Server;

const SHARDS: [&str; 3] = ["shard-1", "shard-2", "shard-3"];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (endpoints, _server) = etcd().await?;
    let client = Client::connect(&endpoints).await?;
    let imported = client.latch("import/shards", 3);

    let mut workers = tokio::task::JoinSet::new();
    for (work, shard) in (1..).zip(SHARDS) {
        let imported = imported.clone();
        workers.spawn(async move {
            tokio::time::sleep(Duration::from_millis(100) * work).await;
            // Counted once, though it is said twice: a worker that is started again may repeat it.
            imported.count_down_as(shard).await?;
            imported.count_down_as(shard).await?;
            println!("{shard} is done, {} to go", imported.remaining().await?);
            Ok::<(), tenure::Error>(())
        });
    }

    println!("waiting for {} shards", imported.remaining().await?);
    imported.wait().await?;
    println!("all are imported");
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    // Nobody uses it any more.
    imported.delete().await?;
    Ok(())
}

/// The endpoints to use, and the server behind them where this starts one.
async fn etcd() -> Result<(Vec<String>, Option<Server>), Box<dyn Error>> {
    if let Ok(endpoints) = std::env::var("ETCD_ENDPOINTS") {
        return Ok((endpoints.split(',').map(str::to_owned).collect(), None));
    }
    println!("ETCD_ENDPOINTS is not set: this runs on an etcd in memory.");
    let server = Server::start().await?;
    Ok((vec![server.endpoint().to_owned()], Some(server)))
}
