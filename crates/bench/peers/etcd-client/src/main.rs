//! The etcd-client crate under measurement, set up as its documentation shows and
//! with HTTP/2 pings like the others: all endpoints in one balanced channel, a
//! deadline around each call.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use etcd_client::{Client, ConnectOptions, Error, WatchOptions, WatchStream};
use tenure_bench_worker::{Events, Key, Order, Outcome, Peer};
use tokio::time::timeout;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// A replay's messages are larger than the 4 MiB that tonic takes by default.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    order: Order,
}

fn main() -> ExitCode {
    tenure_bench_worker::run::<EtcdClient>(&Arguments::parse().order)
}

#[derive(Clone)]
struct EtcdClient(Client);

struct Stream(WatchStream);

impl Peer for EtcdClient {
    type Events = Stream;

    async fn connect(endpoints: &[String]) -> Result<EtcdClient, String> {
        let options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_keep_alive_while_idle(true);
        let client = Client::connect(endpoints, Some(options)).await;
        client.map(EtcdClient).map_err(|error| error.to_string())
    }

    async fn put(&self, key: Key, value: &'static [u8], deadline: Duration) -> Outcome {
        let mut client = self.0.kv_client();
        outcome(timeout(deadline, client.put(key, value, None)).await)
    }

    async fn get(&self, key: Key, deadline: Duration) -> Outcome {
        let mut client = self.0.kv_client();
        outcome(timeout(deadline, client.get(key, None)).await)
    }

    async fn watch(&self, prefix: &str, from: i64) -> Result<Stream, String> {
        let options = WatchOptions::new().with_prefix().with_start_revision(from);
        let mut client = self.0.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
        let watch = client.watch(prefix, Some(options)).await;
        watch.map(Stream).map_err(|error| error.to_string())
    }
}

impl Events for Stream {
    async fn next(&mut self) -> Result<u64, String> {
        match self.0.message().await {
            Ok(Some(message)) if message.canceled() => Err(message.cancel_reason().to_owned()),
            Ok(Some(message)) => Ok(message.events().len() as u64),
            Ok(None) => Err("the stream ended".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// By gRPC's code, which is all that its errors tell.
fn outcome<T, E>(ended: Result<Result<T, Error>, E>) -> Outcome {
    const UNCLEAR: [i32; 6] = [1, 2, 4, 13, 14, 15];
    match ended {
        Ok(Ok(_)) => Outcome::Answered,
        Ok(Err(Error::GRpcStatus(status))) if !UNCLEAR.contains(&(status.code() as i32)) => Outcome::Refused,
        Ok(Err(_)) | Err(_) => Outcome::Unknown,
    }
}
