//! The bound on calls in flight: who is refused, when, and that each place comes back.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use h2::Reason;
use tenure::{Code, Config, Delivery, Error, Origin, RangeStream};

use crate::fleet::{Fate, Fleet, Reply};
use crate::peer::patiently;

const LIVE: [(&str, Fate); 1] = [("a", Fate::Lives)];
/// No test takes so long.
const LONG: Duration = Duration::from_secs(3600);

fn bounded(calls: usize) -> Config {
    Config::new().call_timeout(LONG).calls_max(calls)
}

/// Polls it so many times at most, and lets others go on between; whether it is done.
async fn poll_times<T>(mut future: Pin<&mut impl Future<Output = T>>, times: usize) -> Option<T> {
    for _ in 0..times {
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(done) = polled {
            return Some(done);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test]
async fn one_more_than_the_bound_is_refused_at_once_and_nothing_of_it_is_sent() {
    const BOUND: usize = 3;
    let fleet = Fleet::scripted(&LIVE, None, |_| Reply::Never);
    let client = fleet.client(&["a"], bounded(BOUND)).await;
    let held: Vec<_> = (0..BOUND)
        .map(|index| tokio::spawn(client.put(format!("{index}"), "").into_future()))
        .collect();
    patiently("the calls", async {
        while fleet.asked().len() < BOUND {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Views share the bound. A message that cannot be encoded shows that nobody tried.
    let views = [client.clone(), client.namespace("n/"), client.monotonic()];
    for view in views {
        let mut put = Box::pin(view.put("more", vec![0; 3 << 20]).into_future());
        let error = poll_times(put.as_mut(), 1).await.expect("at the first poll").unwrap_err();
        assert!(error.is_shed() && !error.may_be_applied(), "{error}");
        assert_eq!(
            (error.code(), error.origin(), error.delivery(), error.attempts()),
            (Code::ResourceExhausted, Origin::Library, Delivery::NotSent, 0)
        );
        let text = error.to_string();
        assert!(
            text.starts_with("etcdserverpb.KV/Put: 3 calls are in flight"),
            "{text}"
        );
    }
    let calls = client.telemetry().calls;
    assert_eq!(
        (calls.shed, calls.failed.total(), calls.latency.count()),
        (3, 0, 0),
        "{calls:?}"
    );
    assert_eq!(fleet.asked().len(), BOUND);
    held.into_iter().for_each(|call| call.abort());
}

#[tokio::test]
async fn of_a_burst_exactly_as_many_go_through_as_the_bound_allows() {
    const BOUND: usize = 8;
    let fleet = Fleet::scripted(&LIVE, None, |_| Reply::Never);
    let client = fleet.client(&["a"], bounded(BOUND)).await;
    let puts: Vec<_> = (0..200).map(|_| client.put("key", "").into_future()).collect();
    let mut tasks: Vec<_> = puts.into_iter().map(tokio::spawn).collect();
    let mut shed = 0;
    for task in tasks.drain(BOUND..) {
        let answer: Result<_, Error> = patiently("a refusal", task).await.unwrap();
        shed += usize::from(answer.unwrap_err().is_shed());
    }
    patiently("the others", async {
        while fleet.asked().len() < BOUND {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!((shed, client.telemetry().calls.shed), (192, 192));
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn however_a_call_ends_its_place_is_free_when_its_caller_knows() {
    for reply in [
        Reply::Well,
        Reply::Status("3", "etcdserver: key is not provided"),
        Reply::Status("14", "transport is closing"),
        Reply::Reset(Reason::INTERNAL_ERROR),
        Reply::Never,
    ] {
        let answered = reply.clone();
        let fleet = Fleet::scripted(&LIVE, None, move |_| answered.clone());
        let client = fleet.client(&["a"], bounded(1)).await;
        for _ in 0..3 {
            let mut put = Box::pin(client.put("key", "").timeout(Duration::from_millis(50)).into_future());
            let answer = patiently("an end", put.as_mut()).await;
            assert!(!answer.is_err_and(|error| error.is_shed()), "{reply:?}");
            // The future that has ended is still there.
            let answer = patiently(
                "an end",
                client.put("key", "").timeout(Duration::from_millis(50)).into_future(),
            );
            assert!(!answer.await.is_err_and(|error| error.is_shed()), "{reply:?}");
        }
        assert_eq!(client.telemetry().calls.shed, 0);
    }
}

#[tokio::test]
async fn what_is_refused_before_it_is_sent_leaves_no_place_taken() {
    let fleet = Fleet::new(&LIVE);
    let client = fleet.client(&["a"], bounded(1)).await;
    let too_large = client.put("key", vec![0; 3 << 20]).into_future();
    client.put("key", "").await.expect("the one that cannot be sent has no place");
    assert_eq!(too_large.await.unwrap_err().origin(), Origin::Caller);
    client.put("key", "").await.unwrap();
}

#[tokio::test]
async fn a_call_dropped_at_any_poll_leaves_no_place_taken() {
    for never in [false, true] {
        let fleet = Fleet::scripted(&LIVE, None, move |_| match never {
            true => Reply::Never,
            false => Reply::Well,
        });
        let client = fleet.client(&["a"], bounded(1)).await;
        for polls in 0..30 {
            let mut put = Box::pin(client.put("key", "").into_future());
            let done = poll_times(put.as_mut(), polls).await;
            assert!(
                !done.is_some_and(|answer| answer.is_err_and(|error| error.is_shed())),
                "{polls}"
            );
            drop(put);
        }
        assert_eq!(client.telemetry().calls.shed, 0);
        // And there is no more than the one.
        let _held = client.put("key", "").into_future();
        assert!(client.put("key", "").await.unwrap_err().is_shed());
    }
}

#[tokio::test]
async fn a_stream_of_answers_has_a_place_from_its_opening_to_its_end_or_drop() {
    let fleet = Fleet::new(&LIVE);
    let client = fleet.client(&["a"], bounded(1)).await;
    let held = client.get("key").into_future();
    let mut range: RangeStream = client.range_stream("key");
    let error = range.next().await.unwrap_err();
    assert!(error.is_shed(), "{error}");
    drop(held);
    assert_eq!(range.next().await.unwrap(), None, "it may be asked again");
    client.get("key").await.unwrap();
}

#[tokio::test]
async fn what_is_urgent_or_for_one_member_is_never_refused() {
    let fleet = Fleet::new(&LIVE);
    let client = fleet.client(&["a"], bounded(1)).await;
    let _held = client.get("key").into_future();
    assert!(client.get("key").await.unwrap_err().is_shed());
    client.get("key").control().await.unwrap();
    client.put("key", "").control().await.unwrap();
    client
        .endpoints()
        .sync()
        .await
        .expect_err("there is no address in the list, but it was asked for");
    assert!(fleet.asked().iter().any(|asked| &*asked.key == b"/etcdserverpb.Cluster/MemberList"));
    // It does not answer; what counts is that it is asked.
    let health = client.health(Duration::from_millis(50)).await;
    assert!(
        !health[0].error.as_ref().is_some_and(Error::is_shed),
        "{health:?}"
    );
    assert_eq!(client.telemetry().calls.shed, 1);
}
