//! What a refusal means for a watch: that it fares better when it is asked for once
//! more, that it is told no for good, or that nobody knows.
//!
//! The text decides where etcd is known to use it, then the gRPC code. A watch's
//! refusal has its code in the text: `rpc error: code = .. desc = ..`.

use crate::error::{Code, Delivery, Error, EtcdError, Origin};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The cause goes away by itself: no leader, a shutdown, too much to do.
    Passing,
    /// Unknown texts and codes, no text at all: tried again a few times.
    Unexplained,
    /// The same request gets the same answer.
    Final,
}

/// What etcd's store says of requests that no watch can be made of; without a prefix
/// and without a code (etcd's `mvcc`).
const FINAL_TEXTS: [&str; 2] = [
    "mvcc: watcher range is empty",
    "mvcc: duplicate watch ID provided on the WatchStream",
];

impl Verdict {
    /// Of the `cancel_reason` of a watch.
    pub(super) fn of_reason(reason: &str) -> Verdict {
        if let Some(etcd) = EtcdError::from_message(reason) {
            return Verdict::of_etcd(etcd);
        }
        match go_code(reason) {
            Some(code) => Verdict::of_code(code),
            None if FINAL_TEXTS.contains(&reason) => Verdict::Final,
            None => Verdict::Unexplained,
        }
    }

    fn of_etcd(etcd: EtcdError) -> Verdict {
        match etcd {
            // Another member serves it.
            EtcdError::NotLeader | EtcdError::NotSupportedForLearner => Verdict::Passing,
            _ if wants_new_token(etcd) => Verdict::Passing,
            _ => Verdict::of_code(etcd.code()),
        }
    }

    fn of_code(code: Code) -> Verdict {
        match code {
            Code::InvalidArgument
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented => Verdict::Final,
            Code::Unavailable
            | Code::Cancelled
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::DataLoss => Verdict::Passing,
            _ => Verdict::Unexplained,
        }
    }
}

/// Whether the refusal is of the token and not of the watch: whoever has the name and
/// the password fetches a new one, and asks again.
fn wants_new_token(etcd: EtcdError) -> bool {
    matches!(etcd, EtcdError::InvalidAuthToken | EtcdError::AuthOldRevision)
}

/// Whether another stream may fare better. What this side refuses to read it would
/// be sent again, and a server says for good what it does not serve.
pub(super) fn may_pass(error: &Error) -> bool {
    let verdict = match error.etcd() {
        Some(etcd) => Verdict::of_etcd(etcd),
        None => Verdict::of_code(error.code()),
    };
    verdict != Verdict::Final && !matches!(error.origin(), Origin::Caller | Origin::Library)
}

/// Whether the peer does not keep to the protocol, or speaks another one. That is this
/// side's finding, while a connection that was lost has its cause behind it.
pub(super) fn is_breach(error: &Error) -> bool {
    error.origin() == Origin::Transport
        && matches!(error.code(), Code::Internal | Code::Unknown)
        && std::error::Error::source(error).is_none()
}

/// The server does not keep to the protocol.
pub(super) fn breach(message: &'static str) -> Error {
    Error::new(Code::Internal, Origin::Transport, Delivery::Unknown, message)
}

/// The code in a gRPC error as Go prints it.
fn go_code(reason: &str) -> Option<Code> {
    let (name, _) = reason.strip_prefix("rpc error: code = ")?.split_once(' ')?;
    let code = match name {
        "Canceled" => Code::Cancelled,
        "InvalidArgument" => Code::InvalidArgument,
        "DeadlineExceeded" => Code::DeadlineExceeded,
        "PermissionDenied" => Code::PermissionDenied,
        "ResourceExhausted" => Code::ResourceExhausted,
        "Aborted" => Code::Aborted,
        "OutOfRange" => Code::OutOfRange,
        "Unimplemented" => Code::Unimplemented,
        "Unavailable" => Code::Unavailable,
        "DataLoss" => Code::DataLoss,
        "Unauthenticated" => Code::Unauthenticated,
        _ => Code::Unknown,
    };
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_decides_before_its_code_and_a_code_before_nothing() {
        let passing = [
            "etcdserver: no leader",
            "etcdserver: server stopped",
            "etcdserver: too many requests",
            "etcdserver: watch canceled",
            "etcdserver: rpc not supported for learner",
            "rpc error: code = Unknown desc = etcdserver: leader changed",
            "rpc error: code = Unavailable desc = something new",
            "rpc error: code = Canceled desc = context canceled",
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
            "rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old",
        ];
        let unexplained = [
            "",
            "something new",
            "rpc error: code = Internal desc = no",
            "rpc error: ",
        ];
        let refused = [
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
            "etcdserver: mvcc: required revision has been compacted",
            "etcdserver: key is not provided",
            "rpc error: code = InvalidArgument desc = something new",
            "mvcc: watcher range is empty",
        ];
        let verdicts = [
            (&passing[..], Verdict::Passing),
            (&unexplained[..], Verdict::Unexplained),
            (&refused[..], Verdict::Final),
        ];
        for (reasons, verdict) in verdicts {
            for reason in reasons {
                assert_eq!(Verdict::of_reason(reason), verdict, "{reason:?}");
            }
        }
    }

    #[test]
    fn a_stream_that_is_refused_a_token_may_pass_and_one_that_is_refused_otherwise_not() {
        let status = |code, text| Error::answered(code, text);
        assert!(may_pass(&status(
            Code::Unauthenticated,
            "etcdserver: invalid auth token"
        )));
        assert!(may_pass(&status(Code::Unavailable, "etcdserver: no leader")));
        assert!(!may_pass(&status(Code::Unauthenticated, "who are you")));
        assert!(!may_pass(&status(Code::Unknown, "etcdserver: permission denied")));
    }
}
