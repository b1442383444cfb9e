//! The storm on real etcd: members that are killed and come back, and ways to them that
//! are cut at any byte. Lines 3.5, 3.6 and 3.7; 3.4 lost watch events after compactions.
//!
//! ```text
//! TENURE_STORM_CUTS=1000 TENURE_STORM_KILLS=50 TENURE_STORM_TALK=1 \
//!     cargo test --release --features unstable --test storm members -- --nocapture
//! ```
//!
//! A line and a number of members are picked by the name of their test.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tenure::Client;
use tenure_etcd::{Binary, Cluster, Line, Options};
use tenure_proxy::{Direction, Ending, Proxy};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::body::{Clients, Plan, Tally, storm, talks};
use crate::chance::Chance;
use crate::seeds::number;
use crate::writer::Pace;

const CUTS: u64 = 60;
const KILLS: u64 = 3;
/// Ways to all members: where one is cut and waits for its next dial, others lead there.
const PROXIES: usize = 12;
/// Most cuts lie within a few messages, some within a large one.
const CUT_BITS: Range<u64> = 6..15;
const CUT_BITS_FAR: Range<u64> = 15..22;
/// A way that so few bytes went over is cut all the same.
const CUT_AT_LAST: Range<Duration> = Duration::from_millis(50)..Duration::from_millis(1500);
/// Between two cuts of one way.
const WHOLE: Range<Duration> = Duration::from_millis(10)..Duration::from_millis(400);
const DOWN: Range<Duration> = Duration::from_millis(1)..Duration::from_millis(300);
const UP: Range<Duration> = Duration::from_millis(200)..Duration::from_millis(1200);
const POLL: Duration = Duration::from_millis(5);
const READERS: usize = 2;

/// One storm at a time: they would only slow each other down.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn on_one_member_of_3_5_every_reader_sees_the_history() {
    weather_on(Line::V3_5, 1);
}

#[test]
fn on_three_members_of_3_5_every_reader_sees_the_history() {
    weather_on(Line::V3_5, 3);
}

#[test]
fn on_one_member_of_3_6_every_reader_sees_the_history() {
    weather_on(Line::V3_6, 1);
}

#[test]
fn on_three_members_of_3_6_every_reader_sees_the_history() {
    weather_on(Line::V3_6, 3);
}

#[test]
fn on_one_member_of_3_7_every_reader_sees_the_history() {
    weather_on(Line::V3_7, 1);
}

#[test]
fn on_three_members_of_3_7_every_reader_sees_the_history() {
    weather_on(Line::V3_7, 3);
}

fn weather_on(line: Line, members: usize) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = u64::from(line.minor) * 10 + members as u64;
    let stage = Stage::start(line, members);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let plan = Plan {
        seed,
        pace: Pace {
            pause: Duration::from_millis(5)..Duration::from_millis(60),
            big: (60, 400 << 10),
        },
        compactions: Some(Duration::from_millis(500)..Duration::from_millis(4000)),
        visits: Duration::from_millis(200)..Duration::from_millis(900),
        // Of a revision with four large values and what was before.
        room: 8 << 20,
        mistake: None,
    };
    let outcome = runtime.expect("a runtime").block_on(async {
        let clients = stage.clients().await;
        storm(&plan, clients, stage.blow(seed)).await
    });
    outcome.check();
    let disconnects = stage.cuts.load(Ordering::SeqCst);
    let tally = Tally {
        disconnects,
        ..outcome.tally()
    };
    if talks() {
        let (kills, took) = (stage.kills.load(Ordering::SeqCst), outcome.took.as_secs());
        eprintln!("etcd {line}, members: {members}: {kills} kills in {took} s, {tally}");
    }
    assert!(tally.events > 300 && tally.reconnects > 5, "{tally}");
}

/// A cluster and the ways to it.
struct Stage {
    cluster: Arc<Cluster>,
    /// Of each member, one after another.
    proxies: Vec<Arc<Proxy>>,
    cuts: Arc<AtomicU64>,
    kills: Arc<AtomicU64>,
}

impl Stage {
    fn start(line: Line, members: usize) -> Stage {
        let binary = Binary::of_line(line).expect("an etcd");
        let progress = match line {
            Line::V3_5 => "--experimental-watch-progress-notify-interval=200ms",
            _ => "--watch-progress-notify-interval=200ms",
        };
        let options = Options {
            arguments: vec![progress.to_owned()],
            ..Options::default()
        };
        let cluster = Cluster::start(&binary, members, options).expect("a cluster");
        let targets = cluster.endpoints().into_iter().flat_map(|member| vec![member; PROXIES / members]);
        let proxies = targets.map(|target| Arc::new(Proxy::start(&target).expect("a proxy")));
        Stage {
            proxies: proxies.collect(),
            cluster: Arc::new(cluster),
            cuts: Arc::default(),
            kills: Arc::default(),
        }
    }

    async fn clients(&self) -> Clients {
        let mut readers = Vec::new();
        for first in 0..READERS {
            readers.push(self.client(first * PROXIES / 3).await);
        }
        Clients {
            writers: vec![self.client(0).await],
            readers,
            historian: Client::connect(self.cluster.endpoints()).await.expect("a client"),
        }
    }

    async fn client(&self, first: usize) -> Client {
        let mut endpoints: Vec<_> = self.proxies.iter().map(|proxy| proxy.endpoint().to_owned()).collect();
        let ways = endpoints.len();
        endpoints.rotate_left(first % ways);
        Client::connect(endpoints).await.expect("a client")
    }

    /// Cuts and kills, as many as there are to be.
    async fn blow(&self, seed: u64) {
        let (cuts, kills) = (number("TENURE_STORM_CUTS"), number("TENURE_STORM_KILLS"));
        let mut cutting = JoinSet::new();
        for (index, proxy) in self.proxies.iter().enumerate() {
            let chance = Chance::of(seed, 400 + index as u64);
            cutting.spawn(cut_on(proxy.clone(), chance, self.cuts.clone()));
        }
        let (cluster, killed) = (self.cluster.clone(), self.kills.clone());
        let chance = Chance::of(seed, 500);
        tokio::task::spawn_blocking(move || kill(&cluster, chance, kills.unwrap_or(KILLS), &killed))
            .await
            .expect("no panic");
        while self.cuts.load(Ordering::SeqCst) < cuts.unwrap_or(CUTS) {
            sleep(POLL).await;
        }
        cutting.shutdown().await;
        self.proxies.iter().for_each(|proxy| proxy.heal());
    }
}

/// Cuts one way again and again.
async fn cut_on(proxy: Arc<Proxy>, mut chance: Chance, cuts: Arc<AtomicU64>) {
    loop {
        let direction = if chance.one_in(4) {
            Direction::Up
        } else {
            Direction::Down
        };
        let ending = if chance.one_in(2) {
            Ending::Close
        } else {
            Ending::Reset
        };
        let bits = if chance.one_in(8) { CUT_BITS_FAR } else { CUT_BITS };
        proxy.cut_after(direction, chance.bytes(bits), ending);
        let until = Instant::now() + chance.time(CUT_AT_LAST);
        while proxy.is_cut_due() && Instant::now() < until {
            sleep(POLL).await;
        }
        if !proxy.is_cut_due() {
            cuts.fetch_add(1, Ordering::SeqCst);
        } else if chance.one_in(2) {
            cuts.fetch_add(proxy.connections(), Ordering::SeqCst);
            proxy.cut(ending);
        }
        sleep(chance.time(WHOLE)).await;
    }
}

/// Kills the members, one at a time, and starts them again.
fn kill(cluster: &Cluster, mut chance: Chance, kills: u64, killed: &AtomicU64) {
    for _ in 0..kills {
        std::thread::sleep(chance.time(UP));
        let member = cluster.member(chance.index(cluster.members().len()));
        member.kill();
        killed.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(chance.time(DOWN));
        member.restart().expect("it starts");
    }
}
