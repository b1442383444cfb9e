//! One client of the torture test: it locks, holds, writes, and leaves in every way
//! there is, and notes what it is certain of.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tenure::{Client, Compare, Config, Delivery, Guard, Op, Session};
use tenure_history::{Claim, Outcome, Stored, Token, Write};

use crate::ours::token;
use crate::support::{now, up_to};

pub(crate) const NAME: &str = "torture";
/// It keeps the greatest token, and refuses a smaller one.
pub(crate) const REGISTER: &str = "torture#register";
/// It is written only with the fence of a guard.
const FENCED: &str = "torture#fenced";

/// Short, so that sessions are lost in a storm that has no quorum for long, and
/// longer than an election takes.
const TTL: Duration = Duration::from_secs(4);

/// What all victims together saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) claims: Vec<Claim>,
    pub(crate) writes: Vec<Write>,
    pub(crate) leases: Vec<i64>,
    /// Holds that ended with their session.
    pub(crate) lost: usize,
    /// Lock futures that were dropped before they were granted.
    pub(crate) dropped: usize,
    /// Locks that ended in an error.
    pub(crate) failed: usize,
    /// What no check of the history can find, a line each.
    pub(crate) violations: String,
}

pub(crate) struct Victim {
    index: u64,
    endpoints: Vec<String>,
    dice: Rng,
    seen: Arc<Mutex<Seen>>,
    writes: u64,
    /// A token that was held once.
    old: Option<Token>,
}

impl Victim {
    /// Each prefers another member.
    pub(crate) fn new(index: u64, mut endpoints: Vec<String>, dice: Rng, seen: Arc<Mutex<Seen>>) -> Victim {
        let members = endpoints.len();
        endpoints.rotate_left(index as usize % members);
        Victim {
            index,
            endpoints,
            dice,
            seen,
            writes: 0,
            old: None,
        }
    }

    pub(crate) async fn run(mut self, end: Instant) {
        let config = Config::new().call_timeout(Duration::from_millis(1000));
        let client = Client::connect_with(self.endpoints.clone(), config).await.expect("endpoints");
        while Instant::now() < end {
            let Ok(session) = client.session().ttl(TTL).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            self.note(|seen| seen.leases.push(session.lease_id().0));
            let turns = 1 + self.dice.u64(..200);
            for _ in 0..turns {
                if Instant::now() >= end || !session.is_valid() {
                    break;
                }
                self.lock(&session).await;
            }
            match self.dice.u64(..3) {
                0 => drop(session),
                1 => session.orphan(),
                _ => drop(session.close().await),
            }
        }
    }

    async fn lock(&mut self, session: &Session) {
        let mutex = session.mutex(NAME);
        let patience = match self.dice.u64(..4) {
            0 => up_to(&mut self.dice, Duration::from_millis(5)),
            1 => up_to(&mut self.dice, Duration::from_millis(100)),
            _ => Duration::from_secs(5),
        };
        match tokio::time::timeout(patience, mutex.lock()).await {
            Ok(Ok(guard)) => self.hold(guard).await,
            Ok(Err(_)) => {
                self.note(|seen| seen.failed += 1);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(_) => self.note(|seen| seen.dropped += 1),
        }
        if let Some(old) = self.old.filter(|_| self.dice.u64(..10) == 0) {
            self.write(session.client(), old).await;
        }
    }

    async fn hold(&mut self, guard: Guard) {
        let (client, token) = (guard.session().client().clone(), token(&guard));
        let mut claim = Claim {
            client: format!("victim {}", self.index),
            key: guard.key().to_vec(),
            token,
            revisions: Vec::new(),
            held: None,
        };
        still(&guard, &mut claim);
        for _ in 0..=self.dice.u64(..3) {
            self.fenced_write(&client, &guard, &mut claim).await;
            self.write(&client, token).await;
            let pause = if self.dice.u64(..40) == 0 { 300 } else { 3 };
            tokio::time::sleep(up_to(&mut self.dice, Duration::from_millis(pause))).await;
            if !still(&guard, &mut claim) {
                break;
            }
        }
        let lost = !still(&guard, &mut claim);
        self.note(|seen| {
            seen.lost += usize::from(lost);
            seen.claims.push(claim);
        });
        self.old = Some(token);
        self.leave(guard).await;
    }

    async fn leave(&mut self, guard: Guard) {
        match self.dice.u64(..6) {
            0 => drop(guard),
            1 => {
                let patience = up_to(&mut self.dice, Duration::from_millis(2));
                let _ = tokio::time::timeout(patience, guard.release()).await;
            }
            2 => {
                // It goes on in the background, on another task.
                tokio::spawn(guard.release());
            }
            _ => drop(guard.release().await),
        }
    }

    /// Its revision is one at which the key was there, so one at which we owned the lock.
    async fn fenced_write(&mut self, client: &Client, guard: &Guard, claim: &mut Claim) {
        let answer = client.txn().when(guard.fence()).then(Op::put(FENCED, claim.token.to_string())).await;
        match answer {
            Ok(answer) if answer.succeeded => claim.revisions.push(answer.revision().0),
            Ok(_) if guard.is_valid() => self.note(|seen| {
                let _ = writeln!(seen.violations, "{claim}: valid, and its key is gone");
            }),
            _ => {}
        }
    }

    async fn write(&mut self, client: &Client, token: Token) {
        self.writes += 1;
        let id = self.index * 1_000_000_000 + self.writes;
        // Not above what is written: '~' is behind every number of a write.
        let not_above = Compare::value(REGISTER).less(format!("{}~", padded(token)));
        let called = now();
        let answer = client.txn().when(not_above).then(Op::put(REGISTER, stored(token, id))).await;
        let outcome = match answer {
            Ok(answer) if answer.succeeded => Outcome::Applied,
            Ok(_) => Outcome::Refused,
            Err(error) if error.delivery() == Delivery::NotSent => return,
            Err(_) => Outcome::Unknown,
        };
        let returned = now();
        self.note(|seen| {
            seen.writes.push(Write {
                id,
                token,
                called,
                returned,
                outcome,
            });
        });
    }

    fn note(&self, what: impl FnOnce(&mut Seen)) {
        what(&mut self.seen.lock().expect("no victim panics here"));
    }
}

/// Whether the guard is still valid; then it was so up to a moment ago.
fn still(guard: &Guard, claim: &mut Claim) -> bool {
    let moment = now();
    let valid = guard.is_valid();
    if valid {
        claim.held.get_or_insert(moment..moment).end = moment;
    }
    valid
}

/// What the register holds; tokens compare as the bytes do.
pub(crate) fn stored(token: Token, id: u64) -> String {
    format!("{} {id}", padded(token))
}

pub(crate) fn read(value: &str) -> Option<Stored> {
    let (token, id) = value.split_once(' ')?;
    let (created, sequence) = token.split_once('.')?;
    Some(Stored {
        id: id.parse().ok()?,
        token: Token {
            created: created.parse().ok()?,
            sequence: sequence.parse().ok()?,
        },
    })
}

fn padded(token: Token) -> String {
    format!("{:020}.{:010}", token.created, token.sequence)
}
