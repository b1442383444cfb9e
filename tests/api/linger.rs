//! The lock kept after its last guard: locked again without a request, and given back
//! as soon as somebody else wants it, nobody here does, or nobody could be heard.

use std::time::{Duration, Instant};

use tenure::{Client, Guard, KeyRange, Mutex, Session};

use crate::lock::{TTL, session, until_queue_is};
use crate::support::{
    OwnServer, Sent, client, counted_client, counted_client_of, patiently, run, until, viewed,
};

/// No test takes so long.
const LONG: Duration = Duration::from_secs(3600);

fn lingering(session: &Session, name: &str) -> Mutex {
    session.mutex(name).linger(LONG).linger_at_most(LONG)
}

/// The lock, from a key that lingered: the watch is there.
pub(crate) async fn relocked(mutex: &Mutex) -> Guard {
    patiently("a key that lingers", async {
        loop {
            let guard = mutex.lock().await.unwrap();
            if guard.token().sequence() > 0 {
                return guard;
            }
            // Time for the watch.
            tokio::time::sleep(Duration::from_millis(20)).await;
            guard.release().await.unwrap();
        }
    })
    .await
}

#[test]
fn a_lock_that_lingers_is_locked_again_without_a_request() {
    run(async {
        let (client, sent) = counted_client().await;
        let session = client.session().ttl(TTL).await.unwrap();
        let mutex = lingering(&session, "linger/again");
        let guard = relocked(&mutex).await;
        let token = guard.token();
        guard.release().await.unwrap();
        let before = (sent.requests(), sent.messages());
        for number in 1..=10 {
            let guard = mutex.lock().await.unwrap();
            assert_eq!(guard.token().create_revision(), token.create_revision());
            assert_eq!(guard.token().sequence(), token.sequence() + number);
            guard.release().await.unwrap();
        }
        let guard = mutex.try_lock().await.unwrap().expect("it is free for us");
        drop(guard);
        assert_eq!((sent.requests(), sent.messages()), before);
        session.close().await.unwrap();
    });
}

#[test]
fn who_locks_again_and_again_lets_other_tasks_have_the_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let session = session().await;
        let mutex = lingering(&session, "linger/busy");
        drop(relocked(&mutex).await);
        let other = tokio::spawn(async {});
        let mut locks = 0;
        while !other.is_finished() {
            locks += 1;
            assert!(locks < 10_000, "the other never runs");
            drop(mutex.lock().await.unwrap());
        }
        session.close().await.unwrap();
    });
}

#[test]
fn whoever_waits_elsewhere_calls_it_back() {
    run(async {
        let (one, two) = (session().await, session().await);
        let mutex = lingering(&one, "linger/recall");
        drop(relocked(&mutex).await);
        until_queue_is(one.client(), "linger/recall", 1).await;
        let rival = two.mutex("linger/recall");
        let other = patiently("the recall", rival.lock()).await.unwrap();
        // And what waits here waits for it.
        let local = tokio::spawn(async move { mutex.lock().await });
        until_queue_is(one.client(), "linger/recall", 2).await;
        other.release().await.unwrap();
        drop(patiently("our turn", local).await.unwrap().unwrap());
    });
}

#[test]
fn a_recall_of_a_lock_that_is_held_is_obeyed_when_its_guard_ends() {
    run(async {
        let (one, two) = (session().await, session().await);
        let mutex = lingering(&one, "linger/held");
        let held = relocked(&mutex).await;
        let rival = two.mutex("linger/held");
        let other = tokio::spawn(async move { rival.lock().await.unwrap() });
        until_queue_is(one.client(), "linger/held", 2).await;
        assert!(!other.is_finished());
        drop(held);
        drop(patiently("the recall", other).await.unwrap());
    });
}

#[test]
fn a_foreign_key_calls_it_back() {
    run(async {
        let session = session().await;
        let mutex = lingering(&session, "linger/foreign");
        drop(relocked(&mutex).await);
        session.client().put("linger/foreign/1234", "as another client writes it").await.unwrap();
        // Ours is gone, and the other is left.
        until_queue_is(session.client(), "linger/foreign", 1).await;
        session.client().delete("linger/foreign/1234").await.unwrap();
    });
}

#[test]
fn a_key_of_a_nested_name_calls_nothing_back() {
    run(async {
        let session = session().await;
        let mutex = lingering(&session, "linger/nested");
        let guard = relocked(&mutex).await;
        let token = guard.token();
        drop(guard);
        let below = session.mutex("linger/nested/below").lock().await.unwrap();
        below.release().await.unwrap();
        let again = mutex.lock().await.unwrap();
        assert_eq!(again.token().create_revision(), token.create_revision());
    });
}

#[test]
fn who_tries_elsewhere_finds_it_held() {
    run(async {
        let (one, two) = (session().await, session().await);
        let mutex = lingering(&one, "linger/try");
        drop(relocked(&mutex).await);
        assert!(two.mutex("linger/try").try_lock().await.unwrap().is_none());
        assert!(mutex.try_lock().await.unwrap().is_some());
        // Once it may not stay any longer, the next guard that ends gives it back.
        drop(mutex.clone().linger_at_most(Duration::ZERO).lock().await.unwrap());
        until_queue_is(one.client(), "linger/try", 0).await;
        assert!(two.mutex("linger/try").try_lock().await.unwrap().is_some());
    });
}

#[test]
fn it_goes_when_its_time_is_over() {
    run(async {
        let session = session().await;
        let mutex = lingering(&session, "linger/time").linger(Duration::from_millis(50));
        let guard = patiently("a key that lingers", async {
            loop {
                let guard = mutex.lock().await.unwrap();
                if guard.token().sequence() > 0 {
                    return guard;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        drop(guard);
        until_queue_is(session.client(), "linger/time", 0).await;
        // And so does its watch, with time.
        patiently("the lock", mutex.lock()).await.unwrap().release().await.unwrap();
        until_queue_is(session.client(), "linger/time", 0).await;
    });
}

#[test]
fn it_goes_with_its_session() {
    run(async {
        let client = client().await;
        for closes in [true, false] {
            let session = session().await;
            let mutex = lingering(&session, "linger/session");
            drop(relocked(&mutex).await);
            until_queue_is(&client, "linger/session", 1).await;
            drop(mutex);
            match closes {
                true => session.close().await.unwrap(),
                false => drop(session),
            }
            until_queue_is(&client, "linger/session", 0).await;
        }
    });
}

#[test]
fn a_key_that_somebody_deleted_is_not_granted_again() {
    run(async {
        let session = session().await;
        let mutex = lingering(&session, "linger/deleted");
        let guard = relocked(&mutex).await;
        let token = guard.token();
        drop(guard);
        session.client().delete(KeyRange::prefix("linger/deleted/")).await.unwrap();
        patiently("a new key", async {
            while mutex.lock().await.unwrap().token().create_revision() == token.create_revision() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        session.close().await.unwrap();
    });
}

#[test]
fn without_its_watch_it_does_not_linger() {
    run(async {
        let server = OwnServer::start();
        let client = viewed(Client::connect(server.endpoints()).await.unwrap());
        let session = client.session().ttl(TTL).await.unwrap();
        let mutex = lingering(&session, "linger/deaf");
        drop(relocked(&mutex).await);
        server.kill();
        server.start_again();
        // Nobody here locks it again, and nobody else has asked for it.
        let client = viewed(Client::connect(server.endpoints()).await.unwrap());
        until_queue_is(&client, "linger/deaf", 0).await;
        // A new watch makes it possible again.
        drop(relocked(&mutex).await);
        session.close().await.unwrap();
    });
}

#[test]
fn recalls_that_do_not_pay_switch_it_off_for_a_while() {
    run(async {
        let server = OwnServer::start();
        let other = viewed(Client::connect(server.endpoints()).await.unwrap());
        let (client, sent) = counted_client_of(server.endpoints()).await;
        let (one, two) = (
            client.session().ttl(TTL).await.unwrap(),
            other.session().ttl(TTL).await.unwrap(),
        );
        let (mutex, rival) = (lingering(&one, "linger/rest"), two.mutex("linger/rest"));
        // A machine may be too slow for the first rest. Each is twice as long as the last.
        let mut rest = Duration::from_secs(1);
        let before = loop {
            let begun = Instant::now();
            // Its watch hears, or its end would be no recall. Granted again once is not enough to pay.
            let held = relocked(&mutex).await;
            let waits = tokio::spawn({
                let rival = rival.clone();
                async move { rival.lock().await.unwrap() }
            });
            until_queue_is(&other, "linger/rest", 2).await;
            drop(held);
            drop(patiently("the recall", waits).await.unwrap());
            // Both have ended their watches, and nobody is waited for.
            until_watches_are(&server, 0).await;
            until_queue_is(&other, "linger/rest", 0).await;
            let before = sent.messages();
            drop(mutex.lock().await.unwrap());
            if begun.elapsed() < rest {
                break before;
            }
            tokio::time::sleep(rest).await;
            rest *= 2;
        };
        until_queue_is(&other, "linger/rest", 0).await;
        assert_eq!(
            sent.messages(),
            before + 2,
            "its key and the end of it, and no watch"
        );
    });
}

#[test]
fn somebody_who_waited_before_its_watch_is_a_recall_too() {
    run(async {
        let server = OwnServer::start();
        let other = viewed(Client::connect(server.endpoints()).await.unwrap());
        let held = other.session().ttl(TTL).await.unwrap();
        let last = other.session().ttl(TTL).await.unwrap();
        let (client, sent) = counted_client_of(server.endpoints()).await;
        let lingers = client.session().ttl(TTL).await.unwrap();
        let name = "linger/late";
        let guard = held.mutex(name).lock().await.unwrap();
        let before = sent.messages();
        let mutex = lingering(&lingers, name);
        let waits = tokio::spawn(async move { mutex.lock().await.unwrap() });
        // Its register and its watch. Nobody writes before that is there, or the queue would be read again.
        until_watches_are(&server, 1).await;
        until_sent(&sent, before + 2).await;
        let rival = last.mutex(name);
        let waits_last = tokio::spawn(async move { rival.lock().await.unwrap() });
        until_queue_is(held.client(), name, 3).await;
        drop(guard);
        let granted = patiently("its turn", waits).await.unwrap();
        // That watch is canceled, the recall's is created, the queue is read, and the watch is canceled as well.
        until_sent(&sent, before + 6).await;
        drop(granted);
        drop(patiently("the recall", waits_last).await.unwrap());
        // And the release, without which there was no recall.
        assert_eq!(sent.messages(), before + 7);
    });
}

pub(crate) async fn until_watches_are(server: &OwnServer, count: usize) {
    patiently(&format!("{count} watches"), async {
        while server.watch_count().await != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn until_sent(sent: &Sent, count: usize) {
    until(&format!("{count} messages"), || sent.messages() >= count).await;
}

/// As many as may, and some more.
const NAMES: usize = 70;
const LINGERING_MAX: i64 = 64;

#[test]
fn no_more_than_so_many_names_linger() {
    run(async {
        let session = session().await;
        let mutexes: Vec<_> =
            (0..NAMES).map(|number| lingering(&session, &format!("linger/cap/{number}"))).collect();
        // All are held at once, so each that may have a watch has one.
        let mut guards = Vec::new();
        for mutex in &mutexes {
            guards.push(mutex.lock().await.unwrap());
        }
        for (mutex, guard) in mutexes.iter().zip(guards).take(LINGERING_MAX as usize) {
            drop(guard);
            drop(relocked(mutex).await);
        }
        for mutex in mutexes.iter().skip(LINGERING_MAX as usize) {
            drop(mutex.lock().await.unwrap());
        }
        until_queue_is(session.client(), "linger/cap", LINGERING_MAX).await;
        session.close().await.unwrap();
    });
}
