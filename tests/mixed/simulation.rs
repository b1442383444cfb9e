//! The same with clients on the etcd in memory, as a simulation that a seed replays. And what
//! shows that the judge would notice: tasks that make a mistake.
//!
//! ```text
//! TENURE_MIXED_SEED=17 cargo test --features unstable --test mixed simulated_tasks_break -- --nocapture
//! TENURE_MIXED_SEEDS=10000 cargo test --release --features unstable --test mixed simulated_tasks_break -- --nocapture
//! ```

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tenure::{Client, Config, Dialing, Endpoint, Io, KeyRange, Simulation};
use tenure_testserver::{Fault, Faults, Follower, Lag, Late, Link, Options, Server};
use tokio::time::sleep;

use crate::desk::{Desk, clear_queue};
use crate::judge::{Seen, Verdict, judge, left};
use crate::meddler::meddle;
use crate::note::Note;
use crate::recorder::Record;
use crate::seeds::Seeds;
use crate::support::{ROOT, patiently, simulate, until, within};
use crate::wish::NAMES;
use crate::worker::{Mistake, Notes, Worker, furnish};

const SEEDS: u64 = 200;
/// A seed with less shows little, on average.
const HELD_MIN: u64 = 50;
/// A mistake needs a seed where it matters.
const SEEDS_WITH_MISTAKE: u64 = 200;
const CLIENTS: u64 = 3;
const TASKS: u64 = 3;
/// Short seeds with little between two faults: so much longer than on real etcd a task
/// holds what it has, as all else takes no time, and so much sooner a session is left.
const HOLD_MILLIS: u64 = 20;
const USES: Range<u64> = 5..100;
const GUSTS: usize = 8;
const GAP_MILLIS: Range<u64> = 1..150;
/// So many transactions in a row have the same fault.
const BURST_MAX: u64 = 4;
const CALL_TIMEOUT: Duration = Duration::from_secs(1);
const TXN: &str = "/etcdserverpb.KV/Txn";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const UNAVAILABLE: u16 = 14;

struct Embedded {
    server: Arc<Server>,
    followers: Vec<Follower>,
}

struct Run {
    verdict: Verdict,
    left: Vec<String>,
    trace: u64,
}

/// One run. A mistake is made by all its tasks.
fn run(seed: u64, mistake: Option<Mistake>) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let _simulation = Simulation::new(seed);
        simulate();
        let mut dice = Rng::with_seed(seed);
        let embedded = Embedded::start((seed % 3) as usize);
        embedded.run(&mut dice, mistake).await
    })
}

impl Embedded {
    fn start(followers: usize) -> Embedded {
        let server = Server::in_memory(Options::default());
        Embedded {
            followers: (0..followers).map(|_| server.add_follower_in_memory()).collect(),
            server: Arc::new(server),
        }
    }

    async fn run(&self, dice: &mut Rng, mistake: Option<Mistake>) -> Run {
        let (record, seen) = (Record::default(), Seen::default());
        seen.lock().copies = true;
        let direct = self.client(0, 1, Config::new()).await;
        furnish(&direct, &NAMES).await.expect("a server that is well");
        let recording = record.start(&direct).await;
        let traced = Arc::new(Mutex::new(DefaultHasher::new()));
        let notes: Notes = {
            let (seen, traced) = (seen.clone(), traced.clone());
            Arc::new(move |note: Note| {
                note.to_string().hash(&mut *traced.lock().expect("nobody panics here"));
                seen.note(note);
            })
        };
        let mut desks = Vec::new();
        for first in 0..CLIENTS {
            let members = self.followers.len() as u64 + 1;
            let client = self.client(first, members, Config::new().call_timeout(CALL_TIMEOUT)).await;
            desks.push(Arc::new(Desk::new(client, USES, dice.fork(), notes.clone())));
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for number in 0..CLIENTS * TASKS {
            let desk = desks[(number % CLIENTS) as usize].clone();
            let worker = Worker::new(number, desk, dice.fork(), notes.clone())
                .mistaken(mistake)
                .holding(HOLD_MILLIS);
            tasks.push(tokio::spawn(worker.run(is_over.clone())));
        }
        let meddling = meddle(direct.clone(), record.clone(), seen.clone(), dice.fork());
        let meddling = tokio::spawn(meddling);
        self.blow(dice).await;
        meddling.abort();
        is_over.store(true, Ordering::SeqCst);
        for task in tasks {
            patiently("the end of a task", task).await.expect("a task that does not panic");
        }
        for desk in desks.drain(..) {
            desk.close().await;
        }
        self.until_quiet(&direct).await;
        record.end(&direct, recording).await;
        let alive = direct.leases().await.expect("a server that is well");
        let alive: Vec<i64> = alive.leases.iter().map(|lease| lease.id).collect();
        drop(direct);
        until("no streams", async || self.server.stream_count() == 0).await;
        let (notes, recorded) = (seen.lock(), record.lock());
        let mut hasher = traced.lock().expect("nobody panics here").clone();
        recorded.seen.hash(&mut hasher);
        Run {
            verdict: judge(&notes, &recorded),
            left: left(&notes, &recorded, &alive),
            trace: hasher.finish(),
        }
    }

    /// A client that asks these members, this one first.
    async fn client(&self, first: u64, members: u64, config: Config) -> Client {
        let endpoints = (0..members).map(|member| format!("http://{}.m", (first + member) % members));
        let (server, followers) = (self.server.clone(), self.followers.clone());
        let dial = move |endpoint: &Endpoint| -> Dialing {
            let member: usize = endpoint.host().trim_end_matches(".m").parse().expect("a number");
            let stream = match member.checked_sub(1) {
                None => server.connect(),
                Some(follower) => followers[follower].connect(),
            };
            Box::pin(async move { Ok(Box::new(stream) as Box<dyn Io>) })
        };
        Client::connect_over(dial, endpoints, config)
            .await
            .expect("a client of the server in memory")
    }

    fn faults(&self, member: usize) -> Faults {
        match member.checked_sub(1) {
            None => self.server.faults(),
            Some(follower) => self.followers[follower].faults(),
        }
    }

    /// So many gusts, and then it is calm. The direct client goes through them as well.
    async fn blow(&self, dice: &mut Rng) {
        for _ in 0..GUSTS {
            sleep(within(dice, GAP_MILLIS)).await;
            let faults = self.faults(dice.usize(..=self.followers.len()));
            match dice.u64(..12) {
                0..=5 => burst(&faults, dice),
                6 => faults.on_answer(WATCH, Fault::Delay(Late::By(within(dice, 1..200)))),
                7 => faults.on_answer(
                    WATCH,
                    Fault::End {
                        code: UNAVAILABLE,
                        message: "etcdserver: leader changed".to_owned(),
                    },
                ),
                8 => faults.cut_after(dice.usize(1..2000)),
                9 => self.out(&faults, Link::Down, dice).await,
                10 => self.out(&faults, Link::Frozen, dice).await,
                _ => self.lag(dice),
            }
        }
        for member in 0..=self.followers.len() {
            self.faults(member).set_link(Link::Up);
            self.faults(member).clear();
        }
        for follower in &self.followers {
            follower.set_lag(Lag::By(Duration::ZERO));
        }
    }

    /// At times for longer than a session lives.
    async fn out(&self, faults: &Faults, link: Link, dice: &mut Rng) {
        faults.set_link(link);
        let longest = if dice.u64(..6) == 0 { 5000 } else { 600 };
        sleep(within(dice, 1..longest)).await;
        faults.set_link(Link::Up);
    }

    fn lag(&self, dice: &mut Rng) {
        for follower in &self.followers {
            follower.set_lag(match dice.u64(..3) {
                0 => Lag::By(Duration::ZERO),
                1 => Lag::By(within(dice, 1..300)),
                _ => Lag::Held,
            });
        }
    }

    async fn until_quiet(&self, direct: &Client) {
        clear_queue(direct).await;
        until("no keys of locks and no leases", async || {
            let keys = direct.get(KeyRange::prefix(format!("{ROOT}/"))).count_only().await;
            keys.is_ok_and(|keys| keys.count == 0) && self.server.lease_count() == 0
        })
        .await;
        until("no watches but one", async || {
            let of_followers: usize = self.followers.iter().map(Follower::watch_count).sum();
            self.server.watch_count() + of_followers == 1
        })
        .await;
    }
}

/// Transactions that are lost, late or carried out twice.
fn burst(faults: &Faults, dice: &mut Rng) {
    let kind = dice.u64(..6);
    for _ in 0..dice.u64(1..=BURST_MAX) {
        let late = Late::By(within(dice, 1..2000));
        match kind {
            0..=1 => faults.on_answer(TXN, Fault::Drop),
            2..=3 => faults.on_request(TXN, Fault::Again(late)),
            4 => faults.on_request(TXN, Fault::Delay(late)),
            _ => faults.on_answer(TXN, Fault::Delay(late)),
        }
    }
}

impl Run {
    fn wrong(&self) -> Vec<&String> {
        self.verdict.violations.iter().chain(&self.left).collect()
    }
}

#[test]
fn simulated_tasks_break_no_recipe() {
    let seeds = Seeds {
        one: "TENURE_MIXED_SEED",
        many: "TENURE_MIXED_SEEDS",
        count: SEEDS,
        command: "cargo test --features unstable --test mixed simulated_tasks_break -- --nocapture",
    };
    let held = seeds.run(|seed| {
        let run = run(seed, None);
        let wrong = run.wrong();
        assert!(wrong.is_empty(), "{wrong:#?}\n{}", run.verdict.summary);
        if seeds.is_one() {
            println!("trace {:016x}; {}", run.trace, run.verdict.summary);
        }
        run.verdict.recipes.values().sum::<usize>() as u64
    });
    let (count, held) = (held.len() as u64, held.iter().sum::<u64>());
    println!("{count} seeds, {held} acquisitions");
    assert!(
        count < SEEDS || held > HELD_MIN * count,
        "hardly anything was held: {held}"
    );
}

#[test]
fn a_simulated_run_is_a_function_of_its_seed() {
    let traces = [1, 2].map(|seed| run(seed, None).trace);
    assert_eq!(traces, [1, 2].map(|seed| run(seed, None).trace));
    assert_ne!(traces[0], traces[1]);
}

#[test]
fn a_simulated_fence_that_asks_whether_there_is_a_key_is_found_out() {
    find_out(Mistake::FencedByVersion);
}

#[test]
fn a_simulated_write_without_a_fence_is_found_out() {
    find_out(Mistake::Unfenced);
}

#[test]
fn a_simulated_task_that_never_looks_is_found_out() {
    find_out(Mistake::NeverLooks);
}

fn find_out(mistake: Mistake) {
    let seed = (0..SEEDS_WITH_MISTAKE).find(|seed| !run(*seed, Some(mistake)).wrong().is_empty());
    let seed = seed.unwrap_or_else(|| panic!("{mistake:?} makes no difference"));
    println!("{mistake:?}: found out with seed {seed}");
}
