//! The one error of this crate: what happened, who is at fault, whether the
//! request may have been applied, where it went, and the cause beneath it.
//!
//! [`Error`] is one word wide, so that a `Result` of it costs a call nothing.
//! The texts that etcd answers with are [`EtcdError`], in `error/etcd.rs`.

mod etcd;
mod stale;
#[cfg(feature = "tls")]
mod tls;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

pub use etcd::EtcdError;
pub use stale::Stale;
#[cfg(feature = "tls")]
pub(crate) use tls::TlsError;
#[cfg(feature = "tls")]
pub use tls::TlsFailure;

/// What went wrong with a call, and what is known of its fate.
///
/// Branch on [`Error::etcd`] for what the server said, on [`Error::delivery`]
/// for whether a write may have been applied, and on [`Error::code`] for the
/// rest. The chain of [`std::error::Error::source`] leads to the cause.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    origin: Origin,
    delivery: Delivery,
    etcd: Option<EtcdError>,
    message: Cow<'static, str>,
    method: Option<&'static str>,
    endpoint: Option<Arc<str>>,
    attempts: u32,
    is_repeatable: bool,
    is_lost: bool,
    is_shed: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The status codes of gRPC (`doc/statuscodes.md` of the gRPC repository).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Code {
    /// Not an error.
    Ok = 0,
    /// Somebody gave the call up.
    Cancelled = 1,
    /// No better code is known.
    Unknown = 2,
    /// The request is wrong whatever the state of the server.
    InvalidArgument = 3,
    /// The time for the call was over.
    DeadlineExceeded = 4,
    /// What the request names is not there.
    NotFound = 5,
    /// What the request would create is there already.
    AlreadyExists = 6,
    /// The user may not do this.
    PermissionDenied = 7,
    /// A quota or a limit of size is used up.
    ResourceExhausted = 8,
    /// The state of the server forbids the request.
    FailedPrecondition = 9,
    /// A conflict with another request.
    Aborted = 10,
    /// A number lies outside the valid range, such as a compacted revision.
    OutOfRange = 11,
    /// The server does not know the method or the encoding.
    Unimplemented = 12,
    /// Somebody broke the protocol.
    Internal = 13,
    /// The server cannot be reached or cannot serve at the moment.
    Unavailable = 14,
    /// The server lost data.
    DataLoss = 15,
    /// The server does not know who is calling.
    Unauthenticated = 16,
}

impl Code {
    /// The code of this number; [`Code::Unknown`] for one that gRPC does not define.
    #[must_use]
    pub fn from_number(number: u32) -> Code {
        const CODES: [Code; 17] = [
            Code::Ok,
            Code::Cancelled,
            Code::Unknown,
            Code::InvalidArgument,
            Code::DeadlineExceeded,
            Code::NotFound,
            Code::AlreadyExists,
            Code::PermissionDenied,
            Code::ResourceExhausted,
            Code::FailedPrecondition,
            Code::Aborted,
            Code::OutOfRange,
            Code::Unimplemented,
            Code::Internal,
            Code::Unavailable,
            Code::DataLoss,
            Code::Unauthenticated,
        ];
        usize::try_from(number)
            .ok()
            .and_then(|index| CODES.get(index).copied())
            .unwrap_or(Code::Unknown)
    }
}

impl Code {
    /// Whether a server that answers so has looked at the request and refused it.
    /// The other codes are also used for what happened on the way.
    fn is_refusal(self) -> bool {
        matches!(
            self,
            Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::Unimplemented
                | Code::Unauthenticated
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Whose fault an error is, as far as this side can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// The arguments, or the use of something that is over.
    Caller,
    /// This crate gave up: a deadline, a limit, a lost lease.
    Library,
    /// The network, the connection, or a peer that does not speak gRPC.
    Transport,
    /// The server answered with a status.
    Server,
}

/// How far a request came. A write with [`Delivery::Unknown`] may have been
/// applied, once, now or later; this crate never sends a call of yours again by
/// itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// The server has not processed the request and never will.
    NotSent,
    /// The request left, and no answer tells what became of it.
    Unknown,
    /// The server answered.
    Answered,
}

impl Error {
    #[cold]
    pub(crate) fn new(
        code: Code,
        origin: Origin,
        delivery: Delivery,
        message: impl Into<Cow<'static, str>>,
    ) -> Error {
        Error(Box::new(Inner {
            code,
            origin,
            delivery,
            etcd: None,
            message: message.into(),
            method: None,
            endpoint: None,
            attempts: 0,
            is_repeatable: false,
            is_lost: false,
            is_shed: false,
            source: None,
        }))
    }

    /// The caller asked for what cannot be; nothing was sent.
    #[cold]
    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Code::InvalidArgument, Origin::Caller, Delivery::NotSent, message)
    }

    /// There was no way to send it: no connection, or one that takes nothing more.
    #[cold]
    pub(crate) fn unsent(origin: Origin, message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Code::Unavailable, origin, Delivery::NotSent, message)
    }

    /// The time was over before there was a way to send it.
    #[cold]
    pub(crate) fn unsent_in_time(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(
            Code::DeadlineExceeded,
            Origin::Library,
            Delivery::NotSent,
            message,
        )
    }

    /// So many calls are in flight that this one is refused.
    #[cold]
    pub(crate) fn shed(calls_max: usize) -> Error {
        let message = format!("{calls_max} calls are in flight, which is all that Config::calls_max allows");
        let mut error = Error::new(
            Code::ResourceExhausted,
            Origin::Library,
            Delivery::NotSent,
            message,
        );
        error.0.is_shed = true;
        error
    }

    /// The server answered with this status. The text decides what it means; a
    /// few texts arrive with another code than the one etcd documents.
    #[cold]
    pub(crate) fn answered(code: Code, message: impl Into<Cow<'static, str>>) -> Error {
        let message = message.into();
        let etcd = EtcdError::from_message(&message);
        // Some say that somebody gave up waiting, not what became of the request:
        // etcd's own texts tell, and of a proxy's the codes that mean a refusal.
        let is_refusal = match etcd {
            Some(etcd) => !etcd.leaves_fate_unknown(),
            None => code.is_refusal(),
        };
        let delivery = if is_refusal {
            Delivery::Answered
        } else {
            Delivery::Unknown
        };
        let mut error = Error::new(code, Origin::Server, delivery, message);
        error.0.etcd = etcd;
        error
    }

    #[cold]
    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.0.source = Some(source.into());
        self
    }

    /// What is known of the request's fate by more than this failure.
    pub(crate) fn with_delivery(mut self, delivery: Delivery) -> Error {
        self.0.delivery = delivery;
        self
    }

    /// Says which call this was and where it went.
    #[cold]
    pub(crate) fn with_call(mut self, method: &'static str, endpoint: Option<Arc<str>>) -> Error {
        self.0.method = Some(method);
        self.0.endpoint = endpoint;
        self
    }

    /// Says how often the request was handed to a connection.
    pub(crate) fn with_attempts(mut self, attempts: u32) -> Error {
        self.0.attempts = attempts;
        self
    }

    /// The call may be sent again whatever became of it: a read, or a renewal.
    /// Nobody has to ask whether it was applied.
    pub(crate) fn repeatable(mut self) -> Error {
        self.0.is_repeatable = true;
        self
    }

    /// What was held is ours no more.
    pub(crate) fn lost(message: impl Into<Cow<'static, str>>) -> Error {
        let mut error = Error::new(
            Code::FailedPrecondition,
            Origin::Library,
            Delivery::Answered,
            message,
        );
        error.0.is_lost = true;
        error
    }

    /// Says what etcd said, where this error repeats it.
    pub(crate) fn with_etcd(mut self, etcd: Option<EtcdError>) -> Error {
        self.0.etcd = etcd;
        self
    }

    /// Another error for the same call at the same endpoint.
    pub(crate) fn of_the_call_of(mut self, other: &Error) -> Error {
        self.0.method = other.0.method;
        self.0.endpoint.clone_from(&other.0.endpoint);
        self.0.attempts = other.0.attempts;
        self.0.is_repeatable = other.0.is_repeatable;
        self
    }

    /// The gRPC code: the server's own, or the nearest for an error of this side.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Whose fault it is.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.0.origin
    }

    /// How far the request came.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.0.delivery
    }

    /// What etcd said, where it used one of its known texts.
    #[must_use]
    pub fn etcd(&self) -> Option<EtcdError> {
        self.0.etcd
    }

    /// What happened, without the call and the endpoint.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The gRPC path of the call, such as `/etcdserverpb.KV/Put`.
    #[must_use]
    pub fn method(&self) -> Option<&'static str> {
        self.0.method
    }

    /// The endpoint that the last attempt went to, or would have gone to.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.0.endpoint.as_deref()
    }

    /// How often the request was handed to a connection: 0 where none was ready.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Whether the time for the call was over, on this side or on the server's.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.0.code == Code::DeadlineExceeded
    }

    /// Why TLS failed, where that is why there is no connection.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(&self) -> Option<TlsFailure> {
        tls::failure_in(self)
    }

    /// Why a client that [never goes back](crate::Client::monotonic) refused the answer, where that is why.
    #[must_use]
    pub fn stale(&self) -> Option<Stale> {
        stale::stale_in(self)
    }

    /// Whether a lock, a leadership, or whatever else was held is ours no more, which
    /// is certain. Where its session has ended, the source says why.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.0.is_lost
    }

    /// Whether the call was refused by this client itself, since as many were in flight as
    /// [`Config::calls_max`](crate::Config::calls_max) allows. Nothing was sent.
    #[must_use]
    pub fn is_shed(&self) -> bool {
        self.0.is_shed
    }

    /// An answer was larger than this side takes, and will be the next time.
    pub(crate) fn is_oversize(&self) -> bool {
        self.0.code == Code::ResourceExhausted && self.0.origin == Origin::Library && !self.0.is_shed
    }

    /// Whether the write of this call may have been applied all the same.
    #[must_use]
    pub fn may_be_applied(&self) -> bool {
        self.0.delivery == Delivery::Unknown && !self.0.is_repeatable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(method) = inner.method {
            write!(f, "{}", method.trim_start_matches('/'))?;
            if let Some(endpoint) = &inner.endpoint {
                write!(f, " at {endpoint}")?;
            }
            write!(f, ": ")?;
        }
        one_line(f, &inner.message)?;
        write!(f, " ({}", inner.code)?;
        match inner.delivery {
            Delivery::NotSent => write!(f, ", not sent")?,
            Delivery::Unknown if !inner.is_repeatable => write!(f, ", may have been applied")?,
            Delivery::Unknown | Delivery::Answered => {}
        }
        if inner.attempts > 1 {
            write!(f, ", {} attempts", inner.attempts)?;
        }
        write!(f, ")")
    }
}

/// What a server says must not pass for another line of a log.
fn one_line(f: &mut fmt::Formatter<'_>, message: &str) -> fmt::Result {
    for part in message.split_inclusive(char::is_control) {
        match part.char_indices().next_back() {
            Some((at, last)) if last.is_control() => write!(f, "{}{}", &part[..at], last.escape_default())?,
            _ => f.write_str(part)?,
        }
    }
    Ok(())
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.debug_struct("Error")
            .field("code", &inner.code)
            .field("origin", &inner.origin)
            .field("delivery", &inner.delivery)
            .field("etcd", &inner.etcd)
            .field("message", &inner.message)
            .field("method", &inner.method)
            .field("endpoint", &inner.endpoint)
            .field("attempts", &inner.attempts)
            .field("source", &inner.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.0.source.as_deref()?;
        Some(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<(), Error>>(), size_of::<usize>());
    }

    #[test]
    fn every_number_has_its_code_and_strangers_are_unknown() {
        for number in 0..17 {
            assert_eq!(Code::from_number(number) as u32, number);
        }
        assert_eq!(Code::from_number(17), Code::Unknown);
        assert_eq!(Code::from_number(u32::MAX), Code::Unknown);
    }

    #[test]
    fn what_a_server_says_stays_on_one_line() {
        let error = Error::answered(Code::Unknown, "etcdserver: no\r\n2026 INFO all is \u{1b}[31mwell");
        let said = error.to_string();
        assert_eq!(
            said,
            "etcdserver: no\\r\\n2026 INFO all is \\u{1b}[31mwell (Unknown, may have been applied)"
        );
    }

    #[test]
    fn says_what_where_how_often_and_why() {
        let cause = std::io::Error::other("connection refused");
        let error = Error::new(
            Code::Unavailable,
            Origin::Transport,
            Delivery::Unknown,
            "connection lost",
        )
        .with_source(cause)
        .with_call("/etcdserverpb.KV/Put", Some("http://a:2379".into()))
        .with_attempts(2);
        assert_eq!(
            error.to_string(),
            "etcdserverpb.KV/Put at http://a:2379: connection lost (Unavailable, may have been applied, 2 attempts)"
        );
        assert_eq!(
            error.source().map(ToString::to_string).as_deref(),
            Some("connection refused")
        );
        assert!(error.may_be_applied() && !error.is_timeout());
        assert!(!error.repeatable().may_be_applied());
    }

    #[test]
    fn a_server_that_gave_up_leaves_the_fate_of_a_write_open() {
        let timed_out = Error::answered(Code::Unavailable, "etcdserver: request timed out");
        assert_eq!(timed_out.delivery(), Delivery::Unknown);
        for lost in ["error reading from server: EOF", "transport is closing"] {
            assert_eq!(
                Error::answered(Code::Unavailable, lost).delivery(),
                Delivery::Unknown
            );
        }
        let stranger = Error::answered(Code::InvalidArgument, "something new");
        assert_eq!(stranger.delivery(), Delivery::Answered);
        let refused = Error::answered(Code::NotFound, "etcdserver: requested lease not found");
        assert_eq!(refused.delivery(), Delivery::Answered);
        assert_eq!(refused.etcd(), Some(EtcdError::LeaseNotFound));
    }
}
