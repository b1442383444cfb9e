//! Every change of every key of a run, by a watch from the first revision over a way that
//! nobody breaks, and when it was seen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tenure::{Client, KeyRange, Revision};
use tenure_history::{Change, Event};
use tokio::task::JoinHandle;

use crate::support::{ROOT, now, patiently, until};

/// More than any run writes while it is looked at late.
const HISTORY_BYTES_MAX: usize = 1 << 30;

#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Recorded>>);

#[derive(Default)]
pub(crate) struct Recorded {
    pub(crate) events: Vec<Event>,
    /// When each was seen.
    pub(crate) seen: Vec<u64>,
    /// The values of the registers and of the items, by the event's index.
    pub(crate) values: HashMap<usize, String>,
    is_over: bool,
}

impl Record {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last revision that is recorded.
    pub(crate) fn revision(&self) -> i64 {
        self.lock().events.last().map_or(0, |event| event.revision)
    }

    /// Records on a task, until [`Record::end`].
    pub(crate) async fn start(&self, client: &Client) -> JoinHandle<()> {
        let watch = client.watch(KeyRange::prefix(ROOT)).start_revision(Revision(1));
        let mut watch = watch.buffer_bytes(HISTORY_BYTES_MAX).await.expect("a watch from the beginning");
        let record = self.clone();
        tokio::spawn(async move {
            loop {
                let batch = watch.next().await.expect("the history");
                let at = now();
                let mut recorded = record.lock();
                for event in batch.events {
                    recorded.note(&event, at);
                }
                if recorded.is_over {
                    return;
                }
            }
        })
    }

    /// Waits until all that has happened by now is recorded.
    pub(crate) async fn end(&self, client: &Client, recording: JoinHandle<()>) {
        let put = async || client.put(end_mark(), "").await.is_ok();
        until("a mark", put).await;
        patiently("the end of the history", recording).await.expect("a history without a gap");
    }
}

impl Recorded {
    /// The revision that ended this key, and all that changed in it.
    pub(crate) fn end_of(&self, key: &str) -> String {
        let is_end = |event: &&Event| event.key == key.as_bytes() && event.change == Change::Delete;
        let Some(end) = self.events.iter().rfind(is_end) else {
            return "nothing is recorded".to_owned();
        };
        let of_end = self.events.iter().filter(|event| event.revision == end.revision);
        let told = of_end.map(|event| format!("{} {:?}", String::from_utf8_lossy(&event.key), event.change));
        format!(
            "revision {}: {}",
            end.revision,
            told.collect::<Vec<_>>().join(", ")
        )
    }

    fn note(&mut self, event: &tenure::Event, at: u64) {
        let kv = event.kv();
        let change = match event {
            tenure::Event::Put { kv, .. } => Change::Put {
                created: kv.create_revision,
            },
            tenure::Event::Delete { .. } => Change::Delete,
        };
        let is_entry = kv.key.starts_with(b"mixed/") && !kv.key.contains(&b'#');
        if !is_entry && !kv.value.is_empty() {
            let value = String::from_utf8_lossy(&kv.value).into_owned();
            self.values.insert(self.events.len(), value);
        }
        self.is_over |= kv.key == end_mark().as_bytes();
        self.events.push(Event {
            key: kv.key.to_vec(),
            revision: event.revision().0,
            change,
        });
        self.seen.push(at);
    }

    /// When the key that was created at this revision was seen to be gone.
    pub(crate) fn gone(&self) -> HashMap<(&[u8], i64), u64> {
        let (mut there, mut gone) = (HashMap::new(), HashMap::new());
        for (event, seen) in self.events.iter().zip(&self.seen) {
            match event.change {
                Change::Put { created } => drop(there.insert(&event.key[..], created)),
                Change::Delete => {
                    if let Some(created) = there.remove(&event.key[..]) {
                        gone.insert((&event.key[..], created), *seen);
                    }
                }
            }
        }
        gone
    }

    /// The puts of some keys: when, and what.
    pub(crate) fn puts(&self, is_one: impl Fn(&[u8]) -> bool) -> Vec<(i64, String)> {
        let is_put = |event: &Event| matches!(event.change, Change::Put { .. }) && is_one(&event.key);
        let puts = self.events.iter().enumerate().filter(|(_, event)| is_put(event));
        let value = |index| self.values.get(&index).cloned().unwrap_or_default();
        puts.map(|(index, event)| (event.revision, value(index))).collect()
    }
}

fn end_mark() -> String {
    format!("{ROOT}-end")
}
