//! One writer, and what it was answered: puts, deletions, and transactions of several
//! keys, each value once in a storm. Its answers are held against the history.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tenure::error::Delivery;
use tenure::pb::etcdserverpb::response_op::Response;
use tenure::pb::mvccpb::KeyValue;
use tenure::{Client, Error, KeyRange, Op};
use tokio::time::sleep;

use crate::chance::Chance;
use crate::change::{Version, kept};
use crate::history::History;
use crate::sight::{KEYS, KEYS_BIG};

/// Longer than the pause of a member that is restarted, so that some writes outlive it.
const WRITE_TIMEOUT: Duration = Duration::from_millis(2500);
const SMALL_BYTES: u64 = 40;

/// How a writer writes.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    pub(crate) pause: std::ops::Range<Duration>,
    /// One write in so many is of large values, of so many bytes.
    pub(crate) big: (u64, usize),
}

/// What a writer asked and what became of it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) answers: Vec<Answer>,
    /// The values of writes that were certainly not made.
    pub(crate) unsent: Vec<String>,
    /// How many writes may have been made.
    pub(crate) unknown: usize,
}

/// A write that was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) revision: i64,
    /// What was put, all of it.
    puts: Vec<(String, String)>,
    /// What was there before, of the keys that were asked for it; by key.
    before: Vec<(String, Option<Version>)>,
    deleted: i64,
}

pub(crate) async fn write(
    client: Client,
    number: usize,
    pace: Pace,
    mut chance: Chance,
    is_over: Arc<AtomicBool>,
) -> Ledger {
    let (mut ledger, mut count) = (Ledger::default(), 0);
    while !is_over.load(Ordering::SeqCst) {
        count += 1;
        let mut write = Write {
            client: &client,
            chance: &mut chance,
            pace: &pace,
            value: format!("{number}-{count}"),
        };
        let made = match write.chance.below(10) {
            0..=3 => write.put().await,
            4..=5 => write.delete().await,
            _ => write.txn().await,
        };
        match made {
            Ok(answer) => ledger.answers.push(answer),
            Err(error) if error.delivery() == Delivery::NotSent => {
                ledger.unsent.push(format!("{number}-{count}."));
            }
            Err(_) => ledger.unknown += 1,
        }
        sleep(chance.time(pace.pause.clone())).await;
    }
    ledger
}

struct Write<'a> {
    client: &'a Client,
    chance: &'a mut Chance,
    pace: &'a Pace,
    /// How its values begin.
    value: String,
}

impl Write<'_> {
    async fn put(&mut self) -> Result<Answer, Error> {
        let (key, value) = (KEYS[self.chance.index(KEYS.len())], self.value(0, false));
        let asks = self.chance.one_in(2);
        let put = self.client.put(key, value.clone()).timeout(WRITE_TIMEOUT);
        let answer = if asks { put.prev_kv() } else { put }.await?;
        let before = asks.then(|| (key.to_owned(), answer.prev_kv.as_ref().map(Version::of)));
        Ok(Answer {
            revision: answer.revision().0,
            puts: vec![(key.to_owned(), kept(&value))],
            before: before.into_iter().collect(),
            deleted: 0,
        })
    }

    async fn delete(&mut self) -> Result<Answer, Error> {
        let key = KEYS[self.chance.index(KEYS.len())];
        let keys = match self.chance.one_in(6) {
            true => KeyRange::prefix(&key[..4]),
            false => KeyRange::key(key),
        };
        let answer = self.client.delete(keys).prev_kv().timeout(WRITE_TIMEOUT).await?;
        Ok(Answer {
            revision: answer.revision().0,
            puts: Vec::new(),
            before: answer.prev_kvs.iter().map(before).collect(),
            deleted: answer.deleted,
        })
    }

    /// Of several keys, each once.
    async fn txn(&mut self) -> Result<Answer, Error> {
        let is_big = self.chance.one_in(self.pace.big.0);
        let keys: &[&'static str] = if is_big { &KEYS_BIG } else { &KEYS };
        let count = 2 + self.chance.index(keys.len() - 1);
        let first = self.chance.index(keys.len());
        let mut txn = self.client.txn().timeout(WRITE_TIMEOUT);
        let mut puts = Vec::new();
        for nth in 0..count {
            let key = keys[(first + nth) % keys.len()];
            // One at least is put, so that there is a revision.
            if nth > 0 && self.chance.one_in(3) {
                txn = txn.then(Op::delete(key).prev_kv());
            } else {
                let value = self.value(nth, is_big);
                puts.push((key.to_owned(), kept(&value)));
                txn = txn.then(Op::put(key, value));
            }
        }
        let answer = txn.await?;
        let (mut gone, mut deleted) = (Vec::new(), 0);
        for response in answer.responses.iter().filter_map(|response| response.response.as_ref()) {
            if let Response::ResponseDeleteRange(delete) = response {
                deleted += delete.deleted;
                gone.extend(delete.prev_kvs.iter().map(before));
            }
        }
        Ok(Answer {
            revision: answer.revision().0,
            puts,
            before: gone,
            deleted,
        })
    }

    /// A value that no other write has.
    fn value(&mut self, nth: usize, is_big: bool) -> Vec<u8> {
        let rest = match is_big {
            true => self.pace.big.1 / 2 + self.chance.index(self.pace.big.1),
            false => self.chance.below(SMALL_BYTES) as usize,
        };
        let mut value = format!("{}.{nth}:", self.value).into_bytes();
        value.resize(value.len() + rest, b'x');
        value
    }
}

fn before(kv: &KeyValue) -> (String, Option<Version>) {
    let version = Version::of(kv);
    (version.key.clone(), Some(version))
}

impl Ledger {
    /// Whether the history has what was answered, and nothing that was never sent.
    pub(crate) fn check(&self, history: &History) -> Result<(), String> {
        for answer in &self.answers {
            answer.check(history).map_err(|what| format!("{what}: {answer:?}"))?;
        }
        for value in &self.unsent {
            let made =
                history.changes.iter().find(|change| change.is_put && change.kv.value.starts_with(value));
            if let Some(made) = made {
                return Err(format!("it was not sent, and made: {made:?}"));
            }
        }
        Ok(())
    }
}

impl Answer {
    fn check(&self, history: &History) -> Result<(), String> {
        if self.puts.is_empty() && self.deleted == 0 {
            return Ok(());
        }
        let changes = history.at(self.revision);
        let deletions = changes.iter().filter(|change| !change.is_put);
        if deletions.count() as i64 != self.deleted
            || changes.len() != self.puts.len() + self.deleted as usize
        {
            return Err(format!("the history has {changes:?}"));
        }
        for (key, value) in &self.puts {
            if !changes
                .iter()
                .any(|change| change.is_put && (change.key(), &change.kv.value) == (key, value))
            {
                return Err(format!("{key} was put; the history has {changes:?}"));
            }
        }
        for (key, before) in &self.before {
            if !changes.iter().any(|change| change.key() == key && change.prev == *before) {
                return Err(format!("{key} was {before:?}; the history has {changes:?}"));
            }
        }
        Ok(())
    }
}
