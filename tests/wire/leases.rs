//! Leases that are granted at a bad moment: as the runtime goes, outside of one,
//! and for times that no clock can count.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tenure::pb::etcdserverpb::{LeaseGrantResponse, LeaseKeepAliveResponse};
use tenure::{Client, Config, LeaseId};
use tokio::runtime::{Builder, Runtime};

use crate::peer::{answer, frame, head, serve, server};

const TTL: Duration = Duration::from_secs(60);
/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(50);

/// A client of a server that says `ttl`, in seconds, to every grant and renewal.
async fn granted(config: Config, ttl: i64) -> Client {
    let (client, server) = server(config, &h2::server::Builder::new()).await;
    serve(server, move |(request, mut respond)| async move {
        if request.uri().path() == "/etcdserverpb.Lease/LeaseGrant" {
            let granted = LeaseGrantResponse {
                id: 7,
                ttl,
                ..LeaseGrantResponse::default()
            };
            return answer(&mut respond, &granted);
        }
        let mut stream = respond.send_response(head(), false).unwrap();
        let renewed = LeaseKeepAliveResponse {
            id: 7,
            ttl,
            ..LeaseKeepAliveResponse::default()
        };
        let _ = stream.send_data(frame(&renewed), false);
        std::future::pending::<()>().await;
    });
    client
}

/// Of one thread, so that nothing is answered in the midst of a poll.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Polls once, and waits until the answer is there to be read by the next poll.
async fn sent(mut call: Pin<&mut impl Future>) {
    let pending = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await;
    assert!(pending, "answered before it was asked");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Runs `test` on a thread of its own, so that a deadlock fails and does not hang.
fn without_deadlock(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    if ended.recv_timeout(PATIENCE) != Err(mpsc::RecvTimeoutError::Timeout) {
        return thread.join().expect("the test's own assertions");
    }
    panic!("a deadlock");
}

#[test]
fn a_lease_granted_while_its_runtime_is_shut_down_does_not_lock_up() {
    without_deadlock(|| {
        let gone = runtime().handle().clone();
        runtime().block_on(async {
            let client = granted(Config::default(), 60).await;
            let mut lease = pin!(client.lease(TTL).into_future());
            sent(lease.as_mut()).await;
            // As in a worker that is in the midst of a poll when its runtime goes.
            let _guard = gone.enter();
            let _ = lease.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        });
    });
}

#[test]
fn a_lease_polled_outside_of_a_runtime_does_not_lock_up() {
    without_deadlock(|| {
        let runtime = runtime();
        let client = runtime.block_on(granted(Config::default(), 60));
        let mut lease = pin!(client.lease(TTL).into_future());
        runtime.block_on(sent(lease.as_mut()));
        // A panic, as tokio's own calls do here, or an error: either is an end.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            lease.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
        }));
        // What the poll held is free again.
        let _ = runtime.block_on(async { client.lease(TTL).timeout(PATIENCE).await.map(drop) });
    });
}

#[tokio::test]
async fn the_longest_and_strangest_times_do_no_harm() {
    for ttl in [i64::MAX, 9_000_000_000, i64::MIN, -1, 0] {
        let config = Config::default()
            .call_timeout(Duration::MAX)
            .connect_timeout(Duration::MAX)
            .send_timeout_header(true);
        let client = granted(config, ttl).await;
        let moment = Duration::from_millis(50);
        let _ = tokio::time::timeout(moment, client.keep_alive(LeaseId(7))).await.map(drop);
        if let Ok(lease) = client.lease(Duration::MAX).timeout(Duration::MAX).await {
            let ended = tokio::time::timeout(moment, lease.ended()).await;
            assert!(ended.is_err(), "{ttl}: {ended:?}");
        }
    }
}
