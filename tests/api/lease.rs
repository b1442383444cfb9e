//! The lease service, and leases that are kept alive, against a real server.

use std::time::Duration;

use tenure::{Client, Code, Config, EtcdError, LeaseEnd, LeaseId};

use tenure_proxy::{Direction, Flow, Proxy};

use crate::lock::TTL_KEPT;
use crate::support::{OwnServer, client, counted_client, endpoints, patiently, run};

/// The least that a server with the default election timeout grants.
const TTL_SHORT: Duration = Duration::from_secs(2);
/// Longer than any test.
const TTL_LONG: Duration = Duration::from_secs(600);

async fn until_gone(client: &Client, lease: LeaseId) {
    patiently("the end on the server", async {
        while client.lease_time_to_live(lease).await.unwrap().ttl != -1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[test]
fn a_lease_is_granted_listed_questioned_and_revoked() {
    run(async {
        let client = client().await;
        let id = LeaseId(0x1ea5_0001);
        // A part of a second counts as one.
        let granted = client.lease_grant(TTL_LONG - Duration::from_millis(1)).id(id).await.unwrap();
        assert_eq!((granted.id, granted.ttl), (id.0, 600));
        client.put("lease/a", "x").lease(id).await.unwrap();

        let leases = client.leases().await.unwrap().leases;
        assert!(leases.iter().any(|status| status.id == id.0));
        let left = client.lease_time_to_live(id).keys().await.unwrap();
        assert_eq!((left.granted_ttl, &left.keys[..]), (600, &["lease/a".into()][..]));
        assert!(client.lease_time_to_live(id).await.unwrap().keys.is_empty());
        assert_eq!(client.lease_keep_alive_once(id).await.unwrap().ttl, 600);

        client.lease_revoke(id).await.unwrap();
        assert_eq!(client.get("lease/a").await.unwrap().count, 0);
        assert_eq!(client.lease_time_to_live(id).await.unwrap().ttl, -1);
    });
}

#[test]
fn a_lease_counts_from_when_it_was_sent_however_long_it_waited_for_a_server() {
    run(async {
        let server = OwnServer::start();
        let config = Config::new().call_timeout(TTL_LONG);
        let client = Client::connect_with(server.endpoints(), config).await.unwrap();
        server.kill();
        // What is sent before that has a fate that nobody knows.
        patiently("the loss of the connection", async {
            while client.telemetry().connections.now > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.lease(TTL_SHORT).await }
        });
        tokio::time::sleep(TTL_SHORT).await;
        assert!(!waiting.is_finished(), "nobody can have granted it");
        server.start_again();
        let lease = patiently("the grant", waiting).await.unwrap().unwrap();
        assert!(lease.is_valid());
    });
}

#[test]
fn what_is_wrong_with_a_lease_is_told() {
    run(async {
        let client = client().await;
        let id = LeaseId(0x1ea5_0002);
        client.lease_grant(TTL_LONG).id(id).await.unwrap();
        let error = client.lease_grant(TTL_LONG).id(id).await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::LeaseExists));
        let error = client.lease_grant(Duration::from_secs(9_000_000_001)).await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::LeaseTtlTooLarge));
        for error in [
            client.lease_grant(Duration::ZERO).await.unwrap_err(),
            client.lease(Duration::ZERO).await.unwrap_err(),
        ] {
            assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        }
        let stranger = LeaseId(0x1ea5_0003);
        for error in [
            client.lease_revoke(stranger).await.unwrap_err(),
            client.lease_keep_alive_once(stranger).await.unwrap_err(),
            client.keep_alive(stranger).await.unwrap_err(),
        ] {
            assert_eq!(error.etcd(), Some(EtcdError::LeaseNotFound), "{error}");
        }
    });
}

#[test]
fn a_kept_lease_outlives_its_ttl_and_a_dropped_one_does_not() {
    run(async {
        let client = client().await;
        let lease = client.lease(TTL_KEPT).await.unwrap();
        let dropped = client.lease(TTL_KEPT).await.unwrap();
        let forgotten = client.lease(TTL_KEPT).await.unwrap();
        assert!(lease.ttl() >= TTL_KEPT);
        client.put("lease/kept", "x").lease(lease.id()).await.unwrap();
        client.put("lease/dropped", "x").lease(dropped.id()).await.unwrap();
        let (dropped_id, ended) = (dropped.id(), dropped.ended());
        drop(dropped);
        assert_eq!(ended.await, LeaseEnd::Closed);
        forgotten.forget();
        assert!(!forgotten.is_valid());

        // Both were granted at the same time: when one is gone, the other has
        // lived for longer than its TTL.
        until_gone(&client, dropped_id).await;
        until_gone(&client, forgotten.id()).await;
        assert!(lease.is_valid() && lease.valid_for() <= lease.ttl());
        assert_eq!(client.get("lease/dropped").await.unwrap().count, 0);
        assert_eq!(client.get("lease/kept").await.unwrap().count, 1);
        lease.revoke().await.unwrap();
        assert_eq!(lease.end(), Some(LeaseEnd::Revoked));
        assert_eq!(client.get("lease/kept").await.unwrap().count, 0);
        lease.revoke().await.expect("what is gone is as good as revoked");
    });
}

#[test]
fn a_lease_that_somebody_else_revoked_ends_with_the_next_renewal() {
    run(async {
        let client = client().await;
        let lease = client.lease(TTL_KEPT).await.unwrap();
        client.lease_revoke(lease.id()).await.unwrap();
        let end = patiently("the news", lease.ended()).await;
        assert_eq!(end, LeaseEnd::UnknownToServer);
        assert_eq!(end.to_string(), "the server no longer has the lease");
    });
}

#[test]
fn a_lease_of_another_process_is_adopted() {
    run(async {
        let granted = client().await.lease_grant(TTL_KEPT).await.unwrap();
        let id = LeaseId(granted.id);
        let client = client().await;
        let lease = client.keep_alive(id).await.unwrap();
        let witness = client.lease_grant(TTL_KEPT).await.unwrap();
        until_gone(&client, LeaseId(witness.id)).await;
        assert!(lease.is_valid());
        assert!(client.lease_time_to_live(id).await.unwrap().ttl >= 0);
        let shared = client.keep_alive(id).await.unwrap();
        lease.revoke().await.unwrap();
        assert_eq!(shared.end(), Some(LeaseEnd::Revoked));
    });
}

#[test]
fn hundreds_of_leases_are_kept_alive_on_one_stream() {
    run(async {
        let (client, sent) = counted_client().await;
        let mut leases = Vec::new();
        for _ in 0..300 {
            leases.push(client.lease(TTL_KEPT).await.unwrap());
        }
        let witness = client.lease_grant(TTL_KEPT).await.unwrap();
        let before = sent.requests();
        let mut asked = 0;
        patiently("the end of the witness", async {
            while client.lease_time_to_live(LeaseId(witness.id)).await.unwrap().ttl != -1 {
                asked += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        assert!(sent.requests() - before <= asked + 2, "more than one stream");
        assert!(leases.iter().all(|lease| lease.is_valid()));
    });
}

/// The first renewal is due before a third of the TTL has passed, and its answer has to be
/// there before nine tenths have.
#[test]
fn a_lease_lives_on_over_a_link_that_answers_after_nearly_half_its_ttl() {
    run(async {
        let ttl = 8 * TTL_SHORT;
        let proxy = Proxy::start(&endpoints()[0]).unwrap();
        let lease = Client::connect([proxy.endpoint()]).await.unwrap().lease(ttl).await.unwrap();
        proxy.flow(Direction::Down, Flow::Delay(ttl * 45 / 100));
        assert_eq!(lease.ttl(), ttl);
        let ended = tokio::time::timeout(ttl * 3 / 2, lease.ended()).await;
        assert!(ended.is_err(), "{ended:?}");
        assert!(client().await.lease_time_to_live(lease.id()).await.unwrap().ttl > 0);
    });
}
