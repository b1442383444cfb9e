//! The waiter's watch moves to a member that lags behind and replays what was before:
//! the end of an earlier life of a key says nothing of the one that queues now.

use std::future::IntoFuture;
use std::time::Duration;

use tenure::{Client, Event, KeyRange, Session};
use tenure_etcd::Cluster;
use tenure_proxy::{Door, Ending, Proxy};
use tenure_testserver::{Follower, Lag, Link, Server};

use crate::support::{TTL, cluster, patiently, runtime, session};

const NAME: &str = "lagging";

/// As long as a grant that is wrong may take to show.
const TIME_FOR_MISTAKES: Duration = Duration::from_millis(300);

/// Sessions on the leader, and on a follower that is on time until it is cut; from then
/// on the second one has no other way than the follower that lags.
struct Scene {
    _server: Server,
    near: Follower,
    late: Follower,
    holder: Session,
    waiter: Session,
}

impl Scene {
    async fn set() -> Scene {
        let server = Server::start().await.unwrap();
        let (near, late) = (
            server.add_follower().await.unwrap(),
            server.add_follower().await.unwrap(),
        );
        late.faults().set_link(Link::Down);
        let holding = Client::connect([server.endpoint()]).await.unwrap();
        let waiting = Client::connect([near.endpoint(), late.endpoint()]).await.unwrap();
        Scene {
            holder: session(&holding, TTL).await,
            waiter: session(&waiting, TTL).await,
            _server: server,
            near,
            late,
        }
    }
}

/// The key that this session has in the queue has had an earlier life, whose end the
/// waiter is told of late.
async fn replays_the_end_of_an_earlier_life(of: impl FnOnce(&Scene) -> &Session) {
    let scene = Scene::set().await;
    let earlier = of(&scene).mutex(NAME).lock().await.unwrap();
    scene.late.set_lag(Lag::Held);
    earlier.release().await.unwrap();
    let held = scene.holder.mutex(NAME).lock().await.unwrap();
    let mutex = scene.waiter.mutex(NAME);
    let locking = tokio::spawn(async move { mutex.lock().await });
    until("a watch", async || scene.near.watch_count() > 0).await;
    scene.near.faults().set_link(Link::Down);
    scene.late.faults().set_link(Link::Up);
    until("a watch", async || scene.late.watch_count() > 0).await;

    let queue = scene.waiter.client().watch(KeyRange::prefix(format!("{NAME}/"))).no_put();
    let mut told = patiently("a watch", queue.into_future()).await.unwrap();
    assert_eq!(scene.late.apply(1), 1);
    let batch = patiently("old news", told.next()).await.unwrap();
    assert!(matches!(&batch.events[..], [Event::Delete { kv, .. }]
        if kv.mod_revision < held.token().create_revision().0));
    tokio::time::sleep(TIME_FOR_MISTAKES).await;
    assert!(!locking.is_finished(), "old news decided: {:?}", locking.await);

    scene.late.set_lag(Lag::By(Duration::ZERO));
    tokio::time::sleep(TIME_FOR_MISTAKES).await;
    assert!(
        !locking.is_finished(),
        "decided by catching up: {:?}",
        locking.await
    );
    let token = held.token();
    held.release().await.unwrap();
    let granted = patiently("the hand-off", locking).await.unwrap().unwrap();
    assert!(granted.token() > token);
    patiently("a release", granted.release()).await.unwrap();
}

#[test]
fn a_lagging_member_that_replays_an_earlier_release_of_the_holder_grants_nothing() {
    runtime().block_on(replays_the_end_of_an_earlier_life(|scene| &scene.holder));
}

#[test]
fn a_lagging_member_that_replays_an_earlier_release_of_the_waiter_does_not_end_its_wait() {
    runtime().block_on(replays_the_end_of_an_earlier_life(|scene| &scene.waiter));
}

/// So much the frozen member has to make up for first, or the waiter would come too late; more of it
/// in each round, up to three times as much.
const WRITES: usize = 2_000;
const WRITE_BYTES: usize = 10_000;
/// A round in which the waiter did come too late shows nothing.
const ROUNDS_MAX: usize = 12;

#[test]
fn a_frozen_member_that_replays_an_earlier_release_as_it_catches_up_grants_nothing() {
    let cluster = cluster(3);
    runtime().block_on(async {
        for round in 0..ROUNDS_MAX {
            let writes = WRITES * (round + 1).min(3);
            if replays_after_a_freeze(&cluster, &format!("{NAME}/{round}"), writes).await {
                return;
            }
        }
        panic!("nobody was told of old news");
    });
}

/// Whether the waiter's watch began in the past.
async fn replays_after_a_freeze(cluster: &Cluster, name: &str, writes: usize) -> bool {
    let leader = cluster.leader_index().unwrap();
    let late = cluster.member((leader + 2) % 3);
    let to_near = Proxy::start(&cluster.member((leader + 1) % 3).endpoint()).unwrap();
    let to_late = Proxy::start(&late.endpoint()).unwrap();
    to_late.door(Door::Refusing);
    let holding = Client::connect([cluster.member(leader).endpoint()]).await.unwrap();
    let waiting = Client::connect([to_near.endpoint(), to_late.endpoint()]).await.unwrap();
    let (holder, waiter) = (session(&holding, TTL).await, session(&waiting, TTL).await);
    let earlier = holder.mutex(name).lock().await.unwrap();
    late.pause().unwrap();
    fill(&holding, writes).await;
    earlier.release().await.unwrap();
    let held = holder.mutex(name).lock().await.unwrap();
    let mutex = waiter.mutex(name);
    let locking = tokio::spawn(async move { mutex.lock().await });
    until("a queue of two", async || {
        let queue = holding.get(KeyRange::prefix(format!("{name}/"))).count_only().await;
        queue.is_ok_and(|queue| queue.count == 2)
    })
    .await;
    // Until it watches: were it not to, the round would show nothing.
    tokio::time::sleep(TIME_FOR_MISTAKES).await;

    to_late.door(Door::Open);
    to_near.door(Door::Refusing);
    to_near.cut(Ending::Reset);
    // It shares the stream of the lock's watch, and begins when that does.
    let beside = waiting.watch(KeyRange::prefix(format!("{name}/"))).no_put();
    let beside = tokio::spawn(beside.into_future());
    until("a dial", async || to_late.connections() > 0).await;
    late.resume().unwrap();
    let beside = patiently("a watch", beside).await.unwrap();
    tokio::time::sleep(TIME_FOR_MISTAKES * 5).await;
    assert!(!locking.is_finished(), "old news decided: {:?}", locking.await);

    let token = held.token();
    patiently("a release", held.release()).await.unwrap();
    let granted = patiently("the hand-off", locking).await.unwrap().unwrap();
    patiently("a release", granted.release()).await.unwrap();
    beside.is_ok_and(|beside| beside.created_revision() < token.create_revision())
}

async fn fill(client: &Client, writes: usize) {
    for _ in 0..writes / 100 {
        let put = |index| client.put(format!("fill/{index}"), vec![7; WRITE_BYTES]).into_future();
        let puts: Vec<_> = (0..100).map(|index| tokio::spawn(put(index))).collect();
        for put in puts {
            patiently("a put", put).await.unwrap().unwrap();
        }
    }
}

async fn until(what: &str, happened: impl AsyncFn() -> bool) {
    patiently(what, async {
        while !happened().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
