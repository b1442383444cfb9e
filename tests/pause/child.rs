//! What a child does: it holds a lock, or waits for one, and says so; or it holds
//! one and looks all the time whether it still does.

use std::env;
use std::fmt;
use std::future::Future;
use std::io::Read;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tenure::{Client, Guard, Session};
use tokio::runtime::{Builder, Handle};

use crate::record::Record;
use crate::support::{TTL, TTL_OF_HOLDER, nanos, now, patiently, processes};

/// The name of the test below.
pub(crate) const TEST: &str = "child::a_process_of_its_own";
/// What a line of a child begins with.
pub(crate) const MARK: &str = "child: ";
pub(crate) const ROLE: &str = "TENURE_CHILD_ROLE";
pub(crate) const ENDPOINT: &str = "TENURE_CHILD_ENDPOINT";
pub(crate) const NAME: &str = "TENURE_CHILD_NAME";
pub(crate) const THREADS: &str = "TENURE_CHILD_THREADS";

/// The wait between two checks is this for each of the processes, so that they get
/// along with one processor. The check that matters comes whatever it is: as a process
/// goes on, all its waits are over.
const CHECK_WAIT: Duration = Duration::from_micros(80);
/// The wait between two grants, which are requests, likewise.
const GRANT_WAIT: Duration = Duration::from_micros(200);
/// How often a lock is tried for, should the machine be too busy to renew a lease.
const TRIES_MAX: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Takes the lock and keeps it, whatever happens.
    Holder,
    /// Holds the lock, and looks all the time whether it still does.
    Checker,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a checker takes and gives back again and again.
pub(crate) fn free_name(name: &str) -> String {
    format!("{name}-free")
}

/// What a checker waits for.
pub(crate) fn contended_name(name: &str) -> String {
    format!("{name}-contended")
}

#[test]
#[ignore = "a process of its own, which the tests beside it start"]
fn a_process_of_its_own() {
    let (Ok(role), Ok(endpoint), Ok(name)) = (env::var(ROLE), env::var(ENDPOINT), env::var(NAME)) else {
        return;
    };
    let threads: usize = env::var(THREADS).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut builder = match threads {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(threads.max(1)).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let is_checker = role == Role::Checker.to_string();
        let ttl = if is_checker { TTL } else { TTL_OF_HOLDER };
        let guard = lock(&endpoint, &name, ttl).await;
        say("held", guard.token());
        if is_checker {
            check(guard, &name).await;
        } else {
            std::future::pending::<()>().await;
        }
    });
}

fn say(word: &str, what: impl fmt::Display) {
    println!("{MARK}{word} {what}");
}

async fn lock(endpoint: &str, name: &str, ttl: Duration) -> Guard {
    let client = Client::connect([endpoint]).await.expect("a client");
    for _ in 0..TRIES_MAX {
        let session = client.session().ttl(ttl).await.expect("a session");
        say("waits", session.lease_id());
        match session.mutex(name).lock().await {
            Ok(guard) => return guard,
            Err(error) => say("failed", error),
        }
    }
    panic!("no lock");
}

/// Checks in every way there is until its input ends, and tells what they said.
async fn check(guard: Guard, name: &str) {
    let (guard, done) = (Arc::new(guard), Arc::new(AtomicBool::new(false)));
    let runtime = Handle::current();
    let lost = move |guard: &Guard| {
        let _runtime = runtime.enter();
        let lost = pin!(guard.lost()).poll(&mut Context::from_waker(Waker::noop()));
        lost.is_pending().then_some(0)
    };
    let session = guard.session().clone();
    let waiting = tokio::spawn(wait(session.clone(), contended_name(name)));
    let granting = tokio::spawn(grant(session, free_name(name), done.clone()));
    let telling = tokio::spawn({
        let guard = guard.clone();
        async move {
            guard.lost().await;
            now()
        }
    });
    let threads = [
        (
            "is_valid",
            watch(&guard, &done, |guard| guard.is_valid().then_some(0)),
        ),
        (
            "valid_for",
            watch(&guard, &done, |guard| {
                Some(nanos(guard.valid_for())).filter(|left| *left > 0)
            }),
        ),
        (
            "session",
            watch(&guard, &done, |guard| guard.session().is_valid().then_some(0)),
        ),
        ("lost", watch(&guard, &done, lost)),
    ];
    say("checks", "begin");
    // Whatever the parent has to say, it says by hanging up.
    let input = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    input.await.expect("no panic").expect("an input");
    done.store(true, Ordering::SeqCst);
    for (kind, thread) in threads {
        say(
            "record",
            format_args!("{kind} {}", thread.join().expect("no panic")),
        );
    }
    say(
        "record",
        format_args!("lock {}", granting.await.expect("no panic")),
    );
    let granted = patiently("the end of a wait", waiting).await.expect("no panic");
    say("waiter", granted);
    let told = if guard.is_valid() {
        0
    } else {
        patiently("the news", telling).await.expect("no panic")
    };
    say("told", told);
}

/// A thread that no runtime has a say in.
fn watch(
    guard: &Arc<Guard>,
    done: &Arc<AtomicBool>,
    check: impl Fn(&Guard) -> Option<u64> + Send + 'static,
) -> JoinHandle<Record> {
    let (guard, done) = (guard.clone(), done.clone());
    thread::spawn(move || {
        let mut record = Record::default();
        loop {
            // The last check begins after the end, however seldom this thread has its turn.
            let is_last = done.load(Ordering::SeqCst);
            let began = now();
            record.note(began, check(&guard));
            if is_last {
                return record;
            }
            thread::sleep(CHECK_WAIT * processes() as u32);
        }
    })
}

async fn grant(session: Session, name: String, done: Arc<AtomicBool>) -> Record {
    let mut record = Record::default();
    loop {
        let is_last = done.load(Ordering::SeqCst);
        let began = now();
        let granted = session.mutex(&name).lock().await;
        record.note(began, granted.is_ok().then_some(0));
        drop(granted);
        if is_last {
            return record;
        }
        tokio::time::sleep(GRANT_WAIT * processes() as u32).await;
    }
}

/// Whether a lock was granted that somebody else held when this began.
async fn wait(session: Session, name: String) -> bool {
    session.mutex(&name).lock().await.is_ok()
}
