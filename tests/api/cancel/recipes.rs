//! Futures of barriers, latches and queues that are dropped at each of their polls, also where the
//! answer to a request was lost on the way.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tenure::{Error, KeyRange, Session};
use tenure_proxy::{Direction, Ending, Flow};

use super::server::{Etcd, alone, tasks, until_tasks};
use super::{POLLS_MAX, PREFIX, TTL, connect, pass, poll_times, proxy, session};

const NAME: &str = "cancel/recipe";

/// A request is certainly carried out by then, or else it is on its way: either is a case.
const UNDER_WAY: Duration = Duration::from_millis(10);

type Work<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>>;

/// One way of taking part, to be dropped at each of its polls.
struct Case {
    name: &'static str,
    /// What there is before it begins.
    before: fn(&Session) -> Work<'_>,
    work: fn(&Session) -> Work<'_>,
    /// No key that begins so is left while the session goes on.
    traces: &'static str,
    /// Whether it waits for somebody who does not come.
    waits: bool,
}

fn nothing(_: &Session) -> Work<'_> {
    Box::pin(async { Ok(()) })
}

fn one_item(session: &Session) -> Work<'_> {
    Box::pin(async { session.queue(NAME).put("item").await.map(drop) })
}

const CASES: &[Case] = &[
    Case {
        name: "a hold",
        before: nothing,
        work: |session| Box::pin(async { session.client().barrier(NAME).hold(session).await.map(drop) }),
        traces: "cancel/recipe#barrier/hold/",
        waits: false,
    },
    Case {
        name: "a release",
        before: nothing,
        work: |session| {
            Box::pin(async { session.client().barrier(NAME).hold(session).await?.release().await })
        },
        traces: "cancel/recipe#barrier/hold/",
        waits: false,
    },
    Case {
        name: "a wait",
        before: nothing,
        work: |session| Box::pin(async { session.client().barrier(NAME).wait().await }),
        traces: "cancel/recipe#barrier/hold/",
        waits: false,
    },
    Case {
        name: "a round of one",
        before: nothing,
        work: |session| Box::pin(async { session.double_barrier(NAME, 1).enter().await?.leave().await }),
        traces: "cancel/recipe#double-barrier/in/",
        waits: false,
    },
    Case {
        name: "a round of two, alone",
        before: nothing,
        work: |session| Box::pin(async { session.double_barrier(NAME, 2).enter().await.map(drop) }),
        traces: "cancel/recipe#double-barrier/in/",
        waits: true,
    },
    Case {
        name: "a put",
        before: nothing,
        work: one_item,
        traces: "cancel/recipe#queue/claim/",
        waits: false,
    },
    Case {
        name: "a take",
        before: one_item,
        work: |session| Box::pin(async { session.queue(NAME).consumer().take().await.map(drop) }),
        traces: "cancel/recipe#queue/claim/",
        waits: false,
    },
    Case {
        name: "a job",
        before: one_item,
        work: |session| Box::pin(async { session.queue(NAME).consumer().take().await?.done().await }),
        traces: "cancel/recipe#queue/claim/",
        waits: false,
    },
    Case {
        name: "a latch",
        before: nothing,
        work: |session| {
            Box::pin(async {
                let latch = session.client().latch(NAME, 1);
                latch.count_down().await?;
                latch.wait().await?;
                latch.delete().await
            })
        },
        traces: "cancel/recipe#no-lease/",
        waits: false,
    },
];

#[test]
fn a_recipe_dropped_at_any_poll_leaves_nothing() {
    for case in CASES {
        every_poll(case, None);
    }
}

#[test]
fn a_recipe_whose_answers_are_lost_leaves_nothing_when_dropped_at_any_poll() {
    for case in CASES {
        for before in 0..3 {
            every_poll(case, Some(before));
        }
    }
}

/// `lost`: the answers to what is sent behind so many polls.
fn every_poll(case: &Case, lost: Option<usize>) {
    alone(async move |etcd: Arc<Etcd>| {
        // Told where it fails.
        println!("{}, lost: {lost:?}", case.name);
        let tasks = tasks();
        let polls_max = if case.waits { 12 } else { POLLS_MAX };
        for polls in 1..=polls_max {
            let done = drop_at(&etcd, case, lost, polls).await;
            etcd.client()
                .delete(KeyRange::prefix(format!("{PREFIX}/recipe#queue/item/")))
                .await
                .unwrap();
            etcd.client().delete(KeyRange::prefix(format!("{PREFIX}/recipe#latch/"))).await.unwrap();
            etcd.until_keys(PREFIX, 0).await;
            etcd.until_leases(0).await;
            until_tasks(tasks).await;
            if done {
                return;
            }
        }
        assert!(
            case.waits,
            "{} with {lost:?} is not done after {POLLS_MAX} polls",
            case.name
        );
    });
}

/// Polls it so many times and drops it. Whether it was done.
async fn drop_at(etcd: &Arc<Etcd>, case: &Case, lost: Option<usize>, polls: usize) -> bool {
    let proxy = proxy(etcd);
    let session = session(&connect(&proxy).await, TTL).await;
    (case.before)(&session).await.unwrap();
    let mut work = (case.work)(&session);
    let before = polls.min(lost.unwrap_or(polls));
    let mut done = poll_some(work.as_mut(), before, case.waits).await;
    if done.is_none() && polls > before {
        proxy.flow(Direction::Down, Flow::Hold);
        done = poll_some(work.as_mut(), 1, case.waits).await;
        tokio::time::sleep(UNDER_WAY).await;
        proxy.cut(Ending::Close);
        pass(&proxy);
        if done.is_none() && polls > before + 1 {
            done = poll_some(work.as_mut(), polls - before - 1, case.waits).await;
        }
    }
    drop(work);
    if let Some(done) = &done {
        assert!(lost.is_some() || done.is_ok(), "{}: {done:?}", case.name);
    }
    etcd.until_keys(case.traces, 0).await;
    etcd.until_watches(0).await;
    session.close().await.unwrap();
    done.is_some()
}

/// As [`poll_times`]; what waits for somebody is not polled that often.
async fn poll_some<T>(
    work: Pin<&mut (impl Future<Output = T> + ?Sized)>,
    polls: usize,
    waits: bool,
) -> Option<T> {
    if !waits {
        return poll_times(work, polls).await;
    }
    tokio::time::timeout(Duration::from_millis(200), poll_times(work, polls))
        .await
        .ok()
        .flatten()
}
