//! A namespace: a part of the key space that looks like the whole. It owns the one mapping
//! of keys and ranges, out of which requests, answers and events are mapped; it does no IO.
//!
//! ```text
//!   inside:   ""   a       b       "to the end"
//!             |    |       |       |
//!   etcd:     p    pa      pb      the end of the prefix p
//! ```
//!
//! A prefix keeps the order of keys, so a range stays a range; only "to the end" is another
//! end, that of the prefix. The key `p` alone is in no range, as etcd has no empty key. An
//! empty key is sent as it is, and the server refuses it as it does anywhere.

mod messages;

use std::fmt;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use crate::types::KeyRange;

pub use messages::{Answer, Request};

/// `range_end` of a range that goes to the end of the key space.
const TO_THE_END: &[u8] = &[0];

/// What all keys of a view begin with; never empty. A cheap clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Namespace(Arc<KeyRange>);

/// A key came back that lies outside of the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outside;

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key outside of the namespace")
    }
}

impl std::error::Error for Outside {}

impl Namespace {
    /// The namespace of this prefix; none of an empty one, which is the whole key space.
    #[must_use]
    pub fn new(prefix: Bytes) -> Option<Namespace> {
        (!prefix.is_empty()).then(|| Namespace(Arc::new(KeyRange::prefix(prefix))))
    }

    /// What its keys begin with.
    #[must_use]
    pub fn prefix(&self) -> &Bytes {
        &self.0.key
    }

    /// The key in etcd of a key in here.
    pub fn enter_key(&self, key: &mut Bytes) {
        if !key.is_empty() {
            self.enter_name(key);
        }
    }

    /// The same for what keys are made from behind it, so that it may be empty.
    pub fn enter_name(&self, name: &mut Bytes) {
        let mut entered = BytesMut::with_capacity(self.prefix().len() + name.len());
        entered.extend_from_slice(self.prefix());
        entered.extend_from_slice(name);
        *name = entered.freeze();
    }

    /// The range in etcd of a range in here.
    pub fn enter_range(&self, key: &mut Bytes, range_end: &mut Bytes) {
        self.enter_key(key);
        match &range_end[..] {
            // One key.
            [] => {}
            TO_THE_END => range_end.clone_from(&self.0.range_end),
            _ => self.enter_name(range_end),
        }
    }

    /// The key in here of a key in etcd, which shares its buffer.
    ///
    /// # Errors
    ///
    /// It lies outside; then it is left as it was.
    pub fn leave_key(&self, key: &mut Bytes) -> Result<(), Outside> {
        if !key.starts_with(self.prefix()) {
            return Err(Outside);
        }
        key.advance(self.prefix().len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::jitter::Jitter;

    const END: &[u8] = &[0];

    fn namespace(prefix: &'static [u8]) -> Namespace {
        Namespace::new(Bytes::from_static(prefix)).expect("it is not empty")
    }

    fn entered(namespace: &Namespace, keys: &KeyRange) -> KeyRange {
        let mut keys = keys.clone();
        namespace.enter_range(&mut keys.key, &mut keys.range_end);
        keys
    }

    #[test]
    fn ranges_become_ranges_of_the_prefix() {
        type Row = (&'static [u8], KeyRange, &'static [u8], &'static [u8]);
        let table: [Row; 11] = [
            (b"p/", KeyRange::key("k"), b"p/k", b""),
            (b"p/", KeyRange::all(), b"p/\0", b"p0"),
            (b"p/", KeyRange::from_key("k"), b"p/k", b"p0"),
            (b"p/", KeyRange::prefix("k"), b"p/k", b"p/l"),
            (b"p/", KeyRange::prefix(&b"\xff"[..]), b"p/\xff", b"p0"),
            (b"p/", KeyRange::range("a", "c"), b"p/a", b"p/c"),
            (b"p/", KeyRange::range("c", "a"), b"p/c", b"p/a"),
            // An end of two zero bytes is no "to the end".
            (b"p/", KeyRange::range("a", &b"\0\0"[..]), b"p/a", b"p/\0\0"),
            (b"p\xff", KeyRange::all(), b"p\xff\0", b"q"),
            (b"\xff\xff", KeyRange::all(), b"\xff\xff\0", END),
            // What etcd refuses stays what it refuses.
            (b"p/", KeyRange::key(""), b"", b""),
        ];
        for (prefix, keys, key, range_end) in table {
            let found = entered(&namespace(prefix), &keys);
            assert_eq!(
                (&found.key[..], &found.range_end[..]),
                (key, range_end),
                "{keys:?}"
            );
        }
    }

    #[test]
    fn an_empty_prefix_is_no_namespace() {
        assert_eq!(Namespace::new(Bytes::new()), None);
    }

    #[test]
    fn a_key_from_outside_is_told_and_left_alone() {
        for stranger in ["", "p", "q/k", "P/k"] {
            let mut key = Bytes::from_static(stranger.as_bytes());
            assert_eq!(namespace(b"p/").leave_key(&mut key), Err(Outside));
            assert_eq!(key, stranger);
        }
    }

    /// As etcd understands a range.
    fn contains(keys: &KeyRange, key: &[u8]) -> bool {
        match &keys.range_end[..] {
            [] => key == keys.key,
            END => key >= &keys.key[..],
            end => key >= &keys.key[..] && key < end,
        }
    }

    /// Few bytes, so that keys, ends and prefixes meet often: the least, two neighbours, the greatest.
    fn bytes(random: &mut Jitter, len: std::ops::RangeInclusive<u64>) -> Bytes {
        let len = len.start() + random.next_u64() % (len.end() - len.start() + 1);
        (0..len).map(|_| [0, b'a', b'b', 0xff][random.next_u64() as usize % 4]).collect()
    }

    /// For any prefix, range and key of etcd: it lies in the mapped range if and only if it is
    /// the prefix and a key behind it that lies in the range.
    #[test]
    fn a_mapped_range_has_exactly_the_keys_of_the_range() {
        let mut random = Jitter::new(9);
        let mut found = [0; 2];
        for _ in 0..200_000 {
            let Some(namespace) = Namespace::new(bytes(&mut random, 1..=3)) else {
                continue;
            };
            let keys = KeyRange::range(bytes(&mut random, 1..=3), bytes(&mut random, 0..=3));
            let outer = entered(&namespace, &keys);
            let stored = bytes(&mut random, 1..=5);
            let mut key = stored.clone();
            let is_ours = namespace.leave_key(&mut key).is_ok() && !key.is_empty();
            let expected = is_ours && contains(&keys, &key);
            assert_eq!(
                contains(&outer, &stored),
                expected,
                "{namespace:?} {keys:?} {outer:?} {stored:?}"
            );
            found[usize::from(expected)] += 1;
        }
        assert!(found.iter().all(|&times| times > 1_000), "{found:?}");
    }

    #[test]
    fn what_enters_comes_back_as_it_was() {
        let mut random = Jitter::new(10);
        for _ in 0..10_000 {
            let Some(namespace) = Namespace::new(bytes(&mut random, 1..=3)) else {
                continue;
            };
            let key = bytes(&mut random, 1..=4);
            let mut moved = key.clone();
            namespace.enter_key(&mut moved);
            assert_eq!(namespace.leave_key(&mut moved), Ok(()));
            assert_eq!(moved, key);
        }
    }
}
