//! The rules that a correct lock obeys and that a test can put out of force, to
//! show that each of them is needed. Outside of tests all are in force, and this
//! is nothing: no field, no branch.

/// A rule of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A revision is folded whole before anything is decided.
    WholeRevisions,
    /// A waiter whose own key is gone is told.
    OwnKey,
    /// Nothing is granted after the deadline.
    Deadline,
    /// A register that may still be carried out is stopped at the gate.
    Gate,
    /// A register that was under way when the task gave up is one of those.
    GateOnCancel,
    /// Deletions up to the last reading of the queue are old news.
    OldNews,
    /// The queue is read again now and then, whatever the watch tells.
    Reread,
    /// A key is another one once it was created anew.
    Incarnations,
    /// The keys of nested names do not queue here.
    NestedNames,
    /// The end of the one older key that is watched leads to a reading, not to a grant.
    Predecessor,
    /// A reader waits for older writers.
    OlderWriters,
    /// A writer that became a reader is seen to.
    Downgrade,
    /// The own permits count beside those of the others.
    OwnPermits,
    /// All keys of a lock of several are there.
    EveryKey,
    /// An owner's key is another one once it was put anew.
    LastPut,
}

/// Which rules are in force.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rules {
    #[cfg(test)]
    pub(super) off: Option<Rule>,
}

impl Rules {
    #[cfg(test)]
    pub(super) fn keep(self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    #[cfg(not(test))]
    pub(super) const fn keep(self, _: Rule) -> bool {
        true
    }
}
