//! A latch: it opens once so many have counted it down.

use std::sync::Arc;

use bytes::Bytes;

use super::definite::failed;
use super::following::Following;
use super::recipe::prefix;
use super::requests::range;
use crate::client::{Client, Compare, Op, chance};
use crate::core::view::View;
use crate::error::Error;
use crate::types::{KeyRange, Revision};

const RECIPE: &str = "latch";

/// A count that goes down to zero and then stays there: who waits for it goes on when so many
/// parts of the work are done, whoever did them and whether they still live.
///
/// It has no lease: what is counted stays counted. It is there from its first use on, until it is
/// [deleted](Latch::delete).
///
/// # Guarantees
///
/// It is open at the revision at which the last of its count-downs was put, and from then on. A
/// count-down counts once, however often its request is sent or carried out; with an id of the
/// caller's, also across restarts. It needs no clock.
///
/// A latch of another count than the one that is there is refused. One that is deleted is to be used no
/// more: a late copy of its first use can make it anew, with nothing counted.
#[derive(Clone, Debug)]
pub struct Latch {
    client: Client,
    name: Arc<str>,
    count: u32,
}

/// Its keys.
struct Place {
    prefix: String,
    count: Bytes,
    downs: String,
}

impl Client {
    /// The latch of this name, which has no `#`, to be counted down so many times. Nothing is sent
    /// until it is used. Names nest.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
    /// let latch = client.latch("jobs/import", 3);
    /// latch.count_down_as("shard-1").await?;
    /// latch.wait().await?; // until two more are counted
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn latch(&self, name: &str, count: u32) -> Latch {
        Latch {
            client: self.clone(),
            name: name.into(),
            count,
        }
    }
}

impl Latch {
    /// Counts it down by one. To be able to repeat it after an error, take [`Latch::count_down_as`].
    ///
    /// # Errors
    ///
    /// As [`Latch::count_down_as`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have counted.
    pub async fn count_down(&self) -> Result<(), Error> {
        self.count_down_as(&format!("{:016x}{:016x}", chance(), chance())).await
    }

    /// Counts it down by one, for what has this id: the second time it changes nothing.
    ///
    /// # Errors
    ///
    /// `FailedPrecondition`: there is a latch of this name with another count, or it was deleted
    /// meanwhile. The server refuses it, or could not be reached in time: it may be repeated.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have counted. It may be repeated.
    pub async fn count_down_as(&self, id: &str) -> Result<(), Error> {
        let place = self.place()?;
        let created = self.ensure(&place).await?;
        let down = format!("{}{id}", place.downs);
        let answer = self
            .client
            .txn()
            .control()
            .when(Compare::create_revision(place.count.clone()).equal(created))
            .when(Compare::create_revision(down.clone()).equal(Revision::ZERO))
            .then(Op::put(down.clone(), Bytes::new()))
            .or_else(Op::get(place.count).keys_only())
            // What it compares is the same for every copy, and the second one finds the key.
            .idempotent()
            .await?;
        if !answer.succeeded && created_in(range(&answer, 0)?.kvs.first()) != created {
            return Err(self.deleted());
        }
        Ok(())
    }

    /// Waits until it is open.
    ///
    /// # Errors
    ///
    /// As [`Latch::count_down_as`]. Once it waits, it goes on through lost connections.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it leaves nothing behind but the latch.
    pub async fn wait(&self) -> Result<(), Error> {
        let place = self.place()?;
        let created = self.ensure(&place).await?;
        let mut following = Following::start(&self.client, place.keys()).await?;
        loop {
            if following.view().created(&place.count) != Some(created) {
                return Err(self.deleted());
            }
            if self.left(&place, following.view()) == 0 {
                return Ok(());
            }
            following.next().await?;
        }
    }

    /// How many are still to be counted down.
    ///
    /// # Errors
    ///
    /// As [`Latch::count_down_as`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it leaves nothing behind but the latch.
    pub async fn remaining(&self) -> Result<u32, Error> {
        let place = self.place()?;
        self.ensure(&place).await?;
        let answer = self.client.get(KeyRange::prefix(place.downs)).count_only().control().await?;
        Ok(self.count.saturating_sub(u32::try_from(answer.count).unwrap_or(u32::MAX)))
    }

    /// Deletes the latch. Who waits for it gets an error.
    ///
    /// # Errors
    ///
    /// The server refuses it, or could not be reached in time: it may be repeated.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have deleted it.
    pub async fn delete(&self) -> Result<(), Error> {
        let keys = KeyRange::prefix(self.place()?.prefix);
        self.client.delete(keys).control().idempotent().await.map(drop)
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn place(&self) -> Result<Place, Error> {
        let prefix = prefix(&self.name, RECIPE)?;
        Ok(Place {
            count: format!("{prefix}count").into(),
            downs: format!("{prefix}down/"),
            prefix,
        })
    }

    /// When the latch was created: now, if there is none.
    async fn ensure(&self, place: &Place) -> Result<Revision, Error> {
        let answer = self
            .client
            .txn()
            .control()
            .when(Compare::create_revision(place.count.clone()).equal(Revision::ZERO))
            .then(Op::put(place.count.clone(), self.count.to_string()))
            .or_else(Op::get(place.count.clone()))
            .idempotent()
            .await?;
        if answer.succeeded {
            return Ok(answer.revision());
        }
        let there = range(&answer, 0)?.kvs.first();
        match there {
            Some(kv) if kv.value != self.count.to_string() => {
                let (name, count) = (&self.name, self.count);
                let there = String::from_utf8_lossy(&kv.value).into_owned();
                Err(failed(format!("latch {name:?}: it counts {there}, not {count}")))
            }
            there => Ok(created_in(there)),
        }
    }

    fn left(&self, place: &Place, view: &View) -> usize {
        let downs = view.below(place.downs.as_bytes()).count();
        usize::try_from(self.count).unwrap_or(usize::MAX).saturating_sub(downs)
    }

    fn deleted(&self) -> Error {
        failed(format!("latch {:?}: it was deleted", self.name))
    }
}

impl Place {
    /// From `count` to the last count-down.
    fn keys(&self) -> KeyRange {
        KeyRange::prefix(self.prefix.clone())
    }
}

fn created_in(kv: Option<&crate::pb::mvccpb::KeyValue>) -> Revision {
    Revision(kv.map_or(0, |kv| kv.create_revision))
}
