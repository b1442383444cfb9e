//! What etcd says happened: the history of a name, read by a watch from revision 1.

use std::fmt::Display;

use tenure::{Client, KeyRange, Revision};
use tenure_history::{Change, Event, Violation};

use crate::support::patiently;

/// More than any test here writes.
const HISTORY_BYTES_MAX: usize = 1 << 30;

/// Every event of the keys that begin with `prefix`, with the values that were put.
pub(crate) async fn history(client: &Client, prefix: &str) -> Vec<(Event, String)> {
    // One watch keeps the order, so whatever it tells before this is all there was.
    let mark = format!("{prefix}#end");
    client.put(mark.clone(), "").await.expect("a mark");
    let watch = client.watch(KeyRange::prefix(prefix.to_owned())).start_revision(Revision(1));
    let mut watch = watch.buffer_bytes(HISTORY_BYTES_MAX).await.expect("a watch from the beginning");
    let mut events = Vec::new();
    loop {
        let batch = patiently("the end of the history", watch.next()).await.expect("the history");
        for event in batch.events {
            if event.kv().key == mark.as_bytes() {
                return events;
            }
            events.push((
                converted(&event),
                String::from_utf8_lossy(&event.kv().value).into_owned(),
            ));
        }
    }
}

/// The events without the values.
pub(crate) fn changes(history: &[(Event, String)]) -> Vec<Event> {
    history.iter().map(|(event, _)| event.clone()).collect()
}

/// Fails the test unless nothing was found.
pub(crate) fn none_of(what: impl Display, violations: &[Violation]) {
    const SHOWN: usize = 20;
    let lines: Vec<String> = violations.iter().take(SHOWN).map(ToString::to_string).collect();
    assert!(
        violations.is_empty(),
        "{what}: {} violation(s)\n{}",
        violations.len(),
        lines.join("\n")
    );
}

fn converted(event: &tenure::Event) -> Event {
    let change = match event {
        tenure::Event::Put { kv, .. } => Change::Put {
            created: kv.create_revision,
        },
        tenure::Event::Delete { .. } => Change::Delete,
    };
    Event {
        key: event.kv().key.to_vec(),
        revision: event.revision().0,
        change,
    }
}
