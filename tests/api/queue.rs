//! Queues against a real server: put once, taken by one at a time, in order, and again where somebody
//! has died.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure::{Client, Code, KeyRange, Op};
use tenure_proxy::{Direction, Flow, Proxy};

use crate::barrier::{keys, lose_answers, waits};
use crate::lock::{TTL, session};
use crate::support::{client, endpoints, patiently, run, viewed};

async fn until_keys(client: &Client, prefix: &str, count: i64) {
    patiently(&format!("{count} keys below {prefix}"), async {
        while keys(client, prefix).await != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[test]
fn items_are_taken_by_priority_and_then_in_the_order_they_came() {
    run(async {
        let session = session().await;
        let queue = session.queue("queue/order");
        let first = queue.put("a").await.unwrap();
        queue.put_with_priority(9, "urgent").await.unwrap();
        queue.put("b").await.unwrap();
        queue.put_with_priority(u16::MAX, "late").await.unwrap();
        queue.put_with_priority(9, "urgent too").await.unwrap();
        session.queue("queue/order/below").put("another queue's").await.unwrap();
        assert_eq!(queue.count().await.unwrap(), 5);
        let mut consumer = queue.consumer();
        let mut taken = Vec::new();
        for _ in 0..5 {
            let job = patiently("an item", consumer.take()).await.unwrap();
            if job.value() == "a" {
                assert_eq!((job.put_revision(), job.priority()), (first, 0x8000));
            }
            taken.push(job.value().clone());
            job.done().await.unwrap();
        }
        assert_eq!(taken, ["urgent", "urgent too", "a", "b", "late"]);
        waits("an empty queue", pin!(consumer.take())).await;
        assert_eq!(queue.count().await.unwrap(), 0);
        let mut taking = pin!(consumer.take());
        waits("an empty queue", taking.as_mut()).await;
        queue.put("new").await.unwrap();
        patiently("the new item", taking).await.unwrap().done().await.unwrap();
    });
}

#[test]
fn many_put_and_many_take_and_each_item_is_done_once() {
    const PRODUCERS: usize = 3;
    const ITEMS: usize = 8;
    run(async {
        let mut tasks = Vec::new();
        for producer in 0..PRODUCERS {
            let queue = session().await.queue("queue/many");
            tasks.push(tokio::spawn(async move {
                for item in 0..ITEMS {
                    queue.put(format!("{producer}/{item}")).await.unwrap();
                }
            }));
        }
        let done = Arc::new(Mutex::new(BTreeSet::new()));
        for _ in 0..3 {
            let (session, done) = (session().await, done.clone());
            tasks.push(tokio::spawn(async move {
                let mut consumer = session.queue("queue/many").consumer();
                while done.lock().unwrap().len() < PRODUCERS * ITEMS {
                    let taken = tokio::time::timeout(Duration::from_millis(200), consumer.take()).await;
                    if let Ok(job) = taken {
                        let job = job.unwrap();
                        assert!(
                            done.lock().unwrap().insert(job.value().clone()),
                            "{job:?} is done twice"
                        );
                        job.done().await.unwrap();
                    }
                }
            }));
        }
        for task in tasks {
            patiently("the end of a task", task).await.unwrap();
        }
        let client = client().await;
        assert_eq!(keys(&client, "queue/many#queue/item/").await, 0);
        until_keys(&client, "queue/many#queue/claim/", 0).await;
    });
}

#[test]
fn an_item_comes_back_to_its_place_when_its_consumer_dies_or_drops_it() {
    run(async {
        let (dying, other, client) = (session().await, session().await, client().await);
        let queue = other.queue("queue/dying");
        queue.put("first").await.unwrap();
        queue.put("second").await.unwrap();
        let job = dying.queue("queue/dying").consumer().take().await.unwrap();
        assert_eq!(job.value(), "first");
        let mut consumer = queue.consumer();
        let second = consumer.take().await.unwrap();
        assert_eq!(second.value(), "second");
        let mut taking = Box::pin(consumer.take());
        waits("two that are taken", taking.as_mut()).await;
        client.lease_revoke(dying.lease_id()).await.unwrap();
        let again = patiently("the first again", taking).await.unwrap();
        assert_eq!(
            (again.value(), again.put_revision()),
            (job.value(), job.put_revision())
        );
        // Who has lost it cannot say that it is done, nor write under its fence.
        let fenced = |fence| client.txn().when(fence).then(Op::put("queue/dying-result", ""));
        assert!(!fenced(job.fence()).await.unwrap().succeeded);
        assert!(fenced(again.fence()).await.unwrap().succeeded);
        assert_eq!(job.done().await.unwrap_err().code(), Code::FailedPrecondition);

        drop(again);
        until_keys(&client, "queue/dying#queue/claim/", 1).await;
        second.give_back().await.unwrap();
        for value in ["first", "second"] {
            let job = patiently("what was given back", consumer.take()).await.unwrap();
            assert_eq!(job.value(), value);
            job.done().await.unwrap();
        }
    });
}

#[test]
fn who_has_lost_an_item_is_told_also_when_somebody_else_has_done_it() {
    run(async {
        let (one, two) = (session().await, session().await);
        one.queue("queue/late").put("x").await.unwrap();
        let job = one.queue("queue/late").consumer().take().await.unwrap();
        one.client().delete(KeyRange::prefix("queue/late#queue/claim/")).await.unwrap();
        let other = patiently("the item", two.queue("queue/late").consumer().take()).await.unwrap();
        other.done().await.unwrap();
        assert!(job.done().await.unwrap_err().is_lost());
    });
}

#[test]
fn a_put_whose_answer_is_lost_is_one_item() {
    run(async {
        let outside = client().await;
        let proxy = Proxy::start(&endpoints()[0]).unwrap();
        let client = viewed(Client::connect([proxy.endpoint()]).await.unwrap());
        let session = client.session().ttl(TTL).await.unwrap();
        let queue = session.queue("queue/lost");
        for count in 1..=3 {
            proxy.flow(Direction::Down, Flow::Hold);
            let lose = lose_answers(&outside, &proxy, "queue/lost#queue/item/", count);
            let (put, ()) = patiently("the put", async { tokio::join!(queue.put("item"), lose) }).await;
            put.unwrap();
            assert_eq!(queue.count().await.unwrap(), u64::try_from(count).unwrap());
        }
        // One that is dropped under way, and then the next.
        proxy.flow(Direction::Down, Flow::Hold);
        let lose = lose_answers(&outside, &proxy, "queue/lost#queue/item/", 4);
        tokio::select! {
            put = queue.put("dropped") => panic!("{put:?}"),
            () = patiently("the item", lose) => {}
        }
        queue.put("last").await.unwrap();
        assert_eq!(queue.count().await.unwrap(), 5);
    });
}

#[test]
fn a_claim_and_an_end_whose_answers_are_lost_are_one_each() {
    run(async {
        let outside = client().await;
        let proxy = Proxy::start(&endpoints()[0]).unwrap();
        let client = viewed(Client::connect([proxy.endpoint()]).await.unwrap());
        let session = client.session().ttl(TTL).await.unwrap();
        let queue = session.queue("queue/claim");
        queue.put("item").await.unwrap();
        let mut consumer = queue.consumer();
        proxy.flow(Direction::Down, Flow::Delay(Duration::from_millis(60)));
        let lose = lose_answers(&outside, &proxy, "queue/claim#queue/claim/", 1);
        let (job, ()) = patiently("the claim", async { tokio::join!(consumer.take(), lose) }).await;
        let job = job.unwrap();
        assert_eq!(job.value(), "item");
        proxy.flow(Direction::Down, Flow::Hold);
        let lose = lose_answers(&outside, &proxy, "queue/claim#queue/item/", 0);
        let (done, ()) = patiently("the end", async { tokio::join!(job.done(), lose) }).await;
        done.unwrap();
        assert_eq!(keys(&outside, "queue/claim#queue/claim/").await, 0);
        session.close().await.unwrap();
        assert_eq!(keys(&outside, "queue/claim").await, 0);
    });
}
