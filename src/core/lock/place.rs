//! Where a lock lies in etcd: the keys of one session in the queue of one name, or
//! those of one attempt in the queues of several.

use bytes::Bytes;

use super::claim::Claim;
use super::put::Put;
use super::rules::{Rule, Rules};
use crate::pb::mvccpb::KeyValue;
use crate::types::{LeaseId, Revision};

/// The keys of one session in the queue of one name, or of one attempt.
#[derive(Clone, Debug)]
pub struct Place {
    /// What every key of the queue begins with: `<name>/`.
    pub prefix: Bytes,
    /// The session's own key: `<name>/<lease>`, or the attempt's. It is there for as
    /// long as anything of the lock is.
    pub key: Bytes,
    /// The key whose change stops registers that are still under way. It lies
    /// beside the queue, for in it, it would be an entry to other clients. Once put,
    /// it stays as long as the lease: without it, what was stopped could go on.
    pub gate: Bytes,
    /// The session's lease, on which both keys hang.
    pub lease: LeaseId,
    claim: Claim,
    /// The key is an owner's, and outlives the session that put it.
    owned: bool,
    /// The keys of an attempt are never created again.
    once: bool,
    /// The prefixes of the queues behind the first.
    further_prefixes: Vec<Bytes>,
    /// What is put and deleted together with `key`.
    further_keys: Vec<Bytes>,
}

const GATE_SUFFIX: &str = "#gate";

/// So many gates the attempts of a session have for each name. Whoever is withdrawn moves
/// his gate, and refuses a register of whoever has it in common with him.
const GATES: u64 = 16;

/// What an owner's entry in the queue begins with.
const OWNER_MARK: char = '@';

/// Behind a name and a `#`, what the keys of other recipes lie below.
const RECIPES: [&str; 4] = ["barrier", "double-barrier", "latch", "queue"];

/// Behind the name, in the keys by which its holder is asked to let go.
pub const ASK_SUFFIX: &str = "#ask";

impl Place {
    /// Whether a lock can have this name. Not where keys beside another name, such as its gate or those of a
    /// latch, would be in the queue.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let is_beside = name.ends_with(GATE_SUFFIX) || name.ends_with(ASK_SUFFIX);
        let is_recipe = |part: &str| part.rsplit_once('#').is_some_and(|(_, mark)| RECIPES.contains(&mark));
        !name.is_empty() && !is_beside && !name.split('/').any(is_recipe)
    }

    /// Whether this can be the owner of a lock.
    #[must_use]
    pub fn is_owner(owner: &str) -> bool {
        !owner.is_empty() && !owner.contains('/')
    }

    /// The gate lies beside the name, behind `gate_prefix`. `None` where [`Place::is_name`] says no.
    #[must_use]
    pub fn new(name: &str, lease: LeaseId, gate_prefix: &str) -> Option<Place> {
        Some(Place {
            prefix: prefix(name)?,
            key: format!("{name}/{lease}").into(),
            gate: format!("{gate_prefix}{name}{GATE_SUFFIX}/{lease}").into(),
            lease,
            claim: Claim::Exclusive,
            owned: false,
            once: false,
            further_prefixes: Vec::new(),
            further_keys: Vec::new(),
        })
    }

    /// The place of an owner, whose key is `<name>/@<owner>` whatever the session is: it is taken over
    /// where it hangs on another lease. No lease and no claim reads like that. `None` as in
    /// [`Place::new`], and where the owner is empty or has a `/`.
    #[must_use]
    pub fn of_owner(name: &str, owner: &str, lease: LeaseId, gate_prefix: &str) -> Option<Place> {
        let place = Place::new(name, lease, gate_prefix)?;
        Place::is_owner(owner).then(|| Place {
            key: format!("{name}/{OWNER_MARK}{owner}").into(),
            gate: format!("{gate_prefix}{name}{GATE_SUFFIX}/{lease}{OWNER_MARK}{owner}").into(),
            owned: true,
            ..place
        })
    }

    /// The place of one attempt of the session, in the queue of each of these names, which
    /// differ. `attempt` is a number that the session uses once. The gate lies beside the
    /// first name. `None` as in [`Place::new`], and
    /// where there is no name.
    #[must_use]
    pub fn once(
        names: &[&str],
        claim: Claim,
        attempt: u64,
        lease: LeaseId,
        gate_prefix: &str,
    ) -> Option<Place> {
        let (first, further) = names.split_first()?;
        let key = |name: &str, claim: Claim| format!("{name}/{}", claim.entry(lease, attempt)).into();
        // A writer has both keys from the start, for a key that is put later is younger.
        let (stays, goes) = match claim {
            Claim::Writer => (Claim::Reader, Some(key(first, Claim::Writer))),
            claim => (claim, None),
        };
        let mut place = Place::new(first, lease, gate_prefix)?;
        (place.key, place.claim, place.once) = (key(first, stays), claim, true);
        place.gate = format!("{gate_prefix}{first}{GATE_SUFFIX}/{lease}-{}", attempt % GATES).into();
        place.further_prefixes = further.iter().map(|name| prefix(name)).collect::<Option<_>>()?;
        place.further_keys = further.iter().map(|name| key(name, stays)).chain(goes).collect();
        Some(place)
    }

    /// The place of a key that exists already, in the queue of this name. `None` as in
    /// [`Place::new`], and where the key is not in that queue.
    #[must_use]
    pub fn of_key(name: &str, key: Bytes, lease: LeaseId, gate_prefix: &str) -> Option<Place> {
        let place = Place::new(name, lease, gate_prefix)?;
        place.entry(Rules::default(), &key)?;
        Some(Place { key, ..place })
    }

    /// What is claimed.
    #[must_use]
    pub fn claim(&self) -> Claim {
        self.claim
    }

    /// Whether the key is an owner's: put again when it is taken over, so that its mod_revision
    /// and not its create_revision tells whose it is.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        self.owned
    }

    /// Whether nothing will ever put these keys again but what is under way by now.
    #[must_use]
    pub fn is_once(&self) -> bool {
        self.once
    }

    /// The key that a writer gives up to become a reader.
    #[must_use]
    pub fn writers_key(&self) -> Option<&Bytes> {
        let last = self.further_keys.last();
        last.filter(|_| self.claim == Claim::Writer)
    }

    /// What the keys of each queue begin with.
    pub fn prefixes(&self) -> impl Iterator<Item = &Bytes> + Clone {
        std::iter::once(&self.prefix).chain(&self.further_prefixes)
    }

    /// All own keys.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> + Clone {
        std::iter::once(&self.key).chain(&self.further_keys)
    }

    pub(super) fn has_one_key(&self) -> bool {
        self.further_keys.is_empty()
    }

    pub(super) fn is_own(&self, key: &Bytes) -> bool {
        self.keys().any(|own| own == key)
    }

    /// Whether this shows every own key, with this create_revision.
    pub(super) fn is_whole(&self, rules: Rules, queue: &[KeyValue], created: Revision) -> bool {
        let is_there = |own: &Bytes| queue.iter().any(|kv| kv.key == *own && kv.create_revision == created.0);
        match rules.keep(Rule::EveryKey) {
            true => self.keys().all(is_there),
            false => is_there(&self.key),
        }
    }

    /// Whether the own key, an owner's, was put since by another session.
    pub(super) fn is_taken_over(&self, queue: &[KeyValue], put: Put) -> bool {
        let is_other = |kv: &KeyValue| kv.key == self.key && kv.mod_revision != put.at.0;
        self.owned && queue.iter().any(is_other)
    }

    /// Up to so many older keys are watched one and all. Permits have to be added up;
    /// of several queues the machine watches one key, and reads them all when it goes.
    pub(super) fn watched_max(&self, usual: usize) -> usize {
        match self.claim {
            Claim::Permits { .. } => usize::MAX,
            _ if !self.further_prefixes.is_empty() => 0,
            _ => usual,
        }
    }

    /// Whether this key below the prefix is somebody else's entry in the queue.
    #[must_use]
    pub fn is_entry_of_another(&self, key: &[u8]) -> bool {
        let entry = key.strip_prefix(&*self.prefix);
        entry.is_some_and(|entry| !entry.contains(&b'/')) && key != self.key
    }

    /// The entries of the others that are older than `created` and can be in the way. Names nest: a
    /// key with a further `/` belongs to the queue of another lock.
    pub(super) fn older<'a>(
        &'a self,
        rules: Rules,
        queue: &'a [KeyValue],
        created: Revision,
    ) -> impl Iterator<Item = &'a KeyValue> {
        queue.iter().filter(move |kv| {
            let minded = |entry| self.claim.minds(rules, Claim::of(entry));
            kv.create_revision < created.0
                && self.entry(rules, &kv.key).is_some_and(minded)
                && !self.is_own(&kv.key)
        })
    }

    /// What an entry of the queues claims.
    pub(super) fn claim_of(&self, key: &Bytes) -> Option<Claim> {
        self.entry(Rules::default(), key).map(Claim::of)
    }

    /// Whether these older keys leave room.
    pub(super) fn fits<'a>(&self, rules: Rules, older: impl Iterator<Item = &'a Bytes>) -> bool {
        let claim = |key| self.entry(rules, key).map_or(Claim::Exclusive, Claim::of);
        self.claim.fits(rules, older.map(claim))
    }

    /// Whether the queues are in the way of a claim that is made now.
    pub(super) fn is_taken(&self, rules: Rules, queue: &[KeyValue]) -> bool {
        let there = self.older(rules, queue, Revision(i64::MAX));
        !self.fits(rules, there.map(|kv| &kv.key))
    }

    /// What the key says behind the prefix of one of the queues.
    fn entry<'a>(&self, rules: Rules, key: &'a Bytes) -> Option<&'a [u8]> {
        let entries = self.prefixes().filter_map(|prefix| key.strip_prefix(&**prefix));
        let mut entries = entries.filter(|entry| !entry.contains(&b'/') || !rules.keep(Rule::NestedNames));
        entries.next()
    }
}

fn prefix(name: &str) -> Option<Bytes> {
    Place::is_name(name).then(|| format!("{name}/").into())
}
