//! Nothing that is secret is traced: not by the client, not by what is beneath it, at no level.

use std::time::Duration;

use tenure::{Auth, Client, Compare, Config, Delivery, KeyRange, LeaseId, Op};
use tenure_etcd::{Binary, Cluster, Options};
use tenure_proxy::{Ending, Proxy};
use tenure_testserver::{Fault, Server};

use crate::capture::Capture;
use crate::{patiently, told};

const KEY: &str = "hush-key-7c1f";
const VALUE: &str = "hush-value-93ab";
const LOCK: &str = "hush-lock-5d20";
const USER: &str = "hush-user-41e9";
const PASSWORD: &str = "hush-password-e602";
const TOKEN: &str = "hush-token-d8b3";

/// Each as it might be written: as text, or as the numbers of its bytes, in decimal or in hexadecimal.
fn assert_none_of(secrets: &[&str], capture: &Capture) {
    let text = capture.text();
    for secret in secrets {
        let bytes = format!("{:?}", secret.as_bytes());
        let decimal = bytes.trim_matches(['[', ']']);
        let hexadecimal: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        for written in [secret, decimal, &*hexadecimal] {
            let line = text.lines().find(|line| line.contains(written));
            assert_eq!(line, None, "{secret} is traced");
        }
    }
}

/// Calls that succeed and that fail, watches, leases and locks, on a connection that breaks.
async fn work(client: &Client, proxy: &Proxy, capture: &Capture) {
    let mut watch = client.watch(KeyRange::prefix(KEY)).await.expect("a watch");
    client.put(KEY, VALUE).await.expect("a put");
    client.get(KeyRange::prefix(KEY)).await.expect("a get");
    let txn = client.txn().when(Compare::value(KEY).equal(VALUE)).then(Op::delete(KEY));
    txn.await.expect("a transaction");
    client.put(KEY, VALUE).lease(LeaseId(0x0d0)).await.expect_err("there is no such lease");
    client.put(KEY, VALUE.repeat(1 << 20)).await.expect_err("it is too large");
    patiently("an event", watch.next()).await.expect("the watch goes on");
    let session = client.session().ttl(Duration::from_secs(60)).await.expect("a session");
    let mutex = session.mutex(LOCK);
    let guard = mutex.lock().await.expect("the lock");
    guard.fenced().put(KEY, VALUE).await.expect("it is ours");
    proxy.cut(Ending::Reset);
    told(capture, "watch resumed", 1).await;
    client.put(KEY, VALUE).idempotent().await.expect("a put");
    patiently("an event", watch.next()).await.expect("the watch goes on");
    client.lease_revoke(session.lease_id()).await.expect("there is such a lease");
    client
        .lease_keep_alive_once(session.lease_id())
        .await
        .expect_err("there is none any more");
    guard.release().await.expect_err("it is lost");
}

/// That something was traced at all, of ours and beneath.
fn assert_traced(capture: &Capture) {
    let kept = capture.kept();
    let of = |target: &str| kept.events.iter().filter(|told| told.target.starts_with(target)).count();
    assert!(kept.calls("etcdserverpb.KV/Put").count() >= 4);
    assert!(
        of("tenure") >= 10 && of("h2") >= 100,
        "{} and {}",
        of("tenure"),
        of("h2")
    );
}

/// An etcd with one user, who may do everything.
async fn guarded() -> Cluster {
    let binary = Binary::find().expect("an etcd");
    let cluster = Cluster::start(&binary, 1, Options::default()).expect("it starts");
    let client = Client::connect(cluster.endpoints()).await.expect("a client");
    let users = client.users();
    for (user, password) in [("root", PASSWORD), (USER, PASSWORD)] {
        users.add(user, password).await.expect("a user");
        users.grant_role(user, "root").await.expect("a role");
    }
    client.authentication().enable().await.expect("it asks for names from now on");
    cluster
}

#[tokio::test]
async fn no_key_no_value_no_name_and_no_password_is_traced() {
    let (capture, _guard) = Capture::start();
    let cluster = guarded().await;
    let proxy = Proxy::start(&cluster.endpoints()[0]).expect("a proxy");
    let connect = |auth| Client::connect_with([proxy.endpoint()], Config::new().auth(auth));
    let client = connect(Auth::password(USER, PASSWORD)).await.expect("a client");
    work(&client, &proxy, &capture).await;
    assert!(!capture.told("token renewed").is_empty(), "{}", capture.text());
    connect(Auth::password(USER, "hush-wrong-0b6c")).await.expect_err("a wrong password");
    assert!(!capture.told("no token").is_empty(), "{}", capture.text());
    assert_traced(&capture);
    let secrets = [KEY, VALUE, LOCK, USER, PASSWORD, "hush-wrong-0b6c"];
    assert_none_of(&secrets, &capture);
}

#[tokio::test]
async fn no_token_is_traced_and_nothing_that_a_server_quotes() {
    let (capture, _guard) = Capture::start();
    // On a thread of its own: what it traces of itself is not the client's.
    let server = on_a_thread();
    let proxy = Proxy::start(server.server.endpoint()).expect("a proxy");
    let config = Config::new().auth(Auth::token(TOKEN));
    let client = Client::connect_with([proxy.endpoint()], config).await.expect("a client");
    work(&client, &proxy, &capture).await;
    let quoted = |code| Fault::End {
        code,
        message: format!("what is {KEY} = {VALUE} of {TOKEN}?"),
    };
    let faults = server.server.faults();
    for code in [3, 13, 14] {
        faults.on_request("/etcdserverpb.KV/Put", quoted(code));
        let error = client.put(KEY, VALUE).await.expect_err("it is refused");
        assert!(
            error.message().contains(VALUE) && error.delivery() != Delivery::NotSent,
            "{error}"
        );
    }
    // What is asked again by itself.
    faults.on_request("/etcdserverpb.KV/Range", quoted(14));
    client.get(KEY).await.expect("it is answered the second time");
    faults.on_request("/etcdserverpb.Watch/Watch", quoted(14));
    let watch = client.watch(KEY).await.expect("it is created the second time");
    assert!(!capture.told("to be sent again").is_empty() && watch.reconnects() == 0);
    told(&capture, "stream ended", 2).await;
    assert_traced(&capture);
    assert_none_of(&[KEY, VALUE, LOCK, TOKEN], &capture);
}

/// The server in memory, with a runtime of its own.
struct OnAThread {
    server: Server,
    _running: tokio::sync::oneshot::Sender<()>,
}

fn on_a_thread() -> OnAThread {
    let (started, server) = std::sync::mpsc::channel();
    let (running, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async move {
            started.send(Server::start().await.expect("a free port")).expect("the test waits");
            let _ = ended.await;
        });
    });
    OnAThread {
        server: server.recv().expect("the server in memory starts"),
        _running: running,
    }
}
