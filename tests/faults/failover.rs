//! The leader of three is frozen or killed while many write and read: reads are
//! answered elsewhere, writes fail only as far as nobody knows, and none is done twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tenure::{Client, Config, Delivery, KeyRange};
use tenure_etcd::Cluster;
use tokio::task::JoinHandle;

use crate::support::{client, cluster, patiently, runtime};

const WRITERS: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(10);
/// What a follower has sent to a leader that died is answered after 7 seconds.
const PUT_TIMEOUT: Duration = Duration::from_millis(400);

/// Somebody who writes keys of its own until it is told to stop.
struct Writer {
    answered: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Writer {
    fn start(client: &Client, writer: usize, stop: &Arc<AtomicBool>) -> Writer {
        let (client, stop, answered) = (client.clone(), stop.clone(), Arc::<AtomicUsize>::default());
        let count = answered.clone();
        let task = tokio::spawn(async move {
            for index in 1.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let put = client.put(format!("failover/{writer}/{index}"), "").timeout(PUT_TIMEOUT);
                match put.await {
                    Ok(_) => drop(count.fetch_add(1, Ordering::SeqCst)),
                    Err(error) => assert_ne!(error.delivery(), Delivery::Answered, "{error}"),
                }
            }
        });
        Writer { answered, task }
    }

    /// Waits for the next that is sent from now on and answered.
    async fn writes(&self) {
        // One is under way already.
        let answered = self.answered.load(Ordering::SeqCst) + 2;
        patiently("a write", async {
            while self.answered.load(Ordering::SeqCst) < answered && !self.task.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

fn fails_over(fault: impl Fn(&Cluster, usize)) {
    let cluster = cluster(3);
    runtime().block_on(async {
        let config = Config::new().call_timeout(TIMEOUT);
        let busy = Client::connect_with(cluster.endpoints(), config).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS).map(|writer| Writer::start(&busy, writer, &stop)).collect();
        for writer in &writers {
            writer.writes().await;
        }
        let leader = cluster.leader_index().unwrap();
        fault(&cluster, leader);
        tokio::task::block_in_place(|| cluster.leader_index()).unwrap();
        let elected = Instant::now();
        for _ in 0..20 {
            patiently("a read", busy.get("failover/0/1").into_future()).await.unwrap();
        }
        println!("20 reads within {:?} of the election", elected.elapsed());
        for writer in &writers {
            writer.writes().await;
        }
        stop.store(true, Ordering::SeqCst);
        for writer in writers {
            patiently("the last write", writer.task).await.unwrap();
        }
        // A dead one stays dead.
        let _ = cluster.member(leader).resume();
        // What arrives late is there by then.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let all = client(&cluster).await.get(KeyRange::prefix("failover/")).await.unwrap();
        assert!(all.kvs.iter().all(|kv| kv.version == 1), "a write was done twice");
    });
}

#[test]
fn a_leader_that_freezes_is_left() {
    fails_over(|cluster, leader| cluster.member(leader).pause().unwrap());
}

#[test]
fn a_leader_that_dies_is_left() {
    fails_over(|cluster, leader| cluster.member(leader).kill());
}

#[test]
fn the_endpoints_are_those_of_the_members() {
    let cluster = cluster(3);
    runtime().block_on(async {
        let client = Client::connect([cluster.member(0).endpoint()]).await.unwrap();
        let mut synced = client.endpoints().sync().await.unwrap();
        let mut expected = cluster.endpoints();
        synced.sort();
        expected.sort();
        assert_eq!(synced, expected);
        cluster.member(0).kill();
        for index in 0..50 {
            client.put(format!("synced/{index}"), "").idempotent().await.unwrap();
        }
    });
}
