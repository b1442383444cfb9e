//! What a mirror reads: both sides of a comparison, and the source's watch.

use bytes::Bytes;

use super::Place;
use crate::client::Client;
use crate::client::range_stream::RangeStream;
use crate::client::watch::{Batch, Watch, WatchEnd};
use crate::core::mirror::{Change, Comparison, Cutter, Halt, Limits, Need};
use crate::types::KeyRange;

/// Both sides, being read.
pub(super) struct Compared {
    pub(super) comparison: Comparison,
    pub(super) source: RangeStream,
    pub(super) copy: RangeStream,
    /// Collected for the next transaction.
    pub(super) changes: Vec<Change>,
    pub(super) bytes: usize,
    /// Found, and too large to be collected.
    pub(super) carried: Option<Change>,
}

pub(super) struct Followed {
    pub(super) watch: Option<Watch>,
    pub(super) cutter: Cutter,
}

impl Compared {
    /// Whether both sides have been read to their ends.
    pub(super) async fn fill(&mut self, limits: Limits, hidden: Option<&Bytes>) -> Result<bool, Halt> {
        loop {
            while let Some(change) = self.carried.take().or_else(|| self.comparison.poll_change()) {
                if Some(&change.key) == hidden {
                    continue;
                }
                let is_full =
                    self.changes.len() >= limits.changes || self.bytes + change.bytes() > limits.bytes;
                if is_full && !self.changes.is_empty() {
                    self.carried = Some(change);
                    return Ok(false);
                }
                self.bytes += change.bytes();
                self.changes.push(change);
            }
            match self.comparison.need() {
                Need::Source => {
                    let kvs = self.source.next().await.map_err(Halt::of_source)?;
                    self.comparison.handle_source(kvs);
                }
                Need::Copy => {
                    let kvs = self.copy.next().await.map_err(Halt::of_destination)?;
                    self.comparison.handle_copy(kvs);
                }
                Need::Nothing => return Ok(true),
            }
        }
    }
}

impl Followed {
    /// What happened next; `None` where it is watched only now.
    pub(super) async fn read(&mut self, source: &Client, place: &Place) -> Result<Option<Batch>, WatchEnd> {
        if let Some(watch) = &mut self.watch {
            return watch.next().await.map(Some);
        }
        let watch = source.watch(KeyRange::all()).start_revision(place.revision.next());
        self.watch = Some(watch.progress_notify().of_cluster(place.cluster_id).await?);
        Ok(None)
    }
}
