//! Who may not, and how that is told.

use tenure::{Auth, Client, Code, Delivery, Error, EtcdError, Origin, WatchEnd};

use crate::support::{Etcd, PASSWORD, patiently};

/// What it is, and that it tells no secret.
fn is_denied(error: &Error, secret: &str) {
    assert_eq!(error.etcd(), Some(EtcdError::AuthFailed), "{error:?}");
    assert_eq!(
        (error.code(), error.origin()),
        (Code::InvalidArgument, Origin::Server)
    );
    assert!(!error.may_be_applied());
    let mut shown = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        shown += &format!("{cause} {cause:?}");
        source = cause.source();
    }
    assert!(!shown.contains(secret), "{shown}");
}

#[tokio::test]
async fn a_wrong_password_is_told_when_connecting_and_asked_about_once() {
    let etcd = Etcd::start_enabled();
    let before = etcd.authenticates();
    for (name, password) in [("root", "hunter2hunter2"), ("nobody", "hunter2hunter2")] {
        let auth = Auth::password(name, password);
        is_denied(&etcd.connect(auth).await.map(drop).expect_err("denied"), password);
    }
    assert_eq!(etcd.authenticates() - before, 2);
}

#[tokio::test]
async fn who_says_nothing_and_who_says_nonsense_is_told_so() {
    let etcd = Etcd::start_enabled();
    let nobody = Client::connect(etcd.cluster.endpoints()).await.expect("a connection");
    let before = etcd.authenticates();
    let refused = nobody.put("key", "value").await.expect_err("nobody may");
    assert_eq!(refused.etcd(), Some(EtcdError::UserEmpty));
    assert_eq!(refused.delivery(), Delivery::Answered);

    let fixed = etcd.connect(Auth::token(etcd.token())).await.expect("a connection");
    fixed.put("key", "value").await.expect("the token is root's");
    etcd.forget_tokens().await;
    let expired = fixed.put("key", "value").await.expect_err("the token has expired");
    assert_eq!(expired.etcd(), Some(EtcdError::InvalidAuthToken));
    assert_eq!(expired.code(), Code::Unauthenticated);
    let watch = patiently("a refusal", async { fixed.watch("key").await }).await;
    match watch.map(drop).expect_err("the token has expired") {
        WatchEnd::Canceled { etcd, .. } => assert_eq!(etcd, Some(EtcdError::InvalidAuthToken)),
        other => panic!("{other:?}"),
    }
    assert_eq!(etcd.authenticates() - before, 1, "the test's own");

    let error = etcd.connect(Auth::token("no\nheader")).await.map(drop).expect_err("no header");
    assert_eq!(
        (error.origin(), error.delivery()),
        (Origin::Caller, Delivery::NotSent)
    );
    assert!(!format!("{error:?}").contains("no\\nheader"));
}

#[tokio::test]
async fn a_password_that_is_changed_ends_calls_and_watches_with_the_reason_and_one_question() {
    let etcd = Etcd::start_enabled();
    let client = etcd.root().await;
    client.put("key", "value").await.expect("a put");
    let mut watch = client.watch("key").await.expect("a watch");
    let changed = r#"{"name":"root","password":"another"}"#;
    etcd.post("auth/user/changepw", changed, Some(&etcd.token()));
    let before = etcd.authenticates();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let client = client.clone();
        calls.spawn(async move { client.put("key", "other").await });
    }
    while let Some(put) = patiently("an answer", calls.join_next()).await {
        is_denied(&put.expect("no panic").expect_err("denied"), PASSWORD);
    }
    let late = patiently("an end", async { client.watch("late").await }).await;
    is_denied(&Error::from(late.map(drop).expect_err("denied")), PASSWORD);
    assert_eq!(etcd.authenticates() - before, 1, "twenty calls and a watch");
    // The one that was there goes with its stream, which cannot be opened anew.
    let end = patiently("an end", watch.next()).await.expect_err("denied");
    is_denied(&Error::from(end), PASSWORD);
}

#[tokio::test]
async fn what_the_user_may_not_do_is_told_and_costs_no_token() {
    let etcd = Etcd::start();
    etcd.post(
        "auth/user/add",
        r#"{"name":"alice","password":"in-wonderland"}"#,
        None,
    );
    etcd.post("auth/role/add", r#"{"name":"reader"}"#, None);
    // Reads "a", which is YQ== in JSON.
    let permission = r#"{"name":"reader","perm":{"permType":"READ","key":"YQ=="}}"#;
    etcd.post("auth/role/grant", permission, None);
    etcd.post("auth/user/grant", r#"{"user":"alice","role":"reader"}"#, None);
    etcd.enable();
    let alice = etcd.connect(Auth::password("alice", "in-wonderland")).await.expect("alice may connect");
    alice.get("a").await.expect("alice may read it");
    let before = etcd.authenticates();
    for error in [
        alice.put("a", "value").await.map(drop).expect_err("she may not write it"),
        alice.get("b").await.map(drop).expect_err("she may not read that"),
    ] {
        assert_eq!(error.etcd(), Some(EtcdError::PermissionDenied), "{error:?}");
        assert_eq!(
            (error.code(), error.delivery()),
            (Code::PermissionDenied, Delivery::Answered)
        );
    }
    let watch = patiently("a refusal", async { alice.watch("b").await }).await;
    match watch.map(drop).expect_err("she may not watch that") {
        WatchEnd::Canceled { etcd, .. } => assert_eq!(etcd, Some(EtcdError::PermissionDenied)),
        other => panic!("{other:?}"),
    }
    assert_eq!(etcd.authenticates(), before);
}
