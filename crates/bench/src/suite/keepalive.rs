//! Many leases on one client, kept alive for a while: how many are lost, and what
//! that takes of a processor.
//!
//! The client has this process for itself. The server is in another one: etcd, or
//! this program again with `--serve`, which runs the etcd in memory.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::time::{ClockId, clock_gettime};
use tenure::{Client, Config, Lease};
use tokio::runtime::{Builder, Runtime};

use crate::Failure;
use crate::contest::Setting;
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
    /// Be the server in memory until the input ends.
    #[arg(long, hide = true)]
    serve: bool,
}

pub(crate) fn run(arguments: &Arguments, setting: &Setting, _: &mut Report) -> Result<(), Failure> {
    if arguments.serve {
        return serve();
    }
    for kind in &arguments.server {
        for &leases in &arguments.leases {
            if setting.stop.is_set() {
                return Ok(());
            }
            let server = Away::start(*kind)?;
            let kept = keep(arguments, setting, &server, leases)?;
            println!("{}: {kept}", server.story());
        }
    }
    Ok(())
}

/// A server that takes nothing of this process's time.
enum Away {
    Etcd(Server),
    Embedded { child: Child, endpoint: String },
}

impl Away {
    fn start(kind: ServerKind) -> Result<Away, Failure> {
        if let ServerKind::Etcd = kind {
            return Ok(Away::Etcd(Server::start(kind)?));
        }
        let mut child = Command::new(std::env::current_exe()?)
            .args(["keepalive", "--serve"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut endpoint = String::new();
        let output = child.stdout.take().ok_or("no output of the server")?;
        BufReader::new(output).read_line(&mut endpoint)?;
        let endpoint = endpoint.trim().to_owned();
        Ok(Away::Embedded { child, endpoint })
    }

    fn endpoint(&self) -> &str {
        match self {
            Away::Etcd(server) => server.endpoint(),
            Away::Embedded { endpoint, .. } => endpoint,
        }
    }

    fn story(&self) -> &str {
        match self {
            Away::Etcd(server) => server.story(),
            Away::Embedded { .. } => "the etcd in memory, in a process of its own",
        }
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        if let Away::Embedded { child, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn serve() -> Result<(), Failure> {
    let server = Server::start(ServerKind::Embedded)?;
    println!("{}", server.endpoint());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Grants the leases, lets a TTL pass, and keeps them for the time that is asked for.
fn keep(arguments: &Arguments, setting: &Setting, server: &Away, count: usize) -> Result<String, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let config = Config::new().own_thread(arguments.own_thread);
    let client = runtime.block_on(Client::connect_with([server.endpoint()], config))?;
    let ttl = Duration::from_secs(arguments.ttl);
    let begun = Instant::now();
    let leases = runtime.block_on(grant(&client, ttl, count))?;
    let granted = begun.elapsed();
    wait(&runtime, setting, ttl);
    let (begun, cpu) = (Instant::now(), process_cpu());
    wait(&runtime, setting, Duration::from_secs(arguments.seconds));
    let (elapsed, cpu) = (begun.elapsed(), process_cpu().saturating_sub(cpu));
    let lost = leases.iter().filter(|lease| !lease.is_valid()).count();
    let per_core = 100.0 * cpu.as_secs_f64() / elapsed.as_secs_f64();
    let latency = runtime.block_on(put_latency(&client))?;
    let text = format!(
        "{count} leases of {ttl:?} granted in {granted:.1?} and kept for {elapsed:.0?}: {lost} lost, put p50 {latency:.1?}, \
         {per_core:.2} % of a core"
    );
    leases.iter().for_each(Lease::forget);
    match lost {
        0 => Ok(text),
        _ => Err(text.into()),
    }
}

async fn grant(client: &Client, ttl: Duration, count: usize) -> Result<Vec<Lease>, Failure> {
    let mut granting = tokio::task::JoinSet::new();
    let mut leases = Vec::with_capacity(count);
    for _ in 0..count {
        if granting.len() >= GRANTS_MAX {
            if let Some(granted) = granting.join_next().await {
                leases.push(granted??);
            }
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
        runtime.block_on(tokio::time::sleep(left));
    }
}

/// The time of the processor that this process has had, all its threads together.
fn process_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}
