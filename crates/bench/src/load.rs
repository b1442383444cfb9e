//! The busy store: a client of its own that writes at a given pace, on a thread of its own. Whoever
//! watches what it writes may have the time of each put as its value.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// What is written.
#[derive(Clone, Debug)]
struct Writes {
    /// What the keys begin with.
    prefix: String,
    /// How many there are, in turn.
    keys: u64,
    /// The value of each is when its put began, in nanoseconds of Unix time, eight bytes and the highest first.
    are_stamped: bool,
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
        let writes = Writes {
            prefix: PREFIX.to_owned(),
            keys: KEYS,
            are_stamped: false,
        };
        Load::of(writes, endpoint, per_second)
    }

    /// The same, each value being the time of its put: of keys with this prefix and a number of four digits.
    pub(crate) fn stamped(prefix: &str, keys: u64, endpoint: &str, per_second: u32) -> Result<Load, Failure> {
        let writes = Writes {
            prefix: prefix.to_owned(),
            keys,
            are_stamped: true,
        };
        Load::of(writes, endpoint, per_second)
    }

    fn of(writes: Writes, endpoint: &str, per_second: u32) -> Result<Load, Failure> {
        let shared = Arc::<Shared>::default();
        let thread = (per_second > 0).then(|| {
            let (shared, endpoint) = (shared.clone(), endpoint.to_owned());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let interval = Duration::from_secs(1) / per_second;
            Ok::<_, Failure>(thread::spawn(move || {
                runtime.block_on(write(&shared, &writes, &endpoint, interval))
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

async fn write(
    shared: &Shared,
    writes: &Writes,
    endpoint: &str,
    interval: Duration,
) -> Result<(), tenure::Error> {
    let client = Client::connect([endpoint]).await?;
    let mut pace = tokio::time::interval(interval);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !shared.over.load(Ordering::Relaxed) {
        pace.tick().await;
        let number = shared.written.load(Ordering::Relaxed);
        let key = format!("{}{:04}", writes.prefix, number % writes.keys);
        let value = match writes.are_stamped {
            true => now().to_be_bytes().to_vec(),
            false => VALUE.to_vec(),
        };
        client.put(key, value).await?;
        shared.written.store(number + 1, Ordering::Relaxed);
    }
    Ok(())
}

/// In nanoseconds of Unix time.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
