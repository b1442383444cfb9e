//! A session whose task does not run: because the runtime that it was opened on is gone before
//! the task was ever polled, or because nobody drives that runtime.

use std::future::{Future, IntoFuture};
use std::pin::{Pin, pin};
use std::task::{Context, Waker};
use std::time::Duration;

use tenure::{Client, Error, Guard, Lease, Session};
use tenure_testserver::Server;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// Runs out soon, and not at once: a machine may stand still for two seconds.
const TTL_SHORT: Duration = Duration::from_secs(5);
/// No test takes so long.
const TTL_LONG: Duration = Duration::from_secs(600);
/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(50);

/// A client on one runtime, and a session that was opened on another one, which is driven no more.
struct Apart {
    main: Runtime,
    other: Runtime,
    session: Session,
    _server: Server,
    _renewed: Option<Lease>,
}

impl Apart {
    /// `renews`: leases are renewed on the client's runtime, for it had one before.
    fn new(ttl: Duration, renews: bool) -> Apart {
        let main = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (server, client, renewed) = main.block_on(async {
            let server = Server::start().await.unwrap();
            let client = Client::connect([server.endpoint()]).await.unwrap();
            // So that its connection has its task here.
            client.get("apart").await.unwrap();
            let renewed = match renews {
                true => Some(client.lease(TTL_LONG).await.unwrap()),
                false => None,
            };
            (server, client, renewed)
        });
        let other = Builder::new_current_thread().enable_all().build().unwrap();
        let session = other.block_on(client.session().ttl(ttl).into_future()).unwrap();
        Apart {
            main,
            other,
            session,
            _server: server,
            _renewed: renewed,
        }
    }
}

async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} has not come"))
}

/// It waits from now on.
fn begin(locking: Pin<&mut impl Future<Output = Result<Guard, Error>>>) {
    assert!(locking.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[test]
fn a_waiter_is_told_where_the_sessions_task_was_never_polled() {
    let apart = Apart::new(TTL_SHORT, false);
    let session = &apart.session;
    apart.main.block_on(async {
        let mutex = session.mutex("apart/told");
        let _held = patiently("the lock", mutex.lock()).await.unwrap();
        let mut next = pin!(mutex.lock());
        begin(next.as_mut());
        apart.other.shutdown_background();
        assert!(patiently("the news", next).await.unwrap_err().is_lost());
    });
}

#[test]
fn a_session_whose_task_was_never_polled_is_over_with_its_runtime() {
    let apart = Apart::new(TTL_LONG, true);
    let session = &apart.session;
    apart.main.block_on(async {
        let mutex = session.mutex("apart/over");
        let held = patiently("the lock", mutex.lock()).await.unwrap();
        apart.other.shutdown_background();
        // Nobody would give it back.
        drop(held);
        assert!(patiently("an answer", mutex.lock()).await.unwrap_err().is_lost());
    });
}

#[test]
fn a_waiter_is_told_of_a_close_where_nobody_drives_the_sessions_runtime() {
    let apart = Apart::new(TTL_LONG, true);
    let session = &apart.session;
    apart.main.block_on(async {
        let mutex = session.mutex("apart/closed");
        let _held = patiently("the lock", mutex.lock()).await.unwrap();
        let mut next = pin!(mutex.lock());
        begin(next.as_mut());
        session.clone().close().await.unwrap();
        assert!(patiently("the news", next).await.unwrap_err().is_lost());
    });
}
