//! What etcd refuses, each with the code and the text that its servers send.
//! The texts are etcd's own: clients tell errors apart by them.

use std::fmt;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    EmptyKey,
    KeyNotFound,
    ValueProvided,
    LeaseProvided,
    TooManyOperations,
    DuplicateKey,
    InvalidSortOption,
    RequestTooLarge,
    Compacted,
    FutureRevision,
    LeaseTtlTooLarge,
    LeaseNotFound,
    LeaseExists,
    TooManyRequests,
    TimedOut,
    AuthNotEnabled,
}

impl Error {
    /// The gRPC status code.
    pub(crate) fn code(self) -> Code {
        match self {
            Error::EmptyKey
            | Error::KeyNotFound
            | Error::ValueProvided
            | Error::LeaseProvided
            | Error::TooManyOperations
            | Error::DuplicateKey
            | Error::InvalidSortOption
            | Error::RequestTooLarge => Code::InvalidArgument,
            Error::Compacted | Error::FutureRevision | Error::LeaseTtlTooLarge => Code::OutOfRange,
            Error::LeaseNotFound => Code::NotFound,
            Error::LeaseExists | Error::AuthNotEnabled => Code::FailedPrecondition,
            // etcd has a code for it, and does not send it.
            Error::TooManyRequests => Code::Unknown,
            Error::TimedOut => Code::Unavailable,
        }
    }

    /// The text without the prefix that every one of them has.
    fn text(self) -> &'static str {
        match self {
            Error::EmptyKey => "key is not provided",
            Error::KeyNotFound => "key not found",
            Error::ValueProvided => "value is provided",
            Error::LeaseProvided => "lease is provided",
            Error::TooManyOperations => "too many operations in txn request",
            Error::DuplicateKey => "duplicate key given in txn request",
            Error::InvalidSortOption => "invalid sort option",
            Error::RequestTooLarge => "request is too large",
            Error::Compacted => "mvcc: required revision has been compacted",
            Error::FutureRevision => "mvcc: required revision is a future revision",
            Error::LeaseTtlTooLarge => "too large lease TTL",
            Error::LeaseNotFound => "requested lease not found",
            Error::LeaseExists => "lease already exists",
            Error::TooManyRequests => "too many requests",
            Error::TimedOut => "request timed out",
            Error::AuthNotEnabled => "authentication is not enabled",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcdserver: {}", self.text())
    }
}

/// The gRPC codes that this server refuses with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Unknown = 2,
    InvalidArgument = 3,
    NotFound = 5,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}
