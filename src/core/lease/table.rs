//! The leases and how they are found: storage that is reused, so that a renewal
//! allocates nothing.

use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::time::Duration;

use super::super::time::Instant;
use super::STREAMS_MAX;
use crate::types::LeaseId;

/// Renewals of one lease that may be out on a stream. Three a TTL are sent, and what was
/// asked longer ago proves nothing any more.
const OUT_MAX: usize = 3;

#[derive(Debug)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
    free: Vec<u32>,
    by_id: HashMap<LeaseId, u32, Seed>,
}

/// So that a server cannot choose IDs that meet, and a seed replays all the same.
#[derive(Debug)]
struct Seed(u64);

/// One that is neither kept nor awaits a reply is free.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: LeaseId,
    pub(super) kept: bool,
    /// What of a time to live does not count here; see [`Term`](super::Term).
    pub(super) reserve: Duration,
    /// When the latest request that proved the lease was sent.
    pub(super) proven: Instant,
    /// The renewals that are out on each stream.
    pub(super) out: [Out; STREAMS_MAX],
    /// Renewals out from before the lease was given up: as many replies are not
    /// for the lease that may be kept under this ID by now.
    pub(super) abandoned: [u32; STREAMS_MAX],
}

/// When the renewals that are out were sent, the oldest first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Out {
    sent: [Instant; OUT_MAX],
    count: usize,
}

/// Which request a reply answers.
pub(super) enum Reply {
    Proof { slot: u32, sent: Instant },
    Abandoned,
}

impl Table {
    pub(super) fn new(seed: u64) -> Table {
        Table {
            entries: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::with_hasher(Seed(seed)),
        }
    }

    pub(super) fn slots(&self) -> u32 {
        // Slots are handed out as u32.
        self.entries.len() as u32
    }

    pub(super) fn entry(&mut self, slot: u32) -> &mut Entry {
        &mut self.entries[slot as usize]
    }

    pub(super) fn kept(&self, id: LeaseId) -> Option<u32> {
        let slot = *self.by_id.get(&id)?;
        self.entries[slot as usize].kept.then_some(slot)
    }

    /// The slot of this lease, which is kept from now on if it was not.
    pub(super) fn keep(&mut self, id: LeaseId, reserve: Duration) -> u32 {
        if let Some(&slot) = self.by_id.get(&id) {
            let entry = &mut self.entries[slot as usize];
            (entry.kept, entry.reserve) = (true, reserve);
            return slot;
        }
        let entry = Entry {
            id,
            kept: true,
            reserve,
            proven: Instant::default(),
            out: [Out::default(); STREAMS_MAX],
            abandoned: [0; STREAMS_MAX],
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot as usize] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                self.slots() - 1
            }
        };
        self.by_id.insert(id, slot);
        slot
    }

    /// The request that a reply for this lease answers; `None` if none is out there.
    pub(super) fn take_reply(&mut self, stream: usize, id: LeaseId) -> Option<Reply> {
        let slot = *self.by_id.get(&id)?;
        let entry = &mut self.entries[slot as usize];
        if entry.abandoned[stream] > 0 {
            entry.abandoned[stream] -= 1;
            self.release_unused(slot);
            return Some(Reply::Abandoned);
        }
        let sent = entry.out[stream].pop()?;
        Some(Reply::Proof { slot, sent })
    }

    /// No longer keeps the lease; how many renewals of it are still out on each stream.
    pub(super) fn let_go(&mut self, slot: u32) -> [usize; STREAMS_MAX] {
        let entry = &mut self.entries[slot as usize];
        entry.kept = false;
        let out = std::mem::take(&mut entry.out).map(|out| out.count);
        for (abandoned, out) in entry.abandoned.iter_mut().zip(out) {
            // At most as many as one lease has out.
            *abandoned += out as u32;
        }
        self.release_unused(slot);
        out
    }

    /// Nothing that is out on this stream for this slot will be answered; whether a
    /// kept lease waited for that.
    pub(super) fn forget_renewals(&mut self, stream: usize, slot: u32) -> bool {
        let entry = &mut self.entries[slot as usize];
        let out = std::mem::take(&mut entry.out[stream]);
        if std::mem::take(&mut entry.abandoned[stream]) > 0 {
            self.release_unused(slot);
        }
        !out.is_empty()
    }

    pub(super) fn check(&self) {
        for (id, &slot) in &self.by_id {
            let entry = &self.entries[slot as usize];
            let is_used = entry.kept || entry.is_awaited();
            assert!(entry.id == *id && is_used, "{entry:?}");
        }
        assert_eq!(
            self.by_id.len() + self.free.len(),
            self.entries.len(),
            "a slot is lost"
        );
    }

    fn release_unused(&mut self, slot: u32) {
        let entry = &self.entries[slot as usize];
        if !entry.kept && !entry.is_awaited() {
            self.by_id.remove(&entry.id);
            self.free.push(slot);
        }
    }
}

impl BuildHasher for Seed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

impl Entry {
    /// When the lease was last proven, or asked for where the answer may still come.
    pub(super) fn asked(&self) -> Instant {
        let out = self.out.iter().filter_map(Out::newest).max();
        out.map_or(self.proven, |sent| self.proven.max(sent))
    }

    /// Whether replies come that are nobody's.
    fn is_awaited(&self) -> bool {
        self.abandoned.iter().any(|&abandoned| abandoned > 0)
    }
}

impl Out {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.count == OUT_MAX
    }

    fn oldest(&self) -> Option<Instant> {
        self.sent[..self.count].first().copied()
    }

    fn newest(&self) -> Option<Instant> {
        self.sent[..self.count].last().copied()
    }

    /// There must be room.
    pub(super) fn push(&mut self, sent: Instant) {
        self.sent[self.count] = sent;
        self.count += 1;
    }

    fn pop(&mut self) -> Option<Instant> {
        let oldest = self.oldest()?;
        self.sent.rotate_left(1);
        self.count -= 1;
        Some(oldest)
    }
}
