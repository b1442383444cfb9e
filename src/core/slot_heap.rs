//! A priority queue over the slots of a table: the least key first, and any
//! slot's key changed or taken out in O(log n). It owns positions, not entries.
//!
//! `BinaryHeap` cannot take an element out of its middle, so that timers which
//! move at every renewal would pile up in it; a `BTreeSet` allocates and frees
//! nodes as they move. This one allocates only to grow.

const ABSENT: u32 = u32::MAX;

/// Four lie side by side in memory, and make half as many levels as two: with 100,000 slots
/// it is the misses of the cache that cost.
const CHILDREN: usize = 4;

/// Each slot is in the queue at most once, with the key it was last given.
#[derive(Clone, Debug)]
pub(crate) struct SlotHeap<K> {
    /// A heap of [`CHILDREN`] each: no key is less than that of its parent.
    heap: Vec<(K, u32)>,
    /// Where in `heap` a slot stands.
    position: Vec<u32>,
}

impl<K: Copy + Ord> SlotHeap<K> {
    pub(crate) fn new() -> SlotHeap<K> {
        SlotHeap {
            heap: Vec::new(),
            position: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// The slot with the least key.
    pub(crate) fn first(&self) -> Option<(K, u32)> {
        self.heap.first().copied()
    }

    pub(crate) fn key(&self, slot: u32) -> Option<K> {
        self.find(slot).map(|at| self.heap[at].0)
    }

    /// Puts the slot in, or gives it another key.
    pub(crate) fn set(&mut self, slot: u32, key: K) {
        let at = match self.find(slot) {
            Some(at) => at,
            None => self.append(slot, key),
        };
        self.heap[at].0 = key;
        let at = self.rise(at);
        self.sink(at);
    }

    /// Takes the slot out; the key it had, if it was in.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<K> {
        let at = self.find(slot)?;
        let (key, _) = self.heap.swap_remove(at);
        self.position[slot as usize] = ABSENT;
        if at < self.heap.len() {
            self.note(at);
            let at = self.rise(at);
            self.sink(at);
        }
        Some(key)
    }

    pub(crate) fn check(&self) {
        for (at, &(key, slot)) in self.heap.iter().enumerate() {
            assert_eq!(self.find(slot), Some(at), "slot {slot} is not where it is noted");
            assert!(
                at == 0 || self.heap[(at - 1) / CHILDREN].0 <= key,
                "a child precedes its parent"
            );
        }
        let noted = self.position.iter().filter(|&&at| at != ABSENT).count();
        assert_eq!(noted, self.heap.len(), "a position is noted for an absent slot");
    }

    fn find(&self, slot: u32) -> Option<usize> {
        match self.position.get(slot as usize) {
            Some(&at) if at != ABSENT => Some(at as usize),
            _ => None,
        }
    }

    fn append(&mut self, slot: u32, key: K) -> usize {
        let slots = slot as usize + 1;
        if self.position.len() < slots {
            self.position.resize(slots, ABSENT);
        }
        self.heap.push((key, slot));
        let at = self.heap.len() - 1;
        self.note(at);
        at
    }

    fn note(&mut self, at: usize) {
        let slot = self.heap[at].1;
        // Slots are numbered by u32, and each is in at most once.
        self.position[slot as usize] = at as u32;
    }

    fn rise(&mut self, mut at: usize) -> usize {
        while at > 0 {
            let parent = (at - 1) / CHILDREN;
            if self.heap[parent].0 <= self.heap[at].0 {
                break;
            }
            self.swap(at, parent);
            at = parent;
        }
        at
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let first = CHILDREN * at + 1;
            let children = first..(first + CHILDREN).min(self.heap.len());
            let Some(child) = children.min_by_key(|&child| self.heap[child].0) else {
                return;
            };
            if self.heap[at].0 <= self.heap[child].0 {
                return;
            }
            self.swap(at, child);
            at = child;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.note(a);
        self.note(b);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::jitter::Jitter;
    use super::*;

    #[test]
    fn agrees_with_a_sorted_map_under_random_changes() {
        let mut jitter = Jitter::new(11);
        let mut heap = SlotHeap::new();
        let mut model: BTreeMap<u32, u64> = BTreeMap::new();
        for _ in 0..20_000 {
            let slot = (jitter.next_u64() % 64) as u32;
            if jitter.next_u64() % 3 == 0 {
                assert_eq!(heap.remove(slot), model.remove(&slot));
            } else {
                let key = jitter.next_u64() % 100;
                heap.set(slot, key);
                model.insert(slot, key);
            }
            assert_eq!(heap.first().map(|first| first.0), model.values().min().copied());
            assert_eq!(heap.key(slot), model.get(&slot).copied());
            assert_eq!(heap.len(), model.len());
            heap.check();
        }
    }

    #[test]
    fn comes_out_in_order() {
        let mut heap = SlotHeap::new();
        for (slot, key) in [5, 3, 9, 1, 7].into_iter().enumerate() {
            heap.set(slot as u32, key);
        }
        let mut keys = Vec::new();
        while let Some((key, slot)) = heap.first() {
            heap.remove(slot);
            keys.push(key);
        }
        assert_eq!(keys, [1, 3, 5, 7, 9]);
        assert!(heap.is_empty());
    }
}
