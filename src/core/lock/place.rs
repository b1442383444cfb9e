//! Where a lock lies in etcd: the keys of one session in the queue of one name.

use bytes::Bytes;

use super::rules::{Rule, Rules};
use crate::pb::mvccpb::KeyValue;
use crate::types::{LeaseId, Revision};

/// The keys of one session in the queue of one name.
#[derive(Clone, Debug)]
pub struct Place {
    /// What every key of the queue begins with: `<name>/`.
    pub prefix: Bytes,
    /// The session's own key: `<name>/<lease>`.
    pub key: Bytes,
    /// The key whose change stops registers that are still under way. It lies
    /// beside the queue, for in it, it would be an entry to other clients. Once put,
    /// it stays as long as the lease: without it, what was stopped could go on.
    pub gate: Bytes,
    /// The session's lease, on which both keys hang.
    pub lease: LeaseId,
}

const GATE_SUFFIX: &str = "#gate";

/// Behind the name, in the keys by which its holder is asked to let go.
pub const ASK_SUFFIX: &str = "#ask";

impl Place {
    /// The gate lies beside the name, behind `gate_prefix`. `None` where the name is
    /// empty, or would put one lock's gate into the queue of another.
    #[must_use]
    pub fn new(name: &str, lease: LeaseId, gate_prefix: &str) -> Option<Place> {
        if name.is_empty() || name.ends_with(GATE_SUFFIX) || name.ends_with(ASK_SUFFIX) {
            return None;
        }
        Some(Place {
            prefix: format!("{name}/").into(),
            key: format!("{name}/{lease}").into(),
            gate: format!("{gate_prefix}{name}{GATE_SUFFIX}/{lease}").into(),
            lease,
        })
    }

    /// Whether this key below the prefix is somebody else's entry in the queue.
    #[must_use]
    pub fn is_entry_of_another(&self, key: &[u8]) -> bool {
        let entry = key.strip_prefix(&*self.prefix);
        entry.is_some_and(|entry| !entry.contains(&b'/')) && key != self.key
    }

    /// The entries of the others that are older than `created`. Names nest: a key
    /// with a further `/` belongs to the queue of another lock.
    pub(super) fn older<'a>(
        &'a self,
        rules: Rules,
        queue: &'a [KeyValue],
        created: Revision,
    ) -> impl Iterator<Item = &'a KeyValue> {
        queue.iter().filter(move |kv| {
            let entry = kv.key.strip_prefix(&*self.prefix);
            entry.is_some_and(|entry| !entry.contains(&b'/') || !rules.keep(Rule::NestedNames))
                && kv.create_revision < created.0
                && kv.key != self.key
        })
    }

    /// Whether the queue has an entry of somebody else.
    pub(super) fn is_taken(&self, rules: Rules, queue: &[KeyValue]) -> bool {
        self.older(rules, queue, Revision(i64::MAX)).next().is_some()
    }
}
