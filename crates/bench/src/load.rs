//! The busy store: a client of its own that writes at a given pace, on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tenure::Client;
use tokio::time::MissedTickBehavior;

use crate::Failure;

/// The keys that are written, in turn.
const KEYS: u64 = 1000;
/// What they begin with.
pub(crate) const PREFIX: &str = "bench/load/";
const VALUE: &[u8] = &[b'x'; 64];

/// Writes that go on until this is finished or dropped.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    begun: Instant,
    thread: Option<JoinHandle<Result<(), tenure::Error>>>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    written: AtomicU64,
}

impl Load {
    /// Begins to write this many keys a second, or as many as the server takes one
    /// after another; 0 is no load.
    pub(crate) fn start(endpoint: &str, per_second: u32) -> Result<Load, Failure> {
        let shared = Arc::<Shared>::default();
        let thread = (per_second > 0).then(|| {
            let (shared, endpoint) = (shared.clone(), endpoint.to_owned());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let interval = Duration::from_secs(1) / per_second;
            Ok::<_, Failure>(thread::spawn(move || {
                runtime.block_on(write(&shared, &endpoint, interval))
            }))
        });
        Ok(Load {
            shared,
            begun: Instant::now(),
            thread: thread.transpose()?,
        })
    }

    /// Ends the writes, and says how many there were a second: a note for the table.
    pub(crate) fn finish(mut self) -> Result<String, Failure> {
        let elapsed = self.begun.elapsed();
        let written = self.shared.written.load(Ordering::Relaxed);
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join().map_err(|_| "the load's thread panicked")?;
            ended.map_err(|cause| format!("the writes beside it ended early: {cause}"))?;
        }
        let per_second = written as f64 / elapsed.as_secs_f64();
        Ok(format!(
            "Meanwhile {per_second:.0} other keys a second were written."
        ))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

async fn write(shared: &Shared, endpoint: &str, interval: Duration) -> Result<(), tenure::Error> {
    let client = Client::connect([endpoint]).await?;
    let mut pace = tokio::time::interval(interval);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !shared.over.load(Ordering::Relaxed) {
        pace.tick().await;
        let number = shared.written.load(Ordering::Relaxed);
        client.put(format!("{PREFIX}{:04}", number % KEYS), VALUE).await?;
        shared.written.store(number + 1, Ordering::Relaxed);
    }
    Ok(())
}
