//! The server: connections, HTTP/2, tasks and tokio's clock around one [`Etcd`].
//! It decides nothing about keys, leases or watches.
//!
//! One task accepts, one ticks, one drives each connection, and each call has its
//! own. Dropping the [`Server`] ends them all.

mod call;
mod cut;
mod message;
mod stream;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::etcd::{Etcd, Options};
use crate::faults::Faults;
use crate::watch::StreamId;

/// etcd's step for watches that are behind.
const TICK_INTERVAL: Duration = Duration::from_millis(100);
/// Windows that a burst of small frames does not use up.
const WINDOW_BYTES: u32 = 4 << 20;
/// What a pipe holds for a reader that is slow.
const PIPE_BYTES: usize = 256 << 10;

/// An etcd in memory that runs as tasks of the tokio runtime it was started on.
/// It stops when it is dropped, and all that it held is gone.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    /// Aborted with the set, which no task holds on to.
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Server {
    /// Starts an empty one on a free port of the loopback interface.
    ///
    /// # Errors
    ///
    /// There is no free port.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, nothing runs.
    pub async fn start() -> io::Result<Server> {
        Server::start_with(Options::default()).await
    }

    /// Like [`Server::start`], with options.
    ///
    /// # Errors
    ///
    /// There is no free port.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, nothing runs.
    pub async fn start_with(options: Options) -> io::Result<Server> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let server = Server::new(&options, format!("http://{}", listener.local_addr()?));
        let (shared, tasks) = (server.shared.clone(), Arc::downgrade(&server.tasks));
        let accepting = async move {
            loop {
                // An error is that of one connection, or of too many open files: the next may do.
                let accepted = listener.accept().await;
                let (Ok((io, _)), Some(tasks)) = (accepted, tasks.upgrade()) else {
                    tokio::time::sleep(TICK_INTERVAL).await;
                    continue;
                };
                let _ = io.set_nodelay(true);
                spawn(&tasks, serve(shared.clone(), io));
            }
        };
        spawn(&server.tasks, accepting);
        Ok(server)
    }

    /// Starts an empty one that is reached by [`Server::connect`] alone: it needs
    /// no network, not even a loopback interface.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn in_memory(options: Options) -> Server {
        Server::new(&options, "http://embedded".to_owned())
    }

    /// Where a client finds it, such as `http://127.0.0.1:41237`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.shared.endpoint
    }

    /// A connection to it in memory: the client's end.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        spawn(&self.tasks, serve(self.shared.clone(), ours));
        theirs
    }

    /// What tells it to do something wrong.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.shared.faults.clone()
    }

    /// How many watches there are now.
    #[must_use]
    pub fn watch_count(&self) -> usize {
        self.shared.with(|etcd, _| etcd.watches().count())
    }

    fn new(options: &Options, endpoint: String) -> Server {
        let shared = Arc::new(Shared {
            etcd: Mutex::new(Etcd::new(options)),
            streams: Mutex::default(),
            faults: Faults::default(),
            endpoint,
            start: Instant::now(),
        });
        let tasks = Arc::default();
        spawn(&tasks, tick(shared.clone()));
        Server { shared, tasks }
    }
}

/// What all tasks of a server share.
#[derive(Debug)]
struct Shared {
    etcd: Mutex<Etcd>,
    /// Who waits for answers on which watch stream.
    streams: Mutex<HashMap<StreamId, Arc<Notify>>>,
    faults: Faults,
    endpoint: String,
    start: Instant,
}

impl Shared {
    /// Does something with the state, and wakes whom it concerns.
    fn with<T>(&self, body: impl FnOnce(&mut Etcd, Duration) -> T) -> T {
        let now = self.start.elapsed();
        let (result, ready) = {
            let mut etcd = lock(&self.etcd);
            let result = body(&mut etcd, now);
            (result, etcd.watches().take_ready())
        };
        let streams = lock(&self.streams);
        for waiting in ready.iter().filter_map(|stream| streams.get(stream)) {
            waiting.notify_one();
        }
        result
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(tasks: &Mutex<JoinSet<()>>, task: impl Future<Output = ()> + Send + 'static) {
    let mut tasks = lock(tasks);
    while tasks.try_join_next().is_some() {}
    tasks.spawn(task);
}

async fn tick(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(TICK_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        shared.with(Etcd::handle_tick);
    }
}

async fn serve(shared: Arc<Shared>, io: impl AsyncRead + AsyncWrite + Unpin) {
    let io = cut::Cut::new(io, shared.faults.clone());
    let handshake = h2::server::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake::<_, Bytes>(io);
    let Ok(mut connection) = handshake.await else {
        return;
    };
    let mut calls = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        while calls.try_join_next().is_some() {}
        calls.spawn(call::serve(shared.clone(), request, respond));
    }
}

#[cfg(test)]
mod tests;
