//! The source's keys held against the copied ones, both in order and piece by piece: neither side is
//! ever in memory as a whole.

use std::cmp::Ordering;
use std::collections::VecDeque;

use bytes::Bytes;

use super::Change;
use crate::pb::mvccpb::KeyValue;

/// See the head of this file.
#[derive(Debug)]
pub struct Comparison {
    source: Side,
    copy: Side,
    /// Whether what only the copy has goes.
    removes: bool,
}

/// What a comparison lacks to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The next keys of the source, for [`Comparison::handle_source`].
    Source,
    /// The next copied keys, for [`Comparison::handle_copy`].
    Copy,
    /// Nothing: both have been read to their ends.
    Nothing,
}

#[derive(Debug, Default)]
struct Side {
    kvs: VecDeque<KeyValue>,
    is_over: bool,
}

impl Comparison {
    /// Begins at the first key. With `removes`, what the source does not have is deleted.
    #[must_use]
    pub fn new(removes: bool) -> Comparison {
        Comparison {
            source: Side::default(),
            copy: Side::default(),
            removes,
        }
    }

    /// What lacks for the next [`Comparison::poll_change`]s.
    #[must_use]
    pub fn need(&self) -> Need {
        match (self.source.is_dry(), self.copy.is_dry()) {
            (true, _) => Need::Source,
            (_, true) => Need::Copy,
            _ => Need::Nothing,
        }
    }

    /// The next keys of the source, in order; `None` where there are no more.
    pub fn handle_source(&mut self, kvs: Option<Vec<KeyValue>>) {
        self.source.handle(kvs);
    }

    /// The next copied keys, in order; `None` where there are no more.
    pub fn handle_copy(&mut self, kvs: Option<Vec<KeyValue>>) {
        self.copy.handle(kvs);
    }

    /// The next change. `None` where something [lacks](Comparison::need), or there is none any more.
    pub fn poll_change(&mut self) -> Option<Change> {
        while !self.source.is_dry() && !self.copy.is_dry() {
            let (source, copy) = (self.source.kvs.front(), self.copy.kvs.front());
            let order = match (source, copy) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(source), Some(copy)) => source.key.cmp(&copy.key),
            };
            let source = order.is_le().then(|| self.source.kvs.pop_front()).flatten();
            let copy = order.is_ge().then(|| self.copy.kvs.pop_front()).flatten();
            if let Some(change) = self.change(source, copy) {
                return Some(change);
            }
        }
        None
    }

    /// What becomes of one key.
    fn change(&self, source: Option<KeyValue>, copy: Option<KeyValue>) -> Option<Change> {
        let put = |key: Bytes, value: Bytes| Change {
            key,
            value: Some(value),
        };
        match (source, copy) {
            // With a lease it would go some day.
            (Some(source), Some(copy)) if source.value == copy.value && copy.lease == 0 => None,
            (Some(source), _) => Some(put(source.key, source.value)),
            (None, copy) => copy.filter(|_| self.removes).map(|copy| Change {
                key: copy.key,
                value: None,
            }),
        }
    }
}

impl Side {
    fn handle(&mut self, kvs: Option<Vec<KeyValue>>) {
        match kvs {
            Some(kvs) => self.kvs.extend(kvs),
            None => self.is_over = true,
        }
    }

    fn is_dry(&self) -> bool {
        self.kvs.is_empty() && !self.is_over
    }
}
