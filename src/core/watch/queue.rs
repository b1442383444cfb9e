//! What waits for the reader of one watch: batches up to a number of bytes, and
//! then the end. A batch that does not fit is refused; nobody ever waits for room.
//!
//! A small message shares its buffer with whatever the connection brought beside it, so
//! an event of a few bytes that nobody reads can hold 16 KiB. A reader that keeps up is
//! given its events without a copy; of those that gather before another, all but the first few
//! are copied, and then take what they are counted for.

use std::collections::VecDeque;

use super::end::WatchEnd;
use super::event::{Batch, BatchKind, MESSAGE_SHARED_BYTES};
use super::rules::{Rule, Rules};

/// What the batches pin that share a buffer, beside what they are counted for, is bounded
/// by this part of the queue's bytes.
const SHARED_PART: usize = 4;

/// What waits for one reader; see the module.
#[derive(Debug)]
pub struct Queue {
    /// Each with its size.
    batches: VecDeque<(Batch, usize)>,
    bytes: usize,
    bytes_max: usize,
    /// So many batches may share the buffers that they were received in.
    shared_max: usize,
    end: Option<WatchEnd>,
    rules: Rules,
}

/// The batch did not fit.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Queue {
    /// Room for `bytes_max` bytes, as [`Batch`]es count them: keys, values and the structs.
    #[must_use]
    pub fn new(bytes_max: usize) -> Queue {
        Queue {
            batches: VecDeque::new(),
            bytes: 0,
            bytes_max,
            shared_max: bytes_max / SHARED_PART / MESSAGE_SHARED_BYTES,
            end: None,
            rules: Rules::here(),
        }
    }

    /// Adds a batch. The first one always fits: it has been received already, and
    /// a reader that keeps up must not end for it.
    ///
    /// Those that wait behind some others are copied out of the messages they came in.
    ///
    /// # Errors
    ///
    /// [`Full`]; the batch is dropped.
    pub fn push(&mut self, mut batch: Batch) -> Result<(), Full> {
        if batch.events.is_empty() {
            // A later notice says all that an earlier one said.
            self.pop_back(batch.kind);
        }
        if self.batches.len() >= self.shared_max {
            batch.detach();
        }
        let bytes = batch.bytes();
        let is_over = !self.batches.is_empty() && self.bytes + bytes > self.bytes_max;
        if is_over && self.rules.keep(Rule::Bound) {
            return Err(Full);
        }
        self.bytes += bytes;
        self.batches.push_back((batch, bytes));
        Ok(())
    }

    /// The oldest batch.
    pub fn pop(&mut self) -> Option<Batch> {
        let (batch, bytes) = self.batches.pop_front()?;
        self.bytes -= bytes;
        Some(batch)
    }

    /// Whether no batch waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Sets the end that the reader comes to behind the batches. The first one counts.
    pub fn finish(&mut self, end: WatchEnd) {
        self.end.get_or_insert(end);
    }

    /// The end, which the reader may be told once the queue is empty.
    #[must_use]
    pub fn end(&self) -> Option<&WatchEnd> {
        self.end.as_ref()
    }

    fn pop_back(&mut self, kind: BatchKind) {
        if self.batches.back().is_some_and(|(batch, _)| batch.kind == kind) {
            let popped = self.batches.pop_back();
            self.bytes -= popped.map_or(0, |(_, bytes)| bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::watch::event::Event;
    use crate::pb::mvccpb::KeyValue;
    use crate::types::Revision;
    use bytes::Bytes;

    fn batch(revision: i64, value_bytes: usize) -> Batch {
        let kv = KeyValue {
            mod_revision: revision,
            value: vec![0; value_bytes].into(),
            ..KeyValue::default()
        };
        Batch {
            kind: BatchKind::Events,
            revision: Revision(revision),
            resume_revision: Revision(revision + 1),
            events: vec![Event::Put { kv, prev_kv: None }],
        }
    }

    fn progress(revision: i64) -> Batch {
        Batch {
            kind: BatchKind::Progress,
            events: Vec::new(),
            ..batch(revision, 0)
        }
    }

    #[test]
    fn takes_what_fits_and_again_after_a_read() {
        let mut queue = Queue::new(2 * batch(1, 100).bytes());
        assert_eq!(queue.push(batch(1, 100)), Ok(()));
        assert_eq!(queue.push(batch(2, 100)), Ok(()));
        assert_eq!(queue.push(batch(3, 0)), Err(Full));
        assert_eq!(queue.pop(), Some(batch(1, 100)));
        assert_eq!(queue.push(batch(3, 100)), Ok(()));
        assert_eq!(queue.push(batch(4, 0)), Err(Full));
    }

    #[test]
    fn takes_one_batch_however_large() {
        let mut queue = Queue::new(10);
        assert_eq!(queue.push(batch(1, 100)), Ok(()));
        assert_eq!(queue.push(batch(2, 0)), Err(Full));
        assert_eq!(queue.pop(), Some(batch(1, 100)));
        assert_eq!(queue.pop(), None);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_progress_notification_replaces_the_one_before_it_and_no_event() {
        let mut queue = Queue::new(1 << 20);
        for batch in [progress(1), progress(2), batch(3, 0), progress(4), progress(5)] {
            queue.push(batch).unwrap();
        }
        let read: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(read, [progress(2), batch(3, 0), progress(5)]);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn notices_of_two_kinds_replace_only_their_own() {
        let mut queue = Queue::new(1 << 20);
        let reconnected = |revision| Batch::reconnected(Revision(revision), Revision(1));
        for batch in [
            reconnected(1),
            reconnected(2),
            progress(3),
            progress(4),
            reconnected(5),
        ] {
            queue.push(batch).unwrap();
        }
        let read: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(read, [reconnected(2), progress(4), reconnected(5)]);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn the_first_batches_share_their_message_and_the_others_are_copied_unless_they_are_large() {
        let mut queue = Queue::new(2 * SHARED_PART * MESSAGE_SHARED_BYTES);
        let message = Bytes::from(vec![7; 4 * MESSAGE_SHARED_BYTES]);
        let value_bytes = [5, 5, 5, 2 * MESSAGE_SHARED_BYTES, 5, 0];
        for bytes in value_bytes {
            let kv = KeyValue {
                key: message.slice(1..3),
                value: message.slice(..bytes),
                ..KeyValue::default()
            };
            let (kv, prev_kv) = (kv.clone(), Some(kv));
            let mut pushed = batch(1, 0);
            pushed.events = vec![Event::Delete { kv, prev_kv }];
            queue.push(pushed).unwrap();
        }
        let inside = |bytes: &Bytes| message.as_ptr_range().contains(&bytes.as_ptr());
        let mut shared = Vec::new();
        for bytes in value_bytes {
            let batch = queue.pop().unwrap();
            let event = &batch.events[0];
            let prev_kv = event.prev_kv().unwrap();
            assert_eq!(
                (&event.kv().key[..], event.kv().value.len()),
                (&[7, 7][..], bytes)
            );
            assert_eq!(prev_kv, event.kv());
            assert_eq!(inside(&event.kv().key), inside(&prev_kv.key));
            shared.push(inside(&event.kv().key));
        }
        assert_eq!(shared, [true, true, false, true, false, false]);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn the_first_end_counts() {
        let mut queue = Queue::new(1);
        let resume_revision = Revision(7);
        queue.finish(WatchEnd::Lagged { resume_revision });
        queue.finish(WatchEnd::Closed);
        assert!(matches!(queue.end(), Some(WatchEnd::Lagged { .. })));
    }
}
