//! What a lock that is registered knows of the queue before it: who is older, up
//! to which revision that is known, and what has to be learnt before a grant.
//!
//! ```text
//!            a reading shows
//!   Unread --- few older keys ---> Queue        every older key is known and watched;
//!     |                             ^           the last one to go grants
//!     |                 few are left|
//!     '------- many -----------> Predecessor    the newest older key alone is watched;
//!                                               it goes: read, for it may have given up
//! ```
//!
//! Nothing is ever created with a lower create_revision, so the set of older keys
//! only shrinks: where all of it is known, readings are joined by intersection.

use bytes::Bytes;

use super::rules::{Rule, Rules};
use super::{Place, Watched};
use crate::core::time::Instant;
use crate::pb::mvccpb::KeyValue;
use crate::types::Revision;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) created: Revision,
    scope: Scope,
    /// Key and create_revision, for a key alone may have gone and come back behind
    /// us. Under [`Scope::Predecessor`] none but the newest.
    older: Vec<(Bytes, Revision)>,
    /// The revision of the response that last gave the queue. Events up to it are
    /// old news, and may tell of an earlier life of an older key.
    seen: Revision,
    /// Something has happened behind `seen` that was not told: until the queue is
    /// read at this revision or later, nothing is granted.
    gap: Option<Revision>,
    own_deleted: bool,
    /// A part of the queue is not enough, since keys of nested names fill it.
    whole: bool,
    /// When to read the queue again, whatever the watch tells.
    pub(super) reread_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Unread,
    Queue,
    Predecessor,
}

/// What a reading of the queue leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Learnt {
    /// What is watched is the right thing.
    Known,
    /// Something else is to be watched.
    Watch,
    /// It did not show enough: the queue is to be read again.
    Unclear,
}

impl Wait {
    /// The own key was created, or found, in a response of the revision `seen`, which
    /// is no lower than `created`, whatever a server says.
    pub(super) fn new(created: Revision, seen: Revision, reread_at: Instant) -> Wait {
        Wait {
            created,
            scope: Scope::Unread,
            older: Vec::new(),
            seen: seen.max(created),
            gap: None,
            own_deleted: false,
            whole: false,
            reread_at,
        }
    }

    pub(super) fn is_own_deleted(&self) -> bool {
        self.own_deleted
    }

    /// Nobody is older, and nothing is left to be learnt.
    pub(super) fn is_first(&self) -> bool {
        self.scope == Scope::Queue && self.older.is_empty() && self.gap.is_none()
    }

    /// Somebody is older for certain.
    pub(super) fn is_behind(&self) -> bool {
        !self.older.is_empty()
    }

    pub(super) fn is_unread(&self) -> bool {
        self.scope == Scope::Unread
    }

    /// Whether the next reading has to show all that is older.
    pub(super) fn needs_whole(&self) -> bool {
        self.whole
    }

    /// The next reading has to show all. Says whether the last one did not.
    pub(super) fn want_whole(&mut self) -> bool {
        !std::mem::replace(&mut self.whole, true)
    }

    /// Whether a reading of this revision is recent enough to count.
    pub(super) fn accepts(&self, revision: Revision) -> bool {
        revision >= self.gap.map_or(self.seen, |gap| gap.max(self.seen))
    }

    /// What is to be watched; `None` where a reading has to tell first.
    pub(super) fn watched(&self) -> Option<Watched> {
        match (self.scope, self.older.first()) {
            (Scope::Queue, _) => Some(Watched::Queue),
            (Scope::Predecessor, Some((key, _))) => Some(Watched::Predecessor(key.clone())),
            _ => None,
        }
    }

    /// The watch has begun after this revision. Says whether the queue is to be read.
    pub(super) fn watching(&mut self, created: Revision) -> bool {
        if created > self.seen {
            self.gap = self.gap.max(Some(created));
        }
        self.gap.is_some()
    }

    /// Folds one deletion. Says whether the queue is to be read.
    pub(super) fn deleted(&mut self, rules: Rules, own: &Bytes, key: &Bytes, revision: Revision) -> bool {
        if revision <= self.seen && rules.keep(Rule::OldNews) {
            return false;
        }
        if key == own {
            self.own_deleted = rules.keep(Rule::OwnKey);
        } else if let Some(index) = self.older.iter().position(|(older, _)| older == key) {
            self.older.swap_remove(index);
            if self.scope == Scope::Predecessor {
                self.gap = self.gap.max(Some(revision));
                return true;
            }
        }
        false
    }

    /// The queue was read at `revision`; `more` says that only the newest part is in `queue`.
    /// Up to `watched_max` older keys are watched one and all.
    pub(super) fn read(
        &mut self,
        (rules, place): (Rules, &Place),
        revision: Revision,
        (queue, more): (&[KeyValue], bool),
        watched_max: usize,
    ) -> Learnt {
        let more = more && !self.whole;
        let older = place.older(rules, queue, self.created);
        let older: Vec<_> = older.map(|kv| (kv.key.clone(), Revision(kv.create_revision))).collect();
        // A reading that shows neither who is just before us nor that nobody is.
        if more && (older.is_empty() || self.scope == Scope::Queue) {
            self.whole = true;
            return Learnt::Unclear;
        }
        self.seen = self.seen.max(revision);
        self.gap = None;
        if self.scope == Scope::Queue {
            let is_there = |key: &Bytes, created: Revision| {
                let anew = !rules.keep(Rule::Incarnations);
                let is_it = |kv: &KeyValue| kv.key == *key && (kv.create_revision == created.0 || anew);
                queue.iter().any(is_it)
            };
            self.older.retain(|(key, created)| is_there(key, *created));
            return Learnt::Known;
        }
        if !more && older.len() <= watched_max {
            self.scope = Scope::Queue;
            self.older = older;
            return match self.is_behind() {
                true => Learnt::Watch,
                false => Learnt::Known,
            };
        }
        let predecessor = older.into_iter().max_by_key(|(_, created)| *created);
        if self.scope == Scope::Predecessor && self.older.first() == predecessor.as_ref() {
            return Learnt::Known;
        }
        self.scope = Scope::Predecessor;
        self.older = predecessor.into_iter().collect();
        Learnt::Watch
    }

    /// A reading did not show the own key.
    pub(super) fn own_is_gone(&mut self, rules: Rules) {
        self.own_deleted = rules.keep(Rule::OwnKey);
    }

    /// Asserts what always holds.
    pub(super) fn check(&self, own: &Bytes) {
        let is_older = |(key, created): &(Bytes, Revision)| *created < self.created && key != own;
        assert!(
            self.older.iter().all(is_older),
            "what is not older keeps us waiting"
        );
        assert!(self.gap.is_none_or(|gap| gap > self.seen));
        assert!(self.created <= self.seen);
        assert!(self.scope != Scope::Predecessor || self.older.len() <= 1);
        assert!(
            self.scope != Scope::Predecessor || !self.older.is_empty() || self.gap.is_some(),
            "without a predecessor somebody has to read"
        );
    }
}
