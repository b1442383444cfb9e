//! Calls that are refused for those in flight, and what goes on all the same: whatever is held
//! is kept, passed on and given back.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tenure::pb::etcdserverpb::RangeResponse;
use tenure::{Call, Client, Config, KeyRange};
use tenure_testserver::{Fault, Late, Server};

use crate::lock::{TTL, TTL_KEPT, until_queue_is};
use crate::support::{client, endpoints, patiently, run, viewed};

const PUT: &str = "/etcdserverpb.KV/Put";

async fn bounded(calls: usize) -> Client {
    let config = Config::new().calls_max(calls);
    viewed(Client::connect_with(endpoints(), config).await.expect("a client"))
}

/// Takes the one place there is for as long as it lives, and asks nothing.
fn fill(client: &Client) -> Call<RangeResponse> {
    client.get("shedding/fill").into_future()
}

async fn is_shed(client: &Client) -> bool {
    client.put("shedding/put", "").await.is_err_and(|error| error.is_shed())
}

#[test]
fn locks_are_kept_waited_for_and_given_back_while_calls_are_shed() {
    run(async {
        const NAME: &str = "shedding/lock";
        let (client, other) = (bounded(1).await, client().await);
        let full = fill(&client);
        assert!(is_shed(&client).await);
        let (ours, theirs) = (
            client.session().ttl(TTL_KEPT).await.unwrap(),
            other.session().ttl(TTL).await.unwrap(),
        );
        let guard = ours.mutex(NAME).lock().await.unwrap();
        let rival = theirs.mutex(NAME);
        let rival = tokio::spawn(async move { rival.lock().await });
        until_queue_is(&other, NAME, 2).await;
        let renewals = client.telemetry().leases.renewals;
        patiently("two more renewals", async {
            while client.telemetry().leases.renewals < renewals + 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert!(guard.is_valid());
        drop(guard);
        let rival = patiently("the rival's grant", rival).await.unwrap().unwrap();
        // One that waits reads the queue, and leaves nothing where it is dropped.
        let mutex = ours.mutex(NAME);
        let waiting = tokio::spawn(async move { mutex.lock().await.map(drop) });
        until_queue_is(&other, NAME, 2).await;
        waiting.abort();
        until_queue_is(&other, NAME, 1).await;
        let mutex = ours.mutex(NAME);
        let waiting = tokio::spawn(async move { mutex.lock().await });
        until_queue_is(&other, NAME, 2).await;
        rival.release().await.unwrap();
        let guard = patiently("our grant", waiting).await.unwrap().unwrap();
        assert!(client.force_unlock(NAME).await.unwrap().is_some(), "by hand too");
        drop(guard);
        ours.close().await.unwrap();
        until_queue_is(&other, NAME, 0).await;
        assert!(is_shed(&client).await, "all the while there was no place");
        assert_eq!(client.telemetry().calls.shed, 2, "and nothing else was refused");
        drop(full);
        client.put("shedding/put", "").await.unwrap();
    });
}

#[test]
fn no_recipe_asks_for_a_place() {
    run(async {
        let client = bounded(1).await;
        let full = fill(&client);
        let session = client.session().ttl(TTL).await.unwrap();
        let several = session.multi_lock(["shedding/m1", "shedding/m2"]).lock().await.unwrap();
        several.release().await.unwrap();
        let lock = session.rw_lock("shedding/rw");
        drop(lock.read().await.unwrap());
        lock.write().await.unwrap().release().await.unwrap();
        session
            .semaphore("shedding/permits", 2)
            .acquire(1)
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
        let leadership = session.election("shedding/election").campaign("one").await.unwrap();
        leadership.resign().await.unwrap();
        let queue = session.queue("shedding/queue");
        queue.put("item").await.unwrap();
        let job = patiently("the item", queue.consumer().take()).await.unwrap();
        job.done().await.unwrap();
        let barrier = client.barrier("shedding/barrier").hold(&session).await.unwrap();
        barrier.release().await.unwrap();
        client.lock("shedding/short").await.unwrap().release().await.unwrap();
        session.close().await.unwrap();
        assert_eq!(client.telemetry().calls.shed, 0);
        drop(full);
    });
}

#[test]
fn what_is_written_with_a_fence_is_a_call_of_the_users() {
    run(async {
        let client = bounded(1).await;
        let session = client.session().ttl(TTL).await.unwrap();
        let guard = session.mutex("shedding/fence").lock().await.unwrap();
        let full = fill(&client);
        let error = guard.fenced().put("shedding/fenced", "").await.unwrap_err();
        assert!(error.is_shed() && !error.is_lost(), "{error}");
        drop(full);
        guard.fenced().put("shedding/fenced", "").await.unwrap();
        guard.release().await.unwrap();
    });
}

#[test]
fn a_list_that_has_begun_waits_for_a_place() {
    run(async {
        let (client, other) = (bounded(1).await, client().await);
        for key in ["shedding/list/1", "shedding/list/2"] {
            other.put(key, "").await.unwrap();
        }
        let mut refused = client.list_watch(KeyRange::prefix("shedding/list/"));
        let full = fill(&client);
        assert!(refused.next().await.is_err(), "at the door");
        drop(full);
        let mut list = client.list_watch(KeyRange::prefix("shedding/list/")).page_size(1);
        let first = patiently("a page", list.next()).await.unwrap();
        let full = fill(&client);
        let rest = tokio::spawn(async move {
            let second = list.next().await;
            (second, list.next().await)
        });
        patiently("a refusal", async {
            while client.telemetry().calls.shed < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        drop(full);
        let (second, third) = patiently("the rest", rest).await.unwrap();
        assert!(
            second.is_ok() && third.is_ok(),
            "{first:?}, then {second:?}, {third:?}"
        );
    });
}

#[test]
fn a_call_that_is_dropped_at_any_poll_gives_its_place_back() {
    run(async {
        let client = bounded(1).await;
        for polls in 0..40 {
            let mut put = Box::pin(client.put("shedding/dropped", "").into_future());
            let is_done = poll_times(put.as_mut(), polls).await;
            drop(put);
            client.put("shedding/dropped", "").await.unwrap();
            if is_done && polls > 20 {
                break;
            }
        }
        assert_eq!(client.telemetry().calls.shed, 0);
    });
}

/// Whether it was done; as polled, it had gone well.
async fn poll_times<T, E: std::fmt::Debug>(
    mut future: Pin<&mut impl Future<Output = Result<T, E>>>,
    times: usize,
) -> bool {
    for _ in 0..times {
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(answer) = polled {
            answer.expect("an answer");
            return true;
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    false
}

/// On the server in memory, which has answers that are late.
#[test]
fn while_answers_are_late_as_many_calls_as_may_wait_for_them_and_the_rest_are_shed() {
    run(async {
        const CALLS_MAX: usize = 4;
        let server = Server::start().await.unwrap();
        let client = Client::connect_with([server.endpoint()], Config::new().calls_max(CALLS_MAX))
            .await
            .unwrap();
        for _ in 0..CALLS_MAX {
            let late = Fault::Delay(Late::After("/etcdserverpb.KV/DeleteRange".into()));
            server.faults().on_answer(PUT, late);
        }
        let puts: Vec<_> =
            (0..40).map(|index| client.put(format!("late/{index}"), "").into_future()).collect();
        let mut puts: Vec<_> = puts.into_iter().map(tokio::spawn).collect();
        for put in puts.drain(CALLS_MAX..) {
            let error = patiently("a refusal", put).await.unwrap().unwrap_err();
            assert!(error.is_shed(), "{error}");
        }
        let session = client.session().ttl(TTL).await.unwrap();
        session.mutex("shedding").lock().await.unwrap().release().await.unwrap();
        // All four were carried out before their answers are let go.
        patiently("the writes", async {
            let written =
                async || client.get(KeyRange::prefix("late/")).count_only().control().await.unwrap().count;
            while written().await < CALLS_MAX as i64 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        client.delete("another").control().await.unwrap();
        for put in puts {
            patiently("an answer", put).await.unwrap().unwrap();
        }
        assert_eq!(client.telemetry().calls.shed, 36);
        client.put("late/again", "").await.unwrap();
    });
}
