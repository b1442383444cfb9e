//! Why something was not had, or is not any more, as the errors that users see.

use std::borrow::Cow;

use super::lost::Lost;
use super::session::Session;
use crate::core::lock::Failure;
use crate::error::{Code, Delivery, Error, Origin};

/// What a failed attempt at `name` ends in.
pub(super) fn refused(session: &Session, name: &str, failure: Failure) -> Error {
    let aborted = |why| {
        let message = format!("lock {name:?}: {why}");
        Error::new(Code::Aborted, Origin::Library, Delivery::Answered, message)
    };
    match failure {
        Failure::SessionEnded => lost(session, format!("lock {name:?}: the session has ended")),
        Failure::KeyDeleted => aborted("somebody deleted our place in the queue, or took it over"),
        Failure::KeyTaken => aborted("our key hangs on another session's lease"),
        Failure::Busy => aborted("somebody else has it"),
    }
}

/// It is over; the source says why the session ended, if it did.
pub(super) fn lost(session: &Session, message: impl Into<Cow<'static, str>>) -> Error {
    lost_by(session, None, message)
}

/// As [`lost`]; where the session goes on, the source is `why`.
pub(super) fn lost_by(session: &Session, why: Option<Lost>, message: impl Into<Cow<'static, str>>) -> Error {
    let error = Error::lost(message);
    match (session.shared().lease().end(), why) {
        (Some(end), _) => error.with_source(end),
        (None, Some(why)) => error.with_source(why),
        (None, None) => error,
    }
}
