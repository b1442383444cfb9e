//! The storm on real etcd: eight processes, one member or three.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Pid;
use tenure::{Client, Config, KeyRange};
use tenure_etcd::{Binary, Cluster, Line, Member, Options};
use tokio::runtime::Runtime;

use crate::desk::clear_queue;
use crate::environment::number;
use crate::faults::{Fault, Stage};
use crate::judge::{Seen, judge, left};
use crate::meddler::meddle;
use crate::process::Process;
use crate::recorder::Record;
use crate::signals::{go_on, stop};
use crate::support::{ROOT, TTL, calm, until, within};
use crate::wish::NAMES;
use crate::worker::furnish;

const PROCESSES: u64 = 8;
/// Beside one round of all faults.
const ACQUISITIONS: u64 = 100;
/// Runs of more than this are long enough for what takes long.
const ACQUISITIONS_SHORT: u64 = 10_000;
/// A seed like any other.
const SEED: u64 = 7;
/// Longer than a lease takes to run out that nobody renews.
const QUIET_MAX: Duration = Duration::from_secs(50);
/// Members are exchanged every so many rounds of a long run.
const EXCHANGE_ROUNDS: usize = 3;

#[test]
fn storm_on_one_member_breaks_no_recipe() {
    storm(1);
}

#[test]
fn storm_on_three_members_breaks_no_recipe() {
    storm(3);
}

/// The processes of two at once are too many for a small machine.
static TURN: Mutex<()> = Mutex::new(());

fn storm(members: usize) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let binary = Binary::find().expect("an etcd");
    if binary.line() == Line::V3_4 {
        // It loses watch events and renews revoked leases, so what it shows is its own.
        println!(
            "the storm DID NOT RUN: etcd {} is too old for it",
            binary.version()
        );
        return;
    }
    let (seed, wanted) = (
        number("TENURE_SEED").unwrap_or(SEED),
        number("TENURE_MIXED_ACQUISITIONS").unwrap_or(ACQUISITIONS),
    );
    println!(
        "{members} members, etcd {}, TENURE_SEED={seed}, {wanted} acquisitions",
        binary.version()
    );
    let options = Options {
        // Elections that are short beside a session's life.
        heartbeat: Some(Duration::from_millis(50)),
        election: Some(Duration::from_millis(500)),
        ..Options::default()
    };
    let cluster = Cluster::start(&binary, members, options).expect("a cluster");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let mut storm = Storm::new(runtime.expect("a runtime"), cluster, Rng::with_seed(seed));
    storm.rage(wanted);
    storm.end();
}

struct Storm {
    runtime: Runtime,
    stage: Stage,
    /// Over a way that nobody breaks.
    direct: Client,
    record: Record,
    recording: tokio::task::JoinHandle<()>,
    seen: Seen,
    processes: Vec<Process>,
    pauses: u64,
    begun: Instant,
}

impl Storm {
    fn new(runtime: Runtime, cluster: Cluster, mut dice: Rng) -> Storm {
        let stage = Stage::new(cluster, dice.fork());
        let (record, seen) = (Record::default(), Seen::default());
        let endpoints = stage.endpoints();
        let config = Config::new().call_timeout(Duration::from_secs(20));
        let (direct, recording, processes) = runtime.block_on(async {
            let direct = Client::connect_with(stage.cluster.endpoints(), config).await.expect("a client");
            furnish(&direct, &NAMES).await.expect("a server that is well");
            let recording = record.start(&direct).await;
            let mut processes: Vec<Process> = (0..PROCESSES)
                .map(|number| {
                    let (mut endpoints, seen) = (endpoints.clone(), seen.clone());
                    // Each prefers another member.
                    let members = endpoints.len();
                    endpoints.rotate_left(number as usize % members);
                    Process::start(number, dice.u64(..), &endpoints, move |note| seen.note(note))
                })
                .collect();
            for process in &mut processes {
                process.says("ready").await;
            }
            (direct, recording, processes)
        });
        Storm {
            runtime,
            stage,
            direct,
            record,
            recording,
            seen,
            processes,
            pauses: 0,
            begun: Instant::now(),
        }
    }

    /// Until there was a round of all faults, and so many acquisitions.
    fn rage(&mut self, wanted: u64) {
        let dice = self.stage.dice.fork();
        let meddling = meddle(self.direct.clone(), self.record.clone(), self.seen.clone(), dice);
        let meddling = self.runtime.spawn(meddling);
        let is_over = Arc::new(AtomicBool::new(false));
        let pids: Vec<Pid> = self.processes.iter().map(Process::pid).collect();
        let pausing = {
            let (is_over, dice) = (is_over.clone(), self.stage.dice.fork());
            std::thread::spawn(move || pause(&pids, dice, &is_over))
        };
        let mut rounds = 0;
        while rounds == 0 || (self.seen.acquisitions() as u64) < wanted {
            let seen = self.seen.clone();
            let is_enough = || rounds > 0 && seen.acquisitions() as u64 >= wanted;
            self.stage.round(is_enough);
            rounds += 1;
            let is_long = wanted > ACQUISITIONS_SHORT && self.stage.proxies.len() > 1;
            if is_long && rounds % EXCHANGE_ROUNDS == 0 {
                self.exchange();
            }
        }
        is_over.store(true, Ordering::SeqCst);
        meddling.abort();
        self.pauses = pausing.join().expect("no panic");
        self.stage.cluster.wait_ready().expect("a cluster that is well again");
        let counts = &self.seen.lock().counts;
        println!(
            "{rounds} rounds, {:?} since the start, {counts:?}",
            self.begun.elapsed()
        );
    }

    fn exchange(&mut self) {
        self.stage.play(Fault::Exchanged);
        let added = self.stage.endpoints().pop().expect("it was added");
        let direct = self.stage.cluster.endpoints().pop().expect("it was added");
        self.direct.endpoints().add(&direct).expect("an endpoint");
        self.runtime.block_on(async {
            for process in &mut self.processes {
                process.tell(&format!("endpoint {added}")).await;
            }
        });
    }

    fn end(self) {
        let Storm {
            runtime,
            stage,
            direct,
            record,
            recording,
            seen,
            mut processes,
            pauses,
            ..
        } = self;
        let mut left_behind = Vec::new();
        let alive = runtime.block_on(async {
            for process in &mut processes {
                process.tell("end").await;
            }
            for process in &mut processes {
                process.says("quiet").await;
            }
            let alive = until_quiet(&direct, &stage).await;
            record.end(&direct, recording).await;
            for process in &mut processes {
                process.tell("bye").await;
            }
            for process in &mut processes {
                let tasks = process.says("left").await;
                if tasks != "0" {
                    left_behind.push(format!("{tasks} tasks are left in a process"));
                }
            }
            alive
        });
        let (mut notes, recorded) = (seen.lock(), record.lock());
        if stage.played.contains(&Fault::LeaderStopped) {
            notes.excuse_resumed_leaders();
        }
        let verdict = judge(&notes, &recorded);
        println!("{}; {pauses} pauses; faults {:?}", verdict.summary, stage.played);
        let mut found = verdict.violations;
        found.extend(left(&notes, &recorded, &alive));
        found.extend(left_behind);
        found.truncate(30);
        assert!(found.is_empty(), "found:\n{}", found.join("\n"));
        // A short one on a busy machine may miss some.
        if verdict.recipes.values().sum::<usize>() < 1_000 {
            return;
        }
        for recipe in [
            "mutex",
            "lingering",
            "reader",
            "writer",
            "semaphore",
            "multi",
            "election",
        ] {
            assert!(verdict.recipes.contains_key(recipe), "no {recipe} was ever held");
        }
        assert!(
            verdict.handed_over > 0,
            "nothing was handed over within a session"
        );
    }
}

/// Stops processes and lets them go on, some of them only when their leases are over.
fn pause(pids: &[Pid], mut dice: Rng, is_over: &AtomicBool) -> u64 {
    let mut pauses = 0;
    while !is_over.load(Ordering::SeqCst) {
        std::thread::sleep(calm(&mut dice, 100..900));
        let pid = pids[dice.usize(..pids.len())];
        let ttl = TTL.as_millis() as u64;
        let millis = if dice.u64(..4) == 0 {
            ttl..ttl + 1000
        } else {
            1..300
        };
        stop(pid);
        std::thread::sleep(within(&mut dice, millis));
        go_on(pid);
        pauses += 1;
    }
    pauses
}

/// Waits until nothing of the tasks is on the servers: items are taken out, keys and leases
/// are gone, and of watches there is but the recorder's.
async fn until_quiet(direct: &Client, stage: &Stage) -> Vec<i64> {
    clear_queue(direct).await;
    let asked = Instant::now();
    until("no keys of locks", async || {
        let Ok(keys) = direct.get(KeyRange::prefix(format!("{ROOT}/"))).await else {
            return false;
        };
        assert!(asked.elapsed() < QUIET_MAX, "keys are left: {:?}", keys.kvs);
        keys.count == 0
    })
    .await;
    until("no leases", async || {
        let Ok(leases) = direct.leases().await else {
            return false;
        };
        assert!(
            asked.elapsed() < QUIET_MAX,
            "leases are left: {:?}",
            leases.leases
        );
        leases.leases.is_empty()
    })
    .await;
    until("no watches but one", async || {
        let counts = stage.cluster.members().iter().map(Member::watch_count);
        counts.sum::<Option<usize>>() == Some(1)
    })
    .await;
    let alive = direct.leases().await.expect("a server that is well");
    alive.leases.iter().map(|lease| lease.id).collect()
}
