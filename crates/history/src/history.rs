//! The history of one lock: the events of its keys, folded into who owned it when.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use crate::kind::attempt;
use crate::{Kind, Violation};

/// One change of one key, as a watch from revision 1 tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Vec<u8>,
    /// The revision of the change: the key's mod_revision, for a deletion as well.
    pub revision: i64,
    /// What happened to it.
    pub change: Change,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was put.
    Put {
        /// Its create_revision: the event's own revision if it was not there before.
        created: i64,
    },
    /// It was deleted, or its lease ended.
    Delete,
}

/// One key in the queue, from its creation to its deletion. A key that is created
/// again is another entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// Its create_revision.
    pub created: i64,
    /// What it asks for.
    pub kind: Kind,
    /// The revision that deleted it; `None` if it is still there.
    pub deleted: Option<i64>,
    /// The revisions at which it owned the lock: from when those that are older left room for
    /// it, which one that is alone has as the oldest; the end is the
    /// deletion, or `i64::MAX`. `None` if it went before its turn came.
    pub owned: Option<Range<i64>>,
}

/// Who owned one lock at each revision: of the keys under `<name>/` that with the
/// least create_revision, and who has room beside it.
#[derive(Clone, Debug)]
pub struct History {
    /// In the order of creation.
    entries: Vec<Entry>,
    /// Those that ever owned, in that order.
    owners: Vec<usize>,
}

impl History {
    /// Folds the events of the lock `name`, all of them and in order.
    ///
    /// Keys that are not of this lock are ignored: names nest, so what stands below
    /// `<name>/` with another `/` in it belongs to the lock of a longer name.
    ///
    /// # Errors
    ///
    /// The events are no history: they are out of order, one is missing, or two keys
    /// of this lock have the same create_revision and are not one writer's.
    pub fn fold(name: &str, events: &[Event]) -> Result<History, Violation> {
        let prefix = format!("{name}/");
        let mut fold = Fold {
            prefix: prefix.len(),
            ..Fold::default()
        };
        let of_name = events.iter().filter(|event| is_entry(prefix.as_bytes(), &event.key));
        let of_name: Vec<&Event> = of_name.collect();
        // What one transaction does happens at once.
        for revision in of_name.chunk_by(|one, next| one.revision == next.revision) {
            for event in revision {
                fold.apply(event)?;
            }
            fold.settle(revision[0].revision)?;
        }
        Ok(History {
            entries: fold.entries,
            owners: fold.owners,
        })
    }

    /// Every entry of the queue, in the order of creation.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries that ever owned the lock, in the order in which they did.
    pub fn owners(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.owners.iter().map(|index| &self.entries[*index])
    }

    /// Who owned the lock at this revision; of several, who came to it last.
    #[must_use]
    pub fn owner_at(&self, revision: i64) -> Option<&Entry> {
        let began = |index: &usize| self.entries[*index].owned.as_ref().is_some_and(|o| o.start <= revision);
        let behind = self.owners.partition_point(began);
        let last = &self.entries[self.owners[behind.checked_sub(1)?]];
        last.owned.as_ref().is_some_and(|owned| owned.contains(&revision)).then_some(last)
    }

    /// The entry of this key that was created at this revision.
    #[must_use]
    pub fn entry(&self, key: &[u8], created: i64) -> Option<&Entry> {
        let first = self.entries.partition_point(|entry| entry.created < created);
        let same = self.entries[first..].iter().take_while(|entry| entry.created == created);
        same.into_iter().find(|entry| entry.key == key)
    }

    /// How many owners had waited for the one before them: the hand-offs.
    #[must_use]
    pub fn handoffs(&self) -> usize {
        let waited = |entry: &&Entry| entry.owned.as_ref().is_some_and(|owned| owned.start > entry.created);
        self.owners().filter(waited).count()
    }
}

/// Nothing is left once everybody has gone: no key in the queue, and none of the
/// leases that are still alive is one of `ours`.
#[must_use]
pub fn check_nothing_left(history: &History, ours: &[i64], alive: &[i64]) -> Vec<Violation> {
    let keys = history.entries().iter().filter(|entry| entry.deleted.is_none());
    let keys = keys.map(|entry| Violation::KeyLeft {
        key: text(&entry.key),
        created: entry.created,
    });
    let leases = ours.iter().filter(|lease| alive.contains(lease));
    keys.chain(leases.map(|lease| Violation::LeaseLeft { lease: *lease })).collect()
}

/// A key for people.
pub(crate) fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

fn is_entry(prefix: &[u8], key: &[u8]) -> bool {
    key.strip_prefix(prefix).is_some_and(|rest| !rest.contains(&b'/'))
}

#[derive(Default)]
struct Fold<'a> {
    /// How long that of a key is.
    prefix: usize,
    entries: Vec<Entry>,
    owners: Vec<usize>,
    /// The entry of each key that is there.
    present: HashMap<&'a [u8], usize>,
    /// The same entries, the oldest first: entries are made in the order of creation.
    queue: BTreeSet<usize>,
    settled: i64,
}

impl<'a> Fold<'a> {
    fn apply(&mut self, event: &'a Event) -> Result<(), Violation> {
        let incomplete = |what| Violation::NoHistory {
            what,
            key: text(&event.key),
            revision: event.revision,
        };
        if event.revision <= self.settled {
            return Err(incomplete("comes after a later revision"));
        }
        let present = self.present.get(&event.key[..]).copied();
        match (event.change, present) {
            (Change::Put { created }, None) if created == event.revision => self.create(event),
            (Change::Put { .. }, None) => return Err(incomplete("is put, and its creation is missing")),
            (Change::Put { created }, Some(entry)) => {
                if self.entries[entry].created != created {
                    return Err(incomplete("is created again, and its deletion is missing"));
                }
            }
            (Change::Delete, Some(entry)) => self.delete(event, entry),
            (Change::Delete, None) => return Err(incomplete("is deleted, and its creation is missing")),
        }
        Ok(())
    }

    fn create(&mut self, event: &'a Event) {
        let index = self.entries.len();
        self.entries.push(Entry {
            key: event.key.clone(),
            created: event.revision,
            kind: Kind::of(&event.key[self.prefix..]),
            deleted: None,
            owned: None,
        });
        self.present.insert(&event.key, index);
        self.queue.insert(index);
    }

    fn delete(&mut self, event: &Event, index: usize) {
        let entry = &mut self.entries[index];
        entry.deleted = Some(event.revision);
        if let Some(owned) = &mut entry.owned {
            owned.end = event.revision;
        }
        self.present.remove(&event.key[..]);
        self.queue.remove(&index);
    }

    /// The revision is complete: the oldest that is left owns the lock, and who has room
    /// beside all that are older.
    fn settle(&mut self, revision: i64) -> Result<(), Violation> {
        self.settled = revision;
        if let [.., one, other] = &self.entries[..] {
            let is_one_writer = attempt(&one.key).is_some_and(|it| attempt(&other.key) == Some(it));
            if one.created == other.created && !is_one_writer {
                return Err(Violation::Tie {
                    one: text(&one.key),
                    other: text(&other.key),
                    created: one.created,
                });
            }
        }
        let mut older: Vec<usize> = Vec::new();
        let mut alone = None;
        for &index in &self.queue {
            let entry = &self.entries[index];
            // Behind somebody who is alone there is room for his own second key only.
            if alone.is_some_and(|created| created < entry.created) {
                break;
            }
            if entry.kind == Kind::Alone {
                alone = Some(entry.created);
            }
            let is_older = |other: &&usize| self.entries[**other].created < entry.created;
            let kinds = older.iter().filter(is_older).map(|other| self.entries[*other].kind);
            if entry.owned.is_none() && entry.kind.fits(kinds) {
                self.entries[index].owned = Some(revision..i64::MAX);
                self.owners.push(index);
            }
            older.push(index);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn put(key: &str, revision: i64) -> Event {
        put_again(key, revision, revision)
    }

    fn put_again(key: &str, created: i64, revision: i64) -> Event {
        Event {
            key: key.into(),
            revision,
            change: Change::Put { created },
        }
    }

    pub(crate) fn delete(key: &str, revision: i64) -> Event {
        Event {
            key: key.into(),
            revision,
            change: Change::Delete,
        }
    }

    pub(crate) fn fold(events: &[Event]) -> History {
        History::fold("a", events).unwrap()
    }

    fn owned(history: &History) -> Vec<(String, Range<i64>)> {
        history.owners().map(|entry| (text(&entry.key), entry.owned.clone().unwrap())).collect()
    }

    #[test]
    fn the_oldest_key_owns_until_it_is_deleted() {
        let history = fold(&[
            put("a/1", 2),
            put("a/2", 3),
            put("a/3", 5),
            delete("a/1", 7),
            delete("a/2", 8),
            delete("a/3", 9),
            put("a/1", 12),
        ]);
        let expected = [("a/1", 2..7), ("a/2", 7..8), ("a/3", 8..9), ("a/1", 12..i64::MAX)];
        assert_eq!(
            owned(&history),
            expected.map(|(key, owned)| (key.to_owned(), owned))
        );
        assert_eq!(history.handoffs(), 2);
        let owners = [1, 2, 6, 7, 8, 9, 12, 99].map(|revision| history.owner_at(revision));
        let owners = owners.map(|owner| owner.map(|entry| entry.created));
        let expected = [None, Some(2), Some(2), Some(3), Some(5), None, Some(12), Some(12)];
        assert_eq!(owners, expected);
        assert!(history.entry(b"a/2", 3).is_some());
        assert!(history.entry(b"a/2", 2).is_none() && history.entry(b"a/2", 4).is_none());
    }

    #[test]
    fn readers_own_beside_each_other_and_nobody_overtakes_a_writer() {
        let history = fold(&[
            put("a/7-r1", 2),
            put("a/8-r1", 3),
            put("a/9-w1", 4),
            put("a/9-r1", 4),
            put("a/7-r2", 5),
            delete("a/7-r1", 6),
            delete("a/8-r1", 7),
            // The writer becomes a reader.
            delete("a/9-w1", 8),
            delete("a/9-r1", 9),
        ]);
        let of = |key: &str, created| history.entry(key.as_bytes(), created).unwrap().owned.clone();
        assert_eq!((of("a/7-r1", 2), of("a/8-r1", 3)), (Some(2..6), Some(3..7)));
        assert_eq!(of("a/9-w1", 4), Some(7..8));
        assert_eq!(of("a/9-r1", 4).map(|owned| owned.end), Some(9));
        assert_eq!(of("a/7-r2", 5), Some(8..i64::MAX));
    }

    #[test]
    fn permits_are_owned_while_they_are_not_more_than_there_are() {
        let history = fold(&[
            put("a/7-p2.3.1", 2),
            put("a/8-p2.3.1", 3),
            put("a/9-p1.3.1", 4),
            delete("a/8-p2.3.1", 5),
        ]);
        let expected = [("a/7-p2.3.1", 2..i64::MAX), ("a/9-p1.3.1", 5..i64::MAX)];
        assert_eq!(
            owned(&history),
            expected.map(|(key, owned)| (key.to_owned(), owned))
        );
    }

    #[test]
    fn a_waiter_that_goes_early_never_owns() {
        let history = fold(&[
            put("a/1", 2),
            put("a/2", 3),
            put("a/3", 4),
            delete("a/2", 5),
            delete("a/1", 6),
        ]);
        assert_eq!(
            owned(&history),
            [("a/1".to_owned(), 2..6), ("a/3".to_owned(), 6..i64::MAX)]
        );
        assert_eq!(history.entries()[1].owned, None);
    }

    #[test]
    fn one_revision_is_folded_whole() {
        // A prefix that is deleted at once makes the second no owner in between.
        let history = fold(&[put("a/1", 2), put("a/2", 3), delete("a/1", 4), delete("a/2", 4)]);
        assert_eq!(owned(&history), [("a/1".to_owned(), 2..4)]);
    }

    #[test]
    fn nested_names_and_other_keys_are_ignored() {
        let history = fold(&[
            put("a/b/1", 2),
            put("a#gate/1", 3),
            put("ab/1", 4),
            put("a/1", 5),
            delete("a/b/1", 6),
        ]);
        assert_eq!(owned(&history), [("a/1".to_owned(), 5..i64::MAX)]);
    }

    #[test]
    fn a_key_that_is_put_again_keeps_its_place() {
        let history = fold(&[
            put("a/1", 2),
            put("a/2", 3),
            put_again("a/1", 2, 4),
            delete("a/1", 5),
        ]);
        assert_eq!(
            owned(&history),
            [("a/1".to_owned(), 2..5), ("a/2".to_owned(), 5..i64::MAX)]
        );
    }

    #[test]
    fn what_is_no_history_is_refused() {
        let cases: [&[Event]; 5] = [
            &[put("a/1", 3), put("a/2", 2)],
            &[delete("a/1", 2)],
            &[put_again("a/1", 2, 3)],
            &[put("a/1", 2), put("a/1", 3)],
            &[put("a/1", 2), put("a/2", 3), delete("a/1", 4), put("a/3", 3)],
        ];
        for events in cases {
            let refused = History::fold("a", events);
            assert!(matches!(refused, Err(Violation::NoHistory { .. })), "{events:?}");
        }
        let tie = History::fold("a", &[put("a/1", 2), put("a/2", 2)]);
        assert!(matches!(tie, Err(Violation::Tie { .. })));
        let tie = History::fold("a", &[put("a/7-w1", 2), put("a/7-r2", 2)]);
        assert!(matches!(tie, Err(Violation::Tie { .. })), "two attempts");
    }

    #[test]
    fn keys_and_leases_that_are_left_are_reported() {
        let gone = fold(&[put("a/1", 2), delete("a/1", 3)]);
        assert_eq!(check_nothing_left(&gone, &[7], &[8]), []);
        let left = check_nothing_left(&fold(&[put("a/1", 2)]), &[7, 8], &[8, 9]);
        assert!(
            matches!(
                &left[..],
                [
                    Violation::KeyLeft { created: 2, .. },
                    Violation::LeaseLeft { lease: 8 }
                ]
            ),
            "{left:?}"
        );
    }
}
