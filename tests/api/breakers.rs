//! A member whose breaker is open, and what has nothing but streams: they find nothing out, and
//! are not stuck for that. On the server in memory, which fails on demand.

use std::time::Duration;

use tenure::{Client, Config};
use tenure_testserver::{Fault, Link, Server};

use crate::lock::TTL_KEPT;
use crate::support::{patiently, run, until};

const FAILURES: u32 = 2;
const PUT: &str = "/etcdserverpb.KV/Put";

#[test]
fn streams_go_to_the_others_and_to_the_one_that_failed_where_nobody_else_is() {
    run(async {
        let server = Server::start().await.unwrap();
        let follower = server.add_follower().await.unwrap();
        // It is due at once, so that whatever may find out does.
        let config = Config::new().breaker_failures(FAILURES).breaker_pause(Duration::from_millis(1));
        let both = [server.endpoint(), follower.endpoint()];
        let client = Client::connect_with(both, config).await.unwrap();
        let other = Client::connect([follower.endpoint()]).await.unwrap();
        until("both connections", || client.telemetry().connections.now == 2).await;
        let lease = client.lease(TTL_KEPT).await.unwrap();
        let open = || client.telemetry().breakers.now;
        for _ in 0..FAILURES {
            let message = "transport is closing".to_owned();
            follower.faults().on_request(PUT, Fault::End { code: 14, message });
        }
        patiently("an open breaker", async {
            while open() == 0 {
                let _ = client.put("breakers/key", "").await;
            }
        })
        .await;

        let mut watch = client.watch("breakers/watched").await.unwrap();
        assert_eq!((server.watch_count(), follower.watch_count()), (1, 0));
        server.faults().set_link(Link::Down);
        until("another watch", || follower.watch_count() == 1).await;
        other.put("breakers/watched", "").await.unwrap();
        assert_eq!(
            patiently("the event", watch.next()).await.unwrap().events.len(),
            1
        );
        let renewals = client.telemetry().leases.renewals;
        until("two renewals", || {
            client.telemetry().leases.renewals >= renewals + 2
        })
        .await;
        assert!(lease.is_valid());
        assert_eq!(open(), 1, "a stream that goes on proves nothing");

        client.put("breakers/key", "").await.unwrap();
        assert_eq!((open(), client.telemetry().breakers.opened), (0, 1));
    });
}
