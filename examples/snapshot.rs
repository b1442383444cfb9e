//! A snapshot of a member's database in a file: written beside it first, with its progress, and
//! given its name only once it is whole and on the disk.
//!
//! Runs on the first etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process, which has no database to take a snapshot of and says so.

use std::error::Error;
use std::path::{Path, PathBuf};

use tenure::client::Maintenance;
use tenure::{Client, Code};
use tenure_testserver::Server;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let embedded = Server::start().await?;
    let endpoints = std::env::var("ETCD_ENDPOINTS").unwrap_or(embedded.endpoint().to_owned());
    let client = Client::connect(endpoints.split(',')).await?;
    let member = client.maintenance(&client.endpoints().list()[0])?;
    let status = member.status().await?;
    println!(
        "{} runs etcd {}, with {} bytes",
        member.endpoint(),
        status.version,
        status.db_size
    );

    let path = std::env::args_os().nth(1).map_or_else(temporary, PathBuf::from);
    match save(&member, &path).await {
        Ok(bytes) => println!("{bytes} bytes in {}", path.display()),
        Err(error) if is_unimplemented(&*error) => println!("It takes no snapshots: {error}"),
        Err(error) => return Err(error),
    }
    Ok(())
}

fn temporary() -> PathBuf {
    std::env::temp_dir().join(format!("tenure-{}.snapshot", std::process::id()))
}

async fn save(member: &Maintenance<'_>, path: &Path) -> Result<u64, Box<dyn Error>> {
    // Whatever goes wrong, no file of that name is half a snapshot.
    let part = path.with_extension("part");
    let mut file = tokio::fs::File::create(&part).await?;
    let mut told = 0;
    let snapshot = member.snapshot().write_with_progress(&mut file, |progress| {
        let percent = progress.bytes * 100 / progress.total.max(1);
        if percent >= told + 10 {
            told = percent;
            println!("{percent} %");
        }
    });
    let summary = match snapshot.await {
        Ok(summary) => summary,
        Err(error) => {
            tokio::fs::remove_file(&part).await?;
            return Err(error.into());
        }
    };
    file.sync_all().await?;
    tokio::fs::rename(&part, path).await?;
    Ok(summary.bytes)
}

fn is_unimplemented(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<tenure::Error>()
        .is_some_and(|error| error.code() == Code::Unimplemented)
}
