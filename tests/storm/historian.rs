//! Reads the server's history on a way of its own, in watches that nothing interrupts:
//! one that is, is forgotten and read anew. It compacts behind itself, where it is to.

use std::time::Duration;

use tenure::{Client, KeyRange, Revision};
use tokio::time::{Instant, sleep, timeout};

use crate::chance::Chance;
use crate::change::Change;
use crate::history::History;
use crate::sight::BUFFER_BYTES;

/// So long one reading may take, before it is begun anew.
const READING: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(50);
/// So long it tries to read on before that is a failure.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Historian {
    client: Client,
    chance: Chance,
    pub(crate) history: History,
}

impl Historian {
    pub(crate) fn new(client: Client, chance: Chance) -> Historian {
        Historian {
            client,
            chance,
            history: History::default(),
        }
    }

    /// Reads and compacts, until it is dropped. Between two readings it holds what it read.
    pub(crate) async fn compact_at_times(&mut self, every: std::ops::Range<Duration>) {
        loop {
            sleep(self.chance.time(every.clone())).await;
            self.read_on().await;
            let last = self.history.next() - 1;
            let oldest = self.history.compacted().max(1);
            if last <= oldest {
                continue;
            }
            // Often so late that a watch which lags is caught by it.
            let revision = match self.chance.one_in(2) {
                true => last,
                false => oldest + 1 + self.chance.below((last - oldest) as u64) as i64,
            };
            // It may have been done, whatever the answer.
            self.history.compactions.push(revision);
            let _ = self.client.compact(Revision(revision)).await;
        }
    }

    /// Reads all that there is by now.
    pub(crate) async fn read_on(&mut self) {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "the history cannot be read");
            if let Ok(answer) = self.client.get("none").await {
                let present = answer.revision().0;
                if present < self.history.next() {
                    return;
                }
                if let Ok(Some(mut read)) = timeout(READING, self.read_up_to(present)).await {
                    self.history.changes.append(&mut read);
                    return;
                }
            }
            sleep(AGAIN).await;
        }
    }

    async fn read_up_to(&self, last: i64) -> Option<Vec<Change>> {
        let watch = self.client.watch(KeyRange::all()).start_revision(Revision(self.history.next()));
        let mut watch = watch.prev_kv().resume(false).buffer_bytes(BUFFER_BYTES).await.ok()?;
        let mut changes: Vec<Change> = Vec::new();
        while changes.last().is_none_or(|change| change.revision() < last) {
            changes.extend(watch.next().await.ok()?.events.iter().map(Change::of));
        }
        Some(changes)
    }
}
