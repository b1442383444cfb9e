//! Moves money between accounts without a lock: two tellers get into each other's way,
//! and the sum stays what it was.
//!
//! Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process.

use std::error::Error;

use tenure::{Client, KeyRange};
use tenure_testserver::Server;

const ACCOUNTS: &str = "stm/accounts/";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (endpoints, _server) = etcd().await?;
    let client = Client::connect(&endpoints).await?;
    for name in ["ann", "bob", "eve"] {
        client.put(format!("{ACCOUNTS}{name}"), "100").await?;
    }

    let (one, two) = (client.clone(), client.clone());
    let one = tokio::spawn(async move { teller(&one, "ann", "bob").await });
    let two = tokio::spawn(async move { teller(&two, "bob", "eve").await });
    println!("ann to bob: {} attempts for 10 transfers", one.await??);
    println!("bob to eve: {} attempts for 10 transfers", two.await??);

    // A range is read as one: an account that is opened meanwhile would be noticed.
    let audit = client.stm().run(async |t| {
        let accounts = t.range(KeyRange::prefix(ACCOUNTS)).await?;
        t.put("stm/audit", format!("{} accounts", accounts.len()));
        Ok(accounts)
    });
    let audit = audit.await?;
    for (name, balance) in &audit.value {
        println!("{name:?} has {balance:?}");
    }
    let total: i64 = audit.value.iter().map(|(_, balance)| amount(balance)).sum();
    println!("{total} in all, as of revision {}", audit.revision);
    client.delete(KeyRange::prefix("stm/")).await?;
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

/// Ten transfers. How often they were tried.
async fn teller(client: &Client, from: &str, to: &str) -> Result<u32, tenure::Error> {
    let (from, to) = (format!("{ACCOUNTS}{from}"), format!("{ACCOUNTS}{to}"));
    let mut attempts = 0;
    for _ in 0..10 {
        // Run again, with what is there then, where somebody was faster.
        let transfer = client.stm().run(async |t| {
            let has = amount(&t.get(from.clone()).await?.unwrap_or_default());
            t.put(from.clone(), (has - 7).to_string());
            let has = amount(&t.get(to.clone()).await?.unwrap_or_default());
            t.put(to.clone(), (has + 7).to_string());
            Ok(())
        });
        attempts += transfer.await?.attempts;
    }
    Ok(attempts)
}

fn amount(value: &[u8]) -> i64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}
