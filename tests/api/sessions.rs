//! The session that a client's locks share, the one that comes back after a loss, and how sessions end.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use tenure::{Client, Code, Config, Error, Guard, KeyRange, LeaseEnd, LeaseId, Lost};
use tenure_testserver::{Fault, Late, Server};

use crate::lock::{TTL, TTL_KEPT, session, until_queue_is};
use crate::support::{OwnServer, client, patiently, run, until};

const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const PUT: &str = "/etcdserverpb.KV/Put";

async fn connect(server: &OwnServer) -> Client {
    Client::connect(server.endpoints()).await.unwrap()
}

async fn leases(client: &Client) -> Vec<i64> {
    let leases = client.leases().await.unwrap().leases;
    leases.iter().map(|lease| lease.id).collect()
}

async fn until_leases_are(client: &Client, count: usize) {
    patiently(&format!("{count} leases"), async {
        while leases(client).await.len() != count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

async fn until_lease_is_gone(client: &Client, lease: LeaseId) {
    patiently("the end of a lease", async {
        while leases(client).await.contains(&lease.0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Locks so many names at once.
async fn lock_all(client: &Client, names: usize, ttl: Duration) -> Vec<Result<Guard, Error>> {
    let tasks: Vec<_> = (0..names)
        .map(|name| {
            let client = client.clone();
            tokio::spawn(async move { client.lock(format!("sessions/{ttl:?}/{name}")).ttl(ttl).await })
        })
        .collect();
    let mut guards = Vec::new();
    for task in tasks {
        guards.push(patiently("a lock", task).await.unwrap());
    }
    guards
}

/// A task that goes on with this, which waits already.
fn begun<T: Send + 'static>(
    mut future: impl Future<Output = T> + Send + Unpin + 'static,
) -> tokio::task::JoinHandle<T> {
    assert!(Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    tokio::spawn(future)
}

#[test]
fn fifty_locks_of_a_client_hang_on_one_lease_and_other_ttls_on_another() {
    run(async {
        let server = OwnServer::start();
        let (client, other) = (connect(&server).await, connect(&server).await);
        let mut guards = lock_all(&client, 50, TTL).await;
        assert!(guards.iter().all(Result::is_ok), "{guards:?}");
        assert_eq!(leases(&other).await.len(), 1);
        guards.extend(lock_all(&client, 5, 2 * TTL).await);
        assert_eq!(leases(&other).await.len(), 2);
        let ours = client.session().ttl(TTL).shared().await.unwrap();
        assert_eq!(ours.lease_id(), guards[0].as_ref().unwrap().session().lease_id());
        // Another client's are its own.
        let others = other.session().ttl(TTL).shared().await.unwrap();
        assert_ne!(others.lease_id(), ours.lease_id());
        drop((client, ours));
        assert!(
            guards.iter().flatten().all(Guard::is_valid),
            "guards hold the session"
        );
        drop(guards);
        until_leases_are(&other, 1).await;
    });
}

#[test]
fn a_shared_session_goes_with_the_last_clone_of_its_client() {
    run(async {
        let server = OwnServer::start();
        let (client, other) = (connect(&server).await, connect(&server).await);
        let guard = client.lock("sessions/client").ttl(TTL).await.unwrap();
        let inner = guard.session().client().clone();
        guard.release().await.unwrap();
        assert_eq!(leases(&other).await.len(), 1, "kept for the next lock");
        drop(client);
        until_leases_are(&other, 0).await;
        // What the session's own clone locks has nobody left to share with.
        let guard = inner.lock("sessions/client").ttl(TTL).await.unwrap();
        assert_eq!(leases(&other).await.len(), 1);
        drop(guard);
        until_leases_are(&other, 0).await;
    });
}

#[test]
fn two_locks_of_one_name_are_passed_on_within_a_client() {
    run(async {
        let client = client().await;
        // A key is passed on for 20 ms at most, and the machine may be away for so long.
        let is_passed_on = async || {
            let first = client.lock("sessions/name").ttl(TTL).await.unwrap();
            let token = first.token();
            let mut waiting = client.lock("sessions/name").ttl(TTL).into_future();
            assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            drop(first);
            let second = patiently("the grant", waiting).await.unwrap();
            let same = second.token().create_revision() == token.create_revision();
            assert_eq!(
                second.token().sequence(),
                if same { token.sequence() + 1 } else { 0 }
            );
            second.release().await.unwrap();
            same
        };
        patiently("a key that is passed on", async {
            while !is_passed_on().await {}
        })
        .await;
        until_queue_is(&client, "sessions/name", 0).await;
    });
}

#[test]
fn a_session_that_nobody_uses_is_closed_and_the_next_lock_opens_another() {
    run(async {
        let server = OwnServer::start();
        let client = connect(&server).await;
        let guard = client.lock("sessions/idle").ttl(TTL_KEPT).await.unwrap();
        let lease = guard.session().lease_id();
        // Longer than an idle one is kept.
        tokio::time::sleep(3 * TTL_KEPT).await;
        assert!(
            guard.is_valid() && leases(&client).await == [lease.0],
            "it is used"
        );
        drop(guard);
        until_leases_are(&client, 0).await;
        let next = client.lock("sessions/idle").ttl(TTL_KEPT).await.unwrap();
        assert_ne!(next.session().lease_id(), lease);
        next.release().await.unwrap();
    });
}

#[test]
fn after_a_loss_behind_our_back_locks_are_had_in_another_session() {
    run(async {
        let (client, other) = (client().await, session().await);
        let held = other.mutex("sessions/lost/waited").lock().await.unwrap();
        let guard = client.lock("sessions/lost").ttl(TTL).await.unwrap();
        let lease = guard.session().lease_id();
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.lock("sessions/lost/waited").ttl(TTL).await }
        });
        until_queue_is(&client, "sessions/lost/waited", 2).await;
        other.client().lease_revoke(lease).await.unwrap();
        let next = patiently("the lock", client.lock("sessions/lost").ttl(TTL).into_future()).await.unwrap();
        assert_ne!(next.session().lease_id(), lease);
        assert!(next.token() > guard.token());
        assert_eq!(
            patiently("the news", guard.lost()).await,
            Lost::Session(LeaseEnd::UnknownToServer)
        );
        held.release().await.unwrap();
        let waited = patiently("the lock", waiting).await.unwrap().unwrap();
        assert_eq!(waited.session().lease_id(), next.session().lease_id());
        assert!(waited.is_valid() && next.is_valid());
    });
}

#[test]
fn a_place_in_the_queue_that_somebody_deleted_is_given_up() {
    run(async {
        let (client, other) = (client().await, session().await);
        let held = other.mutex("sessions/deleted").lock().await.unwrap();
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.lock("sessions/deleted").ttl(TTL).await }
        });
        until_queue_is(&client, "sessions/deleted", 2).await;
        let lease = client.session().ttl(TTL).shared().await.unwrap().lease_id();
        client.delete(format!("sessions/deleted/{lease}")).await.unwrap();
        let error = patiently("the news", waiting).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::Aborted, "{error}");
        held.release().await.unwrap();
    });
}

#[test]
fn all_who_wait_for_one_try_to_open_a_session_are_told_how_it_failed() {
    run(async {
        let server = Server::start().await.unwrap();
        let client = Client::connect([server.endpoint()]).await.unwrap();
        let refused = Fault::End {
            code: 7,
            message: "etcdserver: permission denied".to_owned(),
        };
        // The first try lasts until all are there; they wait for the second.
        server.faults().on_request(GRANT, Fault::Delay(Late::After(PUT.to_owned())));
        server.faults().on_answer(GRANT, refused.clone());
        server.faults().on_answer(GRANT, refused);
        let mut waiting = Vec::new();
        for name in 0..8 {
            let (client, name) = (client.clone(), format!("sessions/refused/{name}"));
            waiting.push(begun(Box::pin(async move { client.lock(name).ttl(TTL).await })));
        }
        until("the first try", || server.late_request_count() == 1).await;
        client.put("sessions/refused", "").await.unwrap();
        for locking in waiting {
            let error = patiently("a refusal", locking).await.unwrap().unwrap_err();
            assert_eq!(error.code(), Code::PermissionDenied, "{error}");
            assert_eq!(error.etcd(), Some(tenure::EtcdError::PermissionDenied));
        }
        assert!(lock_all(&client, 8, TTL).await.iter().all(Result::is_ok));
    });
}

#[test]
fn closing_a_shared_session_frees_all_its_locks_and_the_next_one_opens_another() {
    run(async {
        let client = client().await;
        let guards = lock_all(&client, 4, TTL).await;
        let guards: Vec<Guard> = guards.into_iter().map(Result::unwrap).collect();
        let session = guards[0].session().clone();
        let lease = session.lease_id();
        session.close().await.unwrap();
        for guard in &guards {
            assert_eq!(guard.lost().await, Lost::Session(LeaseEnd::Revoked));
            assert!(client.get(guard.key().to_vec()).await.unwrap().kvs.is_empty());
        }
        until_lease_is_gone(&client, lease).await;
        let again = lock_all(&client, 4, TTL).await;
        assert!(again.iter().flatten().all(|guard| guard.session().lease_id() != lease));
        assert_eq!(again.iter().flatten().count(), 4);
    });
}

#[test]
fn an_orphaned_session_leaves_its_keys_to_the_lease_whoever_drops_what() {
    run(async {
        let session = session().await;
        let (client, lease) = (client().await, session.lease_id());
        let guard = session.mutex("sessions/orphan").lock().await.unwrap();
        let reader = session.rw_lock("sessions/orphan/rw").read().await.unwrap();
        session.clone().orphan();
        assert_eq!(guard.lost().await, Lost::Session(LeaseEnd::Closed));
        drop((guard, reader));
        // Long enough for a deletion that is not to be.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let left = client.get(KeyRange::prefix("sessions/orphan/")).await.unwrap();
        assert_eq!(left.kvs.len(), 2, "{left:?}");
        assert!(left.kvs.iter().all(|kv| kv.lease == lease.0));
        drop(session);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(leases(&client).await.contains(&lease.0));
        client.lease_revoke(lease).await.unwrap();
    });
}

#[test]
fn a_managed_session_comes_back_with_another_lease_and_says_so() {
    run(async {
        let (client, other) = (client().await, client().await);
        let managed = client.session().ttl(TTL_KEPT).managed().await.unwrap();
        let first = managed.session().await.unwrap();
        let guard = first.mutex("sessions/managed").lock().await.unwrap();
        assert_eq!(managed.generation(), 0);
        for generation in 1..=2 {
            let before = managed.session().await.unwrap();
            other.lease_revoke(before.lease_id()).await.unwrap();
            let replaced = patiently("another session", managed.replaced(generation - 1)).await.unwrap();
            assert_eq!(replaced.generation, generation);
            assert_eq!(replaced.lost, LeaseEnd::UnknownToServer);
            assert_ne!(replaced.lease, before.lease_id());
            assert!(!before.is_valid(), "two of them are valid");
            let session = managed.session().await.unwrap();
            assert_eq!(
                (session.lease_id(), managed.generation()),
                (replaced.lease, generation)
            );
        }
        assert_eq!(guard.lost().await, Lost::Session(LeaseEnd::UnknownToServer));
        let next = managed.session().await.unwrap().mutex("sessions/managed").lock().await.unwrap();
        assert!(next.token() > guard.token());
        drop(guard);
        let lease = next.session().lease_id();
        drop((next, first, managed));
        until_lease_is_gone(&other, lease).await;
    });
}

#[test]
fn a_managed_session_waits_for_a_server_that_is_away() {
    run(async {
        let server = OwnServer::start();
        let config = Config::new().call_timeout(TTL_KEPT);
        let client = Client::connect_with(server.endpoints(), config).await.unwrap();
        let managed = client.session().ttl(TTL_KEPT).managed().await.unwrap();
        let first = managed.session().await.unwrap();
        server.kill();
        assert_eq!(patiently("the loss", first.ended()).await, LeaseEnd::Expired);
        let waiting = tokio::spawn({
            let managed = managed.clone();
            async move { managed.session().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished(), "nobody can have opened it");
        server.start_again();
        let session = patiently("the session", waiting).await.unwrap().unwrap();
        assert_ne!(session.lease_id(), first.lease_id());
        assert_eq!(managed.generation(), 1);
    });
}

#[test]
fn a_managed_session_that_is_refused_says_why_until_it_is_not() {
    run(async {
        let server = Server::start().await.unwrap();
        let client = Client::connect([server.endpoint()]).await.unwrap();
        let managed = client.session().ttl(TTL_KEPT).managed().await.unwrap();
        let first = managed.session().await.unwrap();
        let refused = Fault::End {
            code: 7,
            message: "etcdserver: permission denied".to_owned(),
        };
        // For seconds, so that nobody misses them.
        for _ in 0..7 {
            server.faults().on_request(GRANT, refused.clone());
        }
        first.clone().orphan();
        let error = patiently("the refusal", managed.session()).await.unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied, "{error}");
        let replaced = patiently("another session", managed.replaced(0)).await.unwrap();
        assert_eq!((replaced.generation, replaced.lost), (1, LeaseEnd::Closed));
        assert!(managed.session().await.unwrap().is_valid());
    });
}

#[test]
fn a_managed_session_that_was_closed_or_orphaned_does_not_come_back() {
    run(async {
        let client = client().await;
        for orphans in [false, true] {
            let managed = client.session().ttl(TTL).managed().await.unwrap();
            let session = managed.session().await.unwrap();
            let lease = session.lease_id();
            let guard = session.mutex("sessions/closed").lock().await.unwrap();
            let waiting = tokio::spawn({
                let managed = managed.clone();
                async move { managed.replaced(0).await }
            });
            match orphans {
                true => managed.clone().orphan(),
                false => managed.clone().close().await.unwrap(),
            }
            let expected = if orphans {
                LeaseEnd::Closed
            } else {
                LeaseEnd::Revoked
            };
            assert_eq!(guard.lost().await, Lost::Session(expected));
            assert!(patiently("the end", waiting).await.unwrap().unwrap_err().is_lost());
            let error = managed.session().await.unwrap_err();
            assert!(error.is_lost() && managed.generation() == 0, "{error:?}");
            assert_eq!(leases(&client).await.contains(&lease.0), orphans);
            drop(guard);
            if orphans {
                client.lease_revoke(lease).await.unwrap();
            }
        }
    });
}
