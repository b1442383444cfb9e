//! A client whose answers never go back: members that lag, and clusters that were restored.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure::{Client, Code, Config, Dialing, Endpoint, Error, Io, KeyRange, Op, Revision, Seen, Stale};
use tenure_testserver::{Follower, Lag, Server};
use tokio::net::TcpStream;

use crate::support::{OwnServer, client, own_etcd, patiently, run};

const SHORT: Duration = Duration::from_millis(300);

/// What a read ends with whose time was over, where the member was asked more than once until then.
async fn found_behind(client: &Client) -> Error {
    patiently("a member that is found behind", async {
        loop {
            let error = client.get("k").serializable().timeout(SHORT).await.unwrap_err();
            if error.stale().is_some() && error.attempts() > 1 {
                return error;
            }
            assert!(error.is_timeout(), "{error}");
        }
    })
    .await
}

/// A leader, and a follower that has applied nothing since the first put.
async fn lagging() -> (Server, Follower) {
    let server = Server::start().await.unwrap();
    let follower = server.add_follower().await.unwrap();
    let client = Client::connect([server.endpoint()]).await.unwrap();
    client.put("k", "old").await.unwrap();
    follower.set_lag(Lag::Held);
    (server, follower)
}

#[test]
fn a_member_that_lags_is_asked_in_vain() {
    run(async {
        let (server, follower) = lagging().await;
        let plain = Client::connect([server.endpoint(), follower.endpoint()]).await.unwrap();
        let client = plain.monotonic().namespace("");
        let direct = Client::connect([server.endpoint()]).await.unwrap();
        let put = direct.put("k", "new").await.unwrap();
        // Nothing was seen by this client yet: what it sees first is what counts.
        while client.get("k").await.unwrap().revision() < put.revision() {}
        // Who is connected late, or was silent for a moment, is not asked for a while.
        patiently("both have asked the member that lags", async {
            let mut old = 0;
            while old < 10 || client.telemetry().calls.retries < 10 {
                let answer = client.get("k").serializable().await.unwrap();
                assert_eq!(answer.kvs[0].value, "new");
                let txn = client.txn().then(Op::get("k").serializable()).await.unwrap();
                assert!(txn.revision() >= put.revision());
                old += usize::from(plain.get("k").serializable().await.unwrap().kvs[0].value == "old");
            }
        })
        .await;
        assert_eq!(client.seen().unwrap().revision, put.revision());
    });
}

#[test]
fn where_all_lag_the_call_waits_and_then_fails_typed() {
    run(async {
        let (server, follower) = lagging().await;
        let direct = Client::connect([server.endpoint()]).await.unwrap().monotonic();
        let put = direct.put("k", "new").await.unwrap();
        let seen = direct.seen().unwrap();
        // What one process has seen is of use to another.
        let client = Client::connect([follower.endpoint()]).await.unwrap().monotonic_from(seen);
        let error = found_behind(&client).await;
        let found = Revision(put.revision().0 - 1);
        let expected = Stale::Behind {
            seen: put.revision(),
            found,
        };
        assert_eq!(error.stale(), Some(expected), "{error}");
        assert!(!error.may_be_applied(), "{error}");
        // A call of one connection is answered at once.
        let watch = client.watch("k").await.unwrap();
        let error = client.get("k").serializable().via(watch.route()).await.unwrap_err();
        assert_eq!((error.stale(), error.attempts()), (Some(expected), 1), "{error}");

        let waiting = {
            let client = client.clone();
            tokio::spawn(async move { client.get("k").serializable().await })
        };
        // It was asked, and has said too little.
        tokio::time::sleep(SHORT).await;
        assert!(!waiting.is_finished());
        follower.set_lag(Lag::By(Duration::ZERO));
        let answer = patiently("an answer", waiting).await.unwrap().unwrap();
        assert_eq!(answer.kvs[0].value, "new");
    });
}

#[test]
fn what_a_watch_has_told_is_not_unknown_to_a_read() {
    run(async {
        let (server, follower) = lagging().await;
        let client = Client::connect([server.endpoint()]).await.unwrap().monotonic();
        let mut watch = client.watch("k").await.unwrap();
        let direct = Client::connect([server.endpoint()]).await.unwrap();
        let put = direct.put("k", "new").await.unwrap();
        patiently("the event", watch.next()).await.unwrap();
        assert_eq!(client.seen().unwrap().revision, put.revision());
        client.endpoints().set([follower.endpoint()]).unwrap();
        let error = found_behind(&client).await;
        assert!(matches!(error.stale(), Some(Stale::Behind { .. })), "{error}");
    });
}

/// A client of whatever server this is set to.
async fn switched(to: &Arc<Mutex<SocketAddr>>) -> Client {
    let to = to.clone();
    let dial = move |_: &Endpoint| -> Dialing {
        let address = *to.lock().unwrap();
        Box::pin(async move { Ok(Box::new(TcpStream::connect(address).await?) as Box<dyn Io>) })
    };
    let config = Config::new().call_timeout(Duration::from_secs(5));
    Client::connect_over(dial, ["http://switched:2379"], config).await.unwrap()
}

fn address(server: &OwnServer) -> SocketAddr {
    server.endpoints()[0].trim_start_matches("http://").parse().unwrap()
}

#[test]
fn a_cluster_that_is_not_what_it_was_is_refused_until_it_is_accepted() {
    let (before, after) = (OwnServer::start(), OwnServer::start());
    run(async {
        let to = Arc::new(Mutex::new(address(&before)));
        let client = switched(&to).await.monotonic();
        for value in ["1", "2", "3"] {
            client.put("k", value).await.unwrap();
        }
        let seen = client.seen().unwrap();
        *to.lock().unwrap() = address(&after);
        before.kill();
        // From now on it is the other one that answers, with less.
        let stale = patiently("an answer", async {
            loop {
                match client.get("k").await {
                    Ok(answer) => assert_eq!(answer.kvs[0].value, "3"),
                    Err(error) if error.stale().is_some() => return error.stale().unwrap(),
                    Err(_) => {}
                }
            }
        })
        .await;
        match stale {
            Stale::OtherCluster { expected, found, .. } => {
                assert!(expected == seen.cluster_id && found != expected);
            }
            // The servers in memory have one id.
            Stale::WentBack { seen: was, found } => assert!(was == seen.revision && found < was),
            other => panic!("{other}"),
        }
        // A write was carried out there, and that is said.
        let error = client.namespace("").put("w", "x").await.unwrap_err();
        assert!(error.stale().is_some() && error.may_be_applied(), "{error}");
        assert!(
            matches!(error.code(), Code::DataLoss | Code::FailedPrecondition),
            "{error}"
        );
        assert_eq!(client.seen(), Some(seen));

        client.accept(&stale);
        let written = client.get("w").await.unwrap();
        assert_eq!(written.kvs[0].value, "x");
        client.put("k", "again").await.unwrap();
        // Somebody who was told the same accepts it too.
        let now = client.seen().unwrap();
        client.accept(&stale);
        assert_eq!(client.seen(), Some(now));
        assert_eq!(
            client.get("k").serializable().await.unwrap().kvs[0].value,
            "again"
        );
    });
}

#[test]
fn members_that_apply_one_after_the_other_never_show_less() {
    let Some(cluster) = own_etcd(3) else {
        return; // Followers of the server in memory lag on demand, above.
    };
    run(async {
        let plain = Client::connect(cluster.endpoints()).await.unwrap();
        let client = plain.monotonic();
        let mut behind = 0;
        patiently("a member that lagged", async {
            for round in 0.. {
                let put = client.put("k", format!("{round}")).await.unwrap();
                for _ in 0..3 {
                    let (ours, theirs) =
                        tokio::join!(client.get("k").serializable(), plain.get("k").serializable());
                    assert_eq!(ours.unwrap().kvs[0].value, format!("{round}"));
                    behind += usize::from(theirs.unwrap().revision() < put.revision());
                }
                if behind > 10 {
                    return;
                }
            }
        })
        .await;
    });
}

#[test]
fn a_client_that_remembers_nothing_says_so_and_locks_go_without() {
    run(async {
        let client = client().await;
        let monotonic = client.monotonic();
        assert_eq!(monotonic.seen(), Some(Seen::default()));
        monotonic.get(KeyRange::prefix("monotonic/")).await.unwrap();
        assert!(monotonic.clone().seen().unwrap().revision > Revision::ZERO);
        let guard = monotonic.lock("monotonic/lock").await.unwrap();
        assert_eq!(guard.session().client().seen(), None);
        assert_eq!(guard.session().client().prefix(), client.prefix());
        // And is that of the client's other locks.
        let other = client.lock("monotonic/other").await.unwrap();
        assert_eq!(guard.session().lease_id(), other.session().lease_id());
    });
}
