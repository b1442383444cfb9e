//! Copies of requests that are carried out when all is over long since: their answers were lost, they
//! were sent again, and what they were for has come and gone. On the server in memory, which has late
//! copies on demand.

use std::time::Duration;

use tenure::{Client, Config, Session};
use tenure_testserver::{Fault, Late, Server};

use crate::barrier::keys;
use crate::lock::TTL;
use crate::support::{patiently, run, until};

const TXN: &str = "/etcdserverpb.KV/Txn";

/// What is late comes behind the next of these, which nobody but [`left`] sends.
const SIGNAL: &str = "/etcdserverpb.Lease/LeaseLeases";

/// A server and a client that gives a call up soon: that much a machine may stand still.
async fn stage() -> (Server, Client, Session) {
    let server = Server::start().await.unwrap();
    let config = Config::new().call_timeout(Duration::from_secs(3));
    let client = Client::connect_with([server.endpoint()], config).await.unwrap();
    let session = client.session().ttl(TTL).await.unwrap();
    (server, client, session)
}

/// Loses the answer to the transaction behind so many, and carries it out again later.
fn repeat(server: &Server, behind: usize) {
    for _ in 0..behind {
        server.faults().on_request(TXN, Fault::Delay(Late::By(Duration::ZERO)));
        server.faults().on_answer(TXN, Fault::Delay(Late::By(Duration::ZERO)));
    }
    server.faults().on_request(TXN, Fault::Again(Late::After(SIGNAL.to_owned())));
    server.faults().on_answer(TXN, Fault::Drop);
}

/// What there is below `prefix` once that which is late was carried out.
async fn left(server: &Server, client: &Client, prefix: &str) -> i64 {
    assert_eq!(server.late_request_count(), 1, "nothing is late");
    client.leases().await.unwrap();
    until("the copy", || server.late_request_count() == 0).await;
    keys(client, prefix).await
}

#[test]
fn a_hold_that_was_released_does_not_come_back() {
    run(async {
        let (server, client, session) = stage().await;
        repeat(&server, 0);
        let hold = patiently("the hold", client.barrier("late").hold(&session)).await.unwrap();
        hold.release().await.unwrap();
        assert_eq!(left(&server, &client, "late#barrier/hold/").await, 0);
    });
}

#[test]
fn an_item_that_is_done_does_not_come_back() {
    run(async {
        let (server, client, session) = stage().await;
        let queue = session.queue("late");
        repeat(&server, 0);
        patiently("the put", queue.put("item")).await.unwrap();
        assert_eq!(queue.count().await.unwrap(), 1);
        let job = queue.consumer().take().await.unwrap();
        job.done().await.unwrap();
        assert_eq!(left(&server, &client, "late#queue/item/").await, 0);
    });
}

#[test]
fn a_claim_does_not_come_back_whether_its_item_is_done_or_given_back() {
    run(async {
        let (server, client, session) = stage().await;
        let queue = session.queue("late");
        queue.put("item").await.unwrap();
        repeat(&server, 0);
        let job = patiently("the claim", queue.consumer().take()).await.unwrap();
        job.give_back().await.unwrap();
        assert_eq!(left(&server, &client, "late#queue/claim/").await, 0);
        repeat(&server, 0);
        let job = patiently("the claim", queue.consumer().take()).await.unwrap();
        job.done().await.unwrap();
        assert_eq!(left(&server, &client, "late#queue/claim/").await, 0);
    });
}

#[test]
fn a_round_that_is_over_leaves_no_marker_to_the_next() {
    run(async {
        let (server, client, session) = stage().await;
        // Behind the entry comes the marker.
        repeat(&server, 1);
        let barrier = session.double_barrier("late", 1);
        let inside = patiently("the round", barrier.enter()).await.unwrap();
        inside.leave().await.unwrap();
        assert_eq!(left(&server, &client, "late#double-barrier/ready").await, 0);
    });
}

#[test]
fn a_count_of_a_latch_that_is_deleted_leaves_nothing() {
    run(async {
        let (server, client, _session) = stage().await;
        let latch = client.latch("late", 2);
        repeat(&server, 1);
        let mut counted = latch.count_down_as("one").await;
        while counted.is_err() {
            counted = latch.count_down_as("one").await;
        }
        assert_eq!(latch.remaining().await.unwrap(), 1);
        latch.delete().await.unwrap();
        assert_eq!(left(&server, &client, "late#latch/").await, 0);
    });
}

#[test]
fn a_takeover_whose_answer_is_lost_comes_back_to_nothing() {
    run(async {
        let (server, client, old) = stage().await;
        let new = client.session().ttl(TTL).await.unwrap();
        let _left = old.mutex("late").owner("a").lock().await.unwrap();
        old.orphan();
        // Behind the register that finds the key.
        repeat(&server, 1);
        let guard = patiently("the takeover", new.mutex("late").owner("a").lock()).await.unwrap();
        assert_eq!(guard.token().takeovers(), 1);
        guard.release().await.unwrap();
        assert_eq!(left(&server, &client, "late/").await, 0);
    });
}

#[test]
fn a_release_of_the_earlier_session_that_comes_late_is_not_the_next_ones() {
    run(async {
        let (server, client, old) = stage().await;
        let new = client.session().ttl(TTL).await.unwrap();
        let earlier = old.mutex("late").owner("a").lock().await.unwrap();
        server.faults().on_request(TXN, Fault::Delay(Late::After(SIGNAL.to_owned())));
        let released = tokio::spawn(earlier.release());
        // It is on its way, and nobody sends it again.
        until("the release", || server.late_request_count() == 1).await;
        old.orphan();
        let guard = patiently("the takeover", new.mutex("late").owner("a").lock()).await.unwrap();
        assert_eq!(guard.token().takeovers(), 1);
        assert!(patiently("the release", released).await.unwrap().is_err());
        assert_eq!(
            left(&server, &client, "late/").await,
            1,
            "it was deleted by the other's release"
        );
        assert!(guard.is_valid());
        guard.release().await.unwrap();
        assert_eq!(keys(&client, "late/").await, 0);
    });
}
