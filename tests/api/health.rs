//! Whether the members serve.

use std::time::Duration;

use tenure::{Client, Code};

use crate::support::{client, endpoints, is_embedded, own_etcd, patiently, run, unimplemented};

const WITHIN: Duration = Duration::from_secs(5);

#[test]
fn a_member_that_serves_is_healthy() {
    run(async {
        let client = client().await;
        let all = client.health(WITHIN).await;
        assert_eq!(all.len(), 1);
        assert!(all[0].is_healthy(), "{all:?}");
        assert_eq!(all[0].endpoint, endpoints()[0]);
        // The server in memory has no such service; its reads say enough.
        assert_eq!(all[0].serving, (!is_embedded()).then_some(true));
        let one = client.maintenance(&endpoints()[0]).unwrap().health(WITHIN).await;
        assert!(one.is_healthy());
    });
}

#[test]
fn without_a_quorum_nobody_is_healthy_and_the_dead_are_told_apart() {
    let Some(cluster) = own_etcd(3) else {
        return run(async {
            assert!(client().await.health(WITHIN).await.iter().all(|member| member.is_healthy()));
        });
    };
    run(async {
        let client = Client::connect(cluster.endpoints()).await.unwrap();
        cluster.member(1).kill();
        cluster.member(2).kill();
        let all = client.health(Duration::from_secs(2)).await;
        assert!(all.iter().all(|member| !member.is_healthy()), "{all:?}");
        let serving: Vec<_> = all.iter().map(|member| member.serving).collect();
        assert_eq!(serving, [Some(true), None, None], "{all:?}");
        let code = all[2].error.as_ref().map(|error| error.code());
        assert_eq!(code, Some(Code::DeadlineExceeded));
    });
}

#[test]
fn a_member_tells_at_once_that_it_serves_and_no_more_once_it_is_gone() {
    let Some(cluster) = own_etcd(1) else {
        return run(async {
            let client = client().await;
            let member = client.maintenance(&endpoints()[0]).unwrap();
            unimplemented(member.watch_health().next().await);
        });
    };
    run(async {
        let client = Client::connect(cluster.endpoints()).await.unwrap();
        let member = client.maintenance(cluster.member(0).endpoint()).unwrap();
        let mut health = member.watch_health();
        assert!(patiently("its word", health.next()).await.unwrap());
        cluster.member(0).kill();
        let error = patiently("an end", health.next()).await.unwrap_err();
        assert_eq!(error.endpoint(), Some(member.endpoint()), "{error}");
    });
}
