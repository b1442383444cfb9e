//! A storm: writers, watchers and visitors run until the weather is over, then everybody
//! sees the rest, and what was seen is judged. It knows no server and no fault.

use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tenure::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::chance::Chance;
use crate::historian::Historian;
use crate::history::History;
use crate::judge::{Fault, judge};
use crate::life::{Ended, Life};
use crate::reader::{self, Board, Mistake, Orders};
use crate::sight::{KINDS, Sight};
use crate::writer::{self, Ledger, Pace};

const WRITERS: usize = 8;
/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(180);
/// So far back a visitor begins.
const BACK: u64 = 200;

/// How large a storm is.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) pace: Pace,
    /// Between two compactions; none where there are to be none.
    pub(crate) compactions: Option<Range<Duration>>,
    /// Between two visitors, who begin in the past, see some batches and leave.
    pub(crate) visits: Range<Duration>,
    /// The room of a slow reader that sees the large keys too, in bytes.
    pub(crate) room: usize,
    /// What all readers do wrong.
    pub(crate) mistake: Option<Mistake>,
}

/// Who goes through the weather, and who does not.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) writers: Vec<Client>,
    pub(crate) readers: Vec<Client>,
    pub(crate) historian: Client,
}

/// What there was.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) history: Arc<History>,
    pub(crate) lives: Vec<Life>,
    pub(crate) ledgers: Vec<Ledger>,
    pub(crate) took: Duration,
}

/// Runs a storm for as long as its weather.
pub(crate) async fn storm<W: Future<Output = ()>>(plan: &Plan, clients: Clients, weather: W) -> Outcome {
    let begun = Instant::now();
    let mut historian = Historian::new(clients.historian.clone(), Chance::of(plan.seed, 1));
    let (announce, history) = watch::channel(None);
    let is_over = Arc::new(AtomicBool::new(false));
    let board = Board { begun, history };
    let writers = write(plan, &clients, &is_over);
    let watchers = watchers(plan, &clients, &board);
    let visitors = tokio::spawn(visit(
        plan.clone(),
        clients.clone(),
        board.clone(),
        is_over.clone(),
    ));
    let compacting = async {
        match &plan.compactions {
            Some(every) => historian.compact_at_times(every.clone()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = weather => {}
        () = compacting => {}
    }
    is_over.store(true, Ordering::SeqCst);
    let ledgers = all("the writers' end", writers).await;
    historian.read_on().await;
    let history = Arc::new(historian.history);
    announce.send_replace(Some(history.clone()));
    let mut lives = all("the watchers' last event", watchers).await;
    for visits in all("the last visitor", vec![visitors]).await {
        lives.extend(all("the visitors' last event", visits).await);
    }
    Outcome {
        history,
        lives: lives.into_iter().flatten().collect(),
        ledgers,
        took: begun.elapsed(),
    }
}

fn write(plan: &Plan, clients: &Clients, is_over: &Arc<AtomicBool>) -> Vec<JoinHandle<Ledger>> {
    let writer = |number: usize| {
        let client = clients.writers[number % clients.writers.len()].clone();
        let chance = Chance::of(plan.seed, 100 + number as u64);
        tokio::spawn(writer::write(
            client,
            number,
            plan.pace.clone(),
            chance,
            is_over.clone(),
        ))
    };
    (0..WRITERS).map(writer).collect()
}

/// One of each kind, from the beginning to the end. One that is caught by a compaction is
/// followed by another.
fn watchers(plan: &Plan, clients: &Clients, board: &Board) -> Vec<JoinHandle<Vec<Life>>> {
    let watcher = |kind: usize| {
        let orders = Orders {
            sight: Sight::of(kind),
            start: (kind % 2) as i64,
            leaves_after: None,
            is_restless: plan.mistake.is_some() || kind == 4,
            mistake: plan.mistake,
        };
        let client = clients.readers[kind % clients.readers.len()].clone();
        let chance = Chance::of(plan.seed, 200 + kind as u64);
        tokio::spawn(watch_on(client, orders, board.clone(), chance))
    };
    (0..KINDS).map(watcher).collect()
}

async fn watch_on(client: Client, mut orders: Orders, board: Board, mut chance: Chance) -> Vec<Life> {
    let mut lives = Vec::new();
    loop {
        let chance = Chance::of(chance.next(), 0);
        let life = reader::read(client.clone(), orders.clone(), board.clone(), chance).await;
        if let Ended::Compacted(revision) = life.ended {
            orders.start = revision;
        }
        let ended = life.ended;
        lives.push(life);
        if !matches!(ended, Ended::Compacted(_)) {
            return lives;
        }
    }
}

/// Watches that begin in the past, some of it compacted.
async fn visit(
    plan: Plan,
    clients: Clients,
    board: Board,
    is_over: Arc<AtomicBool>,
) -> Vec<JoinHandle<Vec<Life>>> {
    let (mut chance, mut visits) = (Chance::of(plan.seed, 300), Vec::new());
    while !is_over.load(Ordering::SeqCst) {
        sleep(chance.time(plan.visits.clone())).await;
        let client = &clients.readers[chance.index(clients.readers.len())];
        let Ok(present) = client.get("none").serializable().await else {
            continue;
        };
        let back = chance.below(BACK) as i64;
        let orders = Orders {
            sight: Sight::any(&mut chance, plan.room),
            start: (present.revision().0 - back + 3).max(1),
            leaves_after: (!chance.one_in(4)).then(|| 1 + chance.index(20)),
            is_restless: chance.one_in(2),
            mistake: plan.mistake,
        };
        let (board, chance) = (board.clone(), Chance::of(chance.next(), 0));
        visits.push(tokio::spawn(watch_on(client.clone(), orders, board, chance)));
    }
    visits
}

/// What the tasks have come to, in their order.
async fn all<T>(what: &str, tasks: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut done = Vec::new();
    for task in tasks {
        let one = timeout(PATIENCE, task).await.unwrap_or_else(|_| panic!("{what} has not come"));
        done.push(one.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())));
    }
    done
}

impl Outcome {
    /// Whether the history can be true, the writers' answers agree with it, and every
    /// reader saw it as it had to.
    pub(crate) fn check(&self) {
        self.history.check().unwrap_or_else(|what| panic!("the history: {what}"));
        for ledger in &self.ledgers {
            ledger.check(&self.history).unwrap_or_else(|what| panic!("a writer: {what}"));
        }
        for life in &self.lives {
            judge(life, &self.history).unwrap_or_else(|verdict| {
                panic!(
                    "{verdict}\n{:?} from {:?}, {:?}",
                    life.sight, life.start, life.counts
                )
            });
        }
    }

    /// What is wrong with what the readers saw.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let judged = self.lives.iter().filter_map(|life| judge(life, &self.history).err());
        judged.map(|verdict| verdict.fault).collect()
    }

    /// A hash of all that happened, and when.
    pub(crate) fn trace(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (
            &self.history.changes,
            &self.history.compactions,
            &self.lives,
            self.took,
        )
            .hash(&mut hasher);
        hasher.finish()
    }

    pub(crate) fn tally(&self) -> Tally {
        let lives = &self.lives;
        let compacted = |life: &&Life| matches!(life.ended, Ended::Compacted(_));
        Tally {
            disconnects: 0,
            revisions: self.history.next() as u64 - 1,
            answered: self.ledgers.iter().map(|ledger| ledger.answers.len() as u64).sum(),
            unknown: self.ledgers.iter().map(|ledger| ledger.unknown as u64).sum(),
            lives: lives.len() as u64,
            events: lives.iter().map(|life| life.changes().count() as u64).sum(),
            reconnects: lives.iter().map(|life| life.counts.reconnects).sum(),
            catch_ups: lives.iter().map(|life| life.counts.catch_ups).sum(),
            again: lives.iter().map(|life| life.counts.again).sum(),
            compacted: lives.iter().filter(compacted).count() as u64,
        }
    }
}

/// How much there was of everything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) disconnects: u64,
    pub(crate) revisions: u64,
    pub(crate) answered: u64,
    pub(crate) unknown: u64,
    pub(crate) lives: u64,
    pub(crate) events: u64,
    pub(crate) reconnects: u64,
    pub(crate) catch_ups: u64,
    pub(crate) again: u64,
    pub(crate) compacted: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        let Tally {
            disconnects,
            revisions,
            answered,
            unknown,
            lives,
            events,
            reconnects,
            catch_ups,
            again,
            compacted,
        } = self;
        *disconnects += other.disconnects;
        *revisions += other.revisions;
        *answered += other.answered;
        *unknown += other.unknown;
        *lives += other.lives;
        *events += other.events;
        *reconnects += other.reconnects;
        *catch_ups += other.catch_ups;
        *again += other.again;
        *compacted += other.compacted;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally {
            disconnects,
            revisions,
            answered,
            unknown,
            lives,
            events,
            reconnects,
            catch_ups,
            again,
            compacted,
        } = self;
        write!(
            f,
            "{disconnects} disconnects, {answered} writes answered and {unknown} of unknown fate, "
        )?;
        write!(
            f,
            "{revisions} revisions, {events} events seen by {lives} readers, {reconnects} watches resumed, "
        )?;
        write!(
            f,
            "{catch_ups} caught up, {again} made by hand, {compacted} ended in a compaction"
        )
    }
}

/// Whether the counts are to be told: `TENURE_STORM_TALK=1`, with `--nocapture`.
pub(crate) fn talks() -> bool {
    std::env::var_os("TENURE_STORM_TALK").is_some()
}
