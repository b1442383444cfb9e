//! The methods of the servers: where each lives, who sends how much, and whether
//! it may be sent again.

use std::sync::LazyLock;

use http::uri::PathAndQuery;

/// A method of a gRPC service.
#[derive(Debug)]
pub struct Method {
    /// The path of its calls, such as `/etcdserverpb.KV/Put`.
    pub path: &'static str,
    /// Who sends how many messages.
    pub kind: Kind,
    /// Whether a call may be sent again although the server may have processed
    /// it: a second one changes nothing and answers as well as the first would
    /// have. So it is with reads, with renewing a lease and with asking for a
    /// token. A method without it is sent again only when the server provably
    /// did not process it, or when the caller says that the request is idempotent.
    ///
    /// A stream may be opened anew; what it has delivered already is for the one
    /// who reads it to leave out.
    pub safe_to_retry: bool,
    /// Whether the member that is asked answers for itself, with a leader or without. A
    /// call of any other method asks for one: see [`super::Metadata::set_require_leader`].
    pub is_local: bool,
    /// Whether the next answer may be due only once somebody else does something: gives a lock
    /// back, or writes. Then it says nothing of the member that none comes.
    pub waits: bool,
    /// Parsed once: no call is to pay for it.
    in_uri: LazyLock<PathAndQuery>,
}

/// Who sends how many messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One request, one response.
    Unary,
    /// One request, any number of responses.
    ServerStreaming,
    /// Any number of requests and of responses.
    Duplex,
}

impl Method {
    /// The path as a part of a URI. It neither allocates nor copies.
    #[must_use]
    pub fn path_and_query(&self) -> PathAndQuery {
        self.in_uri.clone()
    }
}

macro_rules! services {
    ($($(#[$doc:meta])+ $module:ident $service:literal {
        $($method:ident $name:literal $kind:ident $($safe:ident)? $(/ $local:ident)? $(+ $waits:ident)?,)+
    })+) => {
        $($(#[$doc])+
        pub mod $module {
            use super::{Kind, LazyLock, Method, PathAndQuery};
            $(
                #[doc = concat!("`/", $service, "/", $name, "`")]
                pub static $method: Method = Method {
                    path: concat!("/", $service, "/", $name),
                    kind: Kind::$kind,
                    safe_to_retry: services!(@is $($safe)?),
                    is_local: services!(@is $($local)?),
                    waits: services!(@is $($waits)?),
                    in_uri: LazyLock::new(|| PathAndQuery::from_static($method.path)),
                };
            )+
        })+

        /// Every method.
        pub static ALL: &[&Method] = &[$($(&$module::$method),+),+];
    };
    (@is) => { false };
    (@is safe) => { true };
    (@is local) => { true };
    (@is waits) => { true };
}

services! {
    /// Keys and values.
    kv "etcdserverpb.KV" {
        RANGE "Range" Unary safe,
        RANGE_STREAM "RangeStream" ServerStreaming safe,
        PUT "Put" Unary,
        DELETE_RANGE "DeleteRange" Unary,
        TXN "Txn" Unary,
        COMPACT "Compact" Unary,
    }
    /// Changes as they happen.
    watch "etcdserverpb.Watch" {
        WATCH "Watch" Duplex safe + waits,
    }
    /// Leases.
    lease "etcdserverpb.Lease" {
        LEASE_GRANT "LeaseGrant" Unary,
        LEASE_REVOKE "LeaseRevoke" Unary,
        LEASE_KEEP_ALIVE "LeaseKeepAlive" Duplex safe + waits,
        LEASE_TIME_TO_LIVE "LeaseTimeToLive" Unary safe,
        LEASE_LEASES "LeaseLeases" Unary safe,
    }
    /// The members of the cluster.
    cluster "etcdserverpb.Cluster" {
        MEMBER_ADD "MemberAdd" Unary,
        MEMBER_REMOVE "MemberRemove" Unary,
        MEMBER_UPDATE "MemberUpdate" Unary,
        MEMBER_LIST "MemberList" Unary safe,
        MEMBER_PROMOTE "MemberPromote" Unary,
    }
    /// One member, seen by its operator.
    maintenance "etcdserverpb.Maintenance" {
        ALARM "Alarm" Unary,
        STATUS "Status" Unary safe / local,
        DEFRAGMENT "Defragment" Unary / local,
        HASH "Hash" Unary safe / local,
        HASH_KV "HashKV" Unary safe / local,
        SNAPSHOT "Snapshot" ServerStreaming safe / local,
        MOVE_LEADER "MoveLeader" Unary,
        DOWNGRADE "Downgrade" Unary,
    }
    /// Users, roles and tokens.
    auth "etcdserverpb.Auth" {
        AUTH_ENABLE "AuthEnable" Unary,
        AUTH_DISABLE "AuthDisable" Unary,
        AUTH_STATUS "AuthStatus" Unary safe,
        AUTHENTICATE "Authenticate" Unary safe,
        USER_ADD "UserAdd" Unary,
        USER_GET "UserGet" Unary safe,
        USER_LIST "UserList" Unary safe,
        USER_DELETE "UserDelete" Unary,
        USER_CHANGE_PASSWORD "UserChangePassword" Unary,
        USER_GRANT_ROLE "UserGrantRole" Unary,
        USER_REVOKE_ROLE "UserRevokeRole" Unary,
        ROLE_ADD "RoleAdd" Unary,
        ROLE_GET "RoleGet" Unary safe,
        ROLE_LIST "RoleList" Unary safe,
        ROLE_DELETE "RoleDelete" Unary,
        ROLE_GRANT_PERMISSION "RoleGrantPermission" Unary,
        ROLE_REVOKE_PERMISSION "RoleRevokePermission" Unary,
    }
    /// The server's own locks.
    lock "v3lockpb.Lock" {
        LOCK "Lock" Unary + waits,
        UNLOCK "Unlock" Unary,
    }
    /// The server's own elections.
    election "v3electionpb.Election" {
        CAMPAIGN "Campaign" Unary + waits,
        PROCLAIM "Proclaim" Unary,
        LEADER "Leader" Unary safe,
        OBSERVE "Observe" ServerStreaming safe + waits,
        RESIGN "Resign" Unary,
    }
    /// gRPC's health service.
    health "grpc.health.v1.Health" {
        CHECK "Check" Unary safe / local,
        WATCH "Watch" ServerStreaming safe / local + waits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCES: [&str; 4] = [
        include_str!("../../proto/etcdserverpb.proto"),
        include_str!("../../proto/v3lockpb.proto"),
        include_str!("../../proto/v3electionpb.proto"),
        include_str!("../../proto/health.proto"),
    ];

    /// Path and kind of every `rpc` in a source.
    fn methods(source: &str) -> Vec<(String, Kind)> {
        let mut package = "";
        let mut service = "";
        let mut methods = Vec::new();
        for line in source.lines().map(str::trim) {
            let words: Vec<&str> = line.split([' ', ';', '(', ')']).filter(|word| !word.is_empty()).collect();
            match words[..] {
                ["package", name] => package = name,
                ["service", name, "{"] => service = name,
                ["rpc", name, ref rest @ ..] => {
                    let kind = match rest {
                        [_, "returns", _] => Kind::Unary,
                        [_, "returns", "stream", _] => Kind::ServerStreaming,
                        ["stream", _, "returns", "stream", _] => Kind::Duplex,
                        _ => panic!("{line}"),
                    };
                    methods.push((format!("/{package}.{service}/{name}"), kind));
                }
                _ => {}
            }
        }
        methods
    }

    #[test]
    fn the_table_is_that_of_proto() {
        let mut proto: Vec<_> = SOURCES.into_iter().flat_map(methods).collect();
        let mut table: Vec<_> = ALL.iter().map(|method| (method.path.to_owned(), method.kind)).collect();
        proto.sort_by(|one, other| one.0.cmp(&other.0));
        table.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(proto, table);
        assert_eq!(table.len(), 51);
    }

    #[test]
    fn every_path_is_one() {
        for method in ALL {
            assert_eq!(method.path_and_query().as_str(), method.path);
        }
    }

    #[test]
    fn only_questions_to_one_member_do_without_a_leader() {
        let local: Vec<&str> =
            ALL.iter().filter(|method| method.is_local).map(|method| method.path).collect();
        let of = |service: &str, names: &[&str]| -> Vec<String> {
            names.iter().map(|name| format!("/{service}/{name}")).collect()
        };
        let maintenance = ["Status", "Defragment", "Hash", "HashKV", "Snapshot"];
        let mut expected = of("etcdserverpb.Maintenance", &maintenance);
        expected.extend(of("grpc.health.v1.Health", &["Check", "Watch"]));
        assert_eq!(local, expected);
    }

    #[test]
    fn what_waits_is_told_of_changes_or_has_its_turn_at_something() {
        let waits: Vec<&str> = ALL.iter().filter(|method| method.waits).map(|method| method.path).collect();
        let expected = [
            "/etcdserverpb.Watch/Watch",
            // Between two renewals.
            "/etcdserverpb.Lease/LeaseKeepAlive",
            "/v3lockpb.Lock/Lock",
            "/v3electionpb.Election/Campaign",
            "/v3electionpb.Election/Observe",
            "/grpc.health.v1.Health/Watch",
        ];
        assert_eq!(waits, expected);
    }

    #[test]
    fn only_reads_renewals_and_tokens_are_safe_to_retry() {
        let safe: Vec<&str> = ALL
            .iter()
            .filter(|method| method.safe_to_retry)
            .filter_map(|method| method.path.split_once('.').map(|(_, name)| name))
            .collect();
        let expected = [
            "KV/Range",
            "KV/RangeStream",
            "Watch/Watch",
            "Lease/LeaseKeepAlive",
            "Lease/LeaseTimeToLive",
            "Lease/LeaseLeases",
            "Cluster/MemberList",
            "Maintenance/Status",
            "Maintenance/Hash",
            "Maintenance/HashKV",
            "Maintenance/Snapshot",
            "Auth/AuthStatus",
            "Auth/Authenticate",
            "Auth/UserGet",
            "Auth/UserList",
            "Auth/RoleGet",
            "Auth/RoleList",
            "Election/Leader",
            "Election/Observe",
            "health.v1.Health/Check",
            "health.v1.Health/Watch",
        ];
        assert_eq!(safe, expected);
    }
}
