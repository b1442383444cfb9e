//! What was seen of a cluster, and whether an answer is older than that. It owns the highest
//! revision and the cluster's id; it asks nobody: `net/view` shows it the answers.
//!
//! An answer is held against what had been seen when its call *began*: one that was under way at
//! the same time may have been answered later, and be newer, and still arrive first.

use crate::error::Stale;
use crate::types::Revision;

/// The latest that was seen of a cluster. It may be kept, and given to another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The cluster's id; 0 where none was seen yet.
    pub cluster_id: u64,
    /// The highest revision of its answers.
    pub revision: Revision,
}

/// What had been seen when a call began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    seen: Seen,
    /// How many times somebody had accepted less by then.
    accepted: u64,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Monotonic {
    seen: Seen,
    accepted: u64,
}

impl Monotonic {
    /// Goes on from what was seen before.
    #[must_use]
    pub fn new(seen: Seen) -> Monotonic {
        Monotonic { seen, accepted: 0 }
    }

    /// What has been seen.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// A call begins.
    #[must_use]
    pub fn floor(&self) -> Floor {
        Floor {
            seen: self.seen,
            accepted: self.accepted,
        }
    }

    /// An answer came to a call that began at this floor. `is_local` says that its member gave it from
    /// what it has, without asking the others.
    ///
    /// # Errors
    ///
    /// It is older than the floor, or from elsewhere.
    pub fn handle_answer(&mut self, floor: &Floor, answer: Seen, is_local: bool) -> Result<(), Stale> {
        let seen = floor.seen;
        if seen.cluster_id != 0 && answer.cluster_id != seen.cluster_id {
            return Err(Stale::OtherCluster {
                expected: seen.cluster_id,
                found: answer.cluster_id,
                revision: answer.revision,
            });
        }
        if answer.revision < seen.revision {
            let (seen, found) = (seen.revision, answer.revision);
            return Err(match is_local {
                true => Stale::Behind { seen, found },
                false => Stale::WentBack { seen, found },
            });
        }
        // What began before less was accepted says nothing of what is there now.
        let is_current = floor.accepted == self.accepted;
        if is_current && (self.seen.cluster_id == 0 || self.seen.cluster_id == answer.cluster_id) {
            self.seen.cluster_id = answer.cluster_id;
            self.seen.revision = self.seen.revision.max(answer.revision);
        }
        Ok(())
    }

    /// A watch has told what happened up to this revision.
    pub fn handle_told(&mut self, revision: Revision) {
        self.seen.revision = self.seen.revision.max(revision);
    }

    /// What was refused is as it should be from now on. Told of by several calls, it counts once.
    pub fn accept(&mut self, stale: &Stale) {
        let (is_new, now) = match *stale {
            Stale::Behind { seen, found } | Stale::WentBack { seen, found } => {
                let now = Seen {
                    revision: found,
                    ..self.seen
                };
                (self.seen.revision >= seen, now)
            }
            Stale::OtherCluster {
                expected,
                found,
                revision,
            } => {
                let now = Seen {
                    cluster_id: found,
                    revision,
                };
                (self.seen.cluster_id == expected, now)
            }
        };
        if is_new {
            self.seen = now;
            self.accepted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u64 = 0xa;
    const B: u64 = 0xb;

    fn at(cluster_id: u64, revision: i64) -> Seen {
        Seen {
            cluster_id,
            revision: Revision(revision),
        }
    }

    fn told(monotonic: &mut Monotonic, answer: Seen, is_local: bool) -> Result<(), Stale> {
        let floor = monotonic.floor();
        monotonic.handle_answer(&floor, answer, is_local)
    }

    #[test]
    fn an_older_answer_is_refused_and_a_later_one_raises_what_was_seen() {
        let mut monotonic = Monotonic::default();
        for revision in [5, 5, 7] {
            assert_eq!(told(&mut monotonic, at(A, revision), true), Ok(()));
        }
        let (seen, found) = (Revision(7), Revision(6));
        assert_eq!(
            told(&mut monotonic, at(A, 6), true),
            Err(Stale::Behind { seen, found })
        );
        // Who asked all of them has no member to blame.
        assert_eq!(
            told(&mut monotonic, at(A, 6), false),
            Err(Stale::WentBack { seen, found })
        );
        assert_eq!(monotonic.seen(), at(A, 7));
    }

    #[test]
    fn an_answer_that_was_overtaken_is_none_that_went_back() {
        let mut monotonic = Monotonic::default();
        assert_eq!(told(&mut monotonic, at(A, 5), false), Ok(()));
        let early = monotonic.floor();
        assert_eq!(told(&mut monotonic, at(A, 9), false), Ok(()));
        assert_eq!(monotonic.handle_answer(&early, at(A, 6), false), Ok(()));
        assert_eq!(monotonic.seen(), at(A, 9));
    }

    #[test]
    fn another_cluster_is_refused_until_it_is_accepted() {
        let mut monotonic = Monotonic::new(at(A, 9));
        let old = monotonic.floor();
        let stale = told(&mut monotonic, at(B, 3), false).expect_err("it is another one");
        monotonic.accept(&stale);
        assert_eq!(monotonic.seen(), at(B, 3));
        assert_eq!(told(&mut monotonic, at(B, 4), false), Ok(()));
        // A second call was told the same, and says so later.
        monotonic.accept(&stale);
        assert_eq!(monotonic.seen(), at(B, 4));
        // What the old one still says to a call of before is no news, and to a later one it is refused.
        assert_eq!(monotonic.handle_answer(&old, at(A, 10), false), Ok(()));
        assert_eq!(monotonic.seen(), at(B, 4));
        assert!(told(&mut monotonic, at(A, 10), true).is_err());
    }

    #[test]
    fn a_cluster_that_went_back_is_accepted_once() {
        let mut monotonic = Monotonic::new(at(A, 9));
        let old = monotonic.floor();
        let stale = told(&mut monotonic, at(A, 3), false).expect_err("it went back");
        monotonic.accept(&stale);
        assert_eq!(told(&mut monotonic, at(A, 4), false), Ok(()));
        monotonic.accept(&stale);
        assert_eq!(monotonic.seen(), at(A, 4));
        // Of a revision that is lost nobody learns any more.
        assert_eq!(monotonic.handle_answer(&old, at(A, 9), false), Ok(()));
        assert_eq!(monotonic.seen(), at(A, 4));
    }

    #[test]
    fn what_a_watch_told_counts() {
        let mut monotonic = Monotonic::new(at(A, 2));
        monotonic.handle_told(Revision(8));
        assert!(told(&mut monotonic, at(A, 7), true).is_err());
    }
}
