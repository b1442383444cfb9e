//! Watches the key of a lock with an owner while a guard has it: another session of that
//! owner takes it over by putting it anew.

use std::future::pending;

use super::lost::Lost;
use super::shared::Shared;
use crate::client::{Client, Event};
use crate::core::lock::Place;
use crate::error::{Error, EtcdError};
use crate::net::clock;
use crate::types::Revision;

/// Waits until the key is not the one any more that was put at this revision. Who may not read it is
/// never told, and has the fence.
pub(super) async fn taken_away(shared: &Shared, place: &Place, put: Revision) -> Lost {
    let mut backoff = shared.backoff();
    loop {
        match watch(shared.client(), place, put).await {
            Ok(lost) => return lost,
            Err(error) if error.etcd() == Some(EtcdError::PermissionDenied) => return pending().await,
            Err(_) => clock::sleep_until(clock::now() + backoff.next_wait()).await,
        }
    }
}

async fn watch(client: &Client, place: &Place, put: Revision) -> Result<Lost, Error> {
    let mut watch = client.watch(place.key.clone()).await?;
    // What was done before the watch was there.
    let found = client.get(place.key.clone()).part().keys_only().await?.kvs.into_iter().next();
    match found {
        None => return Ok(Lost::KeyDeleted),
        Some(kv) if kv.mod_revision != put.0 => return Ok(Lost::TakenOver),
        Some(_) => {}
    }
    loop {
        for event in watch.next().await?.events {
            match event {
                Event::Put { kv, .. } if kv.mod_revision > put.0 => return Ok(Lost::TakenOver),
                Event::Delete { kv, .. } if kv.mod_revision > put.0 => return Ok(Lost::KeyDeleted),
                _ => {}
            }
        }
    }
}
