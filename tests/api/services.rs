//! The lock service and the election service that the server runs itself.

use std::time::Duration;

use tenure::pb::v3electionpb::LeaderKey;
use tenure::{Code, LeaseId};

use crate::support::{client, is_embedded, patiently, run, unimplemented};

const TTL: Duration = Duration::from_secs(30);

#[test]
fn the_lock_service_locks_and_waits_no_longer_than_it_may() {
    run(async {
        let client = client().await;
        let service = client.lock_service();
        if is_embedded() {
            unimplemented(service.lock("service/lock", LeaseId::NONE).await);
            return unimplemented(service.unlock("service/lock/1").await);
        }
        let (one, two) = (client.lease(TTL).await.unwrap(), client.lease(TTL).await.unwrap());
        let held = service.lock("service/lock", one.id()).await.unwrap();
        assert_eq!(held.key, format!("service/lock/{}", one.id()));
        let waiting = service.lock("service/lock", two.id()).timeout(Duration::from_millis(300));
        assert_eq!(waiting.await.unwrap_err().code(), Code::DeadlineExceeded);
        // Ours are in the same queue.
        assert_eq!(client.who("service/lock").await.unwrap()[0].key, held.key);
        service.unlock(held.key).await.unwrap();
        let next = service.lock("service/lock", LeaseId::NONE).timeout(TTL).await.unwrap();
        service.unlock(next.key).await.unwrap();
    });
}

#[test]
fn the_election_service_elects_and_tells_who_leads() {
    run(async {
        let client = client().await;
        let service = client.election_service();
        if is_embedded() {
            unimplemented(service.campaign("service/election", LeaseId::NONE, "one").await);
            unimplemented(service.proclaim(LeaderKey::default(), "two").await);
            unimplemented(service.leader("service/election").await);
            unimplemented(service.observe("service/election").next().await);
            return unimplemented(service.resign(LeaderKey::default()).await);
        }
        let error = service.leader("service/election").await.unwrap_err();
        assert_eq!(error.message(), "election: no leader");
        let lease = client.lease(TTL).await.unwrap();
        let leader = service.campaign("service/election", lease.id(), "one").await.unwrap().leader.unwrap();
        let mut observed = service.observe("service/election");
        assert_eq!(patiently("a leader", observed.next()).await.unwrap().value, "one");
        service.proclaim(leader.clone(), "two").await.unwrap();
        let kv = patiently("a proclamation", observed.next()).await.unwrap();
        assert_eq!((&kv.key, &kv.value[..]), (&leader.key, &b"two"[..]));
        assert_eq!(service.leader("service/election").await.unwrap().kv, Some(kv));
        service.resign(leader).await.unwrap();
        let error = service.leader("service/election").await.unwrap_err();
        assert_eq!(error.message(), "election: no leader");
    });
}
