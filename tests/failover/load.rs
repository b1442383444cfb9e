//! The load: clients that write and read from the beginning to the end, whatever
//! happens to the members.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tenure::{Client, Config};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::ledger::{self, Ledger, Read, Told, Write};

/// Shorter than an election takes at worst, so that some writes run into it.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_millis(2500);
/// Longer than any of the faults keeps a cluster from electing a leader.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(120);
/// How many writes of each writer show that it gets on, and reads of each reader.
const PROGRESS: usize = 20;
/// Between two calls of one task: the machine has other things to do.
const BREATH: Duration = Duration::from_millis(2);
const WRITERS_PER_CLIENT: usize = 2;

/// Tasks that write and read.
pub(crate) struct Load {
    pub(crate) ledger: Arc<Ledger>,
    writers: usize,
    readers: usize,
    is_over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts a client for each endpoint, which has that one as its first.
    pub(crate) fn start(runtime: &Runtime, endpoints: &[String], config: &Config) -> Load {
        let clients = (0..endpoints.len()).map(|first| {
            let mut endpoints = endpoints.to_vec();
            endpoints.rotate_left(first);
            runtime.block_on(Client::connect_with(endpoints, config.clone())).expect("a client")
        });
        Load::of(runtime, clients.collect(), WRITERS_PER_CLIENT)
    }

    /// Starts this many writers on each client, and a reader.
    pub(crate) fn of(runtime: &Runtime, clients: Vec<Client>, writers: usize) -> Load {
        let (ledger, is_over) = (Arc::new(Ledger::default()), Arc::new(AtomicBool::new(false)));
        let (readers, writers_all) = (clients.len(), clients.len() * writers);
        let mut tasks = vec![runtime.spawn(measure_lateness(ledger.clone(), is_over.clone()))];
        for (index, client) in clients.into_iter().enumerate() {
            for writer in index * writers..(index + 1) * writers {
                let writes = writes(client.clone(), writer, ledger.clone(), is_over.clone());
                tasks.push(runtime.spawn(writes));
            }
            tasks.push(runtime.spawn(reads(client, index, ledger.clone(), is_over.clone())));
        }
        Load {
            ledger,
            writers: writers_all,
            readers,
            is_over,
            tasks,
        }
    }

    /// Waits until every writer and reader has got on since now.
    pub(crate) fn goes_on(&self, in_spite_of: &str) {
        let since = Instant::now();
        while !self.stuck(since).is_empty() {
            if since.elapsed() > PATIENCE {
                let stuck = self.stuck(since);
                panic!("{in_spite_of}: {stuck} stuck.\n{}", self.ledger.open());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the calls, and the clients with them.
    pub(crate) fn stop(self, runtime: &Runtime) -> Arc<Ledger> {
        self.is_over.store(true, Ordering::SeqCst);
        for task in self.tasks {
            let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, task).await });
            ended.expect("a call that has not ended").expect("a task that has not panicked");
        }
        self.ledger
    }

    /// Those who have not got on since then.
    fn stuck(&self, since: Instant) -> String {
        let (mut written, mut read) = (vec![0; self.writers], vec![0; self.readers]);
        let pages = self.ledger.open();
        for write in pages.writes.iter().filter(|write| write.told == Told::Applied) {
            written[write.writer] += usize::from(write.begun >= since);
        }
        for one in pages.reads.iter().filter(|read| read.version.is_ok()) {
            read[one.reader] += usize::from(one.begun >= since);
        }
        let slow = |kind: &str, done: &[usize]| {
            let slow = done.iter().enumerate().filter(|(_, done)| **done < PROGRESS);
            slow.map(|(index, _)| format!("{kind} {index}, ")).collect::<String>()
        };
        slow("writer", &written) + &slow("reader", &read)
    }
}

async fn writes(client: Client, writer: usize, ledger: Arc<Ledger>, is_over: Arc<AtomicBool>) {
    for number in 0.. {
        if is_over.load(Ordering::SeqCst) {
            return;
        }
        let write = write(&client, writer, number).await;
        ledger.open().writes.push(write);
        tokio::time::sleep(BREATH).await;
    }
}

/// Writes one key once.
pub(crate) async fn write(client: &Client, writer: usize, number: usize) -> Write {
    let begun = Instant::now();
    let put = client.put(ledger::key(writer, number), number.to_string());
    let error = put.timeout(WRITE_TIMEOUT).await.err();
    Write {
        writer,
        number,
        begun,
        took: begun.elapsed(),
        told: Told::of(error.as_ref()),
        error,
    }
}

/// Reads what was written last: an acknowledged write is there, wherever it is read.
async fn reads(client: Client, reader: usize, ledger: Arc<Ledger>, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::SeqCst) {
        tokio::time::sleep(BREATH).await;
        let last = {
            let pages = ledger.open();
            pages.writes.iter().rev().find(|write| write.told == Told::Applied).map(Write::key)
        };
        let Some(key) = last else {
            continue;
        };
        let begun = Instant::now();
        let answer = client.get(key).timeout(READ_TIMEOUT).await;
        let version = answer.map(|answer| answer.kvs.first().map_or(0, |kv| kv.version));
        ledger.open().reads.push(Read {
            reader,
            begun,
            took: begun.elapsed(),
            version,
        });
    }
}

/// What the machine and the runtime are late by with nothing to do.
async fn measure_lateness(ledger: Arc<Ledger>, is_over: Arc<AtomicBool>) {
    const NAP: Duration = Duration::from_millis(20);
    while !is_over.load(Ordering::SeqCst) {
        let begun = Instant::now();
        tokio::time::sleep(NAP).await;
        let late = begun.elapsed().saturating_sub(NAP);
        let mut pages = ledger.open();
        pages.lateness = pages.lateness.max(late);
    }
}
