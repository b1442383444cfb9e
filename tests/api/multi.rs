//! The multi-lock against a real server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tenure::{Code, KeyRange, Op};

use crate::lock::{TTL, session, until_queue_is};
use crate::support::{client, counted_client, patiently, run};

#[test]
fn free_names_are_one_request_and_so_is_their_release() {
    run(async {
        let (client, sent) = counted_client().await;
        let session = client.session().ttl(TTL).await.unwrap();
        // As many as there may be, in a server's default of 128 operations.
        let names: Vec<String> = (0..60).map(|number| format!("multi/free/{number}")).collect();
        let lock = session.multi_lock(names.iter().rev().chain(&names));
        assert_eq!(lock.names().len(), 60);
        let before = sent.requests();
        let guard = lock.lock().await.unwrap();
        assert_eq!(sent.requests(), before + 1);
        let keys = client.get(KeyRange::prefix("multi/free/")).await.unwrap().kvs;
        assert_eq!(keys.len(), 60);
        let created = guard.token().create_revision();
        assert!(
            keys.iter().all(|kv| kv.create_revision == created.0),
            "all at once"
        );
        assert!(lock.try_lock().await.unwrap().is_none());
        let before = sent.requests();
        guard.release().await.unwrap();
        assert_eq!(sent.requests(), before + 1);
        let guard = lock.try_lock().await.unwrap().expect("all are free");
        assert_eq!(sent.requests(), before + 2);
        let fences = guard.fences();
        assert_eq!(fences.len(), 60);
        let txn = fences.into_iter().fold(client.txn(), |txn, fence| txn.when(fence));
        assert!(txn.then(Op::put("multi-fence", "x")).await.unwrap().succeeded);
        drop(guard);
        until_queue_is(&client, "multi/free", 0).await;
    });
}

#[test]
fn whoever_holds_some_of_the_names_is_waited_for() {
    run(async {
        let (one, two) = (session().await, session().await);
        let first = one.mutex("multi/held/a").lock().await.unwrap();
        let third = one.rw_lock("multi/held/c").read().await.unwrap();
        let lock = two.multi_lock(["multi/held/c", "multi/held/b", "multi/held/a"]);
        assert!(lock.try_lock().await.unwrap().is_none());
        let waiting = tokio::spawn(async move { lock.lock().await.unwrap() });
        until_queue_is(one.client(), "multi/held/b", 1).await;
        assert!(
            one.mutex("multi/held/b").try_lock().await.unwrap().is_none(),
            "it has its place in all"
        );
        first.release().await.unwrap();
        assert!(!waiting.is_finished(), "a reader has one of them");
        third.release().await.unwrap();
        let guard = patiently("all of them", waiting).await.unwrap();
        for name in ["multi/held/a", "multi/held/b", "multi/held/c"] {
            assert!(one.mutex(name).try_lock().await.unwrap().is_none());
        }
        guard.release().await.unwrap();
        until_queue_is(one.client(), "multi/held", 0).await;
    });
}

#[test]
fn locks_that_overlap_in_any_order_all_come_through() {
    run(async {
        let names = ["multi/ring/a", "multi/ring/b", "multi/ring/c", "multi/ring/d"];
        let holders: Arc<[AtomicUsize; 4]> = Arc::default();
        let mut tasks = Vec::new();
        for worker in 0..4 {
            let (session, holders) = (session().await, holders.clone());
            tasks.push(tokio::spawn(async move {
                for round in 0..8 {
                    let both = [(worker + round) % 4, (worker + 2 * round + 1) % 4];
                    let lock = session.multi_lock(both.map(|name| names[name]));
                    let guard = lock.lock().await.unwrap();
                    let mut both = both.to_vec();
                    both.dedup();
                    for name in &both {
                        assert_eq!(
                            holders[*name].fetch_add(1, Ordering::SeqCst),
                            0,
                            "two hold a name"
                        );
                    }
                    tokio::task::yield_now().await;
                    for name in &both {
                        holders[*name].fetch_sub(1, Ordering::SeqCst);
                    }
                    guard.release().await.unwrap();
                }
            }));
        }
        for task in tasks {
            patiently("the end of a worker", task).await.unwrap();
        }
        until_queue_is(&client().await, "multi/ring", 0).await;
    });
}

#[test]
fn names_that_nest_are_different_names() {
    run(async {
        let (one, two) = (session().await, session().await);
        let guard = one.multi_lock(["multi/nest", "multi/nest/below"]).lock().await.unwrap();
        assert!(two.mutex("multi/nest").try_lock().await.unwrap().is_none());
        assert!(two.mutex("multi/nest/below").try_lock().await.unwrap().is_none());
        let other = two.mutex("multi/nest/other").lock().await.unwrap();
        let lock = two.multi_lock(["multi/nest", "multi/nest/below"]);
        let waiting = tokio::spawn(async move { lock.lock().await.unwrap() });
        until_queue_is(one.client(), "multi/nest/below", 2).await;
        guard.release().await.unwrap();
        let guard = patiently("both", waiting).await.unwrap();
        drop((guard, other));
        until_queue_is(one.client(), "multi/nest", 0).await;
    });
}

#[test]
fn a_lock_of_several_is_not_granted_when_one_of_its_keys_was_deleted() {
    run(async {
        let (one, two) = (session().await, session().await);
        let held = one.mutex("multi/gone/a").lock().await.unwrap();
        let lock = two.multi_lock(["multi/gone/a", "multi/gone/b"]);
        let waiting = tokio::spawn(async move { lock.lock().await });
        until_queue_is(one.client(), "multi/gone/b", 1).await;
        one.client().delete(KeyRange::prefix("multi/gone/b/")).await.unwrap();
        held.release().await.unwrap();
        let error = patiently("the news", waiting).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::Aborted, "{error}");
        until_queue_is(one.client(), "multi/gone", 0).await;
        let guard = two.multi_lock(["multi/gone/a", "multi/gone/b"]).lock().await.unwrap();
        one.client().delete(KeyRange::prefix("multi/gone/b/")).await.unwrap();
        assert_eq!(
            guard.release().await.unwrap_err().code(),
            Code::FailedPrecondition
        );
        until_queue_is(one.client(), "multi/gone", 0).await;
    });
}

#[test]
fn no_names_and_too_many_are_refused() {
    run(async {
        let session = session().await;
        let many = (0..61).map(|number| format!("multi/many/{number}"));
        for names in [
            Vec::new(),
            many.collect(),
            vec!["multi/many".to_owned(), String::new()],
        ] {
            let error = session.multi_lock(names).lock().await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        }
    });
}
