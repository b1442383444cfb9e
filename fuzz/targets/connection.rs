//! Whatever bytes a server sends over a connection, the client's calls, watch and
//! lease come to an end, and nothing panics.
//!
//! An input is a list of pieces, each behind its length in two bytes. A piece is
//! sent once the client has nothing more to say to the one before. The runtime's
//! time is paused: it moves when everybody waits.

use std::time::{Duration, Instant};

use tenure::{Client, Config, LeaseId};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::Builder;

/// Of the boot clock, which no runtime pauses.
const DEADLINE: Duration = Duration::from_millis(3);
const QUIET: Duration = Duration::from_micros(100);
const PIPE_BYTES: usize = 64 << 10;
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Never that long, even on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn run(data: &[u8]) {
    let begun = Instant::now();
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        tokio::join!(serve(theirs, data), ask(ours));
    });
    assert!(begun.elapsed() < PATIENCE, "it took {:?}", begun.elapsed());
}

async fn serve(io: DuplexStream, mut data: &[u8]) {
    let (mut read, mut write) = tokio::io::split(io);
    let heard = tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while read.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    });
    while let Some((&[high, low], rest)) = data.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        data = rest;
        if write.write_all(piece).await.is_err() {
            break;
        }
        tokio::time::sleep(QUIET).await;
    }
    let _ = write.shutdown().await;
    let _ = heard.await;
}

async fn ask(io: DuplexStream) {
    let config = Config::new().connect_timeout(DEADLINE).call_timeout(DEADLINE);
    let Ok(client) = Client::over(io, config.response_bytes_max(MESSAGE_BYTES_MAX)).await else {
        return;
    };
    let put = async { client.put("key", "value").await.map(drop) };
    let txn = async { client.txn().await.map(drop) };
    let get = async { client.get("key").await.map(drop) };
    let renewal = async { client.lease_keep_alive_once(LeaseId(7)).await.map(drop) };
    let watch = async {
        let Ok(mut watch) = client.watch("key").timeout(DEADLINE).resume(false).await else {
            return;
        };
        while watch.next().await.is_ok() {}
    };
    let _ = tokio::join!(put, txn, get, renewal, watch);
}
