//! A client with a thread of its own: what goes on there while the user's runtime
//! is blocked, that it needs no runtime, and that the thread ends with the client.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Barrier, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tenure::{Client, Config, KeyRange, LeaseEnd, LeaseId, Update};
use tenure_testserver::Server;
use tokio::runtime::{Builder, Runtime};

/// Renewed often enough that a machine may stand still for two seconds.
const TTL: Duration = Duration::from_secs(5);
const WORKERS: usize = 2;
/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(50);

/// The tests count threads, each its own.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server on a thread of its own, for as long as the process lives.
fn endpoint() -> &'static str {
    static ENDPOINT: OnceLock<String> = OnceLock::new();
    ENDPOINT.get_or_init(|| {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let server = Server::start().await.unwrap();
                tell.send(server.endpoint().to_owned()).unwrap();
                std::future::pending::<()>().await;
            });
        });
        told.recv().unwrap()
    })
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().unwrap()
}

async fn connect(own_thread: bool) -> Client {
    let config = Config::new().own_thread(own_thread);
    Client::connect_with([endpoint()], config).await.unwrap()
}

/// Whether the server still has the lease, as a client of another runtime is told.
fn is_alive(id: LeaseId) -> bool {
    runtime().block_on(async {
        let client = connect(false).await;
        client.lease_time_to_live(id).await.unwrap().ttl >= 0
    })
}

/// Blocks every worker for `time`; returns once they are.
fn block(runtime: &Runtime, time: Duration) {
    let blocked = Arc::new(Barrier::new(WORKERS + 1));
    for _ in 0..WORKERS {
        let blocked = blocked.clone();
        runtime.spawn(async move {
            blocked.wait();
            thread::sleep(time);
        });
    }
    blocked.wait();
}

#[test]
fn a_lease_lives_on_while_all_workers_of_the_users_runtime_are_blocked() {
    let _alone = alone();
    let runtime = runtime();
    let client = runtime.block_on(connect(true));
    let lease = runtime.block_on(client.lease(TTL).into_future()).unwrap();
    block(&runtime, 2 * TTL);
    let begun = Instant::now();
    while begun.elapsed() < TTL * 3 / 2 {
        assert_eq!(lease.end(), None);
        thread::sleep(Duration::from_millis(10));
    }
    assert!(is_alive(lease.id()));
}

#[test]
fn without_a_thread_of_its_own_the_lease_is_lost_and_says_so() {
    let _alone = alone();
    let runtime = runtime();
    let client = runtime.block_on(connect(false));
    let lease = runtime.block_on(client.lease(TTL).into_future()).unwrap();
    block(&runtime, 2 * TTL);
    let begun = Instant::now();
    loop {
        let asked = begun.elapsed();
        if !lease.is_valid() {
            break;
        }
        assert!(asked < TTL, "valid beyond its TTL");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(lease.end(), Some(LeaseEnd::Expired));
    let told = runtime.block_on(async { tokio::time::timeout(PATIENCE, lease.ended()).await });
    assert_eq!(told, Ok(LeaseEnd::Expired));
    while is_alive(lease.id()) {
        assert!(begun.elapsed() < PATIENCE, "somebody renews it");
    }
    assert!(!lease.is_valid());
}

#[test]
fn a_client_made_without_any_runtime_calls_and_keeps_leases() {
    let _alone = alone();
    let client = block_on(connect(true));
    block_on(client.put("own/a", "x").into_future()).unwrap();
    assert_eq!(
        block_on(client.get("own/a").into_future()).unwrap().kvs[0].value,
        "x"
    );
    let lease = block_on(client.lease(TTL).into_future()).unwrap();
    let adopted = block_on(client.keep_alive(lease.id())).unwrap();
    thread::sleep(TTL * 3 / 2);
    assert!(lease.is_valid() && adopted.is_valid());
    block_on(lease.revoke()).unwrap();
    assert_eq!(block_on(adopted.ended()), LeaseEnd::Revoked);
    let error = block_on(client.put("own/b", "x").timeout(Duration::ZERO).into_future());
    assert!(error.unwrap_err().is_timeout());
}

#[test]
fn without_any_runtime_a_range_is_watched_listed_and_cached() {
    let _alone = alone();
    let client = block_on(connect(true));
    let mut watch = block_on(client.watch("bare/a").into_future()).unwrap();
    let mut lists = client.list_watch("bare/a");
    let first = block_on(lists.next()).unwrap();
    assert!(matches!(first, Update::Synced { .. }), "{first:?}");
    let cache = client.list_watch(KeyRange::prefix("bare/")).into_cache();
    block_on(cache.synced()).unwrap();
    let written = block_on(client.put("bare/a", "x").into_future()).unwrap().revision();
    assert_eq!(block_on(watch.next()).unwrap().events.len(), 1);
    let changed = block_on(lists.next()).unwrap();
    assert!(matches!(changed, Update::Changed(_)), "{changed:?}");
    // Nothing of the range says so: the server is asked, after a while.
    let elsewhere = block_on(client.put("elsewhere", "x").into_future()).unwrap().revision();
    assert!(elsewhere > written);
    block_on(cache.wait_for(elsewhere)).unwrap();
    assert_eq!(cache.get("bare/a").unwrap().value, "x");
}

#[test]
#[cfg(target_os = "linux")]
fn the_thread_ends_with_the_last_handle_wherever_that_is_dropped() {
    let _alone = alone();
    until_threads_are(0);
    let client = block_on(connect(true));
    until_threads_are(1);
    let lease = block_on(client.lease(TTL).into_future()).unwrap();
    drop(client);
    thread::sleep(TTL / 2);
    assert!(lease.is_valid());
    until_threads_are(1);
    // The driver has the last handle of the connections, and drops it on the thread.
    drop(lease);
    until_threads_are(0);

    let runtime = runtime();
    runtime.block_on(async {
        let client = connect(true).await;
        let session = client.session().ttl(TTL).await.unwrap();
        let guard = session.mutex("own/lock").lock().await.unwrap();
        let watch = client.watch("own/w").await.unwrap();
        drop((client, session, watch));
        drop(guard);
    });
    until_threads_are(0);
    let clients: Vec<_> = (0..3).map(|_| block_on(connect(true))).collect();
    until_threads_are(3);
    drop(clients);
    until_threads_are(0);
}

#[cfg(target_os = "linux")]
fn until_threads_are(count: usize) {
    let begun = Instant::now();
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.filter(|name| name.trim() == "tenure").count()
    };
    while threads() != count {
        assert!(begun.elapsed() < PATIENCE, "{} threads, not {count}", threads());
        thread::sleep(Duration::from_millis(10));
    }
}

/// An executor that knows of no tokio.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park_timeout(PATIENCE),
        }
    }
}
