//! Everything at once, checked against etcd's own history: clients that lock, give
//! up, let go and lose their sessions on three members that freeze and die.
//!
//! Under each lock two things are written: a register that the fence of the guard
//! protects, whose revisions prove that the holder's key owned the lock, and one
//! that keeps the greatest token, which is written by late holders as well.
//!
//! `TENURE_TORTURE_SECONDS` makes it longer, `TENURE_SEED` repeats its choices:
//!
//! ```sh
//! TENURE_TORTURE_SECONDS=600 TENURE_SEED=7 cargo test --test interop torture -- --nocapture
//! ```

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tenure::{Client, KeyRange};
use tenure_etcd::{Cluster, Line, Options};
use tenure_history::{History, Outcome, Stored, Token, check_claims, check_nothing_left, check_register};

use crate::chaos;
use crate::environment::number;
use crate::evidence::{changes, history};
use crate::support::{binary, client, cluster, patiently, runtime};
use crate::victim::{NAME, REGISTER, Seen, Victim};

const SECONDS_DEFAULT: u64 = 20;
const VICTIMS: u64 = 6;
/// A busy machine, and faults that fall badly, leave room for few.
const CLAIMS_MIN: usize = 5;

#[test]
fn torture_finds_one_holder_at_a_time_in_turn_and_nothing_left() {
    if binary().line() == Line::V3_4 {
        // etcd 3.4 loses watch events and renews revoked leases, so what it shows is its own.
        println!(
            "torture DID NOT RUN: etcd {} is too old for it",
            binary().version()
        );
        return;
    }
    let (seed, length) = (
        seed(),
        Duration::from_secs(number("TENURE_TORTURE_SECONDS").unwrap_or(SECONDS_DEFAULT)),
    );
    println!(
        "torture: TENURE_SEED={seed} for {length:?} on etcd {}",
        binary().version()
    );
    let options = Options {
        fsync: true,
        // Elections that are short beside a fault leave time to lock.
        heartbeat: Some(Duration::from_millis(50)),
        election: Some(Duration::from_millis(500)),
        ..Options::default()
    };
    let cluster = cluster(3, options);
    let runtime = runtime();
    let seen = Arc::new(Mutex::new(Seen::default()));
    runtime.block_on(async {
        let client = client(&cluster).await;
        client
            .put(
                REGISTER,
                crate::victim::stored(
                    Token {
                        created: 0,
                        sequence: 0,
                    },
                    0,
                ),
            )
            .await
            .unwrap();
    });
    let end = Instant::now() + length;
    let victims: Vec<_> = (0..VICTIMS)
        .map(|index| {
            let dice = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index));
            runtime.spawn(Victim::new(index, cluster.endpoints(), dice, seen.clone()).run(end))
        })
        .collect();
    let faults = chaos::rage(&cluster, &mut Rng::with_seed(seed), end);
    runtime.block_on(async {
        for victim in victims {
            patiently("the end of a victim", victim).await.expect("a victim that does not panic");
        }
        judge(&cluster, &seen, &faults).await;
    });
}

/// Waits for what is given back in the background, and holds all against the history.
async fn judge(cluster: &Cluster, seen: &Mutex<Seen>, faults: &str) {
    let client = client(cluster).await;
    let leases = seen.lock().unwrap().leases.clone();
    let alive = patiently("an empty queue without leases", until_empty(&client, &leases)).await;
    let all = history(&client, NAME).await;
    let seen = seen.lock().unwrap();
    let history = History::fold(NAME, &changes(&all)).expect("a history");
    let stored = stored(&all);
    println!("{}", told(&seen, &history, &stored, faults));
    let mut found = seen.violations.clone();
    let checks = [
        check_claims(&history, &seen.claims),
        check_register(&seen.writes, &seen.claims, &stored),
        check_nothing_left(&history, &leases, &alive),
    ];
    for violation in checks.concat() {
        let _ = writeln!(found, "{violation}");
    }
    assert!(found.is_empty(), "found:\n{found}");
    assert!(
        seen.claims.len() >= CLAIMS_MIN,
        "hardly anything was locked, so nothing was tried"
    );
}

/// Waits until no key is in the queue and no lease of ours is alive.
async fn until_empty(client: &Client, leases: &[i64]) -> Vec<i64> {
    loop {
        let keys = client.get(KeyRange::prefix(format!("{NAME}/"))).count_only().await;
        let alive = client.leases().await;
        if let (Ok(keys), Ok(alive)) = (keys, alive) {
            let alive: Vec<i64> = alive.leases.iter().map(|lease| lease.id).collect();
            if keys.count == 0 && !leases.iter().any(|lease| alive.contains(lease)) {
                return alive;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What the register held, one after the other, but for what the test began with.
fn stored(all: &[(tenure_history::Event, String)]) -> Vec<Stored> {
    let puts = all.iter().filter(|(event, _)| event.key == REGISTER.as_bytes());
    puts.skip(1)
        .map(|(_, value)| crate::victim::read(value).expect("what a victim wrote"))
        .collect()
}

fn told(seen: &Seen, history: &History, stored: &[Stored], faults: &str) -> String {
    let mut outcomes = HashMap::new();
    for write in &seen.writes {
        *outcomes.entry(write.outcome).or_insert(0) += 1;
    }
    let outcome = |outcome| outcomes.get(&outcome).copied().unwrap_or(0);
    format!(
        "{faults}\n{} leases; {} keys, of which {} owned the lock, {} after waiting; {} holds were claimed, {} of \
         which were lost; {} lock futures were dropped, {} failed; register: {} applied, {} refused, {} unknown, {} \
         stored",
        seen.leases.len(),
        history.entries().len(),
        history.owners().len(),
        history.handoffs(),
        seen.claims.len(),
        seen.lost,
        seen.dropped,
        seen.failed,
        outcome(Outcome::Applied),
        outcome(Outcome::Refused),
        outcome(Outcome::Unknown),
        stored.len()
    )
}

fn seed() -> u64 {
    let random = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |since| since.as_nanos() as u64 % 1_000_000)
    };
    number("TENURE_SEED").unwrap_or_else(random)
}
