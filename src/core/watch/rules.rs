//! The rules that a correct watch obeys and that a test can put out of force, to
//! show that its checks would notice. Each is one that another client has broken.
//! In a plain build all are in force, and this is nothing: no field, no branch.
//!
//! A test of this crate has the switch, and one beside it with the feature `rules-off`.

/// A rule of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A watch resumes behind its last event, and not behind the revision of the
    /// store that an answer names.
    EventRevision,
    /// A revision is handed out whole, and a watch never resumes inside of it.
    WholeRevisions,
    /// What a fragment brings of a revision that is not yet whole is kept.
    Fragments,
    /// No more waits for a reader than its bound.
    Bound,
}

/// Which rules are in force.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    #[cfg(any(test, feature = "rules-off"))]
    off: Option<Rule>,
}

#[cfg(not(any(test, feature = "rules-off")))]
impl Rules {
    /// All of them.
    pub(super) const fn here() -> Rules {
        Rules {}
    }

    pub(super) const fn keep(self, _: Rule) -> bool {
        true
    }
}

#[cfg(any(test, feature = "rules-off"))]
thread_local! {
    static OFF: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

#[cfg(any(test, feature = "rules-off"))]
impl Rules {
    /// Puts a rule out of force, or none, for what this thread makes from now on: a
    /// client whose first watch is asked for here, and watches that are. Wherever they
    /// run then, they are as they were made.
    pub fn switch_off(rule: Option<Rule>) {
        OFF.set(rule);
    }

    /// Those in force on this thread.
    pub(super) fn here() -> Rules {
        Rules { off: OFF.get() }
    }

    pub(super) fn keep(self, rule: Rule) -> bool {
        self.off != Some(rule)
    }
}
