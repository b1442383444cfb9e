//! Barriers and latches against a real server: who waits, until when, and what becomes of it when
//! somebody dies, a name lies below another, or an answer is lost.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use tenure::{Client, Code, KeyRange};
use tenure_proxy::{Direction, Ending, Flow, Proxy};

use crate::linger::until_watches_are;
use crate::lock::{TTL, session};
use crate::support::{OwnServer, client, endpoints, patiently, run, until, viewed};

/// Long enough to be wrong in.
const WHILE: Duration = Duration::from_millis(150);

pub(crate) async fn waits<T>(what: &str, waiting: Pin<&mut impl Future<Output = T>>) {
    assert!(
        tokio::time::timeout(WHILE, waiting).await.is_err(),
        "{what} does not wait"
    );
}

pub(crate) async fn keys(client: &Client, prefix: &str) -> i64 {
    client.get(KeyRange::prefix(prefix.to_owned())).count_only().await.unwrap().count
}

/// Breaks the connection once `prefix` has so many keys, with the answers that are under way.
pub(crate) async fn lose_answers(outside: &Client, proxy: &Proxy, prefix: &str, count: i64) {
    while keys(outside, prefix).await != count {
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    proxy.cut(Ending::Close);
    proxy.flow(Direction::Down, Flow::Pass);
}

#[test]
fn a_barrier_lets_nobody_past_until_all_holds_are_released() {
    run(async {
        let (one, two, client) = (session().await, session().await, client().await);
        let barrier = client.barrier("barrier/rule");
        patiently("a barrier that nobody holds", barrier.wait()).await.unwrap();
        let first = barrier.hold(&one).await.unwrap();
        let mut waiting = pin!(barrier.wait());
        waits("one hold", waiting.as_mut()).await;
        let second = barrier.hold(&two).await.unwrap();
        first.release().await.unwrap();
        waits("the second hold", waiting.as_mut()).await;
        assert!(second.is_valid());
        drop(second);
        patiently("the release", waiting).await.unwrap();
        assert_eq!(keys(&client, "barrier/rule").await, 0);
    });
}

#[test]
fn a_barrier_that_is_open_for_a_moment_lets_past() {
    run(async {
        let server = OwnServer::start();
        let client = viewed(Client::connect(server.endpoints()).await.unwrap());
        let session = client.session().ttl(TTL).await.unwrap();
        let barrier = client.barrier("barrier/moment");
        let waiter = viewed(Client::connect(server.endpoints()).await.unwrap());
        for _ in 0..5 {
            let hold = barrier.hold(&session).await.unwrap();
            let read = waiter.telemetry().calls.ok + 1;
            let waiting = tokio::spawn({
                let barrier = waiter.barrier("barrier/moment");
                async move { barrier.wait().await }
            });
            // Behind its watch: what it has not read yet is no moment to it.
            until("its read", || waiter.telemetry().calls.ok >= read).await;
            hold.release().await.unwrap();
            let again = barrier.hold(&session).await.unwrap();
            patiently("the moment", waiting).await.unwrap().unwrap();
            until_watches_are(&server, 0).await;
            again.release().await.unwrap();
        }
    });
}

#[test]
fn a_barrier_opens_when_its_holder_dies_and_nested_names_are_others() {
    run(async {
        let (dying, other, client) = (session().await, session().await, client().await);
        let hold = client.barrier("barrier/nested").hold(&dying).await.unwrap();
        let below = client.barrier("barrier/nested/below").hold(&other).await.unwrap();
        let barrier = client.barrier("barrier/nested");
        let mut waiting = pin!(barrier.wait());
        waits("the hold", waiting.as_mut()).await;
        client.lease_revoke(dying.lease_id()).await.unwrap();
        patiently("the end of the hold", waiting).await.unwrap();
        assert_eq!(hold.release().await.unwrap_err().code(), Code::FailedPrecondition);
        let refused = client.barrier("barrier#nested").wait().await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
        below.release().await.unwrap();
    });
}

#[test]
fn a_hold_whose_answer_is_lost_is_one_hold_and_goes_for_good() {
    run(async {
        let outside = client().await;
        let proxy = Proxy::start(&endpoints()[0]).unwrap();
        let client = viewed(Client::connect([proxy.endpoint()]).await.unwrap());
        let session = client.session().ttl(TTL).await.unwrap();
        let barrier = client.barrier("barrier/lost");
        proxy.flow(Direction::Down, Flow::Hold);
        let lose = lose_answers(&outside, &proxy, "barrier/lost#barrier/hold/", 1);
        let (hold, ()) = patiently("the hold", async { tokio::join!(barrier.hold(&session), lose) }).await;
        assert_eq!(keys(&outside, "barrier/lost#barrier/hold/").await, 1);
        let hold = hold.unwrap();
        proxy.flow(Direction::Down, Flow::Hold);
        let lose = lose_answers(&outside, &proxy, "barrier/lost#barrier/hold/", 0);
        let (released, ()) = patiently("the release", async { tokio::join!(hold.release(), lose) }).await;
        released.unwrap();
        session.close().await.unwrap();
        assert_eq!(
            keys(&outside, "barrier/lost").await,
            0,
            "the void key goes with the session"
        );
    });
}

#[test]
fn a_wait_outlives_a_compaction_and_the_connection() {
    let server = OwnServer::start();
    run(async {
        let outside = viewed(Client::connect(server.endpoints()).await.unwrap());
        let proxy = Proxy::start(&server.endpoints()[0]).unwrap();
        let client = viewed(Client::connect([proxy.endpoint()]).await.unwrap());
        let session = outside.session().ttl(TTL).await.unwrap();
        let hold = outside.barrier("compacted").hold(&session).await.unwrap();
        let barrier = client.barrier("compacted");
        let mut waiting = pin!(barrier.wait());
        waits("the hold", waiting.as_mut()).await;
        // What it waits for happens while it is away, and is compacted before it is back.
        proxy.black_hole();
        proxy.cut(Ending::Close);
        hold.release().await.unwrap();
        let last = outside.put("other", "").await.unwrap().revision();
        outside.compact(last).await.unwrap();
        proxy.heal();
        patiently("the release", waiting).await.unwrap();
    });
}

#[test]
fn a_latch_opens_when_so_many_have_counted() {
    run(async {
        let client = client().await;
        let latch = client.latch("latch/rule", 3);
        let mut waiting = pin!(latch.wait());
        waits("three", waiting.as_mut()).await;
        latch.count_down_as("one").await.unwrap();
        latch.count_down_as("one").await.unwrap();
        latch.count_down().await.unwrap();
        // A latch below is another one.
        client.latch("latch/rule/below", 1).count_down().await.unwrap();
        waits("one more", waiting.as_mut()).await;
        assert_eq!(latch.remaining().await.unwrap(), 1);
        latch.count_down_as("three").await.unwrap();
        patiently("the last count", waiting).await.unwrap();
        latch.count_down().await.unwrap();
        assert_eq!(latch.remaining().await.unwrap(), 0);
        patiently("a latch that is open", latch.wait()).await.unwrap();
        latch.delete().await.unwrap();
        assert_eq!(keys(&client, "latch/rule#").await, 0);
        assert_eq!(keys(&client, "latch/rule/below#").await, 2);
    });
}

#[test]
fn a_latch_of_another_count_is_refused_and_one_that_is_deleted_ends_the_wait() {
    run(async {
        let client = client().await;
        let latch = client.latch("latch/deleted", 2);
        latch.count_down().await.unwrap();
        let other = client.latch("latch/deleted", 3);
        for error in [
            other.wait().await,
            other.count_down().await,
            other.remaining().await.map(drop),
        ] {
            let error = error.unwrap_err();
            assert_eq!(error.code(), Code::FailedPrecondition);
            assert!(error.message().contains("it counts 2, not 3"), "{error}");
        }
        let mut waiting = pin!(latch.wait());
        waits("one more", waiting.as_mut()).await;
        latch.delete().await.unwrap();
        let error = patiently("the end of the wait", waiting).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);
        patiently("a latch of nothing", client.latch("latch/nothing", 0).wait()).await.unwrap();
    });
}

#[test]
fn a_count_whose_answer_is_lost_counts_once() {
    run(async {
        let outside = client().await;
        let proxy = Proxy::start(&endpoints()[0]).unwrap();
        let client = viewed(Client::connect([proxy.endpoint()]).await.unwrap());
        outside.latch("latch/lost", 5).remaining().await.unwrap();
        let latch = client.latch("latch/lost", 5);
        let lose = async {
            // The answer to its first request is awaited, the one to the count-down is lost.
            while keys(&outside, "latch/lost#latch/down/").await == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            proxy.cut(Ending::Reset);
        };
        proxy.flow(Direction::Down, Flow::Delay(Duration::from_millis(60)));
        let (counted, ()) = patiently("the count", async { tokio::join!(latch.count_down(), lose) }).await;
        counted.unwrap();
        assert_eq!(latch.remaining().await.unwrap(), 4);
    });
}
