//! A process of the storm: this test program again, with one client and eight tasks. It
//! speaks in lines, and is told in lines.

use std::env;
use std::io::{BufRead, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use tenure::{Client, Config, Endpoint};
use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc;

use crate::desk::Desk;
use crate::note::Note;
use crate::support::{now, until};
use crate::way::Ways;
use crate::worker::{Notes, Worker};

/// The name of the test below.
pub(crate) const TEST: &str = "child::a_process_of_its_own";
/// What a line of a child begins with.
pub(crate) const MARK: &str = "child: ";
/// `<number> <seed> <endpoint>,..`
pub(crate) const ORDERS: &str = "TENURE_MIXED_CHILD";

pub(crate) const TASKS: u64 = 8;
const DESKS: usize = 2;
/// How often a session is used.
const USES: Range<u64> = 20..1500;
/// Longer than anybody waits for anything.
const END_MAX: Duration = Duration::from_secs(30);
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

#[test]
#[ignore = "a process of its own, which the tests beside it start"]
fn a_process_of_its_own() {
    let Ok(orders) = env::var(ORDERS) else { return };
    let [number, seed, endpoints] = orders.split(' ').collect::<Vec<_>>()[..] else {
        panic!("no orders: {orders:?}");
    };
    let (number, seed): (u64, u64) = (number.parse().expect("a number"), seed.parse().expect("a seed"));
    // Runtimes of one thread and of several find different things.
    let mut builder = match number % 2 {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
    let endpoints = endpoints.split(',').map(str::to_owned).collect();
    runtime.block_on(work(number, Rng::with_seed(seed), endpoints));
}

fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    // With its parent gone there is nobody to tell.
    let _ = writeln!(out, "{MARK}{what}");
    let _ = out.flush();
}

async fn work(number: u64, mut dice: Rng, endpoints: Vec<String>) {
    let mut told = orders();
    let ways = Ways::default();
    let dial = {
        let ways = ways.clone();
        move |endpoint: &Endpoint| ways.dial(endpoint)
    };
    let config = Config::new().call_timeout(CALL_TIMEOUT);
    let client = Client::connect_over(dial, endpoints, config).await.expect("endpoints");
    let notes: Notes = Arc::new(|note: Note| say(&note.to_string()));
    let desks: Vec<_> = (0..DESKS)
        .map(|_| Arc::new(Desk::new(client.clone(), USES, dice.fork(), notes.clone())))
        .collect();
    say("ready");
    let is_over = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let desk = desks[task as usize % DESKS].clone();
            let worker = Worker::new(number * TASKS + task, desk, dice.fork(), notes.clone());
            (worker.at(), tokio::spawn(worker.run(is_over.clone())))
        })
        .collect();
    let tell = |what: &str| say(&Note::Count(what.to_owned()).to_string());
    let failing = tokio::spawn(ways.fail(dice.fork(), is_over.clone(), tell));
    while let Some(line) = told.recv().await {
        let Some(("endpoint", endpoint)) = line.split_once(' ') else {
            break;
        };
        client.endpoints().add(endpoint).expect("an endpoint");
    }
    is_over.store(true, Ordering::SeqCst);
    failing.await.expect("no panic");
    for (at, task) in tasks {
        let ended = tokio::time::timeout(END_MAX, task).await;
        let ended = ended.unwrap_or_else(|_| panic!("{number}: a task does not end: {:?}", at.lock()));
        ended.expect("a task that does not panic");
    }
    for desk in desks {
        desk.close().await;
    }
    say(&format!("quiet {}", now()));
    let _ = told.recv().await;
    drop((client, notes));
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let waited = tokio::time::timeout(Duration::from_secs(50), until("no task", async || tasks() == 0));
    let _ = waited.await;
    say(&format!("left {}", tasks()));
}

/// What the parent says, on a thread that no runtime counts.
fn orders() -> mpsc::UnboundedReceiver<String> {
    let (tell, told) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}
