//! A process that is stopped for longer than its lease lives: whatever it asks
//! afterwards, the answer is "lost".
//!
//! ```text
//!   child    ... renewals, checks ...|                     |checks ...
//!   parent                       stopped               continued
//!   server           last renewal ------ TTL ------ gone
//! ```
//!
//! The child tells when its checks began, on the boot clock that it shares with its
//! parent. Two things are known of the server without trusting the child: nothing
//! was renewed after `stopped`, so the lease was over at `stopped` + TTL; and the
//! parent's watch saw the key go, which it does at the end of the lease or later.

use std::time::Duration;

use tenure::{Client, Event, KeyRange, Session};
use tenure_proxy::{Direction, Flow, Proxy};
use tokio::task::JoinSet;

use crate::child::{Role, contended_name};
use crate::environment::number;
use crate::process::Process;
use crate::record::Record;
use crate::support::{
    Dice, TTL, endpoint, nanos, now, patiently, processes, runtime, session, until_queue_is,
};

const PAUSES: u64 = 100;
const SEED: u64 = 1;
/// On a busy machine leases run out before their holders are paused, and others take their place: in
/// all no more than so many times the pauses.
const MORE_MAX: u64 = 3;
/// Pauses are shorter and longer than the TTL.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(4);
/// The longest wait for a child to queue.
const QUEUE_WAIT_MAX: Duration = Duration::from_secs(5);
/// A renewal falls due in any part of this.
const HOLD_MAX: Duration = Duration::from_millis(700);
/// Less than the patience of a client whose leases have this TTL.
const DELAY_MAX: Duration = Duration::from_millis(400);
/// The time for checks after a pause.
const AFTER: Duration = Duration::from_secs(1);
/// A lease that was valid so shortly before a pause was so when it began.
const SHORTLY: Duration = Duration::from_millis(100);

#[test]
fn whatever_begins_after_a_pause_beyond_the_ttl_says_lost() {
    let pauses = number("TENURE_PAUSES").unwrap_or(PAUSES);
    let first = number("TENURE_SEED").unwrap_or(SEED).max(1);
    println!(
        "{pauses} pauses with seeds from {first} on, {} at a time",
        processes()
    );
    runtime().block_on(async {
        let observer = session().await;
        let (mut all, mut running) = (Vec::new(), JoinSet::new());
        let mut seeds = first..first + pauses * MORE_MAX;
        loop {
            let is_enough = |next| next >= first + pauses && counts(&all).are_enough(pauses);
            while (running.len() as u64) < processes() && !is_enough(seeds.start) {
                let Some(seed) = seeds.next() else { break };
                running.spawn(Pause::new(seed).run(observer.clone()));
            }
            let Some(pause) = running.join_next().await else {
                break;
            };
            let pause = pause.expect("a pause, whose seed is in its panic");
            pause.judge();
            all.push(pause);
        }
        summarize(&all, pauses);
    });
}

/// What the pauses did to those who were paused.
struct Counts {
    held: u64,
    beyond: u64,
    gone: u64,
}

impl Counts {
    /// They must have hit holders, and ended leases, or they tried nothing.
    fn are_enough(&self, pauses: u64) -> bool {
        self.held * 2 >= pauses && self.beyond * 3 >= pauses && self.gone * 2 >= pauses
    }
}

fn counts(all: &[Pause]) -> Counts {
    let count = |what: fn(&Pause) -> bool| all.iter().filter(|pause| what(pause)).count() as u64;
    Counts {
        held: count(Pause::hit_a_holder),
        beyond: count(Pause::is_beyond),
        gone: count(|pause| pause.gone.is_some()),
    }
}

fn summarize(all: &[Pause], pauses: u64) {
    let counts = counts(all);
    let Counts { held, beyond, gone } = counts;
    let checks: u64 = all.iter().flat_map(|pause| &pause.records).map(|(_, record)| record.checks).sum();
    println!(
        "{} pauses: {held} of holders, {beyond} beyond the TTL, {gone} ended the lease; {checks} checks",
        all.len()
    );
    assert!(counts.are_enough(pauses), "too few of them tried anything");
}

/// One pause of one process. Times are nanoseconds of the boot clock.
#[derive(Debug, Default)]
struct Pause {
    seed: u64,
    /// How late each answer of the server reaches the child.
    delay: Duration,
    /// For how long the child holds the lock before the pause.
    hold: Duration,
    pause: Duration,
    threads: usize,
    stopped: u64,
    continued: u64,
    /// When the watch told that the child's key was gone.
    gone: Option<u64>,
    records: Vec<(String, Record)>,
    /// Whether the child got the lock that it waited for.
    granted: bool,
    /// When the child's task that awaited the loss was told, 0 for never.
    told: u64,
}

impl Pause {
    fn new(seed: u64) -> Pause {
        // Far apart, so that neighbours have nothing in common (Knuth's multiplier).
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Pause {
            seed,
            delay: dice.duration(DELAY_MAX),
            hold: dice.duration(HOLD_MAX),
            pause: PAUSE_MIN + dice.duration(PAUSE_MAX - PAUSE_MIN),
            threads: (dice.roll() % 3) as usize,
            ..Pause::default()
        }
    }

    async fn run(mut self, observer: Session) -> Pause {
        let name = format!("pause/{}", self.seed);
        let contended = contended_name(&name);
        let holder = patiently("a lock", observer.mutex(&contended).lock()).await.expect("a lock");
        // A reply that the child has not read when it is stopped is there when it goes on.
        let proxy = Proxy::start(&endpoint()).expect("a proxy");
        proxy.flow(Direction::Down, Flow::Delay(self.delay));
        let mut child = Process::start(Role::Checker, proxy.endpoint(), &name, self.threads);
        child.says("checks").await;
        // One whose lease ran out already, on a machine that is too busy, does not queue.
        let queued = until_queue_is(observer.client(), &contended, 2);
        let _ = tokio::time::timeout(QUEUE_WAIT_MAX, queued).await;
        let watching = tokio::spawn(gone(observer.client().clone(), name));
        tokio::time::sleep(self.hold).await;
        child.stop();
        self.stopped = now();
        // The child is next in the queue, and learns it only when it goes on.
        holder.release().await.expect("a release");
        tokio::time::sleep(self.pause).await;
        self.continued = now();
        child.go_on();
        tokio::time::sleep(AFTER).await;
        // From here on it may be the child's own doing that its key goes.
        if watching.is_finished() {
            self.gone = Some(watching.await.expect("no panic"));
        } else {
            watching.abort();
        }
        child.finish();
        while let Some(line) = child.line().await {
            self.read(&line);
        }
        self
    }

    fn read(&mut self, line: &str) {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default();
        match word() {
            "record" => {
                let kind = word().to_owned();
                self.records.push((kind, Record::parse(&mut words)));
            }
            "waiter" => self.granted = word() == "true",
            "told" => self.told = word().parse().expect("a time"),
            other => panic!("a child said {other:?}"),
        }
    }

    /// Nothing was renewed after it stopped, and it went on when that was a TTL ago.
    fn is_beyond(&self) -> bool {
        self.continued >= self.stopped + nanos(TTL)
    }

    fn hit_a_holder(&self) -> bool {
        self.records.iter().any(|(_, record)| record.last_valid + nanos(SHORTLY) >= self.stopped)
    }

    fn judge(&self) {
        assert_eq!(self.records.len(), 5, "{self:?}");
        for (kind, record) in &self.records {
            assert_eq!(record.revivals, 0, "{kind}: valid after it was lost: {self:?}");
            if let Some(gone) = self.gone {
                assert!(
                    record.last_valid < gone,
                    "{kind}: valid after the key was gone: {self:?}"
                );
                assert!(record.claimed <= gone, "{kind}: claimed beyond the end: {self:?}");
            }
            if self.is_beyond() {
                assert!(
                    record.last_valid < self.continued,
                    "{kind}: valid after the pause: {self:?}"
                );
                assert!(record.first_lost > 0, "{kind}: never lost: {self:?}");
            }
        }
        if self.is_beyond() {
            // What it waited for was released while it stood still.
            assert!(!self.granted, "granted after the pause: {self:?}");
            assert!(self.told > 0, "the loss was told to nobody: {self:?}");
        }
    }
}

/// When the holder's key went.
async fn gone(client: Client, name: String) -> u64 {
    let keys = client.watch(KeyRange::prefix(format!("{name}/"))).no_put();
    let mut watch = keys.await.expect("a watch");
    loop {
        let batch = watch.next().await.expect("events");
        if batch.events.iter().any(|event| matches!(event, Event::Delete { .. })) {
            return now();
        }
    }
}
