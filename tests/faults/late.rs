//! Requests of the lock that arrive when they are answered elsewhere long since:
//! a late register leaves no key, a late cancel takes none away.

use std::time::Duration;

use tenure::{Client, Config, Endpoint, KeyRange, Mutex, Op, Session};
use tenure_etcd::Cluster;
use tokio::task::JoinHandle;

use crate::support::{TTL, client, cluster, patiently, runtime, session, until_empty};
use crate::way::{Phase, Way};

const NAME: &str = "late";
/// How often a test tries for a request that arrives; once is enough, as a rule.
const ROUNDS: usize = 5;

/// A session whose requests are held up, and another way for it to go.
struct Late {
    /// A client with a way of its own.
    check: Client,
    way: Way,
    detour: Way,
    session: Session,
    mutex: Mutex,
}

impl Late {
    async fn new(cluster: &Cluster) -> Late {
        let endpoint = cluster.member(0).endpoint();
        let (way, detour) = (Way::new(&endpoint, Phase::Open), Way::new(&endpoint, Phase::Shut));
        let ways = [way.clone(), detour.clone()];
        let dial = move |endpoint: &Endpoint| ways[usize::from(endpoint.host() == "detour")].dial();
        let config = Config::new().call_timeout(Duration::from_secs(3));
        let late = Client::connect_over(dial, ["http://way", "http://detour"], config).await.unwrap();
        let session = session(&late, TTL).await;
        Late {
            check: client(cluster).await,
            mutex: session.mutex(NAME),
            way,
            detour,
            session,
        }
    }

    /// A lock whose register is kept on the way.
    async fn locking(&self) -> JoinHandle<tenure::Guard> {
        self.way.turn(Phase::Held);
        let mutex = self.mutex.clone();
        let locking = tokio::spawn(async move { mutex.lock().await.unwrap() });
        self.way.until_kept(1).await;
        locking
    }

    fn take_the_detour(&self) {
        self.way.turn(Phase::Cut);
        self.detour.turn(Phase::Open);
    }

    /// Once a request may be on its way for ever, the lock has a gate key.
    async fn until_the_gate_is_closed(&self) {
        let gate = KeyRange::key(format!("{NAME}#gate/{}", self.session.lease_id()));
        patiently("a withdrawal", async {
            while self.check.get(gate.clone()).await.unwrap().kvs.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    async fn queue(&self) -> i64 {
        let queue = KeyRange::prefix(format!("{NAME}/"));
        self.check.get(queue).count_only().await.unwrap().count
    }

    /// Delivers what was kept, with nobody in the queue; whether it has arrived.
    async fn leaves_no_key(&self) -> bool {
        let landed = self.way.deliver(1).await;
        assert_eq!(self.queue().await, 0, "a key that nobody holds");
        landed
    }

    /// Delivers what was kept to the next holder; whether it has arrived.
    async fn takes_no_key(&self) -> bool {
        let guard = patiently("a grant", self.mutex.lock()).await.unwrap();
        let landed = self.way.deliver(1).await;
        let fenced = self.check.txn().when(guard.fence()).then(Op::put("fenced", "")).await.unwrap();
        assert!(fenced.succeeded, "the key of a holder is gone");
        guard.release().await.unwrap();
        landed
    }
}

/// Runs `round` until what was held up has indeed arrived.
fn until_landed(round: impl AsyncFn(Late) -> bool) {
    let cluster = cluster(1);
    runtime().block_on(async {
        for _ in 0..ROUNDS {
            if round(Late::new(&cluster).await).await {
                return until_empty(&client(&cluster).await, NAME).await;
            }
        }
        panic!("in {ROUNDS} rounds nothing arrived late, so nothing was tried");
    });
}

#[test]
fn a_register_that_arrives_after_the_unlock_leaves_no_key() {
    until_landed(async |late| {
        let locking = late.locking().await;
        late.way.turn(Phase::Sealed);
        late.take_the_detour();
        let guard = patiently("a grant", locking).await.unwrap();
        guard.release().await.unwrap();
        assert_eq!(late.queue().await, 0);
        late.leaves_no_key().await
    });
}

#[test]
fn a_register_that_arrives_after_the_cancel_leaves_no_key() {
    until_landed(async |late| {
        let locking = late.locking().await;
        late.way.turn(Phase::Sealed);
        locking.abort();
        late.take_the_detour();
        late.until_the_gate_is_closed().await;
        late.leaves_no_key().await
    });
}

#[test]
fn a_register_and_its_cancel_that_arrive_late_take_no_key_from_the_next_holder() {
    until_landed(async |late| {
        let locking = late.locking().await;
        locking.abort();
        // The reset of the register is between the two, so that only one is sure to land.
        late.way.until_kept(2).await;
        late.way.turn(Phase::Sealed);
        late.take_the_detour();
        late.takes_no_key().await
    });
}

#[test]
fn a_release_that_arrives_late_takes_no_key_from_the_next_holder() {
    until_landed(async |late| {
        let guard = late.mutex.lock().await.unwrap();
        late.way.turn(Phase::Held);
        drop(guard);
        late.way.until_kept(1).await;
        late.way.turn(Phase::Sealed);
        late.take_the_detour();
        late.takes_no_key().await
    });
}
