//! Waiting behind an older key: the watch, and the range that closes the gap
//! between the queue as read and the watch as begun.

use tenure::pb::etcdserverpb::watch_create_request::FilterType;
use tenure::pb::etcdserverpb::{RangeRequest, WatchCreateRequest, WatchResponse};
use tenure::pb::mvccpb::event::EventType;
use tenure::pb::mvccpb::{Event, KeyValue};
use tenure::{Code, Revision, Session};

use super::etcd::{Etcd, Watching};
use super::session_on;
use super::{KEY, Locking, OLDER, PREFIX, header, keys, kv, lock, locked, ranged, refused, registered};

const BOTH: fn() -> [KeyValue; 2] = || [kv(OLDER, 3), kv(KEY, 10)];

fn created(revision: i64) -> WatchResponse {
    WatchResponse {
        header: header(revision),
        created: true,
        ..WatchResponse::default()
    }
}

fn deleted(key: &'static str, revision: i64) -> WatchResponse {
    let event = Event {
        r#type: EventType::Delete.into(),
        kv: Some(KeyValue {
            key: key.into(),
            mod_revision: revision,
            ..KeyValue::default()
        }),
        ..Event::default()
    };
    WatchResponse {
        header: header(revision),
        events: vec![event],
        ..WatchResponse::default()
    }
}

/// The queue as it is read for this lock.
fn range(serializable: bool) -> RangeRequest {
    RangeRequest {
        serializable,
        ..keys(PREFIX.0, PREFIX.1)
    }
}

/// A lock that registered at revision 10 behind an older key, and now watches.
async fn waiting(members: usize) -> (Session, Etcd, Locking, Watching) {
    let (session, mut etcd) = session_on(members).await;
    let locking = lock(&session);
    etcd.txn().await.answer(&registered(10, &BOTH()));
    let watching = etcd.watch().await;
    (session, etcd, locking, watching)
}

#[tokio::test]
async fn the_watch_begins_now_and_is_for_deletions_only() {
    let (_session, _etcd, locking, mut watching) = waiting(1).await;
    let (key, range_end) = PREFIX;
    let asked = WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        filters: vec![FilterType::Noput.into()],
        watch_id: watching.request.watch_id,
        fragment: true,
        ..WatchCreateRequest::default()
    };
    assert_eq!(watching.request, asked);
    watching.send(&created(10));
    watching.send(&deleted(OLDER, 11));
    assert_eq!(locked(locking).await.token().create_revision(), Revision(10));
}

#[tokio::test]
async fn a_gap_is_closed_by_a_serializable_range_on_the_watchs_connection() {
    let (_session, mut etcd, locking, mut watching) = waiting(2).await;
    watching.send(&created(20));
    let asked = etcd.range().await;
    assert_eq!(asked.message, range(true));
    assert_eq!(asked.connection, watching.connection);
    asked.answer(&ranged(20, &[kv(KEY, 10)]));
    assert_eq!(locked(locking).await.token().create_revision(), Revision(10));
}

#[tokio::test]
async fn a_range_that_is_behind_the_watch_is_followed_by_a_linearizable_one() {
    let (_session, mut etcd, locking, mut watching) = waiting(1).await;
    watching.send(&created(20));
    etcd.range().await.answer(&ranged(15, &BOTH()));
    let asked = etcd.range().await;
    assert_eq!(asked.message, range(false));
    // The older key has gone meanwhile, and come back behind us.
    asked.answer(&ranged(20, &[kv(KEY, 10), kv(OLDER, 18)]));
    assert_eq!(locked(locking).await.token().create_revision(), Revision(10));
}

#[tokio::test]
async fn another_member_is_not_asked_for_what_the_watchs_own_was() {
    let (_session, mut etcd, locking, mut watching) = waiting(2).await;
    // Its connection takes no more calls, so only a linearizable range is sound.
    etcd.retire(watching.connection).await;
    watching.send(&created(20));
    let asked = etcd.range().await;
    assert_eq!(asked.message, range(false));
    assert_ne!(asked.connection, watching.connection);
    asked.answer(&ranged(20, &[kv(KEY, 10)]));
    drop(locked(locking).await);
}

#[tokio::test]
async fn a_deletion_up_to_the_queues_revision_is_old_news() {
    let (_session, _etcd, locking, mut watching) = waiting(1).await;
    watching.send(&created(10));
    watching.send(&deleted(KEY, 2));
    watching.send(&deleted(OLDER, 11));
    drop(locked(locking).await);
}

#[tokio::test]
async fn our_own_deletion_ends_the_wait() {
    let (_session, _etcd, locking, mut watching) = waiting(1).await;
    watching.send(&created(10));
    // An earlier life of the older key; it has come back since.
    watching.send(&deleted(OLDER, 2));
    watching.send(&deleted(KEY, 11));
    assert_eq!(refused(locking).await.code(), Code::Aborted);
}

#[tokio::test]
async fn a_queue_that_may_not_be_watched_is_no_lock() {
    let (_session, mut etcd, locking, mut watching) = waiting(1).await;
    watching.send(&WatchResponse {
        canceled: true,
        cancel_reason: "rpc error: code = PermissionDenied desc = etcdserver: permission denied".into(),
        ..created(10)
    });
    let error = refused(locking).await;
    assert_eq!(error.code(), Code::PermissionDenied, "{error}");
    // And our place in it is given back.
    etcd.txn().await.answer(&super::released(11));
}

#[tokio::test]
async fn a_queue_that_may_not_be_watched_any_more_is_no_lock() {
    let (_session, mut etcd, locking, mut watching) = waiting(1).await;
    watching.send(&created(10));
    watching.send(&WatchResponse {
        canceled: true,
        cancel_reason: "etcdserver: permission denied".into(),
        header: header(10),
        ..WatchResponse::default()
    });
    let error = refused(locking).await;
    assert_eq!(error.code(), Code::PermissionDenied, "{error}");
    etcd.txn().await.answer(&super::released(11));
}

#[tokio::test]
async fn a_range_that_is_refused_ends_the_wait() {
    let (_session, mut etcd, locking, mut watching) = waiting(1).await;
    watching.send(&created(20));
    etcd.range().await.fail("7", "etcdserver: permission denied");
    assert_eq!(refused(locking).await.code(), Code::PermissionDenied);
    etcd.txn().await.answer(&super::released(21));
}
