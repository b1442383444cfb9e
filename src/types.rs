//! The numbers that etcd hands out, each a type of its own, so that a lease is
//! never passed where a revision is meant; and the range of keys a call works on.

use std::fmt;

use bytes::Bytes;

/// A revision of etcd's key space: a 64-bit counter that rises by one with every
/// transaction that changes a key. The first change has revision 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

impl Revision {
    /// No revision: "now" for a read or a watch, "absent" for a compared key.
    pub const ZERO: Revision = Revision(0);

    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Revision {
        Revision(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a lease, chosen by the server or by the client that asked for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// No lease: a key put with it stays until it is deleted.
    pub const NONE: LeaseId = LeaseId(0);
}

/// In lower-case hexadecimal, as etcdctl prints it and as lock keys carry it.
impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// The number of a member of the cluster, which etcd makes of its peer URLs and the time it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// In lower-case hexadecimal, as etcdctl prints it.
impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// The number of a watch on its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub i64);

/// A set of keys that are neighbours in byte order: one key, all keys with a
/// prefix, a half-open range, all keys from one on, or every key.
///
/// The encoding is etcd's: `range_end` is empty for a single key and one zero
/// byte for "to the end" (etcd API reference, `RangeRequest`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// The key, or the first key of the range.
    pub key: Bytes,
    /// The key behind the last one; see the type.
    pub range_end: Bytes,
}

const TO_THE_END: &[u8] = &[0];

impl KeyRange {
    /// One key.
    pub fn key(key: impl Into<Bytes>) -> KeyRange {
        KeyRange {
            key: key.into(),
            range_end: Bytes::new(),
        }
    }

    /// Every key that begins with `prefix`. An empty prefix is every key.
    pub fn prefix(prefix: impl Into<Bytes>) -> KeyRange {
        let key = prefix.into();
        if key.is_empty() {
            return KeyRange::all();
        }
        let range_end = prefix_end(&key);
        KeyRange { key, range_end }
    }

    /// The keys from `key` on, up to but not including `end`.
    pub fn range(key: impl Into<Bytes>, end: impl Into<Bytes>) -> KeyRange {
        KeyRange {
            key: key.into(),
            range_end: end.into(),
        }
    }

    /// The keys from `key` to the end of the key space.
    pub fn from_key(key: impl Into<Bytes>) -> KeyRange {
        KeyRange {
            key: key.into(),
            range_end: Bytes::from_static(TO_THE_END),
        }
    }

    /// Every key. etcd takes no empty key, so the first one is a zero byte.
    #[must_use]
    pub fn all() -> KeyRange {
        KeyRange::from_key(Bytes::from_static(TO_THE_END))
    }
}

/// One key, without a copy: what lends its bytes for ever, or gives them away.
macro_rules! one_key_from {
    ($($key:ty),*) => {
        $(impl From<$key> for KeyRange {
            fn from(key: $key) -> KeyRange {
                KeyRange::key(key)
            }
        })*
    };
}

one_key_from!(Bytes, Vec<u8>, String, &'static str, &'static [u8]);

/// The least key that is greater than every key with this prefix: the prefix
/// with its last byte that is not 0xff raised by one, and what follows cut off.
fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|&byte| byte != 0xff) {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            Bytes::from(end)
        }
        None => Bytes::from_static(TO_THE_END),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(KeyRange::prefix("a/").range_end, "a0");
        assert_eq!(KeyRange::prefix(&b"a\xff"[..]).range_end, "b");
        assert_eq!(KeyRange::prefix(&b"\xff\xff"[..]).range_end, &b"\0"[..]);
        assert_eq!(KeyRange::prefix(""), KeyRange::all());
    }

    #[test]
    fn a_lease_reads_as_lower_case_hex() {
        assert_eq!(LeaseId(0x694d_00af).to_string(), "694d00af");
        assert_eq!(LeaseId(-1).to_string(), "ffffffffffffffff");
    }
}
