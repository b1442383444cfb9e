//! Many leases on one client, kept alive for a while: how many are lost, and what
//! that takes of a processor.
//!
//! The client has this process for itself. The server is in another one, and Go's client
//! in another one again, after this one's leases.

mod go;

use std::time::{Duration, Instant};

use clap::Args;
use tenure::{Client, Config, Lease};
use tenure_bench_worker::Cost;
use tokio::runtime::{Builder, Runtime};

use crate::Failure;
use crate::contest::Setting;
use crate::peer::Peer;
use crate::report::Report;
use crate::server::{Server, ServerKind};

/// Grants under way at a time.
const GRANTS_MAX: usize = 64;
/// Puts that are timed at the end.
const PUTS: usize = 2_000;
/// How often the leases are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The options of `keepalive`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many leases, one contest for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000])]
    leases: Vec<usize>,
    /// For how many seconds, once all are granted and a TTL has passed.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The time to live, in seconds.
    #[arg(long, default_value_t = 30)]
    ttl: u64,
    /// The servers to run on.
    #[arg(long, value_delimiter = ',', default_values = ["embedded"])]
    server: Vec<ServerKind>,
    /// The client's tasks run on a thread of its own.
    #[arg(long)]
    own_thread: bool,
    /// Without the Go client.
    #[arg(long)]
    alone: bool,
}

pub(crate) fn run(arguments: &Arguments, setting: &Setting, _: &mut Report) -> Result<(), Failure> {
    for kind in &arguments.server {
        for &leases in &arguments.leases {
            if setting.stop.is_set() {
                return Ok(());
            }
            let server = Server::start(*kind)?;
            let task = Task {
                endpoint: server.endpoint(),
                leases,
                ttl: Duration::from_secs(arguments.ttl),
                time: Duration::from_secs(arguments.seconds),
            };
            let kept = keep(&task, setting, arguments.own_thread)?;
            println!(
                "{}: {}: {}",
                server.story(),
                Peer::Tenure.name(),
                kept.told(&task)
            );
            if kept.lost > 0 {
                return Err("leases were lost".into());
            }
            if !arguments.alone && !setting.stop.is_set() {
                // Without what is left of the first one's leases.
                let server = Server::start(*kind)?;
                let task = Task {
                    endpoint: server.endpoint(),
                    ..task
                };
                let kept = go::keep(&task, setting)?;
                println!("{}: {}: {}", server.story(), Peer::Go.name(), kept.told(&task));
            }
        }
    }
    Ok(())
}

/// What each client is told to do.
struct Task<'a> {
    endpoint: &'a str,
    leases: usize,
    ttl: Duration,
    /// From a TTL after the last grant on.
    time: Duration,
}

/// What became of it.
#[derive(Default)]
struct Kept {
    lost: usize,
    granted: Duration,
    elapsed: Duration,
    cpu: Duration,
    /// The median of puts beside the renewals, where it was measured.
    put: Option<Duration>,
}

impl Kept {
    fn told(&self, task: &Task<'_>) -> String {
        let of_a_core = 100.0 * self.cpu.as_secs_f64() / self.elapsed.as_secs_f64();
        let put = self.put.map_or(String::new(), |put| format!(", put p50 {put:.1?}"));
        format!(
            "{} leases of {:?} granted in {:.1?} and kept for {:.0?}: {} lost, {of_a_core:.2} % of a core{put}",
            task.leases, task.ttl, self.granted, self.elapsed, self.lost
        )
    }
}

/// Grants the leases, lets a TTL pass, and keeps them for the time that is asked for.
fn keep(task: &Task<'_>, setting: &Setting, own_thread: bool) -> Result<Kept, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let config = Config::new().own_thread(own_thread);
    let client = runtime.block_on(Client::connect_with([task.endpoint], config))?;
    let begun = Instant::now();
    let leases = runtime.block_on(grant(&client, task.ttl, task.leases))?;
    let granted = begun.elapsed();
    wait(&runtime, setting, task.ttl);
    let begun = Instant::now();
    let ((), cost) = Cost::of_process(|| wait(&runtime, setting, task.time));
    let elapsed = begun.elapsed();
    let lost = leases.iter().filter(|lease| !lease.is_valid()).count();
    let put = runtime.block_on(put_latency(&client))?;
    leases.iter().for_each(Lease::forget);
    Ok(Kept {
        lost,
        granted,
        elapsed,
        cpu: cost.cpu(),
        put: Some(put),
    })
}

async fn grant(client: &Client, ttl: Duration, count: usize) -> Result<Vec<Lease>, Failure> {
    let mut granting = tokio::task::JoinSet::new();
    let mut leases = Vec::with_capacity(count);
    for _ in 0..count {
        if granting.len() >= GRANTS_MAX
            && let Some(granted) = granting.join_next().await
        {
            leases.push(granted??);
        }
        let client = client.clone();
        granting.spawn(async move { client.lease(ttl).await });
    }
    while let Some(granted) = granting.join_next().await {
        leases.push(granted??);
    }
    Ok(leases)
}

/// The median of puts one after another, beside the renewals.
async fn put_latency(client: &Client) -> Result<Duration, Failure> {
    let mut latencies = Vec::with_capacity(PUTS);
    for _ in 0..PUTS {
        let begun = Instant::now();
        client.put("bench/keepalive", "x").await?;
        latencies.push(begun.elapsed());
    }
    latencies.sort_unstable();
    Ok(latencies[PUTS / 2])
}

fn wait(runtime: &Runtime, setting: &Setting, time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time && !setting.stop.is_set() {
        let left = time.saturating_sub(begun.elapsed()).min(LOOK);
        runtime.block_on(async { tokio::time::sleep(left).await });
    }
}
