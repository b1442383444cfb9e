//! An episode: a real server and one in memory, both new, and steps for them.

use tenure_etcd::{Binary, Cluster, Options};
use tenure_testserver::Server;

use crate::duel::{Duel, FOLLOWED};
use crate::steps::{Step, Steps};

/// How many it takes to have enough of every kind.
const REQUESTS_TO_CHECK: usize = 10_000;

/// What every episode of a run has in common.
pub(crate) struct Scene {
    binary: Binary,
    release: (u32, u32),
}

pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) what: String,
    /// What was done until then.
    pub(crate) steps: Vec<Step>,
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: usize,
    pub(crate) refused: usize,
    pub(crate) watches: usize,
    /// Watches that were refused.
    pub(crate) unwatched: usize,
    pub(crate) events: usize,
    /// Watches that a compaction ended.
    pub(crate) compacted: usize,
    pub(crate) progress: usize,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        let binary = Binary::find().expect("an etcd");
        println!("etcd {}", binary.version());
        let release = release(&binary.line().to_string());
        Scene { binary, release }
    }

    /// Plays the steps of a seed until they are as many requests as asked for.
    pub(crate) fn play(&self, seed: u64, count: usize) -> Result<Tally, Failure> {
        let mut random = Steps::new(seed, self.release >= FOLLOWED);
        let mut steps = Vec::new();
        let played = self.run(|duel| {
            random.handle_answer(Some(duel.revision));
            if duel.tally().requests == count {
                return None;
            }
            let step = random.next();
            steps.push(step.clone());
            Some(step)
        });
        let failed = |what| Failure { seed, what, steps };
        played.map_err(failed)
    }

    /// Plays given steps.
    pub(crate) fn replay(&self, steps: &[Step]) -> Result<Tally, String> {
        let mut steps = steps.iter().cloned();
        self.run(|_| steps.next())
    }

    fn run(&self, mut next: impl FnMut(&Duel) -> Option<Step>) -> Result<Tally, String> {
        let etcd = Cluster::start(&self.binary, 1, Options::default()).expect("an etcd that starts");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let played = runtime.block_on(async {
            let server = Server::start().await.expect("a free port");
            let mut duel = Duel::new(self.release, &etcd.endpoints()[0], server.endpoint()).await?;
            while let Some(step) = next(&duel) {
                duel.handle(&step).await.map_err(|what| format!("{step:?}\n{what}"))?;
            }
            duel.handle(&Step::Settle).await?;
            Ok(duel.tally())
        });
        let member = etcd.member(0);
        let died = |what| match member.is_running() {
            true => what,
            false => format!("{what}\netcd has ended:\n{}", member.log_tail()),
        };
        played.map_err(died)
    }
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) -> Tally {
        self.requests += other.requests;
        self.refused += other.refused;
        self.watches += other.watches;
        self.unwatched += other.unwatched;
        self.events += other.events;
        self.compacted += other.compacted;
        self.progress += other.progress;
        *self
    }

    /// No kind of answer may be missing, and none may be nearly all that is compared.
    pub(crate) fn check(self) {
        let Tally { requests, .. } = self;
        if requests < REQUESTS_TO_CHECK {
            return;
        }
        let shares = [
            (self.refused, 30, 2),
            (self.watches, 60, 10),
            (self.unwatched, 300, 20),
            (self.events, 2, 0),
            (self.compacted, 1000, 20),
            (self.progress, 1000, 20),
        ];
        for (count, least, most) in shares {
            let is_enough = count * least > requests && count * most < requests.max(1);
            assert!(is_enough, "1 in {least} to 1 in {most} of each kind: {self:?}");
        }
    }
}

/// `3.5` as numbers.
fn release(line: &str) -> (u32, u32) {
    let mut parts = line.split('.').map(|part| part.parse().expect("a line is two numbers"));
    (parts.next().unwrap(), parts.next().unwrap())
}
