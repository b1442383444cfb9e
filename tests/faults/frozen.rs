//! One frozen member of three: whoever was connected to it is served by another
//! before a TTL of nine seconds has run out.

use std::time::Duration;

use tenure::Client;

use crate::support::{cluster, patiently, runtime, session, until_empty};

/// A third of it until the renewal, a third until it is asked for elsewhere, and the rest for a busy machine.
const TTL: Duration = Duration::from_secs(9);

#[test]
fn a_frozen_follower_costs_no_lease_and_no_session() {
    let cluster = cluster(3);
    let leader = cluster.leader_index().unwrap();
    let (frozen, other) = (cluster.member((leader + 1) % 3), cluster.member((leader + 2) % 3));
    runtime().block_on(async {
        let (mut leases, mut guards) = (Vec::new(), Vec::new());
        for index in 0..6 {
            let endpoints = [frozen.endpoint(), other.endpoint()];
            let client = Client::connect(endpoints).await.unwrap();
            let session = session(&client, TTL).await;
            guards.push(session.mutex(&format!("frozen/{index}")).lock().await.unwrap());
            leases.push(client.lease(TTL).await.unwrap());
        }
        frozen.pause().unwrap();
        // By then whatever was not renewed in the meantime has run out.
        tokio::time::sleep(TTL + TTL / 2).await;
        let lost_leases = leases.iter().filter(|lease| !lease.is_valid()).count();
        let lost_guards = guards.iter().filter(|guard| !guard.is_valid()).count();
        assert_eq!((lost_leases, lost_guards), (0, 0), "of six each");
        for guard in guards {
            // Who was never connected to the frozen one finds out now, with a write that nobody repeats.
            if let Err(error) = patiently("a release", guard.release()).await {
                assert!(error.may_be_applied(), "{error}");
            }
        }
        until_empty(&Client::connect([other.endpoint()]).await.unwrap(), "frozen").await;
    });
}
