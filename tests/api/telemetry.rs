//! What a client counts, exactly, and what it tells of itself.

use std::time::{Duration, Instant};

use tenure::{Client, Delivery, LeaseEnd, LeaseId, Origin, StateEvent, StateEvents};
use tenure_proxy::{Ending, Proxy};

use crate::hand_off::waiting;
use crate::linger::relocked;
use crate::lock::{TTL, TTL_KEPT, until_queue_is};
use crate::support::{client, endpoints, is_embedded, patiently, run, until, viewed};

/// No test takes so long.
const LONG: Duration = Duration::from_secs(3600);

/// A client with one connection, which goes through a proxy.
async fn behind_a_proxy() -> (Client, Proxy) {
    let proxy = Proxy::start(&endpoints()[0]).expect("a proxy");
    let client = Client::connect([proxy.endpoint()]).await.expect("a client");
    (viewed(client), proxy)
}

/// Waits until so many locks were counted as lost, and no more.
async fn until_lost(client: &Client, count: u64) {
    until("a loss that is counted", || {
        client.telemetry().locks.lost >= count
    })
    .await;
    assert_eq!(client.telemetry().locks.lost, count);
}

/// Waits until the session has given back one more key than this.
async fn until_given_back(client: &Client, holds: u64) {
    until("the end of its hold", || {
        client.telemetry().locks.holds.count() != holds
    })
    .await;
}

async fn next(events: &mut StateEvents) -> StateEvent {
    patiently("an event", events.next()).await.expect("the client is there")
}

#[test]
fn calls_are_counted_by_how_they_ended() {
    run(async {
        let client = client().await;
        assert_eq!(client.telemetry().calls.latency.count(), 0);
        for number in 0..7 {
            client.put("telemetry/calls", number.to_string()).await.unwrap();
        }
        for _ in 0..3 {
            client.get("telemetry/calls").await.unwrap();
        }
        let no_lease = LeaseId(0x7e1e_0000_0000_0001);
        client.put("telemetry/calls", "").lease(no_lease).await.unwrap_err();
        client.put("telemetry/calls", vec![0; 64 << 20]).await.unwrap_err();
        let calls = client.clone().telemetry().calls;
        assert_eq!((calls.ok, calls.failed.total()), (10, 2), "{calls:?}");
        assert_eq!(
            calls.failed.by(Origin::Server, Delivery::Answered),
            1,
            "{calls:?}"
        );
        assert_eq!(calls.failed.by(Origin::Caller, Delivery::NotSent), 1, "{calls:?}");
        assert_eq!(
            (calls.retries, calls.failovers, calls.dropped),
            (0, 0, 0),
            "{calls:?}"
        );
        assert_eq!(calls.latency.count(), 12);
        assert!(calls.latency.percentile(1.0) >= calls.latency.mean());
    });
}

#[test]
fn hand_offs_within_a_session_and_by_way_of_etcd_are_counted_apart() {
    run(async {
        let client = client().await;
        let (one, two) = (client.session().ttl(TTL).await, client.session().ttl(TTL).await);
        let (one, two) = (one.unwrap(), two.unwrap());
        let mutex = one.mutex("telemetry/hand-off").hand_off(u32::MAX, LONG);
        let first = mutex.lock().await.unwrap();
        let (second, third) = (waiting(&mutex), waiting(&mutex));
        drop(first);
        drop(patiently("the second grant", second).await.unwrap());
        patiently("the third grant", third).await.unwrap().release().await.unwrap();
        let locks = client.telemetry().locks;
        assert_eq!((locks.granted, locks.waited), (1, 0), "{locks:?}");
        assert_eq!(
            (locks.handed_off, locks.relocked, locks.lost),
            (2, 0, 0),
            "{locks:?}"
        );
        assert_eq!((locks.waits.count(), locks.holds.count()), (1, 1), "{locks:?}");

        let held = mutex.lock().await.unwrap();
        let rival = two.mutex("telemetry/hand-off");
        let rival = tokio::spawn(async move { rival.lock().await });
        until_queue_is(&client, "telemetry/hand-off", 2).await;
        held.release().await.unwrap();
        let guard = patiently("the rival's grant", rival).await.unwrap().unwrap();
        guard.release().await.unwrap();
        drop((mutex, one, two));
        let locks = client.telemetry().locks;
        assert_eq!((locks.granted, locks.waited), (3, 1), "{locks:?}");
        assert_eq!(
            (locks.handed_off, locks.relocked, locks.lost),
            (2, 0, 0),
            "{locks:?}"
        );
        assert_eq!((locks.waits.count(), locks.holds.count()), (3, 3), "{locks:?}");
    });
}

#[test]
fn what_lingers_and_is_locked_again_is_counted() {
    run(async {
        let client = client().await;
        let session = client.session().ttl(TTL).await.unwrap();
        let mutex = session.mutex("telemetry/linger").linger(LONG).linger_at_most(LONG);
        let mut granted = 0;
        patiently("a key that lingers", async {
            loop {
                let guard = mutex.lock().await.unwrap();
                if guard.token().sequence() > 0 {
                    return guard.release().await.unwrap();
                }
                granted += 1;
                // Time for the watch.
                tokio::time::sleep(Duration::from_millis(20)).await;
                guard.release().await.unwrap();
            }
        })
        .await;
        for _ in 0..9 {
            mutex.lock().await.unwrap().release().await.unwrap();
        }
        drop(mutex.try_lock().await.unwrap().expect("it is ours"));
        let locks = client.telemetry().locks;
        assert_eq!(
            (locks.granted, locks.relocked, locks.handed_off),
            (granted, 11, 0)
        );
        assert_eq!(client.telemetry().leases.now, 1);
        drop(mutex);
        session.close().await.unwrap();
        let telemetry = client.telemetry();
        assert_eq!((telemetry.locks.relocked, telemetry.locks.lost), (11, 0));
        assert_eq!((telemetry.leases.now, telemetry.leases.lost), (0, 0));
    });
}

#[test]
fn a_lost_lease_is_counted_and_told_and_so_is_the_lock_on_it() {
    run(async {
        let (client, other) = (client().await, client().await);
        let mut events = client.state_events();
        let session = client.session().ttl(TTL_KEPT).await.unwrap();
        let guard = session.mutex("telemetry/lost").lock().await.unwrap();
        patiently("a renewal", async {
            while client.telemetry().leases.renewals == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let kept = session.lease_id();
        other.lease_revoke(kept).await.unwrap();
        assert_eq!(
            patiently("the loss", session.ended()).await,
            LeaseEnd::UnknownToServer
        );
        guard.release().await.unwrap_err();
        let telemetry = client.telemetry();
        assert_eq!((telemetry.leases.kept, telemetry.leases.lost), (1, 1));
        assert_eq!((telemetry.locks.granted, telemetry.locks.lost), (1, 1));
        loop {
            match next(&mut events).await {
                StateEvent::Leader { .. } => {}
                StateEvent::LeaseLost { lease, end } => {
                    assert_eq!((lease, end), (kept, LeaseEnd::UnknownToServer));
                    break;
                }
                event => panic!("{event:?}"),
            }
        }
        client.lease(TTL).await.unwrap().revoke().await.unwrap();
        let leases = client.telemetry().leases;
        assert_eq!((leases.kept, leases.lost), (2, 1), "a revoked lease is not lost");
    });
}

#[test]
fn locks_are_counted_as_lost_with_their_session_while_their_holders_hang() {
    run(async {
        let (client, other) = (client().await, client().await);
        let session = client.session().ttl(TTL_KEPT).await.unwrap();
        let hung = session.mutex("telemetry/hung").lock().await.unwrap();
        let handed = session.mutex("telemetry/hung-handed").hand_off(u32::MAX, LONG);
        let first = handed.lock().await.unwrap();
        let second = waiting(&handed);
        drop(first);
        let handed_on = patiently("a hand-off", second).await.unwrap();
        let bounded = session.mutex("telemetry/hung-bounded").hold_at_most(LONG).lock().await.unwrap();
        // Nobody has this one, and that one was given back.
        let idle = session.mutex("telemetry/hung-idle").linger(LONG).linger_at_most(LONG);
        drop(relocked(&idle).await);
        session.mutex("telemetry/hung-not").lock().await.unwrap().release().await.unwrap();
        other.lease_revoke(session.lease_id()).await.unwrap();
        until_lost(&client, 3).await;
        hung.release().await.unwrap_err();
        drop((handed_on, bounded));
        assert!(idle.lock().await.is_err() && handed.try_lock().await.is_err());
        drop((idle, handed, session));
        assert_eq!(client.telemetry().locks.lost, 3, "and not again with the guards");
    });
}

#[test]
fn a_lock_that_is_held_for_too_long_is_counted_as_lost_while_its_holder_hangs() {
    run(async {
        let client = client().await;
        let session = client.session().ttl(TTL).await.unwrap();
        let mutex = session.mutex("telemetry/too-long");
        let in_time = mutex.clone().hold_at_most(LONG).lock().await.unwrap();
        drop(in_time);
        for lost in 1..=2 {
            let short = mutex.clone().hold_at_most(Duration::from_millis(50));
            let hung = short.lock().await.unwrap();
            until_lost(&client, lost).await;
            patiently("the next grant", mutex.lock()).await.unwrap().release().await.unwrap();
            hung.release().await.unwrap_err();
        }
        session.close().await.unwrap();
        assert_eq!(client.telemetry().locks.lost, 2);
    });
}

#[test]
fn a_guard_that_goes_in_time_is_not_lost_though_the_news_of_that_comes_late() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = client().await;
        let session = client.session().ttl(TTL).await.unwrap();
        let mutex = session.mutex("telemetry/in-time");
        let hold = Duration::from_millis(500);
        patiently("a guard that goes in time", async {
            loop {
                let (lost, asked) = (client.telemetry().locks.lost, Instant::now());
                drop(mutex.clone().hold_at_most(hold).lock().await.unwrap());
                let in_time = asked.elapsed() < hold;
                // Nobody else has the thread until its time is over.
                std::thread::sleep(hold);
                let guard = patiently("the next grant", mutex.lock()).await.unwrap();
                guard.release().await.unwrap();
                if in_time {
                    assert_eq!(client.telemetry().locks.lost, lost);
                    return;
                }
            }
        })
        .await;
    });
}

#[test]
fn a_key_that_somebody_deleted_is_counted_where_it_is_watched() {
    run(async {
        let (client, other) = (client().await, client().await);
        let session = client.session().ttl(TTL).await.unwrap();
        let lingering = session.mutex("telemetry/deleted").linger(LONG).linger_at_most(LONG);
        let owned = session.mutex("telemetry/deleted-owned").owner("me");
        for round in 0..2 {
            let hung = relocked(&lingering).await;
            other.delete(hung.key().to_vec()).await.unwrap();
            until_lost(&client, 3 * round + 1).await;
            hung.release().await.unwrap_err();
            let hung = owned.lock().await.unwrap();
            other.delete(hung.key().to_vec()).await.unwrap();
            until_lost(&client, 3 * round + 2).await;
            drop(hung);
            // One that no watch is for is missed by its release.
            let plain = session.mutex("telemetry/deleted-plain").lock().await.unwrap();
            other.delete(plain.key().to_vec()).await.unwrap();
            plain.release().await.unwrap_err();
            until_lost(&client, 3 * round + 3).await;
        }
        session.close().await.unwrap();
        assert_eq!(client.telemetry().locks.lost, 6);
    });
}

#[test]
fn a_key_that_nobody_had_is_lost_to_nobody() {
    run(async {
        let (client, other) = (client().await, client().await);
        let session = client.session().ttl(TTL).await.unwrap();
        let lingering = session.mutex("telemetry/deleted-idle").linger(LONG).linger_at_most(LONG);
        let guard = relocked(&lingering).await;
        let (key, created) = (guard.key().to_vec(), guard.token().create_revision());
        guard.release().await.unwrap();
        let holds = client.telemetry().locks.holds.count();
        other.delete(key).await.unwrap();
        // Not by locking it: whoever has it as the news come has lost it.
        until_given_back(&client, holds).await;
        let anew = lingering.lock().await.unwrap();
        assert_ne!(anew.token().create_revision(), created);
        drop(anew);
        session.close().await.unwrap();
        assert_eq!(client.telemetry().locks.lost, 0);
    });
}

#[test]
fn what_an_owner_took_over_once_more_is_not_lost() {
    run(async {
        let (client, other) = (client().await, client().await);
        let session = client.session().ttl(TTL).await.unwrap();
        let theirs = other.session().ttl(TTL).await.unwrap();
        let name = "telemetry/back";
        let lingering = session.mutex(name).owner("me").linger(LONG).linger_at_most(LONG);
        drop(relocked(&lingering).await);
        let holds = client.telemetry().locks.holds.count();
        let taken = theirs.mutex(name).owner("me").lock().await.unwrap();
        // It is heard that the key, which nobody had, is another session's.
        until_given_back(&client, holds).await;
        let guard = patiently("the key that is taken back", lingering.lock()).await.unwrap();
        assert_eq!(
            guard.token().create_revision(),
            taken.token().create_revision(),
            "the owner has one key"
        );
        assert!(guard.is_valid());
        assert_eq!(client.telemetry().locks.lost, 0);
        guard.release().await.unwrap();
        assert_eq!(client.telemetry().locks.lost, 0);
    });
}

#[test]
fn a_session_that_was_replaced_is_told() {
    run(async {
        let (client, other) = (client().await, client().await);
        let mut events = client.state_events();
        let managed = client.session().ttl(TTL_KEPT).managed().await.unwrap();
        let first = managed.session().await.unwrap().lease_id();
        other.lease_revoke(first).await.unwrap();
        let lost_first = next(&mut events).await;
        assert!(matches!(lost_first, StateEvent::LeaseLost { lease, .. } if lease == first));
        match next(&mut events).await {
            StateEvent::SessionReplaced {
                lease,
                generation,
                lost,
            } => {
                assert_eq!((generation, lost), (1, LeaseEnd::UnknownToServer));
                assert_eq!(lease, managed.session().await.unwrap().lease_id());
            }
            event => panic!("{event:?}"),
        }
        drop((managed, client));
        assert!(patiently("the end", events.next()).await.is_none());
    });
}

#[test]
fn a_watch_that_is_resumed_is_counted_once_for_each_time() {
    run(async {
        let (client, proxy) = behind_a_proxy().await;
        let writer = crate::support::client().await;
        let mut watch = client.watch("telemetry/watch").await.unwrap();
        for round in 1..=3_u64 {
            proxy.cut(Ending::Reset);
            patiently("another stream", async {
                while watch.reconnects() < round {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            writer.put("telemetry/watch", "").await.unwrap();
            patiently("the event", watch.next()).await.unwrap();
        }
        let telemetry = client.telemetry();
        let watches = (telemetry.watches.opened, telemetry.watches.resumed);
        assert_eq!(watches, (1, watch.reconnects()), "{telemetry:?}");
        assert_eq!((telemetry.watches.lagged, telemetry.watches.ended), (0, 0));
        assert_eq!(telemetry.connections.lost, 3, "{telemetry:?}");
    });
}

#[test]
fn connections_that_come_and_go_are_counted_and_told() {
    run(async {
        let (client, proxy) = behind_a_proxy().await;
        let opened = client.telemetry().connections;
        assert_eq!((opened.now, opened.opened, opened.reopened), (1, 1, 0));
        let mut events = client.state_events();
        proxy.cut(Ending::Reset);
        match next(&mut events).await {
            StateEvent::Lost { endpoint, why } => {
                assert_eq!(&*endpoint, proxy.endpoint());
                assert_eq!(why.origin(), Origin::Transport, "{why}");
            }
            event => panic!("{event:?}"),
        }
        match next(&mut events).await {
            StateEvent::Connected { endpoint } => assert_eq!(&*endpoint, proxy.endpoint()),
            event => panic!("{event:?}"),
        }
        let again = client.telemetry().connections;
        assert_eq!(
            (again.now, again.opened, again.reopened, again.lost),
            (1, 2, 1, 1)
        );
        assert_eq!(again.dialled, again.opened + again.failed, "{again:?}");
    });
}

#[test]
fn the_leader_is_told_with_the_first_answer_and_again_when_it_has_a_name() {
    run(async {
        let (client, proxy) = behind_a_proxy().await;
        let mut events = client.state_events();
        for _ in 0..3 {
            client.get("telemetry/leader").await.unwrap();
        }
        let StateEvent::Leader { term, member: None } = next(&mut events).await else {
            panic!("an answer says its term and nothing more");
        };
        assert!(term > 0);
        if is_embedded() {
            return;
        }
        let maintenance = client.maintenance(proxy.endpoint()).unwrap();
        let status = maintenance.status().await.unwrap();
        let StateEvent::Leader {
            term: same,
            member: Some(member),
        } = next(&mut events).await
        else {
            panic!("a status says who leads");
        };
        assert_eq!((same, member.0), (term, status.leader));
    });
}
