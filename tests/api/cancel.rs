//! Futures of the lock that are dropped at their Nth poll, for every N until they
//! are done: nothing of them is left, on the server or in this process. On top of
//! it, answers come late or never, and connections break.

mod claims;
mod recipes;
mod server;
mod stm;

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tenure::{Client, Guard, Session};
use tenure_proxy::{Direction, Ending, Flow, Proxy};

use crate::lock::TTL_KEPT;
use crate::support::patiently;
use server::{Etcd, alone, tasks, until_tasks};

/// Long enough that nothing runs out by itself.
const TTL: Duration = Duration::from_secs(60);
/// Short, for what is to run out.
const TTL_SHORT: Duration = Duration::from_secs(2);
/// All keys of these tests begin with it, the gates as well.
const PREFIX: &str = "cancel";
const NAME: &str = "cancel/lock";
const QUEUE: &str = "cancel/lock/";
/// A future that is polled more often than this is woken for nothing.
const POLLS_MAX: usize = 100;

/// What happens while the future is not polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Nothing,
    /// The answer to the first request comes when it is known to have been carried out.
    Late,
    /// It is carried out, and its answer is lost with the connection.
    Lost,
    /// The connection breaks.
    Cut,
}

impl Trouble {
    fn begin(self, proxy: &Proxy) {
        if matches!(self, Trouble::Late | Trouble::Lost) {
            proxy.flow(Direction::Down, Flow::Hold);
        }
    }

    /// `keys` are in the queue once the request was carried out.
    async fn strike(self, etcd: &Etcd, proxy: &Proxy, keys: i64) {
        if matches!(self, Trouble::Late | Trouble::Lost) {
            etcd.until_keys(QUEUE, keys).await;
        }
        match self {
            Trouble::Nothing => {}
            Trouble::Late => pass(proxy),
            Trouble::Lost | Trouble::Cut => {
                proxy.cut(Ending::Close);
                pass(proxy);
            }
        }
    }
}

/// Who has the lock when the future begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rival {
    Nobody,
    AnotherSession,
    SameSession,
}

/// One way of locking, to be dropped at each of its polls.
#[derive(Clone, Copy, Debug)]
struct Case {
    rival: Rival,
    trouble: Trouble,
    /// The polls before the trouble.
    before: usize,
}

#[test]
fn a_lock_dropped_at_any_poll_leaves_nothing() {
    for rival in [Rival::Nobody, Rival::AnotherSession, Rival::SameSession] {
        every_poll_of_a_lock(Case {
            rival,
            trouble: Trouble::Nothing,
            before: 1,
        });
    }
}

#[test]
fn a_lock_whose_answer_is_late_or_lost_leaves_nothing_when_dropped_at_any_poll() {
    for rival in [Rival::Nobody, Rival::AnotherSession] {
        for trouble in [Trouble::Late, Trouble::Lost] {
            every_poll_of_a_lock(Case {
                rival,
                trouble,
                before: 1,
            });
        }
    }
}

#[test]
fn a_lock_whose_connection_breaks_leaves_nothing_when_dropped_at_any_poll() {
    for (rival, befores) in [(Rival::Nobody, 0..=2), (Rival::AnotherSession, 0..=5)] {
        for before in befores {
            every_poll_of_a_lock(Case {
                rival,
                trouble: Trouble::Cut,
                before,
            });
        }
    }
}

fn every_poll_of_a_lock(case: Case) {
    alone(async move |etcd: Arc<Etcd>| {
        let proxy = proxy(&etcd);
        let rival = match case.rival {
            Rival::AnotherSession => Some(session(etcd.client(), TTL).await),
            _ => None,
        };
        let tasks = tasks();
        for polls in 1..=POLLS_MAX {
            let done = drop_a_lock(&etcd, &proxy, rival.as_ref(), case, polls).await;
            etcd.until_keys(PREFIX, 0).await;
            etcd.until_leases(rival.iter().count()).await;
            until_tasks(tasks).await;
            if done {
                println!("{case:?}: {polls} polls");
                return close(&etcd, rival).await;
            }
        }
        panic!("{case:?} is not done after {POLLS_MAX} polls");
    });
}

/// Polls a lock so many times and drops it. Whether it was done.
async fn drop_a_lock(
    etcd: &Arc<Etcd>,
    proxy: &Proxy,
    rival: Option<&Session>,
    case: Case,
    polls: usize,
) -> bool {
    let session = session(&connect(proxy).await, TTL).await;
    let holder = match case.rival {
        Rival::Nobody => None,
        Rival::AnotherSession => rival,
        Rival::SameSession => Some(&session),
    };
    let release = match holder {
        Some(holder) => {
            let guard = holder.mutex(NAME).lock().await.unwrap();
            Some(tokio::spawn(release(etcd.clone(), case.rival, guard)))
        }
        None => None,
    };
    case.trouble.begin(proxy);
    let mutex = session.mutex(NAME);
    let mut lock = Box::pin(mutex.lock());
    let before = polls.min(case.before);
    let mut done = poll_times(lock.as_mut(), before).await;
    if done.is_none() && polls > before {
        case.trouble.strike(etcd, proxy, 1 + i64::from(rival.is_some())).await;
        done = poll_times(lock.as_mut(), polls - before).await;
    }
    drop(lock);
    pass(proxy);
    let done = done.map(|granted| drop(granted.expect("a grant"))).is_some();
    if let Some(release) = release {
        release.abort();
        let _ = release.await;
    }
    etcd.until_keys(QUEUE, 0).await;
    etcd.until_watches(0).await;
    // The name is as good as new.
    patiently("the lock", mutex.lock()).await.unwrap().release().await.unwrap();
    session.close().await.unwrap();
    done
}

/// Gives the lock back once another session waits for that and nothing else.
async fn release(etcd: Arc<Etcd>, rival: Rival, guard: Guard) {
    if rival == Rival::AnotherSession {
        etcd.until_watches(1).await;
    }
    guard.release().await.unwrap();
}

#[test]
fn a_release_dropped_at_any_poll_gives_the_lock_back() {
    for trouble in [Trouble::Nothing, Trouble::Late, Trouble::Lost, Trouble::Cut] {
        alone(async move |etcd: Arc<Etcd>| {
            let proxy = proxy(&etcd);
            let rival = session(etcd.client(), TTL).await;
            let tasks = tasks();
            for polls in 1..=POLLS_MAX {
                let done = drop_a_release(&etcd, &proxy, trouble, polls).await;
                let next = patiently("the next grant", rival.mutex(NAME).lock()).await.unwrap();
                next.release().await.unwrap();
                etcd.until_keys(PREFIX, 0).await;
                etcd.until_leases(1).await;
                until_tasks(tasks).await;
                if done {
                    println!("{trouble:?}: {polls} polls");
                    return close(&etcd, Some(rival)).await;
                }
            }
            panic!("{trouble:?} is not done after {POLLS_MAX} polls");
        });
    }
}

async fn drop_a_release(etcd: &Etcd, proxy: &Proxy, trouble: Trouble, polls: usize) -> bool {
    let session = session(&connect(proxy).await, TTL).await;
    let guard = session.mutex(NAME).lock().await.unwrap();
    trouble.begin(proxy);
    let mut release = Box::pin(guard.release());
    let mut done = poll_times(release.as_mut(), 1).await;
    if done.is_none() && polls > 1 {
        trouble.strike(etcd, proxy, 0).await;
        done = poll_times(release.as_mut(), polls - 1).await;
    }
    drop(release);
    pass(proxy);
    // With the session still open.
    etcd.until_keys(QUEUE, 0).await;
    if let (Some(released), Trouble::Nothing) = (&done, trouble) {
        released.as_ref().expect("a release");
    }
    session.close().await.unwrap();
    done.is_some()
}

#[test]
fn a_lock_that_lingers_and_is_dropped_at_any_poll_goes_with_its_session() {
    for trouble in [Trouble::Nothing, Trouble::Cut] {
        alone(async move |etcd: Arc<Etcd>| {
            let proxy = proxy(&etcd);
            let tasks = tasks();
            for polls in 1..=POLLS_MAX {
                let session = session(&connect(&proxy).await, TTL).await;
                let mutex = session.mutex(NAME).linger(TTL);
                // The second lock finds the key, or waits for it to go.
                let first = poll_times(Box::pin(mutex.lock()).as_mut(), polls).await;
                let mut second = Box::pin(mutex.lock());
                let waits = poll_times(second.as_mut(), 1).await.is_none();
                let done = first.map(|granted| drop(granted.expect("a grant"))).is_some();
                if trouble == Trouble::Cut {
                    proxy.cut(Ending::Close);
                }
                if waits && polls % 2 == 0 {
                    drop(patiently("the second lock", second.as_mut()).await.expect("a grant"));
                }
                drop(second);
                // Whoever wants it elsewhere gets it, lingering or not.
                let rival = self::session(&connect(&proxy).await, TTL).await;
                drop(patiently("the recall", rival.mutex(NAME).lock()).await.expect("a grant"));
                rival.close().await.expect("a revocation");
                drop(mutex);
                session.close().await.expect("a revocation");
                etcd.until_keys(PREFIX, 0).await;
                etcd.until_watches(0).await;
                etcd.until_leases(0).await;
                until_tasks(tasks).await;
                if done {
                    return;
                }
            }
            panic!("{trouble:?} is not done after {POLLS_MAX} polls");
        });
    }
}

#[test]
fn a_session_dropped_at_any_poll_of_its_opening_leaves_a_lease_that_runs_out() {
    alone(async |etcd: Arc<Etcd>| {
        let proxy = proxy(&etcd);
        let tasks = tasks();
        for polls in 1..=POLLS_MAX {
            let client = connect(&proxy).await;
            let mut opening = client.session().ttl(TTL_SHORT).into_future();
            let opened = poll_times(opening.as_mut(), polls).await;
            drop(opening);
            drop(client);
            let done = opened.map(|session| drop(session.expect("a session"))).is_some();
            until_tasks(tasks).await;
            if done {
                println!("{polls} polls");
                return etcd.until_leases(0).await;
            }
        }
        panic!("not open after {POLLS_MAX} polls");
    });
}

#[test]
fn a_session_dropped_at_any_poll_of_its_closing_ends_at_once_and_its_lease_runs_out() {
    alone(async |etcd: Arc<Etcd>| {
        let proxy = proxy(&etcd);
        let tasks = tasks();
        for polls in 0..=POLLS_MAX {
            let session = session(&connect(&proxy).await, TTL_KEPT).await;
            // A name each, since the lease of the last one may live for a while.
            let guard = session.mutex(&format!("{NAME}/{polls}")).lock().await.unwrap();
            let mut closing = Box::pin(session.close());
            let done = poll_times(closing.as_mut(), polls).await.is_some();
            assert_eq!(guard.is_valid(), polls == 0, "{polls} polls");
            drop((closing, guard));
            until_tasks(tasks).await;
            if done {
                println!("{polls} polls");
                etcd.until_leases(0).await;
                return etcd.until_keys(PREFIX, 0).await;
            }
        }
        panic!("not closed after {POLLS_MAX} polls");
    });
}

fn proxy(etcd: &Etcd) -> Proxy {
    Proxy::start(&etcd.endpoint()).expect("a proxy")
}

/// Delivers what was kept back, and all that comes.
fn pass(proxy: &Proxy) {
    proxy.flow(Direction::Down, Flow::Pass);
}

async fn connect(proxy: &Proxy) -> Client {
    Client::connect([proxy.endpoint()]).await.expect("a client")
}

async fn session(client: &Client, ttl: Duration) -> Session {
    client.session().ttl(ttl).await.expect("a session")
}

async fn close(etcd: &Etcd, session: Option<Session>) {
    if let Some(session) = session {
        session.close().await.expect("a revocation");
    }
    etcd.until_leases(0).await;
}

/// Polls a future whenever it is woken, so many times at most: its value, if it is
/// done by then.
async fn poll_times<T>(mut future: Pin<&mut (impl Future<Output = T> + ?Sized)>, polls: usize) -> Option<T> {
    let mut left = polls;
    let polled = poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    patiently("the next poll", polled).await
}
