//! What a Rust client does that is measured in a process of its own, the same for
//! each of them: the client is a [`Peer`], and [`run`] does what an [`Order`] says.
//! The Go client's program takes the same orders. What only locks is a [`Locker`], for which
//! [`run_locks`] does what a [`LockOrder`] says.
//!
//! It prints a line for each measure, such as `elapsed 1234567` with nanoseconds;
//! a failure ends it with `error` and the reason. It ends when its standard input
//! does, so that it never outlives whoever started it.

#![forbid(unsafe_code)]

mod cost;
mod events;
mod handoff;
mod idle;
mod input;
mod keepalive;
mod latency;
mod lock;
mod peer;
mod samples;
mod server;
mod steady;
mod tail;
mod unary;

use std::fmt;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

pub use cost::Cost;
pub use input::ended as input_ended;
pub use peer::{Events, Key, Lease, Lock, Locker, Never, Outcome, Peer};

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Order {
    /// Puts and gets until the input ends, and then a line for each of them.
    Steady(Steady),
    /// Counts the events of a prefix.
    Watch(Watch),
    /// Takes the time from puts of somebody else to their events.
    Latency(Latency),
    /// As many calls as are asked for, so many at a time.
    Unary(Unary),
    /// Small reads at a pace, beside what else the same client does.
    Tail(Tail),
    /// Leases that are kept alive, and nothing else.
    Keepalive(Keepalive),
    /// What every client does that locks.
    #[command(flatten)]
    Lock(LockOrder),
    /// Has things lie about, and says what memory that takes.
    Idle(Idle),
}

/// What to do with a lock.
#[derive(Clone, Debug, Subcommand)]
pub enum LockOrder {
    /// Locks and unlocks one lock that nobody else wants, again and again.
    Lock(Locking),
    /// Passes one lock on among those who want it, each with a connection of its own.
    Handoff(Handoff),
}

/// Where the servers are.
#[derive(Clone, Debug, Args)]
pub struct Servers {
    /// `http://host:port`, more than one with commas between them.
    #[arg(long, value_delimiter = ',', required = true)]
    pub endpoints: Vec<String>,
}

/// The load that goes on.
#[derive(Clone, Debug, Args)]
pub struct Steady {
    /// Where to.
    #[command(flatten)]
    pub servers: Servers,
    /// Of each call, in milliseconds.
    #[arg(long, value_parser = milliseconds)]
    pub deadline: Duration,
    /// Between the beginnings of two calls of a kind, in milliseconds.
    #[arg(long, value_parser = milliseconds)]
    pub every: Duration,
    /// What all keys begin with.
    #[arg(long)]
    pub prefix: String,
}

/// The events of a prefix.
#[derive(Clone, Debug, Args)]
pub struct Watch {
    /// Where to.
    #[command(flatten)]
    pub servers: Servers,
    /// What the keys begin with.
    #[arg(long)]
    pub prefix: String,
    /// The revision to begin with; 0 for now.
    #[arg(long)]
    pub from: i64,
    /// How many there will be.
    #[arg(long)]
    pub events: u64,
}

/// The events of keys that somebody else puts, each with the time at which that began.
#[derive(Clone, Debug, Args)]
pub struct Latency {
    /// Where to.
    #[command(flatten)]
    pub servers: Servers,
    /// What the keys begin with; behind it is the number of the watch, with four digits.
    #[arg(long)]
    pub prefix: String,
    /// How many watches, each of a key of its own.
    #[arg(long)]
    pub watches: u64,
    /// How many events, all watches together.
    #[arg(long)]
    pub calls: u64,
}

/// Calls of one kind.
#[derive(Clone, Debug, Args)]
pub struct Unary {
    /// Where to.
    #[command(flatten)]
    pub servers: Servers,
    /// What is called.
    #[arg(long)]
    pub method: Method,
    /// How many in all.
    #[arg(long)]
    pub calls: u64,
    /// How many at a time.
    #[arg(long)]
    pub in_flight: u64,
    /// The size of the value.
    #[arg(long)]
    pub value_bytes: usize,
}

/// Reads at a pace, and what goes on beside them.
#[derive(Clone, Debug, Args)]
pub struct Tail {
    /// Where to.
    #[command(flatten)]
    pub servers: Servers,
    /// How many in all.
    #[arg(long)]
    pub calls: u64,
    /// Between the beginnings of two of them, in microseconds.
    #[arg(long, value_parser = microseconds)]
    pub every: Duration,
    /// Leases that are kept alive meanwhile.
    #[arg(long, default_value_t = 0)]
    pub leases: u64,
    /// What the keys begin with that are watched meanwhile.
    #[arg(long)]
    pub watch: Option<String>,
    /// The size of a value that is read meanwhile, again and again; 0 for none.
    #[arg(long, default_value_t = 0)]
    pub large_bytes: usize,
}

/// Leases to keep.
#[derive(Clone, Debug, Args)]
pub struct Keepalive {
    /// Where to.
    #[command(flatten)]
    pub servers: Servers,
    /// How many.
    #[arg(long)]
    pub leases: usize,
    /// Their time to live, in seconds.
    #[arg(long, value_parser = seconds)]
    pub ttl: Duration,
    /// How long they are measured, once all are granted and a TTL has passed; in seconds.
    #[arg(long = "seconds", value_parser = seconds)]
    pub time: Duration,
}

/// A lock that is free.
#[derive(Clone, Debug, Args)]
pub struct Locking {
    /// Where to.
    #[command(flatten)]
    pub servers: Servers,
    /// What it is called.
    #[arg(long)]
    pub name: String,
    /// How often it is locked and unlocked.
    #[arg(long)]
    pub calls: u64,
    /// The process of the server, whose use of the processor is told as well.
    #[arg(long)]
    pub server_pid: Option<u32>,
}

/// A lock that is wanted.
#[derive(Clone, Debug, Args)]
pub struct Handoff {
    /// Where to.
    #[command(flatten)]
    pub servers: Servers,
    /// What it is called.
    #[arg(long)]
    pub name: String,
    /// How many want it.
    #[arg(long)]
    pub contenders: usize,
    /// How often another one gets it than had it before.
    #[arg(long)]
    pub handoffs: usize,
    /// For how long each keeps it, in microseconds.
    #[arg(long, value_parser = microseconds)]
    pub hold: Duration,
    /// When a lock that does not come is a failure, in milliseconds.
    #[arg(long, value_parser = milliseconds)]
    pub patience: Duration,
    /// The process of the server, whose use of the processor is told as well.
    #[arg(long)]
    pub server_pid: Option<u32>,
}

/// Things that do nothing.
#[derive(Clone, Debug, Args)]
pub struct Idle {
    /// Where to.
    #[command(flatten)]
    pub servers: Servers,
    /// What they are.
    #[arg(long)]
    pub what: Thing,
    /// How many.
    #[arg(long)]
    pub count: u64,
}

/// What lies about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Thing {
    /// The client itself, with a connection that was used.
    Client,
    /// A watch on a key of its own.
    Watch,
    /// One who waits for a lock of its own that somebody else holds.
    Lock,
    /// A lease that is kept alive.
    Lease,
}

/// The call that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Method {
    /// A small key and value are written.
    Put,
    /// The same key is read, linearizably.
    Get,
    /// A comparison, and a put.
    Txn,
}

/// Does it, and says on standard output what came of it.
pub fn run<P: Peer>(order: &Order) -> ExitCode {
    told(|runtime, tasks| match order {
        Order::Steady(order) => tasks.block_on(runtime, steady::run::<P>(order)),
        Order::Watch(order) => events::run::<P>(order, runtime, tasks),
        Order::Latency(order) => latency::run::<P>(order, runtime, tasks),
        Order::Unary(order) => unary::run::<P>(order, runtime, tasks),
        Order::Tail(order) => tail::run::<P>(order, runtime, tasks),
        Order::Keepalive(order) => keepalive::run::<P>(order, runtime, tasks),
        Order::Lock(order) => locked::<P>(order, runtime, tasks),
        Order::Idle(order) => idle::run::<P>(order, runtime, tasks),
    })
}

/// The same for a client of whatever store.
pub fn run_locks<L: Locker>(order: &LockOrder) -> ExitCode {
    told(|runtime, tasks| locked::<L>(order, runtime, tasks))
}

fn locked<L: Locker>(order: &LockOrder, runtime: &Runtime, tasks: &LocalSet) -> Result<(), String> {
    match order {
        LockOrder::Lock(order) => lock::run::<L>(order, runtime, tasks),
        LockOrder::Handoff(order) => handoff::run::<L>(order, runtime, tasks),
    }
}

fn told(run: impl FnOnce(&Runtime, &LocalSet) -> Result<(), String>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(text).and_then(|runtime| run(&runtime, &LocalSet::new()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            println!("error {}", cause.replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

/// What each operation took, in lines.
fn print_latencies(latencies: &[Duration]) -> Result<(), String> {
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    for latency in latencies {
        writeln!(output, "latency {}", latency.as_nanos()).map_err(text)?;
    }
    output.flush().map_err(text)
}

/// What is measured of a turn, in lines.
fn print(operations: u64, elapsed: Duration, cost: Cost) {
    println!("operations {operations}");
    println!("elapsed {}", elapsed.as_nanos());
    println!("user {}", cost.user.as_nanos());
    println!("system {}", cost.system.as_nanos());
    println!("allocations {}", cost.allocations);
    println!("bytes {}", cost.allocated_bytes);
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

fn milliseconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}

fn microseconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_micros)
}

fn text(cause: impl fmt::Display) -> String {
    cause.to_string()
}
