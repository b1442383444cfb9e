//! The storm as a simulation on the etcd in memory. A seed replays it, to the microsecond:
//!
//! ```text
//! TENURE_STORM_SEED=17 cargo test --features unstable --test storm simulat
//! TENURE_STORM_SEEDS=10000 cargo test --release --features unstable --test storm simulat
//! ```

use std::time::Duration;

use crate::body::{Outcome, Plan, Tally, storm, talks};
use crate::chance::Chance;
use crate::embedded::{Embedded, simulate};
use crate::reader::Mistake;
use crate::seeds::Seeds;
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
    let seeds = Seeds {
        one: "TENURE_STORM_SEED",
        many: "TENURE_STORM_SEEDS",
        count: SEEDS,
        command: "cargo test --features unstable --test storm simulat",
    };
    let mut total = Tally::default();
    let tallies = seeds.run(|seed| {
        let run = run(seed, None);
        run.outcome.check();
        if talks() && seeds.is_one() {
            eprintln!("seed {seed} has the trace {:016x}", run.outcome.trace());
        }
        Tally {
            disconnects: run.disconnects,
            ..run.outcome.tally()
        }
    });
    let count = tallies.len() as u64;
    tallies.iter().for_each(|tally| total.add(tally));
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

#[test]
fn a_simulated_storm_is_a_function_of_its_seed() {
    let trace = |seed| run(seed, None).outcome.trace();
    let traces = [1, 2, 3].map(trace);
    assert_eq!(traces, [1, 2, 3].map(trace));
    assert!(traces[0] != traces[1] && traces[1] != traces[2]);
}
