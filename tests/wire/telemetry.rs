//! What is counted of calls that do not go well at once.

use std::future::{Future, IntoFuture};
use std::pin::{Pin, pin};
use std::task::{Context, Waker};
use std::time::Duration;

use h2::Reason;
use tenure::Config;

use crate::fleet::{Fate, Fleet, Reply};
use crate::peer::patiently;

const LIVE: [(&str, Fate); 2] = [("a", Fate::Lives), ("b", Fate::Lives)];

#[tokio::test]
async fn each_refusal_that_is_sent_again_is_a_retry_and_each_other_member_a_failover() {
    let fleet = Fleet::scripted(&LIVE, None, |asked| match asked.host.as_str() {
        "a" => Reply::Status("14", "etcdserver: no leader"),
        _ => Reply::Well,
    });
    let client = fleet.client(&["a", "b"], Config::new()).await;
    let mut puts = 0;
    patiently("a put at the member that refuses", async {
        while fleet.asked_of("a") == 0 {
            client.put("key", "").await.unwrap();
            puts += 1;
        }
    })
    .await;
    let calls = client.telemetry().calls;
    let refused = fleet.asked_of("a") as u64;
    assert_eq!((calls.ok, calls.failed.total()), (puts, 0), "{calls:?}");
    assert_eq!((calls.retries, calls.failovers), (refused, refused), "{calls:?}");
    assert_eq!(calls.latency.count(), puts);
}

#[tokio::test]
async fn a_second_question_is_a_detour() {
    let fleet = Fleet::scripted(&LIVE, None, |asked| match asked.host.as_str() {
        "a" => Reply::Never,
        _ => Reply::Well,
    });
    let config = Config::new().hedge_after(Duration::from_millis(20)).silence(Duration::from_secs(3600));
    let client = fleet.client(&["a", "b"], config).await;
    let mut reads = 0;
    patiently("a read at the member that is silent", async {
        while fleet.asked_of("a") == 0 {
            client.get("key").await.unwrap();
            reads += 1;
        }
    })
    .await;
    let calls = client.telemetry().calls;
    // A slow machine asks both for the same read more often than that.
    let detours = fleet.asked().len() as u64 - reads;
    assert_eq!(
        (calls.ok, calls.retries, calls.detours),
        (reads, 0, detours),
        "{calls:?}"
    );
    assert!(detours > 0);
}

#[tokio::test]
async fn a_failure_is_counted_by_its_origin_and_its_delivery() {
    let reset = |_: &_| Reply::Reset(Reason::ENHANCE_YOUR_CALM);
    let fleet = Fleet::scripted(&[("a", Fate::Lives)], None, reset);
    let client = fleet.client(&["a"], Config::new()).await;
    let error = client.put("key", "").await.unwrap_err();
    let calls = client.telemetry().calls;
    assert_eq!(
        calls.failed.by(error.origin(), error.delivery()),
        1,
        "{error}: {calls:?}"
    );
    assert_eq!(
        (calls.ok, calls.failed.total(), calls.retries),
        (0, 1, 0),
        "{calls:?}"
    );
}

#[tokio::test]
async fn a_call_that_is_given_up_after_it_was_sent_is_counted_and_one_that_was_not_sent_is_not() {
    let fleet = Fleet::scripted(&[("a", Fate::Lives)], None, |_| Reply::Never);
    let client = fleet.client(&["a"], Config::new()).await;
    drop(client.put("never", "").into_future());
    let mut put = Box::pin(client.put("key", "").into_future());
    patiently("the request", async {
        while fleet.asked_of("a") == 0 {
            poll_once(put.as_mut());
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(client.telemetry().calls.dropped, 0);
    drop(put);
    let calls = client.telemetry().calls;
    assert_eq!((calls.dropped, calls.latency.count()), (1, 0), "{calls:?}");
}

fn poll_once(future: Pin<&mut impl Future>) {
    let mut future = pin!(future);
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}
