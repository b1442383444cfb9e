//! Why a mirror ended.

use std::fmt;
use std::sync::Arc;

use crate::core::watch::may_pass;
use crate::error::{Code, Delivery, Error, Origin};

/// Why a mirror goes on no more. It is the same from then on. Whatever the reason, the copy is as the
/// checkpoint says, and another mirror can go on from there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum MirrorEnd {
    /// Somebody else has written or deleted the checkpoint: another mirror has taken over.
    Superseded,
    /// The checkpoint was written by a mirror of another source, or of one that has lost revisions
    /// since, as a cluster restored from a snapshot has. See [`Mirror::resync`](crate::Mirror::resync).
    OtherSource {
        /// What differs.
        why: &'static str,
    },
    /// The source cannot be read.
    Source {
        /// Why.
        error: Arc<Error>,
    },
    /// The destination cannot be read or written.
    Destination {
        /// Why.
        error: Arc<Error>,
    },
    /// What was asked for cannot be; nothing was written.
    Refused {
        /// What is wrong with it.
        error: Arc<Error>,
    },
}

/// Why a step was not taken.
#[derive(Debug)]
pub enum Halt {
    /// It may go better a little later.
    Wait(Error),
    /// It never will.
    End(MirrorEnd),
}

impl Halt {
    /// A read or a watch of the source failed.
    #[must_use]
    pub fn of_source(error: Error) -> Halt {
        match may_pass(&error) {
            true => Halt::Wait(error),
            false => Halt::End(MirrorEnd::Source {
                error: Arc::new(error),
            }),
        }
    }

    /// A read or a transaction of the destination failed. It is sent again also where it may have
    /// been carried out: the checkpoint tells.
    #[must_use]
    pub fn of_destination(error: Error) -> Halt {
        match may_pass(&error) {
            true => Halt::Wait(error),
            false => Halt::End(MirrorEnd::Destination {
                error: Arc::new(error),
            }),
        }
    }

    /// The caller asked for what cannot be.
    #[must_use]
    pub fn refused(message: &'static str) -> Halt {
        Halt::End(MirrorEnd::Refused {
            error: Arc::new(Error::invalid(message)),
        })
    }
}

impl fmt::Display for MirrorEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MirrorEnd::Superseded => f.write_str("another mirror has taken over"),
            MirrorEnd::OtherSource { why } => write!(f, "the copy is of another source: {why}"),
            MirrorEnd::Source { .. } => f.write_str("the source of the mirror cannot be read"),
            MirrorEnd::Destination { .. } => f.write_str("the destination of the mirror cannot be used"),
            MirrorEnd::Refused { .. } => f.write_str("the mirror was refused"),
        }
    }
}

impl std::error::Error for MirrorEnd {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            MirrorEnd::Source { error } | MirrorEnd::Destination { error } | MirrorEnd::Refused { error } => {
                Some(error.as_ref())
            }
            MirrorEnd::Superseded | MirrorEnd::OtherSource { .. } => None,
        }
    }
}

/// For callers that treat it like any other failed call.
impl From<MirrorEnd> for Error {
    fn from(end: MirrorEnd) -> Error {
        match end {
            MirrorEnd::Source { ref error }
            | MirrorEnd::Destination { ref error }
            | MirrorEnd::Refused { ref error } => {
                let (code, origin, delivery) = (error.code(), error.origin(), error.delivery());
                let told =
                    Error::new(code, origin, delivery, error.message().to_owned()).of_the_call_of(error);
                told.with_etcd(error.etcd()).with_source(end)
            }
            MirrorEnd::Superseded | MirrorEnd::OtherSource { .. } => {
                let code = Code::FailedPrecondition;
                Error::new(code, Origin::Library, Delivery::Answered, end.to_string()).with_source(end)
            }
        }
    }
}
