//! Every method of the table is called, once more than in the tests of what it does: a real
//! server counts them, so that none is only believed to be called.

use std::collections::BTreeSet;
use std::time::Duration;

use tenure::client::PermissionType;
use tenure::wire::Method;
use tenure::wire::method::{self, auth, cluster, election, health, kv, lease, lock, maintenance, watch};
use tenure::{Auth, Client, Code, Config, KeyRange, LeaseId, MemberId, Op, Revision};

use crate::support::{OwnServer, patiently, run};

const TTL: Duration = Duration::from_secs(60);
const PASSWORD: &str = "correct-horse-battery";
/// Of gRPC's health service, since etcd 3.7. What it lists is one service.
const UNUSED: &str = "/grpc.health.v1.Health/List";

/// What the calls of each method came to.
#[derive(Default)]
struct Calls {
    called: BTreeSet<&'static str>,
    refused: Vec<(&'static str, Code)>,
}

impl Calls {
    /// What it gave, where it gave something.
    fn note<T>(&mut self, method: &Method, answer: Result<T, tenure::Error>) -> Option<T> {
        self.called.insert(method.path);
        let error = match answer {
            Ok(answer) => return Some(answer),
            Err(error) => error,
        };
        assert_eq!(error.method(), Some(method.path), "{error}");
        self.refused.push((method.path, error.code()));
        None
    }

    /// Those that ended with this code.
    fn refused_with(&self, code: Code) -> BTreeSet<&'static str> {
        let refused = self.refused.iter().filter(|refused| refused.1 == code);
        refused.map(|(path, _)| *path).collect()
    }
}

async fn keys(client: &Client, calls: &mut Calls) {
    calls.note(&kv::PUT, client.put("a", "1").await);
    let two = client.txn().then(Op::put("b", "2")).then(Op::put("c", "3")).await;
    let two = calls.note(&kv::TXN, two).expect("a transaction");
    calls.note(&kv::RANGE, client.get("a").await);
    // A page, and what follows it as a stream; or pages, where there is no such method.
    let mut stream = client.range_stream(KeyRange::all()).page_size(1);
    while let Some(Some(_)) = calls.note(&kv::RANGE_STREAM, stream.next().await) {}
    calls.note(&kv::COMPACT, client.compact(two.revision()).await);
    calls.note(&kv::DELETE_RANGE, client.delete(KeyRange::all()).await);
    let watching = async { client.watch("a").await };
    patiently("a watch", watching).await.expect("a watch");
    calls.called.insert(watch::WATCH.path);
}

async fn leases(client: &Client, calls: &mut Calls) {
    let granted = calls.note(&lease::LEASE_GRANT, client.lease_grant(TTL).await);
    let id = LeaseId(granted.expect("a lease").id);
    calls.note(&lease::LEASE_KEEP_ALIVE, client.lease_keep_alive_once(id).await);
    calls.note(&lease::LEASE_TIME_TO_LIVE, client.lease_time_to_live(id).await);
    calls.note(&lease::LEASE_LEASES, client.leases().await);
    calls.note(&lease::LEASE_REVOKE, client.lease_revoke(id).await);
}

async fn members(client: &Client, calls: &mut Calls) {
    let members = client.members();
    calls.note(&cluster::MEMBER_LIST, members.list().await);
    let added = calls.note(
        &cluster::MEMBER_ADD,
        members.add(["http://127.0.0.1:1"]).learner().await,
    );
    let id = MemberId(added.and_then(|answer| answer.member).map_or(1, |member| member.id));
    calls.note(
        &cluster::MEMBER_UPDATE,
        members.update(id, ["http://127.0.0.1:2"]).await,
    );
    // It was never started.
    calls.note(&cluster::MEMBER_PROMOTE, members.promote(id).await);
    calls.note(&cluster::MEMBER_REMOVE, members.remove(id).await);
}

async fn one_member(client: &Client, calls: &mut Calls) {
    let member = client.maintenance(&client.endpoints().list()[0]).expect("an endpoint");
    let status = calls.note(&maintenance::STATUS, member.status().await).expect("a status");
    calls.note(&maintenance::ALARM, client.alarms().list().await);
    calls.note(&maintenance::DEFRAGMENT, member.defragment().await);
    calls.note(&maintenance::HASH, member.hash().await);
    calls.note(&maintenance::HASH_KV, member.hash_kv(Revision::ZERO).await);
    let snapshot = member.snapshot().write_to(&mut Vec::new()).await;
    calls.note(&maintenance::SNAPSHOT, snapshot);
    let leader = MemberId(status.leader);
    calls.note(&maintenance::MOVE_LEADER, member.move_leader(leader).await);
    calls.note(
        &maintenance::DOWNGRADE,
        client.downgrade().validate("3.0.0").await,
    );
    let mut health = member.watch_health();
    calls.note(&health::WATCH, patiently("its word", health.next()).await);
    // It has an error for the read beside it alone.
    calls.called.insert(health::CHECK.path);
    if member.health(TTL).await.serving.is_none() {
        calls.refused.push((health::CHECK.path, Code::Unimplemented));
    }
}

async fn services(client: &Client, calls: &mut Calls) {
    let service = client.lock_service();
    let held = calls.note(&lock::LOCK, service.lock("lock", LeaseId::NONE).await);
    let key = held.map(|answer| answer.key).unwrap_or_default();
    calls.note(&lock::UNLOCK, service.unlock(key).await);
    let service = client.election_service();
    let elected = calls.note(
        &election::CAMPAIGN,
        service.campaign("election", LeaseId::NONE, "one").await,
    );
    let leader = elected.and_then(|answer| answer.leader).unwrap_or_default();
    calls.note(&election::PROCLAIM, service.proclaim(leader.clone(), "two").await);
    calls.note(&election::LEADER, service.leader("election").await);
    let mut observed = service.observe("election");
    calls.note(&election::OBSERVE, patiently("a leader", observed.next()).await);
    calls.note(&election::RESIGN, service.resign(leader).await);
}

async fn users(client: &Client, calls: &mut Calls) {
    let (users, roles) = (client.users(), client.roles());
    for name in ["root", "alice"] {
        calls.note(&auth::USER_ADD, users.add(name, PASSWORD).await);
        calls.note(&auth::ROLE_ADD, roles.add(name).await);
        calls.note(&auth::USER_GRANT_ROLE, users.grant_role(name, name).await);
    }
    calls.note(&auth::USER_GET, users.get("alice").await);
    calls.note(&auth::USER_LIST, users.list().await);
    calls.note(
        &auth::USER_CHANGE_PASSWORD,
        users.change_password("alice", "another").await,
    );
    let granted = roles.grant("alice", PermissionType::Read, "a").await;
    calls.note(&auth::ROLE_GRANT_PERMISSION, granted);
    calls.note(&auth::ROLE_GET, roles.get("alice").await);
    calls.note(&auth::ROLE_LIST, roles.list().await);
    calls.note(&auth::ROLE_REVOKE_PERMISSION, roles.revoke("alice", "a").await);
    calls.note(&auth::USER_REVOKE_ROLE, users.revoke_role("alice", "alice").await);
    calls.note(&auth::ROLE_DELETE, roles.delete("alice").await);
    calls.note(&auth::USER_DELETE, users.delete("alice").await);
    calls.note(&auth::AUTH_STATUS, client.authentication().status().await);
    calls.note(&auth::AUTH_ENABLE, client.authentication().enable().await);
    let config = Config::new().auth(Auth::password("root", PASSWORD));
    let root = Client::connect_with(client.endpoints().list(), config).await;
    let root = calls.note(&auth::AUTHENTICATE, root).expect("a client of root");
    calls.note(&auth::AUTH_DISABLE, root.authentication().disable().await);
}

async fn all(client: &Client) -> Calls {
    let mut calls = Calls::default();
    keys(client, &mut calls).await;
    leases(client, &mut calls).await;
    members(client, &mut calls).await;
    one_member(client, &mut calls).await;
    services(client, &mut calls).await;
    users(client, &mut calls).await;
    let table: BTreeSet<_> = method::ALL.iter().map(|method| method.path).collect();
    assert_eq!(calls.called, table, "a method that nobody calls here");
    calls
}

#[test]
fn every_method_is_called_and_known_or_said_to_be_unknown() {
    let server = OwnServer::start();
    let OwnServer::Etcd(cluster) = &server else {
        return run(on_the_server_in_memory(server.endpoints()));
    };
    run(async {
        let client = Client::connect(cluster.endpoints()).await.unwrap();
        let before = cluster.member(0).calls().expect("it counts calls");
        let calls = all(&client).await;
        let counted = cluster.member(0).calls().expect("it counts calls");
        let strange: Vec<_> = before
            .keys()
            .filter(|path| !calls.called.contains(path.as_str()) && *path != UNUSED)
            .collect();
        assert!(
            strange.is_empty(),
            "methods of etcd that are not in the table: {strange:?}"
        );
        // Services that etcd adds later than the others are counted from their first call.
        let is_late = |path: &str| path.starts_with("/v3lockpb") || path.starts_with("/v3electionpb");
        let has = |path: &str| before.contains_key(path) || is_late(path);
        for path in &calls.called {
            let count = counted.get(*path).copied().unwrap_or_default();
            assert_eq!(count > 0, has(path), "{path} was called {count} times");
        }
        let mut unknown: BTreeSet<_> = calls.called.iter().copied().filter(|path| !has(path)).collect();
        // Its reader goes on in pages.
        unknown.remove(kv::RANGE_STREAM.path);
        assert_eq!(calls.refused_with(Code::Unimplemented), unknown);
        let other: Vec<_> = calls.refused.iter().filter(|refused| refused.1 != Code::Unimplemented).collect();
        let expected = [maintenance::DOWNGRADE.path, cluster::MEMBER_PROMOTE.path];
        assert!(
            other.iter().all(|refused| expected.contains(&refused.0)),
            "{other:?}"
        );
    });
}

/// Those that it has are all answered, and of the others it says that it does not know them.
async fn on_the_server_in_memory(endpoints: Vec<String>) {
    let client = Client::connect(endpoints).await.unwrap();
    let calls = all(&client).await;
    let known = [
        "/etcdserverpb.KV/",
        "/etcdserverpb.Watch/",
        "/etcdserverpb.Lease/",
        cluster::MEMBER_LIST.path,
        maintenance::STATUS.path,
        auth::AUTHENTICATE.path,
    ];
    let is_known = |path: &str| known.iter().any(|known| path.starts_with(known));
    let unknown: BTreeSet<_> = calls.called.iter().copied().filter(|path| !is_known(path)).collect();
    assert_eq!(calls.refused_with(Code::Unimplemented), unknown);
    let other = calls.refused.iter().find(|refused| refused.1 != Code::Unimplemented);
    assert_eq!(other, None);
}
