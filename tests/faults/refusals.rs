//! What a server refuses: requests that are too large, writes when it is full,
//! and a lease that it does not have.

use tenure::Code;
use tenure_etcd::Options;

use crate::support::{
    TTL, TTL_SHORT, client, cluster, cluster_with, patiently, runtime, session, until_empty,
};

#[test]
fn a_name_or_a_value_that_is_too_large_is_told() {
    let cluster = cluster(1);
    runtime().block_on(async {
        let session = session(&client(&cluster).await, TTL).await;
        for (name, value) in [(100_000, 0), (3_000_000, 0), (1, 3_000_000)] {
            let mutex = session.mutex(&"x".repeat(name)).value(vec![0; value]);
            match patiently("an answer", mutex.lock()).await {
                Ok(guard) => guard.release().await.unwrap(),
                Err(error) => {
                    assert!(name + value > 1_000_000, "{error}");
                    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
                }
            }
        }
        assert!(session.is_valid());
    });
}

#[test]
fn a_session_ends_even_where_its_locks_cannot_be_withdrawn() {
    let options = Options {
        arguments: vec!["--quota-backend-bytes=2000000".into()],
        ..Options::default()
    };
    let cluster = cluster_with(1, options);
    runtime().block_on(async {
        let client = client(&cluster).await;
        let session = session(&client, TTL_SHORT).await;
        let (lease, mutex) = (session.lease_id(), session.mutex("full"));
        mutex.lock().await.unwrap().release().await.unwrap();
        until_empty(&client, "full").await;
        let mut full = None;
        for index in 0..100 {
            full = client.put(format!("fill/{index}"), vec![7; 500_000]).await.err();
            if full.is_some() {
                break;
            }
        }
        assert_eq!(full.map(|error| error.code()), Some(Code::ResourceExhausted));
        // Granted or refused or neither: what is left behind cannot be withdrawn.
        let _ = tokio::time::timeout(TTL_SHORT, mutex.lock()).await;
        drop((mutex, session));
        patiently("the end of the lease", async {
            let gone = async || client.leases().await.unwrap().leases.iter().all(|other| other.id != lease.0);
            while !gone().await {
                tokio::time::sleep(TTL_SHORT / 40).await;
            }
        })
        .await;
    });
}

#[test]
fn a_lease_that_the_server_does_not_have_ends_the_session_for_all_its_guards() {
    let cluster = cluster(1);
    runtime().block_on(async {
        let client = client(&cluster).await;
        let session = session(&client, TTL).await;
        let guard = session.mutex("one").lock().await.unwrap();
        client.lease_revoke(session.lease_id()).await.unwrap();
        session.mutex("two").lock().await.expect_err("there is no lease to hang it on");
        assert!(
            !guard.is_valid(),
            "one lock is told that the session is over, the other is not"
        );
    });
}
