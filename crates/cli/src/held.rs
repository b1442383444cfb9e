//! The key that shows that something is held: seen once, for a revision at which it is ours,
//! and then watched, for whoever deletes it by hand.

use std::time::Duration;

use bytes::Bytes;
use tenure::{Client, Error, Event, Revision};
use tokio::time::sleep;

/// Between two attempts to see the key.
const AGAIN: Duration = Duration::from_secs(1);

/// A key of ours.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    client: Client,
    key: Bytes,
    created: Revision,
    /// A revision at which it was there.
    pub(crate) seen: Revision,
}

impl Held {
    /// Looks at the key, which was created at this revision. `None`: it is not there any more.
    pub(crate) async fn see(client: &Client, key: &[u8], created: Revision) -> Result<Option<Held>, Error> {
        let key = Bytes::copy_from_slice(key);
        let answer = client.get(key.clone()).await?;
        let is_ours = answer.kvs.first().is_some_and(|kv| kv.create_revision == created.0);
        Ok(is_ours.then(|| Held {
            client: client.clone(),
            key,
            created,
            seen: answer.header.map_or(created, |header| Revision(header.revision)),
        }))
    }

    /// The key.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Completes once the key is deleted. Where that cannot be seen it is tried again: the lease
    /// alone says that the key is gone then.
    pub(crate) async fn deleted(&self) {
        let mut held = self.clone();
        loop {
            if held.watch().await {
                return;
            }
            sleep(AGAIN).await;
            match Held::see(&held.client, &held.key, held.created).await {
                Ok(Some(seen)) => held = seen,
                Ok(None) => return,
                Err(_) => {}
            }
        }
    }

    /// Whether it was deleted before the watch ended.
    async fn watch(&self) -> bool {
        let watch = self.client.watch(self.key.clone()).no_put().start_revision(self.seen.next());
        let Ok(mut watch) = watch.await else {
            return false;
        };
        while let Ok(batch) = watch.next().await {
            if batch.events.iter().any(|event| matches!(event, Event::Delete { .. })) {
                return true;
            }
        }
        false
    }
}
