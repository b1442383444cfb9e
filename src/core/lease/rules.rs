//! The rules that keep a lease from being called valid when it is not, and that a
//! test can put out of force, to show that the simulation tells the difference.
//! Outside of tests all are in force, and this is nothing: no field, no branch.

/// A rule of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A reply proves the lease from when its request was sent, not from when it came.
    SentTime,
    /// A lease whose renewal is not answered in time is renewed on a second stream.
    SecondStream,
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
