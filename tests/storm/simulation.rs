//! The storm as a simulation on the etcd in memory. A seed replays it, to the microsecond:
//!
//! ```text
//! TENURE_STORM_SEED=17 cargo test --features unstable --test storm simulat
//! TENURE_STORM_SEEDS=10000 cargo test --release --features unstable --test storm simulat
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::body::{Outcome, Plan, Tally, number, storm, talks};
use crate::chance::Chance;
use crate::embedded::{Embedded, simulate};
use crate::reader::Mistake;
use crate::weather::blow;
use crate::writer::Pace;

const SEEDS: u64 = 200;
const GUSTS: usize = 16;

pub(crate) struct Run {
    pub(crate) outcome: Outcome,
    disconnects: u64,
}

/// One storm. What its readers do wrong, they do in all of it.
pub(crate) fn run(seed: u64, mistake: Option<Mistake>) -> Run {
    let plan = Plan {
        seed,
        pace: Pace {
            pause: Duration::from_millis(40)..Duration::from_millis(250),
            big: (6, 1000),
        },
        compactions: (seed % 4 != 0).then_some(Duration::from_millis(200)..Duration::from_millis(1500)),
        visits: Duration::from_millis(150)..Duration::from_millis(700),
        room: 32 << 10,
        mistake,
    };
    simulate(seed, async {
        let embedded = Embedded::start((seed % 3) as usize, Chance::of(seed, 2));
        let clients = embedded.clients().await;
        let outcome = storm(&plan, clients, blow(&embedded, Chance::of(seed, 3), GUSTS)).await;
        Run {
            outcome,
            disconnects: embedded.ways.broken(),
        }
    })
}

#[test]
fn in_a_simulated_storm_every_reader_sees_the_servers_history() {
    let seeds = match number("TENURE_STORM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TENURE_STORM_SEEDS").unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    let (next, total) = (AtomicU64::new(seeds.start), Mutex::new(Tally::default()));
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(count) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds.end {
                        return;
                    }
                    let tally = check(seed);
                    total.lock().unwrap_or_else(PoisonError::into_inner).add(&tally);
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    if talks() {
        eprintln!("{count} seeds: {total}");
    }
    if count >= SEEDS {
        // A storm in which nothing happens shows nothing.
        let Tally {
            disconnects,
            events,
            reconnects,
            catch_ups,
            again,
            compacted,
            ..
        } = total;
        let is_storm = disconnects > 10 * count && reconnects > 10 * count && events > 500 * count;
        assert!(
            is_storm && catch_ups > count && again > count && compacted > count,
            "{total}"
        );
    }
}

fn check(seed: u64) -> Tally {
    let failing = Failing(seed);
    let run = run(seed, None);
    run.outcome.check();
    drop(failing);
    if talks() && number("TENURE_STORM_SEED").is_some() {
        eprintln!("seed {seed} has the trace {:016x}", run.outcome.trace());
    }
    Tally {
        disconnects: run.disconnects,
        ..run.outcome.tally()
    }
}

#[test]
fn a_simulated_storm_is_a_function_of_its_seed() {
    let trace = |seed| run(seed, None).outcome.trace();
    let traces = [1, 2, 3].map(trace);
    assert_eq!(traces, [1, 2, 3].map(trace));
    assert!(traces[0] != traces[1] && traces[1] != traces[2]);
}

/// Says how to see it again, if it fails.
struct Failing(u64);

impl Drop for Failing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let command = "cargo test --features unstable --test storm simulat";
            eprintln!("again: TENURE_STORM_SEED={} {command}", self.0);
        }
    }
}
