//! Who leads an election: the candidate whose key is the oldest below `<name>/`. Folds
//! what a list and its watch tell of the candidates, whole revisions at a time, and says
//! when somebody else leads, or says something else. It reads nothing itself:
//! `concurrency/observe` hands the updates in.
//!
//! ```text
//!              Listed*            Synced
//!   Reading ------------> Reading -------> Whole --. Changed: whoever is first now,
//!      ^                                     |  ^__|          if that is news
//!      '------------- Relisting -------------'
//! ```
//!
//! While a list is read some candidates are known as they were and some as they are:
//! nothing is said until it is whole.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::list_watch::Update;
use super::watch::Event;
use crate::pb::mvccpb::KeyValue;
use crate::types::{LeaseId, Revision};

/// Who leads an election.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leader {
    /// The candidate's key in etcd.
    pub key: Bytes,
    /// What the candidate says, as last proclaimed.
    pub value: Bytes,
    /// The key's create_revision: the fencing token of this leadership.
    pub created: Revision,
    /// When the leader said that.
    pub modified: Revision,
    /// The lease of the candidate's session.
    pub lease: LeaseId,
}

/// The machine; see the head of this file.
#[derive(Debug)]
pub struct Observation {
    /// What every candidate's key begins with.
    prefix: Bytes,
    candidates: BTreeMap<Bytes, Leader>,
    is_whole: bool,
    /// What was said last, if anything was.
    said: Option<Option<Leader>>,
}

impl Observation {
    /// An election of which nothing is known yet, and whose candidates' keys begin with
    /// this.
    #[must_use]
    pub fn new(prefix: Bytes) -> Observation {
        Observation {
            prefix,
            candidates: BTreeMap::new(),
            is_whole: false,
            said: None,
        }
    }

    /// The list of the candidates, or their watch, told this.
    pub fn handle_update(&mut self, update: &Update) {
        match update {
            Update::Listed(events) => self.fold(events),
            Update::Changed(batch) => self.fold(&batch.events),
            Update::Synced { .. } => self.is_whole = true,
            Update::Relisting => self.is_whole = false,
            Update::Progress { .. } => {}
        }
    }

    /// Who leads now, and `None` inside where nobody does, if that is not what was said
    /// last.
    pub fn poll_change(&mut self) -> Option<Option<Leader>> {
        if !self.is_whole {
            return None;
        }
        let first = self.candidates.values().min_by_key(|candidate| candidate.created);
        if self.said.as_ref().is_some_and(|said| said.as_ref() == first) {
            return None;
        }
        let said = first.cloned();
        self.said = Some(said.clone());
        Some(said)
    }

    /// Asserts what always holds.
    pub fn check(&self) {
        let is_in_place =
            |(key, candidate): (&Bytes, &Leader)| *key == candidate.key && is_candidate(&self.prefix, key);
        assert!(self.candidates.iter().all(is_in_place));
    }

    fn fold(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Put { kv, .. } if is_candidate(&self.prefix, &kv.key) => {
                    let candidate = copied(kv);
                    self.candidates.insert(candidate.key.clone(), candidate);
                }
                Event::Put { .. } => {}
                Event::Delete { kv, .. } => drop(self.candidates.remove(&kv.key)),
            }
        }
    }
}

/// Who leads, as far as these keys show it.
#[must_use]
pub fn first(prefix: &[u8], keys: &[KeyValue]) -> Option<Leader> {
    let candidates = keys.iter().filter(|kv| is_candidate(prefix, &kv.key));
    candidates.min_by_key(|kv| kv.create_revision).map(copied)
}

/// Names nest: a key with a further `/` belongs to another election.
fn is_candidate(prefix: &[u8], key: &[u8]) -> bool {
    key.strip_prefix(prefix).is_some_and(|entry| !entry.contains(&b'/'))
}

/// It is kept for long, and is not to keep a whole message.
fn copied(kv: &KeyValue) -> Leader {
    Leader {
        key: Bytes::copy_from_slice(&kv.key),
        value: Bytes::copy_from_slice(&kv.value),
        created: Revision(kv.create_revision),
        modified: Revision(kv.mod_revision),
        lease: LeaseId(kv.lease),
    }
}
