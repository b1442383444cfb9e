//! What an episode does, step by step: unary requests, and streams of watches
//! with what goes over them. The steps follow from a seed and the revisions answered.

use bytes::Bytes;
use tenure::core::jitter::Jitter;
use tenure::pb::etcdserverpb::watch_request::RequestUnion;
use tenure::pb::etcdserverpb::{WatchCancelRequest, WatchCreateRequest, WatchProgressRequest};

use crate::requests::{KEYS, Request, Requests};

/// How many streams of watches there are at a time.
pub(crate) const STREAMS: usize = 3;
/// Ids that watches ask for. Servers choose theirs from 0 on, and meet them.
pub(crate) const IDS_CHOSEN: [i64; 8] = [1, 2, 3, 5, -1, -7, i64::MAX, i64::MIN];
/// Ids that servers have chosen, or not yet.
const IDS_GUESSED: u64 = 16;
/// How many steps there are from one time that everything is compared to the next.
const STEPS_PER_SETTLE: u64 = 50;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Unary(Request),
    /// On a stream; nothing stands for a request that asks for nothing.
    Watch(usize, Option<RequestUnion>),
    /// Ends the requests of a stream.
    HalfClose(usize),
    /// Resets a stream and opens a new one, which asks at once for progress or not.
    Reopen(usize, bool),
    /// Waits until all is delivered, and compares it.
    Settle,
}

impl Step {
    pub(crate) fn is_request(&self) -> bool {
        matches!(self, Step::Unary(_) | Step::Watch(..))
    }
}

pub(crate) struct Steps {
    chance: Jitter,
    requests: Requests,
    compacts: bool,
}

impl Steps {
    /// `unsorted`: whether an unknown sort order may be sent.
    pub(crate) fn new(seed: u64, unsorted: bool) -> Steps {
        let mut chance = Jitter::new(seed);
        // Without compactions a watch from the start on takes a server more than one turn.
        let compacts = seed % 4 > 0;
        Steps {
            compacts,
            requests: Requests::new(chance.next_u64(), unsorted, compacts),
            chance,
        }
    }

    pub(crate) fn next(&mut self) -> Step {
        // What waits there would expire if anything came in between.
        if self.requests.is_waiting() {
            return Step::Unary(self.requests.next());
        }
        if self.one_in(STEPS_PER_SETTLE) {
            return Step::Settle;
        }
        if !self.compacts && self.one_in(2) {
            return Step::Unary(self.requests.write());
        }
        let stream = usize::try_from(self.below(STREAMS as u64)).unwrap_or_default();
        match self.below(1000) {
            0..50 => Step::Watch(stream, Some(RequestUnion::CreateRequest(self.create()))),
            50..80 => {
                let watch_id = self.watch_id();
                let cancel = WatchCancelRequest { watch_id };
                Step::Watch(stream, Some(RequestUnion::CancelRequest(cancel)))
            }
            80..100 => Step::Watch(
                stream,
                Some(RequestUnion::ProgressRequest(WatchProgressRequest {})),
            ),
            100..102 => Step::Watch(stream, None),
            102..104 => Step::HalfClose(stream),
            104..109 => Step::Reopen(stream, self.one_in(2)),
            _ => Step::Unary(self.requests.next()),
        }
    }

    /// The revision of a good answer.
    pub(crate) fn handle_answer(&mut self, revision: Option<i64>) {
        self.requests.handle_answer(revision);
    }

    fn create(&mut self) -> WatchCreateRequest {
        let key = self.requests.key();
        let revision = self.requests.revision();
        let watch_id = if self.one_in(4) { self.pick(&IDS_CHOSEN) } else { 0 };
        let start_revision = match self.below(20) {
            0..9 => 0,
            // The events of an id of -1 may come before its creation is answered.
            _ if watch_id == -1 => revision + 1,
            _ if !self.compacts && self.one_in(2) => 1,
            9..11 => revision,
            11 => revision + 1,
            12 => revision + 2 + i64::try_from(self.below(20)).unwrap_or_default(),
            13 => self.pick(&[1, 2, -1, i64::MIN, i64::MAX]),
            14 => 1,
            _ => self.requests.past_or_wrong_revision(),
        };
        // Only a wide watch of many revisions takes more than one turn.
        let is_wide = start_revision == 1 && !self.compacts;
        WatchCreateRequest {
            key: if is_wide || self.one_in(20) {
                Bytes::new()
            } else {
                key
            },
            range_end: if is_wide {
                Bytes::from_static(&[0])
            } else {
                self.range_end()
            },
            start_revision,
            progress_notify: self.one_in(4),
            filters: self
                .pick::<&[i32]>(&[&[], &[], &[], &[0], &[1], &[0, 1], &[7, 1], &[-1], &[0, 0]])
                .to_vec(),
            prev_kv: self.one_in(2),
            watch_id,
            fragment: self.one_in(3),
        }
    }

    fn range_end(&mut self) -> Bytes {
        match self.below(6) {
            0..2 => Bytes::new(),
            2..4 => Bytes::from_static(&[0]),
            _ => self.pick(&KEYS).into(),
        }
    }

    fn watch_id(&mut self) -> i64 {
        match self.one_in(3) {
            true => self.pick(&IDS_CHOSEN),
            false => i64::try_from(self.below(IDS_GUESSED)).unwrap_or_default(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.chance.next_u64() % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let index = self.below(of.len() as u64);
        of[usize::try_from(index).unwrap_or_default()]
    }
}
