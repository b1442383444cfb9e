//! What waits for the reader of one watch: batches up to a number of bytes, and
//! then the end. A batch that does not fit is refused; nobody ever waits for room.

use std::collections::VecDeque;

use super::end::WatchEnd;
use super::event::Batch;

/// What waits for one reader; see the module.
#[derive(Debug)]
pub struct Queue {
    /// Each with its size.
    batches: VecDeque<(Batch, usize)>,
    bytes: usize,
    bytes_max: usize,
    end: Option<WatchEnd>,
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
            end: None,
        }
    }

    /// Adds a batch. The first one always fits: it has been received already, and
    /// a reader that keeps up must not end for it.
    ///
    /// # Errors
    ///
    /// [`Full`]; the batch is dropped.
    pub fn push(&mut self, batch: Batch) -> Result<(), Full> {
        if batch.is_progress() {
            // A later notification says all that an earlier one said.
            self.pop_back_progress();
        }
        let bytes = batch.bytes();
        if !self.batches.is_empty() && self.bytes + bytes > self.bytes_max {
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

    /// Sets the end that the reader comes to behind the batches. The first one counts.
    pub fn finish(&mut self, end: WatchEnd) {
        self.end.get_or_insert(end);
    }

    /// The end, which the reader may be told once the queue is empty.
    #[must_use]
    pub fn end(&self) -> Option<&WatchEnd> {
        self.end.as_ref()
    }

    fn pop_back_progress(&mut self) {
        if let Some((batch, bytes)) = self.batches.pop_back() {
            if batch.is_progress() {
                self.bytes -= bytes;
            } else {
                self.batches.push_back((batch, bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::watch::event::Event;
    use crate::pb::mvccpb::KeyValue;
    use crate::types::Revision;

    fn batch(revision: i64, value_bytes: usize) -> Batch {
        let kv = KeyValue {
            mod_revision: revision,
            value: vec![0; value_bytes].into(),
            ..KeyValue::default()
        };
        Batch {
            revision: Revision(revision),
            resume_revision: Revision(revision + 1),
            events: vec![Event::Put { kv, prev_kv: None }],
        }
    }

    fn progress(revision: i64) -> Batch {
        Batch {
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
    fn the_first_end_counts() {
        let mut queue = Queue::new(1);
        let resume_revision = Revision(7);
        queue.finish(WatchEnd::Lagged { resume_revision });
        queue.finish(WatchEnd::Closed);
        assert!(matches!(queue.end(), Some(WatchEnd::Lagged { .. })));
    }
}
