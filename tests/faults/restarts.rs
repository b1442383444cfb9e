//! A server that dies and comes back with all that it had.

use std::time::Duration;

use tenure_etcd::Options;

use crate::support::{TTL, client, cluster_with, patiently, runtime, session, until_empty};

#[test]
fn guards_dropped_while_the_server_is_down_are_given_back() {
    let options = Options {
        fsync: true,
        ..Options::default()
    };
    let cluster = cluster_with(1, options);
    runtime().block_on(async {
        let client = client(&cluster).await;
        let session = session(&client, TTL).await;
        let mut guards = Vec::new();
        for index in 0..150 {
            guards.push(session.mutex(&format!("down/{index}")).lock().await.unwrap());
        }
        let last = guards.pop().unwrap();
        cluster.member(0).kill();
        // Half of them where no runtime is.
        let half = guards.split_off(75);
        std::thread::spawn(move || drop(half)).join().unwrap();
        drop(guards);
        let released = tokio::spawn(last.release());
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.member(0).restart().unwrap();
        // It may fail, since its time may be over; what is owed is given back either way.
        let _ = patiently("the end of a release", released).await.unwrap();
        until_empty(&client, "down").await;
        assert!(session.is_valid());
    });
}
