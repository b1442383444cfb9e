//! Three kinds of clients on one name at once, each for at least 200 times.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tenure::Client;
use tenure_etcd::{Cluster, Options};
use tenure_history::{Claim, Entry, History, check_claims, check_nothing_left};

use crate::etcdctl::{Etcdctl, Hold};
use crate::evidence::{changes, history, none_of};
use crate::golang::Recipe;
use crate::support::{TTL, binary, client, cluster, patiently, runtime};
use crate::{golang, ours};

const NAME: &str = "strangers";
const TIMES_MIN: usize = 200;
const HOLD: Duration = Duration::from_millis(1);
const SESSIONS: usize = 3;
const GO_PROCESSES: usize = 2;
const ETCDCTL_WORKERS: usize = 4;

/// Everybody else: they run until they have had their number of times.
struct Others {
    go: Vec<JoinHandle<Vec<Claim>>>,
    etcdctl: Vec<JoinHandle<Vec<Hold>>>,
    running: Arc<AtomicUsize>,
}

impl Others {
    fn start(cluster: &Cluster) -> Others {
        let endpoints = cluster.endpoints().join(",");
        let etcdctl = Etcdctl {
            program: binary().etcdctl().expect("an etcdctl beside the etcd"),
            endpoints: endpoints.clone(),
            dir: cluster.dir().to_owned(),
        };
        let running = Arc::new(AtomicUsize::new(0));
        let etcdctl = (0..ETCDCTL_WORKERS).map(|worker| {
            let etcdctl = etcdctl.clone();
            let times = TIMES_MIN.div_ceil(ETCDCTL_WORKERS);
            counted(&running, move || etcdctl.contend(worker, NAME, HOLD, times))
        });
        let etcdctl = etcdctl.collect();
        let programs = golang::program().into_iter().flat_map(|path| vec![path; GO_PROCESSES]);
        let go = programs.map(|program| {
            let endpoints = endpoints.clone();
            let times = TIMES_MIN.div_ceil(GO_PROCESSES);
            counted(&running, move || {
                golang::contend(&program, Recipe::Mutex, (&endpoints, NAME), HOLD, times)
            })
        });
        Others {
            go: go.collect(),
            etcdctl,
            running,
        }
    }
}

/// A thread that counts as running until its work is done, or has panicked.
fn counted<T: Send + 'static>(
    running: &Arc<AtomicUsize>,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    struct Running(Arc<AtomicUsize>);
    impl Drop for Running {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    running.fetch_add(1, Ordering::SeqCst);
    let running = Running(running.clone());
    thread::spawn(move || {
        let _running = running;
        work()
    })
}

#[test]
fn ours_etcdctl_and_the_go_client_queue_on_one_name() {
    let cluster = cluster(1, Options::default());
    let others = Others::start(&cluster);
    runtime().block_on(async {
        let (ours, leases) = ours(&cluster, &others.running).await;
        let etcdctl: Vec<Hold> =
            others.etcdctl.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let go_ran = !others.go.is_empty();
        let go: Vec<Claim> = others.go.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let client = client(&cluster).await;
        let history = History::fold(NAME, &changes(&history(&client, NAME).await)).expect("a history");
        let etcdctl: Vec<Claim> = etcdctl.iter().map(|hold| hold.claim(&history)).collect();
        let counts = [ours.len(), etcdctl.len(), go.len()];
        println!("{}", told(&history, counts));
        assert!(ours.len() >= TIMES_MIN && etcdctl.len() >= TIMES_MIN);
        assert!(go.len() >= TIMES_MIN || !go_ran);
        let claims = [ours, etcdctl, go].concat();
        none_of("claims", &check_claims(&history, &claims));
        assert_eq!(
            history.owners().len(),
            claims.len(),
            "every owner has claimed what it had"
        );
        let alive = leases_alive(&client).await;
        none_of("the end", &check_nothing_left(&history, &leases, &alive));
        // What nobody waits for proves nothing about a queue.
        assert!(
            history.handoffs() * 2 > claims.len(),
            "the lock was not contended"
        );
    });
}

/// Our claims, from several sessions that go on as long as others do, and their leases.
async fn ours(cluster: &Cluster, others: &Arc<AtomicUsize>) -> (Vec<Claim>, Vec<i64>) {
    let (mut tasks, mut leases) = (Vec::new(), Vec::new());
    for _ in 0..SESSIONS {
        let session = client(cluster).await.session().ttl(TTL).await.expect("a session");
        leases.push(session.lease_id().0);
        let others = others.clone();
        let enough = move |times| times >= TIMES_MIN.div_ceil(SESSIONS) && others.load(Ordering::SeqCst) == 0;
        tasks.push(tokio::spawn(async move {
            let claims = ours::contend(session.clone(), NAME, HOLD, enough).await;
            session.close().await.expect("a session that ends");
            claims
        }));
    }
    let mut claims = Vec::new();
    for task in tasks {
        claims.extend(patiently("the end of a session", task).await.expect("a session's claims"));
    }
    (claims, leases)
}

/// etcdctl leaves its lease to run out, so it is asked for those of others only.
async fn leases_alive(client: &Client) -> Vec<i64> {
    let leases = client.leases().await.expect("the leases");
    leases.leases.iter().map(|lease| lease.id).collect()
}

fn told(history: &History, [ours, etcdctl, go]: [usize; 3]) -> String {
    let revisions = |entry: &Entry| entry.deleted.unwrap_or(entry.created) - entry.created;
    let longest = history.entries().iter().map(revisions).max().unwrap_or(0);
    format!(
        "ours {ours}, etcdctl {etcdctl}, Go {go}; {} of {} grants were hand-offs; the longest stay in the \
         queue took {longest} revisions",
        history.handoffs(),
        history.owners().len()
    )
}
