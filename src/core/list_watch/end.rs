//! Why a list and its watch ended.

use std::fmt;
use std::sync::Arc;

use crate::core::watch::WatchEnd;
use crate::error::{Code, Delivery, Error, Origin};

/// Why a list and its watch go on no more. It is the same from then on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ListWatchEnd {
    /// A page could not be read: the server refuses it for good, or it was the first
    /// one, of which nobody knows whether it will ever be answered.
    Read {
        /// Why.
        error: Arc<Error>,
    },
    /// The watch ended for a reason that another list would not mend.
    Watch {
        /// Why.
        end: WatchEnd,
    },
    /// The history was compacted again and again before a list could be followed.
    Compacted {
        /// How many times in a row it was listed again.
        relists: u32,
    },
    /// It was dropped, or the runtime that it ran on was shut down.
    Closed,
}

impl fmt::Display for ListWatchEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListWatchEnd::Read { .. } => f.write_str("the list could not be read"),
            ListWatchEnd::Watch { .. } => f.write_str("the watch behind the list ended"),
            ListWatchEnd::Compacted { relists } => {
                write!(
                    f,
                    "the history was compacted {relists} times before a list could be followed"
                )
            }
            ListWatchEnd::Closed => f.write_str("the list and its watch are closed"),
        }
    }
}

impl std::error::Error for ListWatchEnd {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ListWatchEnd::Read { error } => Some(error.as_ref()),
            ListWatchEnd::Watch { end } => Some(end),
            ListWatchEnd::Compacted { .. } | ListWatchEnd::Closed => None,
        }
    }
}

/// For callers that treat it like any other failed call.
impl From<ListWatchEnd> for Error {
    fn from(end: ListWatchEnd) -> Error {
        let library = |code, end: ListWatchEnd| {
            Error::new(code, Origin::Library, Delivery::Answered, end.to_string()).with_source(end)
        };
        match end {
            ListWatchEnd::Watch { end } => end.into(),
            ListWatchEnd::Read { ref error } => {
                let (code, origin, delivery) = (error.code(), error.origin(), error.delivery());
                let told =
                    Error::new(code, origin, delivery, error.message().to_owned()).of_the_call_of(error);
                told.with_etcd(error.etcd()).with_source(end)
            }
            ListWatchEnd::Compacted { .. } => library(Code::OutOfRange, end),
            ListWatchEnd::Closed => library(Code::Cancelled, end),
        }
    }
}
