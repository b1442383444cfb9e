//! A transaction that is sent until its answer is definite. Whoever sends one says how it does no harm
//! that copies of it are carried out as well.

use std::future::IntoFuture;

use super::refusal::lost;
use super::session::Session;
use crate::client::{Client, Txn};
use crate::error::{Code, Delivery, Error, EtcdError, Origin};
use crate::net::clock;
use crate::net::race::{Either, race};
use crate::pb::etcdserverpb::TxnResponse;

/// Sends the transaction until it is answered, or the session has ended. A server that cannot be
/// reached is no error until then.
///
/// `loose` is true from then on where a copy of it may be carried out behind the answer, or without
/// any: also where this future is dropped while one is under way.
pub(super) async fn definite<'a>(
    session: &'a Session,
    loose: &mut bool,
    txn: impl Fn() -> Txn<&'a Client>,
) -> Result<TxnResponse, Error> {
    let mut backoff = session.shared().backoff();
    loop {
        let was_loose = std::mem::replace(loose, true);
        let Either::Right(answer) = race(session.ended(), txn().into_future()).await else {
            return Err(ended(session));
        };
        let error = match answer {
            Ok(answer) => {
                *loose = was_loose;
                return Ok(answer);
            }
            Err(error) => error,
        };
        if error.delivery() != Delivery::Unknown {
            *loose = was_loose;
        }
        if error.etcd() == Some(EtcdError::LeaseNotFound) {
            session.shared().gone();
            return Err(ended(session));
        }
        if !may_pass(&error) {
            return Err(error);
        }
        let pause = clock::sleep_until(clock::now() + backoff.next_wait());
        if let Either::Left(_) = race(session.ended(), pause).await {
            return Err(ended(session));
        }
    }
}

/// What there is to say to whoever needs a session that is over.
pub(super) fn ended(session: &Session) -> Error {
    lost(session, "the session has ended")
}

/// The keys are not as they have to be.
pub(super) fn failed(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(
        Code::FailedPrecondition,
        Origin::Library,
        Delivery::Answered,
        message,
    )
}

/// Whether the next try may go better: the server could not be asked, or cannot do it now.
pub(super) fn may_pass(error: &Error) -> bool {
    let is_ours = error.origin() == Origin::Caller || error.is_oversize();
    let is_passing = error.delivery() != Delivery::Answered
        || matches!(error.code(), Code::Unavailable | Code::ResourceExhausted);
    // Space comes back when somebody makes some, which is not soon.
    is_passing && !is_ours && error.etcd() != Some(EtcdError::NoSpace)
}
