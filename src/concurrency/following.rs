//! The keys of a range as they are, and as they change: a watch and a read that feed the view of
//! `core::view`.

use super::definite::failed;
use crate::client::{Client, Watch, WatchEnd};
use crate::core::view::View;
use crate::error::Error;
use crate::types::KeyRange;

/// See the head of this file. Dropping it ends the watch.
#[derive(Debug)]
pub(super) struct Following {
    client: Client,
    keys: KeyRange,
    watch: Watch,
    view: View,
}

impl Following {
    pub(super) async fn start(client: &Client, keys: KeyRange) -> Result<Following, Error> {
        let (watch, view) = begin(client, &keys).await?;
        Ok(Following {
            client: client.clone(),
            keys,
            watch,
            view,
        })
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Waits until the view has gone on to the next revision that changes something; or further, where
    /// that is compacted away.
    ///
    /// Cancel safe: dropped, it has taken nothing.
    pub(super) async fn next(&mut self) -> Result<(), Error> {
        while !self.view.fold_next() {
            match self.watch.next().await {
                Ok(batch) => self.view.handle_events(batch.events),
                Err(WatchEnd::Compacted { .. }) => {
                    (self.watch, self.view) = begin(&self.client, &self.keys).await?;
                    return Ok(());
                }
                Err(end) => return Err(end.into()),
            }
        }
        Ok(())
    }
}

/// The watch first and from now on, since the server tells of what is past in turns of 100 ms only.
/// A linearizable read behind it is at least at the revision that the watch begins at.
async fn begin(client: &Client, keys: &KeyRange) -> Result<(Watch, View), Error> {
    let watch = client.watch(keys.clone()).await?;
    let read = client.get(keys.clone()).keys_only().control().await?;
    if read.revision() < watch.created_revision() {
        return Err(failed("a linearizable read was answered from before a watch"));
    }
    Ok((watch, View::new(read.revision(), &read.kvs)))
}
