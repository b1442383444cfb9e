//! Why a watch ended, with what it takes to go on.

use std::fmt;
use std::sync::Arc;

use crate::error::{Code, Delivery, Error, EtcdError, Origin};
use crate::types::Revision;

use super::reopen::BREACHES_MAX;

/// Why a watch ended. It ends once: every later read says the same.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WatchEnd {
    /// The history that the watch still had to see was compacted away. What happened
    /// in it can no longer be told: read the range, then watch what follows.
    Compacted {
        /// The first revision that can still be watched.
        compact_revision: Revision,
    },
    /// The server refused the watch or ended it.
    Canceled {
        /// What the server said; may be empty.
        reason: String,
        /// The same, where it is one of etcd's known texts.
        etcd: Option<EtcdError>,
        /// Where a new watch has to start so that nothing is lost and nothing repeated.
        resume_revision: Revision,
    },
    /// The reader was slower than the events for so long that the watch's buffer was full.
    Lagged {
        /// Where a new watch has to start so that nothing is lost and nothing repeated.
        resume_revision: Revision,
    },
    /// A single revision's events do not fit into the watch's buffer.
    TooLarge {
        /// That revision; everything before it was handed out. A new watch from here
        /// needs a larger buffer.
        revision: Revision,
        /// The size of the buffer.
        buffer_bytes: usize,
    },
    /// No stream was to be had in time; or the one that carried the watch is gone, and
    /// it does not resume, or the reason is there to stay: the server serves no
    /// watches to this client, or sends what this client refuses to read.
    Disconnected {
        /// What ended the stream, or kept it from being opened.
        error: Arc<Error>,
        /// Where a new watch has to start so that nothing is lost and nothing
        /// repeated. Zero where a watch from "now" was never created.
        resume_revision: Revision,
    },
    /// The server, or something on the way to it, broke the protocol on one stream after
    /// another, with no event in between. The watch would have gone on else.
    Breached {
        /// What was wrong the last time.
        error: Arc<Error>,
        /// How often in a row.
        breaches: u32,
        /// As in [`WatchEnd::Disconnected`].
        resume_revision: Revision,
    },
    /// The server that it would have gone on at is of another cluster. Nothing of that was
    /// handed out: its revisions have nothing to do with those before.
    OtherCluster {
        /// The id of the cluster that the watch began in.
        expected: u64,
        /// The id of the other one.
        found: u64,
    },
    /// The watch was refused on this side; nothing was sent.
    Refused {
        /// What is wrong with it.
        error: Arc<Error>,
    },
    /// The watch was cancelled on this side, or the runtime it ran on was shut down.
    Closed,
}

impl WatchEnd {
    /// Where a new watch has to start so that nothing is lost and nothing repeated,
    /// where that is possible.
    #[must_use]
    pub fn resume_revision(&self) -> Option<Revision> {
        match *self {
            WatchEnd::Canceled { resume_revision, .. }
            | WatchEnd::Lagged { resume_revision }
            | WatchEnd::Disconnected { resume_revision, .. }
            | WatchEnd::Breached { resume_revision, .. } => Some(resume_revision),
            WatchEnd::TooLarge { revision, .. } => Some(revision),
            WatchEnd::Compacted { .. }
            | WatchEnd::OtherCluster { .. }
            | WatchEnd::Refused { .. }
            | WatchEnd::Closed => None,
        }
    }

    pub(crate) fn disconnected(error: &Arc<Error>, resume_revision: Revision) -> WatchEnd {
        WatchEnd::Disconnected {
            error: Arc::clone(error),
            resume_revision,
        }
    }

    pub(super) fn breached(error: &Arc<Error>, resume_revision: Revision) -> WatchEnd {
        WatchEnd::Breached {
            error: Arc::clone(error),
            breaches: BREACHES_MAX,
            resume_revision,
        }
    }

    pub(crate) fn refused(error: Error) -> WatchEnd {
        let error = Arc::new(error);
        WatchEnd::Refused { error }
    }

    pub(crate) fn too_many() -> WatchEnd {
        let message = "too many watches on one client";
        WatchEnd::refused(Error::new(
            Code::ResourceExhausted,
            Origin::Library,
            Delivery::NotSent,
            message,
        ))
    }
}

impl fmt::Display for WatchEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WatchEnd::Compacted { compact_revision } => {
                write!(
                    f,
                    "the watched history before revision {compact_revision} was compacted"
                )
            }
            WatchEnd::Canceled { reason, .. } if reason.is_empty() => {
                f.write_str("the server canceled the watch")
            }
            WatchEnd::Canceled { reason, .. } => write!(f, "the server canceled the watch: {reason}"),
            WatchEnd::Lagged { resume_revision } => {
                write!(
                    f,
                    "the watch's buffer is full: its reader fell behind at revision {resume_revision}"
                )
            }
            WatchEnd::TooLarge {
                revision,
                buffer_bytes,
            } => write!(
                f,
                "the events of revision {revision} do not fit into the watch's buffer of {buffer_bytes} bytes"
            ),
            WatchEnd::Disconnected { .. } => f.write_str("the watch lost its stream"),
            WatchEnd::Breached { breaches, .. } => {
                write!(
                    f,
                    "the watch's server broke the protocol {breaches} times in a row"
                )
            }
            WatchEnd::OtherCluster { expected, found } => write!(
                f,
                "the watch of cluster {expected:x} came to a server of cluster {found:x}"
            ),
            WatchEnd::Refused { .. } => f.write_str("the watch was refused"),
            WatchEnd::Closed => f.write_str("the watch is closed"),
        }
    }
}

impl std::error::Error for WatchEnd {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WatchEnd::Disconnected { error, .. }
            | WatchEnd::Breached { error, .. }
            | WatchEnd::Refused { error } => Some(error.as_ref()),
            _ => None,
        }
    }
}

/// For callers that treat the end of a watch like any other failed call.
impl From<WatchEnd> for Error {
    fn from(end: WatchEnd) -> Error {
        let library = |code, end: WatchEnd| {
            Error::new(code, Origin::Library, Delivery::Answered, end.to_string()).with_source(end)
        };
        match end {
            WatchEnd::Canceled { reason, etcd, .. } => {
                Error::answered(etcd.map_or(Code::Unknown, EtcdError::code), reason)
            }
            WatchEnd::Disconnected { ref error, .. }
            | WatchEnd::Breached { ref error, .. }
            | WatchEnd::Refused { ref error } => {
                let (code, origin, delivery) = (error.code(), error.origin(), error.delivery());
                let told =
                    Error::new(code, origin, delivery, error.message().to_owned()).of_the_call_of(error);
                told.with_etcd(error.etcd()).with_source(end)
            }
            WatchEnd::Compacted { .. } => library(Code::OutOfRange, end),
            WatchEnd::Lagged { .. } | WatchEnd::TooLarge { .. } => library(Code::ResourceExhausted, end),
            WatchEnd::OtherCluster { .. } => {
                library(Code::FailedPrecondition, end).with_etcd(Some(EtcdError::ClusterIdMismatch))
            }
            WatchEnd::Closed => library(Code::Cancelled, end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_converts_into_an_error_that_says_as_much() {
        let lost = Error::new(Code::Unavailable, Origin::Transport, Delivery::Unknown, "reset");
        let end = WatchEnd::disconnected(&Arc::new(lost), Revision(7));
        assert_eq!(end.resume_revision(), Some(Revision(7)));
        let error = Error::from(end);
        assert_eq!(
            (error.code(), error.origin()),
            (Code::Unavailable, Origin::Transport)
        );
        let source = std::error::Error::source(&error).unwrap();
        assert!(source.is::<WatchEnd>());
        assert!(source.source().unwrap().to_string().contains("reset"));
        let reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied".to_owned();
        let etcd = EtcdError::from_message(&reason);
        let error = Error::from(WatchEnd::Canceled {
            reason,
            etcd,
            resume_revision: Revision::ZERO,
        });
        assert_eq!(error.code(), Code::PermissionDenied);
        assert_eq!(error.etcd(), Some(EtcdError::PermissionDenied));
    }
}
