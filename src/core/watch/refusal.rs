//! What a refusal means for a watch: that it fares better when it is asked for once
//! more, that it is told no for good, or that nobody knows.
//!
//! The text decides where etcd is known to use it, then the gRPC code. A watch's
//! refusal has its code in the text: `rpc error: code = .. desc = ..`.

use crate::core::auth::is_token_refusal;
use crate::error::{Code, Delivery, Error, EtcdError, Origin};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Of the stream's token, which the client renews, and not of the watch.
    Token(EtcdError),
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
    pub(super) fn of_reason(reason: &str, renews_tokens: bool) -> Verdict {
        if let Some(etcd) = EtcdError::from_message(reason) {
            return Verdict::of_etcd(etcd, renews_tokens);
        }
        match go_code(reason) {
            Some(code) => Verdict::of_code(code),
            None if FINAL_TEXTS.contains(&reason) => Verdict::Final,
            None => Verdict::Unexplained,
        }
    }

    /// Of the end of a stream.
    pub(super) fn of_error(error: &Error, renews_tokens: bool) -> Verdict {
        // What this side refuses to read it would be sent again.
        if matches!(error.origin(), Origin::Caller | Origin::Library) {
            return Verdict::Final;
        }
        match error.etcd() {
            Some(etcd) => Verdict::of_etcd(etcd, renews_tokens),
            None => Verdict::of_code(error.code()),
        }
    }

    fn of_etcd(etcd: EtcdError, renews_tokens: bool) -> Verdict {
        match etcd {
            // Another member serves it.
            EtcdError::NotLeader | EtcdError::NotSupportedForLearner => Verdict::Passing,
            // Nobody has another one where the client does not fetch them.
            _ if is_token_refusal(etcd) && renews_tokens => Verdict::Token(etcd),
            _ if is_token_refusal(etcd) => Verdict::Final,
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

/// Whether a call or a stream that failed so may fare better a little later.
pub(in crate::core) fn may_pass(error: &Error) -> bool {
    let verdict = Verdict::of_error(error, true);
    error.is_timeout() || error.is_shed() || matches!(verdict, Verdict::Passing | Verdict::Token(_))
}

/// Whether the peer does not keep to the protocol, or speaks another one. That is this
/// side's finding, while a connection that was lost has its cause behind it.
pub(super) fn is_breach(error: &Error) -> bool {
    error.origin() == Origin::Transport
        && matches!(error.code(), Code::Internal | Code::Unknown)
        && std::error::Error::source(error).is_none()
}

/// What a server or a proxy in Go says of a message that is more than it may send or take.
const TOO_LARGE_TEXT: &str = "message larger than max";

/// Whether a message is more than this side, or somebody before it, takes: in pieces it may
/// come through, and else it never will.
pub(super) fn is_too_large(error: &Error) -> bool {
    let is_said = error.origin() == Origin::Library || error.message().contains(TOO_LARGE_TEXT);
    error.code() == Code::ResourceExhausted && is_said
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
        ];
        let tokens = [
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
            "rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old",
            "rpc error: code = InvalidArgument desc = etcdserver: user name is empty",
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
                assert_eq!(Verdict::of_reason(reason, true), verdict, "{reason:?}");
                assert_eq!(Verdict::of_reason(reason, false), verdict, "{reason:?}");
            }
        }
        for reason in tokens {
            let renewed = Verdict::of_reason(reason, true);
            assert!(matches!(renewed, Verdict::Token(_)), "{reason:?}");
            assert_eq!(Verdict::of_reason(reason, false), Verdict::Final, "{reason:?}");
        }
    }

    #[test]
    fn a_stream_that_is_refused_a_token_may_pass_and_one_that_is_refused_otherwise_not() {
        let status = |code, text| Error::answered(code, text);
        let of = |error: Error| Verdict::of_error(&error, true);
        let token = || status(Code::Unauthenticated, "etcdserver: invalid auth token");
        assert_eq!(of(token()), Verdict::Token(EtcdError::InvalidAuthToken));
        assert_eq!(Verdict::of_error(&token(), false), Verdict::Final);
        assert_eq!(
            of(status(Code::Unavailable, "etcdserver: no leader")),
            Verdict::Passing
        );
        assert_eq!(of(status(Code::Unauthenticated, "who are you")), Verdict::Final);
        assert_eq!(
            of(status(Code::Unknown, "etcdserver: permission denied")),
            Verdict::Final
        );
    }
}
