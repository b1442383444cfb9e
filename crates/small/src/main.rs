//! Connects, locks, unlocks: a program for constrained machines, whose size and whose number of
//! crates are measured. It has one thread and no TLS; see docs/constrained.md.
//!
//! ```sh
//! cargo run --profile small -p tenure-small -- http://127.0.0.1:2379
//! ```

#![forbid(unsafe_code)]

use std::error::Error;

use tenure::{Client, Config};

const LOCK: &str = "small/lock";

fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:2379".to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(lock(&endpoint))?;
    Ok(())
}

async fn lock(endpoint: &str) -> Result<(), tenure::Error> {
    let session = Client::connect_with([endpoint], modest()).await?.session().await?;
    let guard = session.mutex(LOCK).lock().await?;
    println!("locked with token {}", guard.token());
    guard.release().await?;
    session.close().await
}

/// What bounds memory, far below the defaults.
fn modest() -> Config {
    Config::new()
        .connections_max(1)
        .stream_window_bytes(64 << 10)
        .connection_window_bytes(1 << 20)
        .request_bytes_max(256 << 10)
        .response_bytes_max(256 << 10)
}
