//! One name for hundreds of tasks, and names that look like parts of each other.

use std::time::Duration;

use crate::support::{TTL, client, cluster, patiently, runtime, session, until_empty};

#[test]
fn odd_names_are_locks_of_their_own() {
    let names = [
        "a",
        "a/",
        "a//",
        "/a",
        "/",
        "a/b",
        "a/b/c",
        "a#gate/",
        "a#gate/b",
        "#gate/",
        "a#gat",
        "#gate#",
        "%",
        " ",
        "ключ/é",
        "a\0",
        "a\0/",
    ];
    let cluster = cluster(1);
    runtime().block_on(async {
        let client = client(&cluster).await;
        let (ours, theirs) = (session(&client, TTL).await, session(&client, TTL).await);
        let mut guards = Vec::new();
        for name in names {
            guards.push(patiently(name, ours.mutex(name).lock()).await.unwrap());
        }
        for name in names {
            let mutex = theirs.mutex(name);
            let second = tokio::time::timeout(Duration::from_millis(100), mutex.lock()).await;
            assert!(second.is_err(), "{name:?} is locked twice");
        }
        for guard in guards {
            guard.release().await.unwrap();
        }
        for name in names {
            let guard = patiently(name, theirs.mutex(name).lock()).await.unwrap();
            guard.release().await.unwrap();
        }
    });
}

#[test]
fn of_two_hundred_tasks_on_one_name_those_of_a_closed_session_are_told() {
    let cluster = cluster(1);
    runtime().block_on(async {
        let client = client(&cluster).await;
        let (closed, kept) = (session(&client, TTL).await, session(&client, TTL).await);
        let guard = closed.mutex("close").lock().await.unwrap();
        let spawn = |index: usize| {
            let mutex = if index % 2 == 0 { &closed } else { &kept }.mutex("close");
            tokio::spawn(async move { mutex.lock().await.map(drop).is_ok() })
        };
        let waiting: Vec<_> = (0..200).map(spawn).collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        closed.close().await.unwrap();
        assert!(!guard.is_valid());
        let mut granted = 0;
        for waiting in waiting {
            granted += usize::from(patiently("a turn", waiting).await.unwrap());
        }
        assert_eq!(granted, 100);
        until_empty(&client, "close").await;
    });
}
