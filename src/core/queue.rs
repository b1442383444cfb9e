//! Which item of a queue is the next one to take, and how their keys are written. It looks at views of
//! the queue's keys and sends nothing.
//!
//! ```text
//!   <prefix>item/<priority, 4 hex digits>/<id>     no lease: it stays until it is done
//!   <prefix>claim/<priority>/<id>                  on the lease of who works on it
//! ```

use bytes::Bytes;

use super::view::View;
use crate::types::{KeyRange, Revision};

const ITEM: &str = "item/";
const CLAIM: &str = "claim/";
const PRIORITY_DIGITS: usize = 4;

/// Where the keys of a queue lie.
#[derive(Clone, Debug)]
pub struct Place {
    prefix: String,
}

/// An item that nobody works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its key.
    pub key: Bytes,
    /// The key of its claim.
    pub claim: Bytes,
    /// When it was put: with its key, which one it is.
    pub created: Revision,
    /// Its priority.
    pub priority: u16,
}

impl Place {
    /// Below this prefix, which ends with a `/`.
    #[must_use]
    pub fn new(prefix: String) -> Place {
        Place { prefix }
    }

    /// The items and the claims.
    #[must_use]
    pub fn keys(&self) -> KeyRange {
        let end = format!("{}item0", self.prefix);
        KeyRange::range(format!("{}{CLAIM}", self.prefix), end)
    }

    /// All items.
    #[must_use]
    pub fn items(&self) -> KeyRange {
        KeyRange::prefix(format!("{}{ITEM}", self.prefix))
    }

    /// The key of an item.
    #[must_use]
    pub fn item(&self, priority: u16, id: &str) -> Bytes {
        format!("{}{ITEM}{priority:0PRIORITY_DIGITS$x}/{id}", self.prefix).into()
    }

    /// The first item without a claim: of the least priority the oldest. Keys that are none of ours are
    /// passed over.
    #[must_use]
    pub fn first_free(&self, view: &View) -> Option<Item> {
        let items = format!("{}{ITEM}", self.prefix);
        let mut first: Option<Item> = None;
        for (key, created) in view.below(items.as_bytes()) {
            let Some((priority, claim)) = self.parts(key) else {
                continue;
            };
            match &first {
                Some(item) if item.priority != priority => break,
                Some(item) if item.created <= created => continue,
                _ => {}
            }
            if view.created(&claim).is_none() {
                first = Some(Item {
                    key: key.clone(),
                    claim,
                    created,
                    priority,
                });
            }
        }
        first
    }

    /// The priority of an item and the key of its claim.
    fn parts(&self, item: &[u8]) -> Option<(u16, Bytes)> {
        let entry = item.strip_prefix(self.prefix.as_bytes())?.strip_prefix(ITEM.as_bytes())?;
        let digits = entry.get(..PRIORITY_DIGITS).filter(|_| entry.get(PRIORITY_DIGITS) == Some(&b'/'))?;
        let priority = u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        Some((
            priority,
            [self.prefix.as_bytes(), CLAIM.as_bytes(), entry].concat().into(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::mvccpb::KeyValue;

    fn first(keys: &[(&'static str, i64)]) -> Option<(i64, u16)> {
        let kv = |&(key, created): &(&'static str, i64)| KeyValue {
            key: key.into(),
            create_revision: created,
            ..KeyValue::default()
        };
        let kvs: Vec<_> = keys.iter().map(kv).collect();
        let item = Place::new("q/".to_owned()).first_free(&View::new(Revision(99), &kvs))?;
        Some((item.created.0, item.priority))
    }

    #[test]
    fn takes_the_oldest_of_the_least_priority_that_is_free() {
        let items = [("q/item/0007/a", 9), ("q/item/0007/b", 5), ("q/item/8000/c", 3)];
        assert_eq!(first(&items), Some((5, 7)));
        let claimed = [&items[..], &[("q/claim/0007/b", 10)]].concat();
        assert_eq!(first(&claimed), Some((9, 7)));
        let claimed = [&claimed[..], &[("q/claim/0007/a", 11)]].concat();
        assert_eq!(first(&claimed), Some((3, 0x8000)));
        assert_eq!(first(&[&claimed[..], &[("q/claim/8000/c", 12)]].concat()), None);
    }

    #[test]
    fn strange_keys_are_passed_over() {
        let strange = [
            ("q/item/", 1),
            ("q/item/7/a", 2),
            ("q/item/00x7/a", 3),
            ("q/item/00070/a", 4),
        ];
        assert_eq!(first(&strange), None);
        assert_eq!(
            first(&[&strange[..], &[("q/item/0008/", 5)]].concat()),
            Some((5, 8))
        );
    }

    #[test]
    fn keys_order_as_priorities_do() {
        let place = Place::new("q/".to_owned());
        assert_eq!(place.item(7, "a"), "q/item/0007/a");
        assert!(place.item(9, "z") < place.item(10, "a") && place.item(0xff, "z") < place.item(0x100, "a"));
        let keys = place.keys();
        assert!(keys.key <= "q/claim/ffff/z" && place.item(u16::MAX, "z") < keys.range_end);
    }
}
