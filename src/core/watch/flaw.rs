//! Mistakes that other clients have made, for the simulation to switch on and catch:
//! a check that catches none of them checks nothing. There are none outside of tests.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Resumes behind the revision of the store instead of behind the last event.
    HeaderRevision,
    /// Hands out the pieces of a revision as they come, and resumes behind them.
    InsideRevision,
    /// Loses what a fragment holds of a revision that is not yet whole.
    DroppedFragment,
}

#[cfg(not(test))]
impl Flaw {
    pub(super) const fn is_on(self) -> bool {
        false
    }
}

#[cfg(test)]
thread_local! {
    static FLAW: std::cell::Cell<Option<Flaw>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
impl Flaw {
    pub(super) fn is_on(self) -> bool {
        FLAW.get() == Some(self)
    }

    /// On this thread, from now on.
    pub(super) fn switch(flaw: Option<Flaw>) {
        FLAW.set(flaw);
    }
}
