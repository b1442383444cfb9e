//! Every text that etcd answers with, as an enum. The text decides and not the
//! code: two of them arrive as `Unknown` (etcd's `api/v3rpc/rpctypes`).

use super::Code;

/// Declares the enum and its table from one list, so that neither can lack a row.
macro_rules! etcd_errors {
    ($($(#[$doc:meta])* $name:ident = $code:ident, $text:literal;)*) => {
        /// What etcd said, one variant for each of its known error texts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum EtcdError {
            $($(#[$doc])* $name,)*
        }

        impl EtcdError {
            /// Every variant.
            pub const ALL: &'static [EtcdError] = &[$(EtcdError::$name,)*];

            /// The code that etcd documents for this error.
            #[must_use]
            pub fn code(self) -> Code {
                match self {
                    $(EtcdError::$name => Code::$code,)*
                }
            }

            /// The text, without the leading `etcdserver: `.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self {
                    $(EtcdError::$name => $text,)*
                }
            }

            fn from_text(text: &str) -> Option<EtcdError> {
                match text {
                    $($text => Some(EtcdError::$name),)*
                    _ => None,
                }
            }
        }
    };
}

const PREFIX: &str = "etcdserver: ";

impl EtcdError {
    /// The error that a status message stands for; `None` for a text that etcd's
    /// list does not have. A whole gRPC error as a watch's `cancel_reason`
    /// carries it (`rpc error: code = .. desc = ..`) is understood too, and so are the
    /// texts of the lock and election services, which lack etcd's prefix.
    #[must_use]
    pub fn from_message(message: &str) -> Option<EtcdError> {
        let message = match message.strip_prefix("rpc error: ") {
            Some(rest) => rest.split_once(" desc = ")?.1,
            None => message,
        };
        let text = message.strip_prefix(PREFIX).unwrap_or(message);
        EtcdError::from_text(text)
    }

    /// Whether the server says that it stopped waiting, so that a write may
    /// still be applied.
    #[must_use]
    pub fn leaves_fate_unknown(self) -> bool {
        matches!(
            self,
            EtcdError::LeaderChanged
                | EtcdError::Stopped
                | EtcdError::Timeout
                | EtcdError::TimeoutLeaderFailure
                | EtcdError::TimeoutConnectionLost
                | EtcdError::TimeoutWaitAppliedIndex
                | EtcdError::RequestCanceled
                | EtcdError::DeadlineExceeded
        )
    }
}

impl std::fmt::Display for EtcdError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

etcd_errors! {
    /// The request names no key.
    EmptyKey = InvalidArgument, "key is not provided";
    /// A put that keeps the value or the lease found no key.
    KeyNotFound = InvalidArgument, "key not found";
    /// A put that keeps the value brings one.
    ValueProvided = InvalidArgument, "value is provided";
    /// A put that keeps the lease brings one.
    LeaseProvided = InvalidArgument, "lease is provided";
    /// The transaction has more operations than the server takes (128 by default).
    TooManyOps = InvalidArgument, "too many operations in txn request";
    /// The transaction writes one key twice.
    DuplicateKey = InvalidArgument, "duplicate key given in txn request";
    /// The server does not understand the `client-api-version` it was told.
    InvalidClientApiVersion = InvalidArgument, "invalid client api version";
    /// The server does not know the sort order or target.
    InvalidSortOption = InvalidArgument, "invalid sort option";
    /// A member's URLs do not parse.
    InvalidMemberUrls = InvalidArgument, "given member URLs are invalid";
    /// The request is larger than the server takes (1.5 MiB by default).
    RequestTooLarge = InvalidArgument, "request is too large";
    /// No user name, or no token where one is needed.
    UserEmpty = InvalidArgument, "user name is empty";
    /// No role name.
    RoleEmpty = InvalidArgument, "role name is empty";
    /// Wrong user name or password.
    AuthFailed = InvalidArgument, "authentication failed, invalid user ID or password";
    /// The request brings no permission.
    PermissionNotGiven = InvalidArgument, "permission not given";
    /// The change would lock everybody out, such as deleting root.
    InvalidAuthManagement = InvalidArgument, "invalid auth management";
    /// The token is older than the last change of users and roles.
    AuthOldRevision = InvalidArgument, "revision of auth store is old";
    /// The target of the downgrade is no version.
    WrongDowngradeVersionFormat = InvalidArgument, "wrong downgrade target version format";
    /// The cluster cannot be downgraded to that version.
    InvalidDowngradeTargetVersion = InvalidArgument, "invalid downgrade target version";
    /// The revision was compacted away.
    Compacted = OutOfRange, "mvcc: required revision has been compacted";
    /// The revision lies ahead of the server's.
    FutureRevision = OutOfRange, "mvcc: required revision is a future revision";
    /// The TTL is above 9,000,000,000 seconds.
    LeaseTtlTooLarge = OutOfRange, "too large lease TTL";
    /// The database has reached its quota.
    NoSpace = ResourceExhausted, "mvcc: database space exceeded";
    /// The server has more proposals than it can apply. Arrives with the code `Unknown`.
    TooManyRequests = ResourceExhausted, "too many requests";
    /// The lease expired, was revoked, or never was.
    LeaseNotFound = NotFound, "requested lease not found";
    /// No member has that ID.
    MemberNotFound = NotFound, "member not found";
    /// A lease with the chosen ID exists.
    LeaseExists = FailedPrecondition, "lease already exists";
    /// A member with that ID exists.
    MemberExists = FailedPrecondition, "member ID already exist";
    /// Another member has these peer URLs.
    PeerUrlsExist = FailedPrecondition, "Peer URLs already exists";
    /// The change would leave the cluster without a quorum of started members. Arrives with the code `Unknown`.
    MemberNotEnoughStarted = FailedPrecondition, "re-configuration failed due to not enough started members";
    /// The member to promote is no learner.
    MemberNotLearner = FailedPrecondition, "can only promote a learner member";
    /// The learner has not caught up with the leader.
    LearnerNotReady = FailedPrecondition, "can only promote a learner member which is in sync with leader";
    /// The cluster has as many learners as it may.
    TooManyLearners = FailedPrecondition, "too many learner members in cluster";
    /// The member belongs to another cluster.
    ClusterIdMismatch = FailedPrecondition, "cluster ID mismatch";
    /// Authentication needs a user named root.
    RootUserNotFound = FailedPrecondition, "root user does not exist";
    /// The user root needs the role root.
    RootRoleNotFound = FailedPrecondition, "root user does not have root role";
    /// The user exists.
    UserExists = FailedPrecondition, "user name already exists";
    /// There is no such user.
    UserNotFound = FailedPrecondition, "user name not found";
    /// The role exists.
    RoleExists = FailedPrecondition, "role name already exists";
    /// There is no such role.
    RoleNotFound = FailedPrecondition, "role name not found";
    /// The user does not have the role.
    RoleNotGranted = FailedPrecondition, "role is not granted to the user";
    /// The role does not have the permission.
    PermissionNotGranted = FailedPrecondition, "permission is not granted to the role";
    /// The cluster asks nobody who they are.
    AuthNotEnabled = FailedPrecondition, "authentication is not enabled";
    /// Only the leader can do this.
    NotLeader = FailedPrecondition, "not leader";
    /// The cluster's version is too old for this.
    NotCapable = FailedPrecondition, "not capable";
    /// A learner does not serve this.
    NotSupportedForLearner = FailedPrecondition, "rpc not supported for learner";
    /// The member cannot become the leader.
    BadLeaderTransferee = FailedPrecondition, "bad leader transferee";
    /// The cluster's version is not known.
    ClusterVersionNotFound = FailedPrecondition, "cluster version not found during downgrade";
    /// A downgrade is under way.
    DowngradeInProgress = FailedPrecondition, "cluster has a downgrade job in progress";
    /// No downgrade is under way.
    NoDowngradeInProgress = FailedPrecondition, "no inflight downgrade job";
    /// The user's roles do not cover these keys.
    PermissionDenied = PermissionDenied, "permission denied";
    /// The token is wrong or has expired.
    InvalidAuthToken = Unauthenticated, "invalid auth token";
    /// The member sees no leader.
    NoLeader = Unavailable, "no leader";
    /// The leader changed while the request waited.
    LeaderChanged = Unavailable, "leader changed";
    /// The server is shutting down.
    Stopped = Unavailable, "server stopped";
    /// The server gave up waiting for consensus.
    Timeout = Unavailable, "request timed out";
    /// The server gave up waiting, and the leader had failed before.
    TimeoutLeaderFailure = Unavailable, "request timed out, possibly due to previous leader failure";
    /// The server gave up waiting, and had lost its peers.
    TimeoutConnectionLost = Unavailable, "request timed out, possibly due to connection lost";
    /// The server gave up waiting to catch up for a read.
    TimeoutWaitAppliedIndex = Unavailable, "request timed out, waiting for the applied index took too long";
    /// The cluster has no quorum to change its members.
    Unhealthy = Unavailable, "unhealthy cluster";
    /// The members' data differ.
    Corrupt = DataLoss, "corrupt cluster";
    /// The server ended the watch.
    WatchCanceled = Cancelled, "watch canceled";
    /// The request was given up, on this side or the server's.
    RequestCanceled = Cancelled, "request canceled";
    /// The deadline that the request carried was over.
    DeadlineExceeded = DeadlineExceeded, "context deadline exceeded";
    /// The server's lock service: the lease is gone. Arrives with the code `Unknown`.
    MutexSessionExpired = Unknown, "mutex: session is expired";
    /// The server's lock service: somebody holds the lock. Arrives with the code `Unknown`.
    MutexLocked = Unknown, "mutex: Locked by another session";
    /// The server's election service: nobody leads. Arrives with the code `Unknown`.
    ElectionNoLeader = Unknown, "election: no leader";
}

#[cfg(test)]
mod tests {
    use super::*;

    // The table of etcd's rpctypes, written out a second time on purpose: a slip
    // in the list above must not agree with itself.
    const TABLE: &[(Code, &[&str])] = &[
        (
            Code::InvalidArgument,
            &[
                "key is not provided",
                "key not found",
                "value is provided",
                "lease is provided",
                "too many operations in txn request",
                "duplicate key given in txn request",
                "invalid client api version",
                "invalid sort option",
                "given member URLs are invalid",
                "request is too large",
                "user name is empty",
                "role name is empty",
                "authentication failed, invalid user ID or password",
                "permission not given",
                "invalid auth management",
                "revision of auth store is old",
                "wrong downgrade target version format",
                "invalid downgrade target version",
            ],
        ),
        (
            Code::OutOfRange,
            &[
                "mvcc: required revision has been compacted",
                "mvcc: required revision is a future revision",
                "too large lease TTL",
            ],
        ),
        (
            Code::ResourceExhausted,
            &["mvcc: database space exceeded", "too many requests"],
        ),
        (Code::NotFound, &["requested lease not found", "member not found"]),
        (
            Code::FailedPrecondition,
            &[
                "lease already exists",
                "member ID already exist",
                "Peer URLs already exists",
                "re-configuration failed due to not enough started members",
                "can only promote a learner member",
                "can only promote a learner member which is in sync with leader",
                "too many learner members in cluster",
                "cluster ID mismatch",
                "root user does not exist",
                "root user does not have root role",
                "user name already exists",
                "user name not found",
                "role name already exists",
                "role name not found",
                "role is not granted to the user",
                "permission is not granted to the role",
                "authentication is not enabled",
                "not leader",
                "not capable",
                "rpc not supported for learner",
                "bad leader transferee",
                "cluster version not found during downgrade",
                "cluster has a downgrade job in progress",
                "no inflight downgrade job",
            ],
        ),
        (Code::PermissionDenied, &["permission denied"]),
        (Code::Unauthenticated, &["invalid auth token"]),
        (
            Code::Unavailable,
            &[
                "no leader",
                "leader changed",
                "server stopped",
                "request timed out",
                "request timed out, possibly due to previous leader failure",
                "request timed out, possibly due to connection lost",
                "request timed out, waiting for the applied index took too long",
                "unhealthy cluster",
            ],
        ),
        (Code::DataLoss, &["corrupt cluster"]),
        (Code::Cancelled, &["watch canceled", "request canceled"]),
        (Code::DeadlineExceeded, &["context deadline exceeded"]),
    ];

    #[test]
    fn every_text_of_etcd_is_known_with_its_code() {
        let mut seen = 0;
        for (code, texts) in TABLE {
            for text in *texts {
                let error = EtcdError::from_message(&format!("etcdserver: {text}"));
                let error = error.unwrap_or_else(|| panic!("{text} is not known"));
                assert_eq!((error.code(), error.text()), (*code, *text));
                seen += 1;
            }
        }
        let unmapped = [
            "mutex: session is expired",
            "mutex: Locked by another session",
            "election: no leader",
        ];
        for text in unmapped {
            let error = EtcdError::from_message(text).unwrap_or_else(|| panic!("{text} is not known"));
            assert_eq!((error.code(), error.text()), (Code::Unknown, text));
            seen += 1;
        }
        assert_eq!(seen, EtcdError::ALL.len(), "a variant stands outside the table");
    }

    #[test]
    fn every_text_is_its_own_value_in_whatever_form_and_with_whatever_code_it_arrives() {
        let mut texts = std::collections::HashSet::new();
        for etcd in EtcdError::ALL {
            assert!(texts.insert(etcd.text()), "{etcd:?} has another one's text");
            let prefixed = match etcd.text().split_once(": ") {
                Some(("mutex" | "election", _)) => etcd.text().to_owned(),
                _ => format!("{PREFIX}{etcd}"),
            };
            let wrapped = format!("rpc error: code = {:?} desc = {prefixed}", etcd.code());
            for code in [etcd.code(), Code::Unknown] {
                for message in [&prefixed, &wrapped] {
                    let error = crate::Error::answered(code, message.clone());
                    assert_eq!((error.etcd(), error.code()), (Some(*etcd), code), "{message}");
                }
            }
        }
    }

    #[test]
    fn a_cancel_reason_is_read_through_its_wrapping() {
        let reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        assert_eq!(EtcdError::from_message(reason), Some(EtcdError::PermissionDenied));
    }

    #[test]
    fn a_text_of_somebody_else_is_nobodys_variant() {
        for text in [
            "",
            "etcdserver: ",
            "etcdserver: something new",
            "rpc error: code = Unknown",
        ] {
            assert_eq!(EtcdError::from_message(text), None, "{text}");
        }
    }
}
