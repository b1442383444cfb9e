//! Why an answer is not believed in, as a value to branch on.

use std::error::Error as StdError;
use std::fmt;

use super::{Code, Delivery, Error, EtcdError, Origin};
use crate::types::Revision;

/// Why a client that [never goes back](crate::Client::monotonic) refused an answer;
/// [`Error::stale`] finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stale {
    /// The member that answered from what it has lags behind: it is alive, and knows less than was
    /// seen before. Others were asked, where there was time.
    Behind {
        /// What had been seen when the call began.
        seen: Revision,
        /// What the member has.
        found: Revision,
    },
    /// The cluster answered as a whole, and has lost revisions: it was restored from a snapshot.
    WentBack {
        /// What had been seen when the call began.
        seen: Revision,
        /// What the cluster has.
        found: Revision,
    },
    /// Another cluster answered: one that was restored, or one behind the same address.
    OtherCluster {
        /// The cluster that was seen before.
        expected: u64,
        /// The one that answered.
        found: u64,
        /// The revision of that one.
        revision: Revision,
    },
}

impl Stale {
    /// The refusal as a call's error. Of a member that lags it is known that it did nothing: it was
    /// only asked to read. A write to a cluster that is not the one that was meant was carried out there.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Stale::Behind { .. } => {
                let message = "the member that answered lags behind what was seen before";
                Error::new(Code::Unavailable, Origin::Server, Delivery::Answered, message)
            }
            Stale::WentBack { .. } => {
                let message = "the cluster has lost revisions that were seen before";
                Error::new(Code::DataLoss, Origin::Server, Delivery::Unknown, message)
            }
            Stale::OtherCluster { .. } => {
                let message = "another cluster answered than the one that was seen before";
                let code = Code::FailedPrecondition;
                Error::new(code, Origin::Server, Delivery::Unknown, message)
                    .with_etcd(Some(EtcdError::ClusterIdMismatch))
            }
        }
        .with_source(self)
    }
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stale::Behind { seen, found } | Stale::WentBack { seen, found } => {
                write!(f, "revision {seen} was seen, and this is {found}")
            }
            Stale::OtherCluster {
                expected,
                found,
                revision,
            } => write!(
                f,
                "cluster {expected:x} was seen, and this is {found:x} at revision {revision}"
            ),
        }
    }
}

impl StdError for Stale {}

/// The refusal in a chain of causes.
pub(super) fn stale_in(error: &(dyn StdError + 'static)) -> Option<Stale> {
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(stale) = error.downcast_ref::<Stale>() {
            return Some(*stale);
        }
        link = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_found_beneath_other_causes_and_says_what_became_of_a_write() {
        let behind = Stale::Behind {
            seen: Revision(7),
            found: Revision(5),
        };
        let outer = Error::invalid("no time").with_source(behind.into_error());
        assert_eq!(outer.stale(), Some(behind));
        assert!(!behind.into_error().may_be_applied());
        let back = Stale::WentBack {
            seen: Revision(7),
            found: Revision(5),
        };
        assert!(back.into_error().may_be_applied());
        assert_eq!(Error::invalid("something else").stale(), None);
    }
}
