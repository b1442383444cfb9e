//! One task: it wants something, waits or gives up, holds, writes, acts without looking, and
//! leaves in every way there is. What it is certain of it notes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use tenure::{Client, Compare, Delivery, Error, Op, Txn};
use tenure_history::{Outcome, Token, Write};

use crate::desk::{Desk, Kit};
use crate::evidence::{fenced, greatest, not_above, shared, stored};
use crate::grip::Grip;
use crate::note::{Hold, Note, Take};
use crate::support::{now, within};
use crate::wish::Wish;

/// Where notes go.
pub(crate) type Notes = Arc<dyn Fn(Note) + Send + Sync>;

/// Money that is moved between them, and never made.
pub(crate) const ACCOUNTS: u64 = 5;
pub(crate) const BALANCE: i64 = 1000;

/// For up to so long a task holds what it has, between two looks.
const HOLD_MILLIS: u64 = 2;
/// At times.
const LONG_HOLD_MILLIS: u64 = 60;

/// What a task does wrong, to show that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "unstable"), allow(dead_code, reason = "the simulation's"))]
pub(crate) enum Mistake {
    /// Its fence is that there is a key.
    FencedByVersion,
    /// It has no fence.
    Unfenced,
    /// It believes its guard without looking.
    NeverLooks,
}

pub(crate) struct Worker {
    number: u64,
    desk: Arc<Desk>,
    dice: Rng,
    notes: Notes,
    writes: u64,
    /// A token that was held once, and of which names.
    old: Option<(Vec<String>, Token)>,
    mistake: Option<Mistake>,
    hold_millis: u64,
    at: At,
}

/// What a task is about, to be said of one that does not end.
pub(crate) type At = Arc<Mutex<&'static str>>;

pub(crate) fn account(number: u64) -> String {
    format!("mixed-account/{number}")
}

impl Worker {
    pub(crate) fn new(number: u64, desk: Arc<Desk>, dice: Rng, notes: Notes) -> Worker {
        Worker {
            number,
            desk,
            dice,
            notes,
            writes: 0,
            old: None,
            mistake: None,
            hold_millis: HOLD_MILLIS,
            at: At::default(),
        }
    }

    #[cfg(feature = "unstable")]
    pub(crate) fn mistaken(self, mistake: Option<Mistake>) -> Worker {
        Worker { mistake, ..self }
    }

    /// Holds for up to so long between two looks.
    #[cfg(feature = "unstable")]
    pub(crate) fn holding(self, hold_millis: u64) -> Worker {
        Worker { hold_millis, ..self }
    }

    pub(crate) fn at(&self) -> At {
        self.at.clone()
    }

    fn is_at(&self, what: &'static str) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    pub(crate) async fn run(mut self, is_over: Arc<AtomicBool>) {
        while !is_over.load(Ordering::SeqCst) {
            self.is_at("a session");
            let Some(kit) = self.desk.kit().await else {
                continue;
            };
            match self.dice.u64(..20) {
                0 => self.transfer().await,
                1 => self.put(&kit).await,
                2 => self.take(&kit).await,
                _ => self.lock(&kit).await,
            }
            if let Some((names, token)) = self.old.clone().filter(|_| self.dice.u64(..10) == 0) {
                self.write(&names, token).await;
            }
        }
    }

    async fn lock(&mut self, kit: &Kit) {
        let wish = Wish::choose(&mut self.dice);
        let patience = match self.dice.u64(..8) {
            0 => within(&mut self.dice, 0..4),
            1 => within(&mut self.dice, 0..100),
            _ => Duration::from_secs(8),
        };
        let tries = self.dice.u64(..10) == 0;
        let getting = async {
            match tries {
                true => wish.get_now(kit).await,
                false => wish.get(kit).await.map(Some),
            }
        };
        self.is_at(wish.recipe());
        match tokio::time::timeout(patience, getting).await {
            Ok(Ok(Some(grip))) => {
                let reader = self.hold(&wish, wish.recipe(), grip).await;
                if let Some(reader) = reader {
                    self.hold(&wish, "reader", reader).await;
                }
            }
            Ok(Ok(None)) => self.count("busy"),
            Ok(Err(error)) => self.failed(&error).await,
            Err(_) => self.count("given-up"),
        }
    }

    /// What it is after that, where it does not end.
    async fn hold(&mut self, wish: &Wish, recipe: &str, mut grip: Grip) -> Option<Grip> {
        let mut hold = Hold {
            recipe: recipe.to_owned(),
            client: format!("task-{}", self.number),
            names: wish.names(),
            entry: grip.entry(),
            token: grip.token(),
            held: None,
            acted: None,
            revisions: Vec::new(),
        };
        let is_alone = wish.is_alone() && recipe != "reader";
        let mut is_valid = self.still(&grip, &mut hold);
        let start = hold.held.as_ref().map(|held| held.start);
        for _ in 0..=self.dice.u64(..2) {
            if !is_valid {
                break;
            }
            if self.dice.bool() {
                self.fenced_write(&grip, is_alone, &mut hold).await;
            }
            if is_alone && self.dice.u64(..4) == 0 {
                self.write(&hold.names, hold.token).await;
            }
            if let Grip::Lead(leadership) = &mut grip {
                self.is_at("a proclamation");
                // Its fate is certain when it returns, or the leadership is over.
                let _ = leadership.proclaim(format!("task {}", self.number)).await;
            }
            let longest = match self.dice.u64(..60) {
                0 => LONG_HOLD_MILLIS,
                _ => self.hold_millis,
            };
            tokio::time::sleep(within(&mut self.dice, 0..longest)).await;
            // What it does now it does in good faith.
            hold.acted = start.map(|start| start..now());
            is_valid = self.still(&grip, &mut hold);
        }
        if !is_valid {
            self.count("lost");
        }
        self.old = is_alone.then(|| (hold.names.clone(), hold.token));
        (self.notes)(Note::Held(hold));
        self.leave(grip).await
    }

    async fn leave(&mut self, grip: Grip) -> Option<Grip> {
        self.is_at("a release");
        match (grip, self.dice.u64(..8)) {
            (grip, 0 | 1) => drop(grip),
            (grip, 2) => {
                let patience = within(&mut self.dice, 0..2);
                let _ = tokio::time::timeout(patience, grip.release()).await;
            }
            (grip, 3) => {
                // It goes on in the background, on another task.
                tokio::spawn(grip.release());
            }
            (Grip::Write(guard), 4..=6) => match guard.downgrade().await {
                Ok(guard) => return Some(Grip::Read(guard)),
                Err(error) => self.failed(&error).await,
            },
            (grip, _) => drop(grip.release().await),
        }
        None
    }

    /// Its revision is one at which the keys were there, so one at which it was ours.
    async fn fenced_write(&mut self, grip: &Grip, is_alone: bool, hold: &mut Hold) {
        self.is_at("a fenced write");
        let (id, called) = (self.next_write(), now());
        let register = if is_alone { fenced } else { shared };
        let keys = hold.names.iter().map(|name| format!("{name}/{}", hold.entry));
        let fences = match self.mistake {
            Some(Mistake::FencedByVersion) => keys.map(|key| Compare::version(key).greater(0)).collect(),
            Some(Mistake::Unfenced) => Vec::new(),
            _ => grip.fences(),
        };
        let txn = fences.into_iter().fold(self.desk.client().txn(), Txn::when);
        let put = |name: &String| Op::put(register(name), stored(hold.token, id));
        let answer = hold.names.iter().map(put).fold(txn, |txn, put| txn.then(put)).await;
        let outcome = match answer {
            Ok(answer) if answer.succeeded => {
                hold.revisions.push(answer.revision().0);
                Outcome::Applied
            }
            Ok(_) => {
                if grip.is_valid() {
                    let lease = grip.session().lease_id().0;
                    (self.notes)(Note::Gone(format!("{}/{}", hold.names[0], hold.entry), lease));
                }
                return;
            }
            Err(error) if error.delivery() == Delivery::NotSent => return,
            Err(_) => {
                grip.taint();
                Outcome::Unknown
            }
        };
        if is_alone {
            self.wrote(&hold.names, fenced, hold.token, (id, called, outcome));
        }
    }

    /// Writes to the registers that keep the greatest token.
    async fn write(&mut self, names: &[String], token: Token) {
        self.is_at("a write");
        let (id, called) = (self.next_write(), now());
        let mut txn = self.desk.client().txn();
        for name in names {
            let put = Op::put(greatest(name), stored(token, id));
            txn = txn.when(not_above(greatest(name), token)).then(put);
        }
        let outcome = match txn.await {
            Ok(answer) if answer.succeeded => Outcome::Applied,
            // Of several names any may have been the reason.
            Ok(_) if names.len() > 1 => return,
            Ok(_) => Outcome::Refused,
            Err(error) if error.delivery() == Delivery::NotSent => return,
            Err(_) => Outcome::Unknown,
        };
        self.wrote(names, greatest, token, (id, called, outcome));
    }

    fn wrote(
        &self,
        names: &[String],
        register: fn(&str) -> String,
        token: Token,
        (id, called, outcome): (u64, u64, Outcome),
    ) {
        let returned = now();
        for name in names {
            let write = Write {
                id,
                token,
                called,
                returned,
                outcome,
            };
            (self.notes)(Note::Wrote(register(name), write));
        }
    }

    /// Moves money, in a software transaction.
    async fn transfer(&mut self) {
        self.is_at("a transfer");
        let (from, to) = (self.dice.u64(..ACCOUNTS), self.dice.u64(..ACCOUNTS));
        let amount = self.dice.i64(1..50);
        let done = self.desk.client().stm().timeout(Duration::from_secs(3)).run(|t| async move {
            let mut sum = 0;
            for number in 0..ACCOUNTS {
                sum += balance(t.get(account(number)).await?.as_deref());
            }
            let (one, other) = (t.get(account(from)).await?, t.get(account(to)).await?);
            if from != to {
                t.put(account(from), (balance(one.as_deref()) - amount).to_string());
                t.put(account(to), (balance(other.as_deref()) + amount).to_string());
            }
            Ok(sum)
        });
        match done.await {
            Ok(done) if done.value == BALANCE * ACCOUNTS as i64 => self.count("transfer"),
            Ok(_) => self.count("torn-transfer"),
            Err(_) => self.count("transfer-failed"),
        }
    }

    async fn put(&mut self, kit: &Kit) {
        self.is_at("a put");
        let number = self.next_write();
        let value = format!("{}.{number}", self.number);
        let put = tokio::time::timeout(Duration::from_secs(3), kit.queue.put(value.clone())).await;
        let revision = put.ok().and_then(Result::ok).map(|revision| revision.0);
        (self.notes)(Note::Put(value, revision));
    }

    async fn take(&mut self, kit: &Kit) {
        self.is_at("a take");
        let mut consumer = kit.queue.consumer();
        let patience = within(&mut self.dice, 1..200);
        let job = match tokio::time::timeout(patience, consumer.take()).await {
            Ok(Ok(job)) => job,
            Ok(Err(error)) => return self.failed(&error).await,
            Err(_) => return self.count("nothing-taken"),
        };
        let (start, item) = (now(), job.put_revision().0);
        let mut end = start;
        if job.is_valid() {
            tokio::time::sleep(within(&mut self.dice, 0..3)).await;
            let moment = now();
            end = if job.is_valid() { moment } else { start };
        }
        self.is_at("the end of a job");
        let done = match self.dice.u64(..6) {
            0 => None,
            1 => {
                let _ = job.give_back().await;
                None
            }
            _ => Some(match job.done().await {
                Ok(()) => Outcome::Applied,
                Err(_) => Outcome::Unknown,
            }),
        };
        (self.notes)(Note::Took(Take {
            lease: kit.session.lease_id().0,
            item,
            held: start..end,
            done,
        }));
    }

    /// Whether it is still valid; then it was so up to a moment ago.
    fn still(&self, grip: &Grip, hold: &mut Hold) -> bool {
        let moment = now();
        let is_valid = grip.is_valid() || self.mistake == Some(Mistake::NeverLooks);
        if is_valid {
            hold.held.get_or_insert(moment..moment).end = moment;
        }
        is_valid
    }

    async fn failed(&mut self, error: &Error) {
        self.count(&format!("failed-{:?}", error.code()));
        let pause = within(&mut self.dice, 1..20);
        tokio::time::sleep(pause).await;
    }

    fn count(&self, what: &str) {
        (self.notes)(Note::Count(what.to_owned()));
    }

    fn next_write(&mut self) -> u64 {
        self.writes += 1;
        self.number * 1_000_000_000 + self.writes
    }
}

/// Puts what the registers and accounts begin with.
pub(crate) async fn furnish(client: &Client, names: &[&str]) -> Result<(), Error> {
    let nobody = Token {
        created: 0,
        sequence: 0,
    };
    for name in names {
        client.put(fenced(name), stored(nobody, 0)).await?;
        client.put(greatest(name), stored(nobody, 0)).await?;
    }
    for number in 0..ACCOUNTS {
        client.put(account(number), BALANCE.to_string()).await?;
    }
    Ok(())
}

fn balance(value: Option<&[u8]>) -> i64 {
    value.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok()).unwrap_or(0)
}
