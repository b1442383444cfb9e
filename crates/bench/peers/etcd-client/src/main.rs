//! The etcd-client crate under measurement, set up as its documentation shows and
//! with HTTP/2 pings like the others: all endpoints in one balanced channel, a
//! deadline around each call.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, Error, Event, LeaseKeepAliveStream, LeaseKeeper, LockOptions,
    Txn, TxnOp, WatchOptions, WatchResponse, WatchStream,
};
use tenure_bench_worker::{Events, Key, Lease, Lock, Locker, Order, Outcome, Peer};
use tokio::sync::OnceCell;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// A replay's messages are larger than the 4 MiB that tonic takes by default.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Of the lease that locks hang on. Longer than any round: its lock does not renew it.
const LOCK_TTL_SECONDS: i64 = 3600;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    order: Order,
}

fn main() -> ExitCode {
    tenure_bench_worker::run::<EtcdClient>(&Arguments::parse().order)
}

#[derive(Clone)]
struct EtcdClient {
    client: Client,
    /// What all its locks hang on; there once the first is wanted.
    lease: Rc<OnceCell<i64>>,
}

/// A lease that is renewed until this goes.
struct Kept {
    keeping: JoinHandle<()>,
    renewals: Rc<Cell<u64>>,
}

/// Of the lock service: the server waits in the queue.
struct EtcdLock {
    client: Client,
    name: String,
    lease: i64,
    key: Vec<u8>,
}

struct Stream(WatchStream);

impl Locker for EtcdClient {
    type Lock = EtcdLock;

    async fn connect(endpoints: &[String]) -> Result<EtcdClient, String> {
        let options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_keep_alive_while_idle(true);
        let client = Client::connect(endpoints, Some(options)).await;
        Ok(EtcdClient {
            client: client.map_err(text)?,
            lease: Rc::default(),
        })
    }

    async fn mutex(&self, name: &str) -> Result<EtcdLock, String> {
        let grant = async || {
            let granted = self.client.lease_client().grant(LOCK_TTL_SECONDS, None).await;
            granted.map(|lease| lease.id()).map_err(text)
        };
        Ok(EtcdLock {
            client: self.client.clone(),
            name: name.to_owned(),
            lease: *self.lease.get_or_try_init(grant).await?,
            key: Vec::new(),
        })
    }
}

impl Peer for EtcdClient {
    type Events = Stream;
    type Lease = Kept;

    async fn put(&self, key: Key, value: &'static [u8], deadline: Duration) -> Outcome {
        let mut client = self.client.kv_client();
        outcome(timeout(deadline, client.put(key, value, None)).await)
    }

    async fn get(&self, key: Key, deadline: Duration) -> Outcome {
        let mut client = self.client.kv_client();
        outcome(timeout(deadline, client.get(key, None)).await)
    }

    async fn txn(&self, key: Key, value: &'static [u8], deadline: Duration) -> Outcome {
        let mut client = self.client.kv_client();
        let txn = Txn::new()
            .when([Compare::mod_revision(key.clone(), CompareOp::Greater, 0)])
            .and_then([TxnOp::put(key.clone(), value, None)])
            .or_else([TxnOp::get(key, None)]);
        outcome(timeout(deadline, client.txn(txn)).await)
    }

    async fn watch(&self, prefix: &str, from: i64) -> Result<Stream, String> {
        let options = WatchOptions::new().with_prefix().with_start_revision(from);
        let mut client = self.client.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
        let watch = client.watch(prefix, Some(options)).await;
        watch.map(Stream).map_err(text)
    }

    async fn lease(&self, ttl: Duration) -> Result<Self::Lease, String> {
        let mut client = self.client.lease_client();
        let granted = client.grant(i64::try_from(ttl.as_secs()).map_err(text)?, None).await.map_err(text)?;
        let (keeper, answers) = client.keep_alive(granted.id()).await.map_err(text)?;
        let renewals = Rc::<Cell<u64>>::default();
        Ok(Kept {
            keeping: spawn_local(keep(keeper, answers, ttl / 3, renewals.clone())),
            renewals,
        })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

impl Lease for Kept {
    fn renewals(&self) -> u64 {
        self.renewals.get()
    }

    fn is_kept(&self) -> bool {
        !self.keeping.is_finished()
    }
}

/// It renews once and no more by itself: as its documentation shows, the caller asks for each renewal.
async fn keep(
    mut keeper: LeaseKeeper,
    mut answers: LeaseKeepAliveStream,
    every: Duration,
    renewals: Rc<Cell<u64>>,
) {
    loop {
        sleep(every).await;
        if keeper.keep_alive().await.is_err() {
            return;
        }
        match answers.message().await {
            // It has run out where no time is left.
            Ok(Some(answer)) if answer.ttl() > 0 => renewals.set(renewals.get() + 1),
            _ => return,
        }
    }
}

impl Lock for EtcdLock {
    async fn lock(&mut self) -> Result<(), String> {
        let options = LockOptions::new().with_lease(self.lease);
        let locked = self.client.lock_client().lock(self.name.as_str(), Some(options)).await;
        self.key = locked.map_err(text)?.key().to_vec();
        Ok(())
    }

    async fn unlock(&mut self) -> Result<(), String> {
        let key = std::mem::take(&mut self.key);
        self.client.lock_client().unlock(key).await.map(drop).map_err(text)
    }
}

impl Stream {
    async fn message(&mut self) -> Result<WatchResponse, String> {
        match self.0.message().await {
            Ok(Some(message)) if message.canceled() => Err(message.cancel_reason().to_owned()),
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err("the stream ended".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Events for Stream {
    async fn next(&mut self) -> Result<u64, String> {
        Ok(self.message().await?.events().len() as u64)
    }

    async fn next_values(&mut self, mut each: impl FnMut(&[u8])) -> Result<(), String> {
        let message = self.message().await?;
        message.events().iter().filter_map(Event::kv).for_each(|kv| each(kv.value()));
        Ok(())
    }
}

fn text(cause: impl ToString) -> String {
    cause.to_string()
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
