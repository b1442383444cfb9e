//! Follows a prefix: all that is there, then all that happens.
//!
//! Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process.

use std::error::Error;

use tenure::{Client, Event, KeyRange, Update};
use tenure_testserver::Server;

const PREFIX: &str = "list_watch/";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let embedded = Server::start().await?;
    let endpoints = std::env::var("ETCD_ENDPOINTS").unwrap_or(embedded.endpoint().to_owned());
    let client = Client::connect(endpoints.split(',')).await?;
    client.delete(KeyRange::prefix(PREFIX)).await?;
    for job in ["a", "b", "c"] {
        client.put(format!("{PREFIX}{job}"), "queued").await?;
    }

    let mut jobs = client.list_watch(KeyRange::prefix(PREFIX)).page_size(2);
    loop {
        match jobs.next().await? {
            Update::Listed(events) => tell("there is", &events),
            Update::Synced { revision } => {
                println!("that is all, as of revision {revision}");
                client.put(format!("{PREFIX}b"), "done").await?;
                client.delete(format!("{PREFIX}c")).await?;
            }
            Update::Changed(batch) => {
                tell("there was", &batch.events);
                if batch.events.iter().any(|event| matches!(event, Event::Delete { .. })) {
                    return Ok(());
                }
            }
            Update::Relisting => println!("the history was compacted: here is what is different"),
            _ => {}
        }
    }
}

fn tell(what: &str, events: &[Event]) {
    for event in events {
        let key = String::from_utf8_lossy(&event.kv().key);
        match event {
            Event::Put { kv, .. } => println!("{what} {key} = {}", String::from_utf8_lossy(&kv.value)),
            Event::Delete { .. } => println!("{what} the end of {key}"),
        }
    }
}
