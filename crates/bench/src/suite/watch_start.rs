//! Where a watch starts, and how long its first event then takes.
//!
//! A sample: put a key, create a watch of it, delete it as soon as the creation is
//! answered, and stop the clock, which runs since the create request, at the delete's
//! event. Meanwhile another client writes other keys, so that the revision moves on.
//! A watch that starts at or below the store's revision is served by a loop that etcd
//! runs every 100 ms, any other one at once.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use tenure::{Client, Event, Revision, Watch};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use crate::Failure;
use crate::contest::{self, Competitor, Setting};
use crate::load::Load;
use crate::report::{Report, Table};
use crate::server::{Server, ServerKind};
use crate::tally::Round;

/// When an event that does not come is a failure.
const PATIENCE: Duration = Duration::from_secs(30);
/// The period of etcd's loop for watches that are behind.
const LOOP_MS: u64 = 100;
/// Coprime to the period: the samples begin all over it, not right behind its last run.
const STRIDE_MS: u64 = 37;

/// The options of `watch-start`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Samples a round.
    #[arg(long, default_value_t = 100)]
    samples: u32,
    /// Keys a second that another client writes meanwhile.
    #[arg(long, default_value_t = 250)]
    writes: u32,
    /// The servers to run on.
    #[arg(long, value_delimiter = ',', default_values = ["etcd", "embedded"])]
    server: Vec<ServerKind>,
}

pub(crate) fn run(arguments: &Arguments, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    for kind in &arguments.server {
        if setting.stop.is_set() {
            break;
        }
        let server = Server::start(*kind)?;
        let load = Load::start(server.endpoint(), arguments.writes)?;
        let mut competitors: Vec<Box<dyn Competitor>> = Vec::new();
        for start in Start::value_variants() {
            competitors.push(Box::new(Sampler::new(
                *start,
                server.endpoint(),
                arguments.samples,
            )?));
        }
        let title = format!("A watch's creation to its first event, on {}", server.story());
        let mut table = contest::run(Table::new(title, "watches"), competitors, setting);
        table.notes.push(load.finish()?);
        report.add(&table);
    }
    Ok(())
}

/// Where a watch starts.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Start {
    Current,
    Next,
    Now,
}

impl Start {
    fn story(self) -> &'static str {
        match self {
            Start::Current => "start at the current revision",
            Start::Next => "start at the current revision + 1",
            Start::Now => "start at now (0)",
        }
    }
}

/// Measures watches with one start, on a connection and a thread of its own.
struct Sampler {
    start: Start,
    samples: u32,
    runtime: Runtime,
    client: Client,
    sampled: u64,
}

impl Sampler {
    fn new(start: Start, endpoint: &str, samples: u32) -> Result<Sampler, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(Client::connect([endpoint]))?;
        Ok(Sampler {
            start,
            samples,
            runtime,
            client,
            sampled: 0,
        })
    }
}

impl Competitor for Sampler {
    fn name(&self) -> String {
        self.start.story().to_owned()
    }

    fn run_round(&mut self, setting: &Setting) -> Result<Round, Failure> {
        let mut round = Round::default();
        for _ in 0..self.samples {
            if setting.stop.is_set() {
                break;
            }
            self.sampled += 1;
            let pause = Duration::from_millis(self.sampled * STRIDE_MS % LOOP_MS);
            let key = format!("bench/watch-start/{:?}/{}", self.start, self.sampled);
            let sampling = async {
                sleep(pause).await;
                timeout(PATIENCE, sample(&self.client, self.start, &key)).await
            };
            let latency = self.runtime.block_on(sampling);
            round.latencies.push(latency.map_err(|_| format!("no event within {PATIENCE:?}"))??);
        }
        Ok(round)
    }
}

async fn sample(client: &Client, start: Start, key: &str) -> Result<Duration, Failure> {
    let current = client.put(key.to_owned(), "").await?.revision();
    let create = client.watch(key.to_owned());
    let create = match start {
        Start::Current => create.start_revision(current),
        Start::Next => create.start_revision(Revision(current.0 + 1)),
        Start::Now => create,
    };
    let begun = Instant::now();
    let mut watch = create.await?;
    let seen = async {
        until_deleted(&mut watch).await?;
        Ok::<_, Failure>(begun.elapsed())
    };
    let (deleted, latency) = tokio::join!(client.delete(key.to_owned()), seen);
    deleted?;
    latency
}

async fn until_deleted(watch: &mut Watch) -> Result<(), Failure> {
    loop {
        let batch = watch.next().await?;
        if batch.events.iter().any(|event| matches!(event, Event::Delete { .. })) {
            return Ok(());
        }
    }
}
