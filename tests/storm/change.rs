//! A change of a key as it is kept and compared: a large value by its digest, so that
//! the record of a storm stays small.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use tenure::Event;
use tenure::pb::mvccpb::KeyValue;

/// A longer value is kept by its length and a hash.
const VALUE_BYTES_KEPT: usize = 64;

/// One change of one key at one revision.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Change {
    pub(crate) is_put: bool,
    pub(crate) kv: Version,
    pub(crate) prev: Option<Version>,
}

/// A key as a change left it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) created: i64,
    pub(crate) modified: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

impl Change {
    pub(crate) fn of(event: &Event) -> Change {
        Change {
            is_put: matches!(event, Event::Put { .. }),
            kv: Version::of(event.kv()),
            prev: event.prev_kv().map(Version::of),
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.kv.modified
    }

    pub(crate) fn key(&self) -> &str {
        &self.kv.key
    }

    /// Whether both are of the same key and revision: there is one such change.
    pub(crate) fn is_same(&self, other: &Change) -> bool {
        (self.revision(), self.key()) == (other.revision(), other.key())
    }

    pub(crate) fn without_prev(&self) -> Change {
        let (is_put, kv) = (self.is_put, self.kv.clone());
        Change {
            is_put,
            kv,
            prev: None,
        }
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_put { "put" } else { "delete" };
        write!(f, "{kind} {:?}", self.kv)?;
        match &self.prev {
            Some(prev) => write!(f, " after {prev:?}"),
            None => Ok(()),
        }
    }
}

impl Version {
    pub(crate) fn of(kv: &KeyValue) -> Version {
        Version {
            key: String::from_utf8_lossy(&kv.key).into_owned(),
            value: kept(&kv.value),
            created: kv.create_revision,
            modified: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version {
            key, value, modified, ..
        } = self;
        write!(f, "{key}={value}@{modified}({}, {})", self.created, self.version)
    }
}

/// A value as it is kept.
pub(crate) fn kept(value: &[u8]) -> String {
    if value.len() <= VALUE_BYTES_KEPT {
        return String::from_utf8_lossy(value).into_owned();
    }
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    format!("{} bytes {:016x}", value.len(), hasher.finish())
}
