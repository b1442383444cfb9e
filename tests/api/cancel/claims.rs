//! The futures of the read-write lock, the semaphore, the multi-lock and the election,
//! dropped at each of their polls: as with the mutex, nothing is left behind.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tenure::{Guard, Session};
use tenure_proxy::Proxy;

use super::server::{Etcd, alone, tasks, until_tasks};
use super::{
    NAME, POLLS_MAX, PREFIX, QUEUE, Rival, TTL, TTL_SHORT, Trouble, close, connect, pass, poll_times, proxy,
    session as open,
};
use crate::support::patiently;

const OTHER_NAME: &str = "cancel/other";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recipe {
    Read,
    Write,
    Permits,
    Several,
    Campaign,
    Reentrant,
    Owner,
    /// In a session that it opens itself.
    OfClient,
    Try,
    TryRead,
    TryWrite,
    TryPermits,
    TrySeveral,
}

/// They wait.
const RECIPES: [Recipe; 7] = [
    Recipe::Read,
    Recipe::Write,
    Recipe::Permits,
    Recipe::Several,
    Recipe::Campaign,
    Recipe::Reentrant,
    Recipe::Owner,
];

const TRIES: [Recipe; 5] = [
    Recipe::Try,
    Recipe::TryRead,
    Recipe::TryWrite,
    Recipe::TryPermits,
    Recipe::TrySeveral,
];

/// Some guard.
type Granted = Box<dyn Send>;

impl Recipe {
    async fn ask(self, session: Session) -> Granted {
        match self {
            Recipe::Read => Box::new(session.rw_lock(NAME).read().await.expect("a grant")),
            Recipe::Write => Box::new(session.rw_lock(NAME).write().await.expect("a grant")),
            Recipe::Permits => Box::new(session.semaphore(NAME, 3).acquire(2).await.expect("a grant")),
            Recipe::Several => {
                let lock = session.multi_lock([NAME, OTHER_NAME]);
                Box::new(lock.lock().await.expect("a grant"))
            }
            Recipe::Campaign => Box::new(session.election(NAME).campaign("a").await.expect("a grant")),
            Recipe::Reentrant => Box::new(session.mutex(NAME).reentrant().lock().await.expect("a grant")),
            Recipe::Owner => Box::new(session.mutex(NAME).owner("a").lock().await.expect("a grant")),
            Recipe::OfClient => Box::new(session.client().lock(NAME).ttl(TTL_SHORT).await.expect("a grant")),
            Recipe::Try => Box::new(session.mutex(NAME).try_lock().await.expect("a grant or none")),
            Recipe::TryRead => Box::new(session.rw_lock(NAME).try_read().await.expect("a grant or none")),
            Recipe::TryWrite => Box::new(session.rw_lock(NAME).try_write().await.expect("a grant or none")),
            Recipe::TryPermits => {
                Box::new(session.semaphore(NAME, 3).try_acquire(2).await.expect("a grant or none"))
            }
            Recipe::TrySeveral => {
                let lock = session.multi_lock([NAME, OTHER_NAME]);
                Box::new(lock.try_lock().await.expect("a grant or none"))
            }
        }
    }

    /// Its keys in the queue of [`NAME`].
    fn keys(self) -> i64 {
        if matches!(self, Recipe::Write | Recipe::TryWrite) {
            2
        } else {
            1
        }
    }

    /// What it watches while it waits for a mutex.
    fn watches(self) -> usize {
        if self == Recipe::Several { 2 } else { 1 }
    }
}

#[test]
fn a_claim_dropped_at_any_poll_leaves_nothing() {
    for recipe in RECIPES.into_iter().chain(TRIES) {
        for rival in [Rival::Nobody, Rival::AnotherSession] {
            every_poll(recipe, rival, Trouble::Nothing);
        }
    }
}

#[test]
fn a_claim_whose_answer_is_late_or_lost_leaves_nothing_when_dropped_at_any_poll() {
    for recipe in RECIPES {
        for trouble in [Trouble::Late, Trouble::Lost, Trouble::Cut] {
            every_poll(recipe, Rival::Nobody, trouble);
        }
        every_poll(recipe, Rival::AnotherSession, Trouble::Lost);
    }
}

#[test]
fn a_try_whose_answer_is_late_or_lost_leaves_nothing_when_dropped_at_any_poll() {
    for recipe in TRIES {
        for trouble in [Trouble::Late, Trouble::Lost, Trouble::Cut] {
            every_poll(recipe, Rival::Nobody, trouble);
        }
    }
}

#[test]
fn a_lock_of_the_client_dropped_at_any_poll_leaves_a_lease_at_most_that_runs_out() {
    every_poll(Recipe::OfClient, Rival::Nobody, Trouble::Nothing);
}

fn every_poll(recipe: Recipe, rival: Rival, trouble: Trouble) {
    alone(async move |etcd: Arc<Etcd>| {
        let proxy = proxy(&etcd);
        let holder = match rival {
            Rival::AnotherSession => Some(open(etcd.client(), TTL).await),
            _ => None,
        };
        let tasks = tasks();
        for polls in 1..=POLLS_MAX {
            let done = drop_a_claim(&etcd, &proxy, holder.as_ref(), (recipe, trouble), polls).await;
            etcd.until_keys(PREFIX, 0).await;
            etcd.until_leases(holder.iter().count()).await;
            until_tasks(tasks).await;
            if done {
                println!("{recipe:?}, {rival:?}, {trouble:?}: {polls} polls");
                return close(&etcd, holder).await;
            }
        }
        panic!("{recipe:?}, {rival:?}, {trouble:?} is not done after {POLLS_MAX} polls");
    });
}

/// Polls a claim so many times and drops it. Whether it was done.
async fn drop_a_claim(
    etcd: &Arc<Etcd>,
    proxy: &Proxy,
    holder: Option<&Session>,
    (recipe, trouble): (Recipe, Trouble),
    polls: usize,
) -> bool {
    let session = open(&connect(proxy).await, TTL).await;
    let release = match holder {
        Some(holder) => {
            let guard = holder.mutex(NAME).lock().await.unwrap();
            Some(tokio::spawn(release(etcd.clone(), recipe, guard)))
        }
        None => None,
    };
    trouble.begin(proxy);
    let mut claim: Pin<Box<dyn Future<Output = Granted>>> = Box::pin(recipe.ask(session.clone()));
    let mut done = poll_times(claim.as_mut(), 1).await;
    if done.is_none() && polls > 1 {
        trouble.strike(etcd, proxy, recipe.keys() + i64::from(holder.is_some())).await;
        done = poll_times(claim.as_mut(), polls - 1).await;
    }
    drop(claim);
    pass(proxy);
    let done = done.map(drop).is_some();
    if let Some(release) = release {
        release.abort();
        let _ = release.await;
    }
    etcd.until_keys(QUEUE, 0).await;
    etcd.until_keys(&format!("{OTHER_NAME}/"), 0).await;
    etcd.until_watches(0).await;
    // The names are as good as new.
    drop(patiently("the claim", recipe.ask(session.clone())).await);
    etcd.until_keys(QUEUE, 0).await;
    session.close().await.unwrap();
    done
}

/// Gives the lock back once somebody waits for that and nothing else.
async fn release(etcd: Arc<Etcd>, recipe: Recipe, guard: Guard) {
    etcd.until_watches(recipe.watches()).await;
    guard.release().await.unwrap();
}

/// What is done with a guard, which is gone then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Downgrade,
    ReleaseSeveral,
    Proclaim,
}

impl Last {
    /// Ready to be polled.
    async fn begin(self, session: &Session) -> Pin<Box<dyn Future<Output = ()>>> {
        match self {
            Last::Downgrade => {
                let guard = session.rw_lock(NAME).write().await.unwrap();
                Box::pin(async { drop(guard.downgrade().await) })
            }
            Last::ReleaseSeveral => {
                let guard = session.multi_lock([NAME, OTHER_NAME]).lock().await.unwrap();
                Box::pin(async { drop(guard.release().await) })
            }
            Last::Proclaim => {
                let mut leadership = session.election(NAME).campaign("a").await.unwrap();
                Box::pin(async move { drop(leadership.proclaim("b").await) })
            }
        }
    }

    /// The keys of the queue once its request is carried out.
    fn keys(self) -> i64 {
        i64::from(self != Last::ReleaseSeveral)
    }
}

#[test]
fn a_downgrade_dropped_at_any_poll_gives_the_lock_back() {
    for trouble in [Trouble::Nothing, Trouble::Lost] {
        every_poll_of(trouble, Last::Downgrade);
    }
}

#[test]
fn a_release_of_several_names_dropped_at_any_poll_gives_all_of_them_back() {
    for trouble in [Trouble::Nothing, Trouble::Lost] {
        every_poll_of(trouble, Last::ReleaseSeveral);
    }
}

#[test]
fn a_proclamation_dropped_at_any_poll_with_its_leadership_resigns() {
    for trouble in [Trouble::Nothing, Trouble::Lost] {
        every_poll_of(trouble, Last::Proclaim);
    }
}

fn every_poll_of(trouble: Trouble, last: Last) {
    alone(async move |etcd: Arc<Etcd>| {
        let proxy = proxy(&etcd);
        let tasks = tasks();
        for polls in 1..=POLLS_MAX {
            let session = open(&connect(&proxy).await, TTL).await;
            let mut giving_back = last.begin(&session).await;
            trouble.begin(&proxy);
            let mut done = poll_times(giving_back.as_mut(), 1).await;
            if done.is_none() && polls > 1 {
                trouble.strike(&etcd, &proxy, last.keys()).await;
                done = poll_times(giving_back.as_mut(), polls - 1).await;
            }
            drop(giving_back);
            pass(&proxy);
            // With the session still open.
            etcd.until_keys(&format!("{PREFIX}/"), 0).await;
            session.close().await.unwrap();
            etcd.until_keys(PREFIX, 0).await;
            until_tasks(tasks).await;
            if done.is_some() {
                println!("{trouble:?}, {last:?}: {polls} polls");
                return close(&etcd, None).await;
            }
        }
        panic!("not done after {POLLS_MAX} polls");
    });
}

#[test]
fn a_candidate_whose_resumption_is_dropped_at_any_poll_stays_as_it_was_or_goes() {
    alone(async move |etcd: Arc<Etcd>| {
        let proxy = proxy(&etcd);
        let tasks = tasks();
        for polls in 1..=POLLS_MAX {
            let session = open(&connect(&proxy).await, TTL).await;
            let key = format!("{QUEUE}{}", session.lease_id());
            let put = etcd.client().put(key.clone(), "a").lease(session.lease_id()).await.unwrap();
            let election = session.election(NAME);
            let mut resuming = Box::pin(election.resume(key.clone(), put.revision()));
            let done = poll_times(resuming.as_mut(), polls).await.map(drop).is_some();
            drop(resuming);
            // If it stayed, it can be gone on with.
            if let Ok(leadership) = election.resume(key, put.revision()).await {
                drop(leadership);
            }
            etcd.until_keys(QUEUE, 0).await;
            etcd.until_watches(0).await;
            drop(election);
            session.close().await.unwrap();
            until_tasks(tasks).await;
            if done {
                println!("{polls} polls");
                return close(&etcd, None).await;
            }
        }
        panic!("not done after {POLLS_MAX} polls");
    });
}
