//! What goes on while tokens expire.

use std::time::{Duration, Instant};

use tenure::{Batch, Client, KeyRange, Watch};

use crate::support::{Etcd, TOKEN_TTL, patiently};

const CALLS: usize = 50;

/// Renewed more rarely than a test takes: newer etcds look at the token of a renewal, and
/// what is looked at does not expire.
const TTL: Duration = Duration::from_secs(60);

/// Calls that run into an expired token at once, and all are served.
async fn put_all(client: &Client, key: &str) {
    let mut calls = tokio::task::JoinSet::new();
    for index in 0..CALLS {
        let (client, key) = (client.clone(), format!("{key}/{index}"));
        calls.spawn(async move { client.put(key, "value").await });
    }
    while let Some(put) = patiently("a put", calls.join_next()).await {
        put.expect("no panic").expect("the put is served");
    }
}

/// Reads until so many events have come.
async fn read(watch: &mut Watch, count: usize) {
    let mut seen = 0;
    while seen < count {
        let batch: Batch = patiently("an event", watch.next()).await.expect("the watch goes on");
        seen += batch.events.len();
    }
    assert_eq!(seen, count, "events that nobody caused");
}

#[tokio::test]
async fn calls_watches_and_a_held_lock_outlive_their_token() {
    let etcd = Etcd::start_enabled();
    let before = etcd.authenticates();
    let client = etcd.root().await;
    let session = client.session().ttl(TTL).await.expect("a session");
    let guard = session.mutex("held").lock().await.expect("the lock");
    let mut watch = client.watch(KeyRange::prefix("round/")).await.expect("a watch");
    assert_eq!(etcd.authenticates() - before, 1, "one token for all");

    for round in 1..=2 {
        etcd.forget_tokens().await;
        put_all(&client, &format!("round/{round}")).await;
        read(&mut watch, CALLS).await;
        assert_eq!(etcd.authenticates() - before, 1 + round, "round {round}");
        // Its stream is older than the token.
        let mut late = patiently("a watch", async { client.watch("late").await }).await.expect("a watch");
        client.put("late", "value").await.expect("a put");
        read(&mut late, 1).await;
        let renewed = client.lease_keep_alive_once(session.lease_id()).await;
        assert!(renewed.expect("a renewal").ttl > 0);
        assert_eq!(etcd.authenticates() - before, 1 + round, "round {round}");
    }
    assert!(guard.is_valid());
    guard.release().await.expect("the release");
    session.close().await.expect("the end of the session");
}

#[tokio::test]
async fn a_lease_that_is_all_that_a_client_has_is_kept_alive_over_expired_tokens() {
    // Renewed every four seconds, when no token is left.
    let ttl = Duration::from_secs(12);
    let etcd = Etcd::start_forgetful();
    let client = etcd.root().await;
    let before = etcd.authenticates();
    let session = client.session().ttl(ttl).await.expect("a session");
    let guard = session.mutex("held").lock().await.expect("the lock");
    tokio::time::sleep(ttl * 3 / 2).await;
    assert!(guard.is_valid(), "{:?} left", session.valid_for());
    let questions = etcd.authenticates() - before;
    let renewals = client.telemetry().leases.renewals;
    eprintln!("{questions} questions, {renewals} renewals");
    assert!(questions <= 1 + renewals, "at most one for each renewal");
    guard.release().await.expect("the lock was held");
}

#[tokio::test]
async fn a_watch_and_a_lock_that_waits_run_into_the_expired_token_themselves() {
    let etcd = Etcd::start_enabled();
    let client = etcd.root().await;
    let session = client.session().ttl(TTL).await.expect("a session");
    let other = etcd.root().await;
    let holder = other.session().ttl(TTL).await.expect("a session");
    let guard = holder.mutex("contended").lock().await.expect("the lock");
    let mut early = client.watch("early").await.expect("a watch");
    let before = etcd.authenticates();

    etcd.forget_tokens().await;
    let mut late = patiently("a watch", async { client.watch("late").await }).await.expect("a watch");
    assert_eq!(etcd.authenticates() - before, 1, "for the watch");
    client.put("late", "value").await.expect("a put");
    client.put("early", "value").await.expect("a put");
    read(&mut late, 1).await;
    read(&mut early, 1).await;
    assert_eq!(early.reconnects(), 1);

    etcd.forget_tokens().await;
    let mutex = session.mutex("contended");
    let waiting = tokio::spawn(async move { mutex.lock().await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    guard.release().await.expect("the release");
    let guard = patiently("the lock", waiting).await.expect("no panic").expect("the lock");
    guard.release().await.expect("the release");
    assert_eq!(etcd.authenticates() - before, 3, "one for each client");
}

#[tokio::test]
async fn a_server_that_is_started_again_knows_no_token_and_is_asked_once() {
    let etcd = Etcd::start_enabled();
    let client = etcd.root().await;
    client.put("before", "value").await.expect("a put");
    let mut watch = client.watch(KeyRange::prefix("after/")).await.expect("a watch");
    etcd.cluster.member(0).restart().expect("it starts again");
    etcd.cluster.member(0).wait_ready().expect("it is ready");
    let again = async { while client.get("before").await.is_err() {} };
    patiently("an answer", again).await;
    put_all(&client, "after").await;
    read(&mut watch, CALLS).await;
    // Its counts began anew.
    assert!(etcd.authenticates() <= 1, "{} questions", etcd.authenticates());
}

#[tokio::test]
async fn calls_go_on_when_authentication_is_enabled_and_disabled_under_them() {
    let etcd = Etcd::start();
    let client = etcd.root().await;
    let mut watch = client.watch(KeyRange::prefix("switch/")).await.expect("a watch");
    put_all(&client, "switch").await;
    let before = etcd.authenticates();
    etcd.enable();
    put_all(&client, "switch").await;
    assert_eq!(etcd.authenticates() - before, 1);
    let token = etcd.token();
    etcd.post("auth/disable", "{}", Some(&token));
    put_all(&client, "switch").await;
    read(&mut watch, 3 * CALLS).await;
}

#[tokio::test]
async fn over_three_members_one_question_is_enough_and_each_takes_its_answer() {
    let etcd = Etcd::start_three();
    etcd.enable();
    let client = etcd.root().await;
    let mut watch = client.watch(KeyRange::prefix("round/")).await.expect("a watch");
    put_all(&client, "warm").await;
    for round in 1..=2 {
        let before = etcd.authenticates();
        etcd.forget_tokens().await;
        put_all(&client, &format!("round/{round}")).await;
        read(&mut watch, CALLS).await;
        assert_eq!(etcd.authenticates() - before, 1, "round {round}");
    }
}

#[tokio::test]
async fn a_signed_token_is_renewed_when_it_expires_and_when_users_or_roles_change() {
    let dir = std::env::temp_dir().join(format!("tenure-auth-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let etcd = Etcd::start_signing(&dir);
    etcd.enable();
    let client = etcd.root().await;
    let mut watch = client.watch(KeyRange::prefix("signed/")).await.expect("a watch");
    put_all(&client, "signed").await;

    let token = etcd.token();
    etcd.post("auth/role/add", r#"{"name":"newcomer"}"#, Some(&token));
    let (before, begun) = (etcd.authenticates(), Instant::now());
    // A token lives only so long, however often it is used.
    let lives = || begun.elapsed().as_secs() / TOKEN_TTL.as_secs();
    put_all(&client, "signed").await;
    let mut late = patiently("a watch", async { client.watch("late").await }).await.expect("a watch");
    let questions = etcd.authenticates() - before;
    assert!(
        (1..=1 + lives()).contains(&questions),
        "its revision was old: {questions}"
    );

    etcd.forget_tokens().await;
    put_all(&client, "signed").await;
    client.put("late", "value").await.expect("a put");
    read(&mut late, 1).await;
    read(&mut watch, 3 * CALLS).await;
    let questions = etcd.authenticates() - before;
    assert!((2..=3 + lives()).contains(&questions), "{questions} questions");
    drop(etcd);
    std::fs::remove_dir_all(&dir).expect("the directory goes");
}
