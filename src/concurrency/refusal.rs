//! Why something was not had, or is not any more, as the errors that users see.

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
        Failure::KeyDeleted => aborted("somebody deleted our place in the queue"),
        Failure::KeyTaken => aborted("our key hangs on somebody else's lease"),
        Failure::Busy => aborted("somebody else has it"),
    }
}

/// It is over; the source says why the session ended, if it did.
pub(super) fn lost(session: &Session, message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    let error = Error::lost(message);
    match session.shared().lease().end() {
        Some(end) => error.with_source(end),
        None => error,
    }
}
