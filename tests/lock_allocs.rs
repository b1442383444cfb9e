//! What a lock allocates, exactly, once everything is warm: nothing where the session
//! has the key already, by hand-off or because it lingers.
//!
//! Only this thread's allocations count, and the client runs on it alone; etcd is a process
//! of its own.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use tenure::{Client, Error, Mutex};
use tokio::runtime::{Builder, Runtime};

const WARM_UP: usize = 300;
const MEASURED: usize = 100;
/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn polled<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// What needs no waiting.
fn ready<T>(future: Pin<&mut impl Future<Output = Result<T, Error>>>) -> T {
    match polled(future) {
        Poll::Ready(value) => value.expect("no error"),
        Poll::Pending => panic!("it waits"),
    }
}

fn mutex(runtime: &Runtime, name: &str) -> Mutex {
    runtime.block_on(async {
        let client = Client::connect(tenure_etcd::shared().endpoints()).await.expect("an etcd");
        let session = client.session().ttl(Duration::from_secs(600)).await.expect("a session");
        session.mutex(name).hand_off(u32::MAX, LONG).linger_at_most(LONG)
    })
}

#[test]
fn a_free_lock_and_its_release_allocate_what_two_transactions_do() {
    let runtime = runtime();
    let mutex = mutex(&runtime, "lock-allocs/free");
    let lock = || {
        // Pinned here, since the runtime would allocate for a future of its size.
        let locking = pin!(async {
            let guard = mutex.lock().await.expect("the lock");
            guard.release().await.expect("a release");
        });
        runtime.block_on(locking);
    };
    (0..WARM_UP).for_each(|_| lock());
    let mut costs: Vec<_> = (0..MEASURED).map(|_| measure(lock)).collect();
    // Now and then a buffer of h2 or of the runtime grows; that belongs to no call.
    costs.sort_by_key(|cost| (cost.count_total, cost.bytes_total));
    let cost = costs[MEASURED / 2];
    // Nine each of the two calls, and two of what the first one answers.
    assert_eq!(cost.count_total, 20, "{cost:?}");
}

#[test]
fn a_hand_off_allocates_nothing() {
    let runtime = runtime();
    let mutex = mutex(&runtime, "lock-allocs/hand-off");
    let mut guard = Some(runtime.block_on(mutex.lock()).expect("the lock"));
    let _context = runtime.enter();
    let mut hand_over = |times: usize| {
        for _ in 0..times {
            let mut next = pin!(mutex.lock());
            assert!(polled(next.as_mut()).is_pending());
            drop(guard.take());
            guard = Some(ready(next));
        }
    };
    hand_over(WARM_UP);
    let cost = measure(|| hand_over(MEASURED));
    assert_eq!(cost.count_total, 0, "{cost:?}");
    let held = guard.expect("it is held");
    assert_eq!(held.token().sequence() as usize, WARM_UP + MEASURED);
}

#[test]
fn a_lock_that_lingers_is_locked_again_without_an_allocation() {
    let runtime = runtime();
    let mutex = mutex(&runtime, "lock-allocs/linger").linger(LONG);
    let relocked = runtime.block_on(async {
        loop {
            let guard = mutex.lock().await.expect("the lock");
            if guard.token().sequence() > 0 {
                return guard.token();
            }
            // Time for the watch.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let _context = runtime.enter();
    let lock = || {
        for _ in 0..MEASURED {
            let guard = ready(pin!(mutex.lock()));
            assert_eq!(guard.token().create_revision(), relocked.create_revision());
            ready(pin!(guard.release()));
            drop(ready(pin!(mutex.try_lock())).expect("it is ours"));
        }
    };
    lock();
    let cost = measure(lock);
    assert_eq!(cost.count_total, 0, "{cost:?}");
}
