//! Waiting behind an older key: the watch, and the range that closes the gap
//! between the queue as read and the watch as begun.

use std::time::{Duration, Instant};

use tenure::pb::etcdserverpb::watch_create_request::FilterType;
use tenure::pb::etcdserverpb::{RangeRequest, RangeResponse, WatchCreateRequest, WatchResponse};
use tenure::pb::mvccpb::event::EventType;
use tenure::pb::mvccpb::{Event, KeyValue};
use tenure::{Code, Revision, Session};

use super::etcd::{Etcd, Watching};
use super::session_on;
use super::{
    KEY, Locking, OLDER, PREFIX, VALUE, header, keys, kv, lock, locked, newest, ranged, refused, registered,
    registered_with_more,
};

const BOTH: fn() -> [KeyValue; 2] = || [kv(OLDER, 3), kv(KEY, 10)];

fn created(revision: i64) -> WatchResponse {
    WatchResponse {
        header: header(revision),
        created: true,
        ..WatchResponse::default()
    }
}

fn deleted(key: &'static str, revision: i64) -> WatchResponse {
    all_deleted(&[key], revision)
}

/// Several keys that go in one revision.
fn all_deleted(keys: &[&'static str], revision: i64) -> WatchResponse {
    let event = |key: &&'static str| Event {
        r#type: EventType::Delete.into(),
        kv: Some(KeyValue {
            key: (*key).into(),
            mod_revision: revision,
            ..KeyValue::default()
        }),
        ..Event::default()
    };
    WatchResponse {
        header: header(revision),
        events: keys.iter().map(event).collect(),
        ..WatchResponse::default()
    }
}

/// The queue as it is read for this lock.
fn range(serializable: bool) -> RangeRequest {
    RangeRequest {
        serializable,
        max_create_revision: 10,
        ..newest()
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

/// Far more than a client reads that waits longer and longer, and far less than one
/// that does not wait.
const STALE_READINGS_MAX: usize = 50;

#[tokio::test]
async fn a_server_whose_revision_went_back_is_asked_ever_more_seldom() {
    let (_session, mut etcd, locking, mut watching) = waiting(1).await;
    watching.send(&created(20));
    let mut readings = 0;
    let answering = async {
        loop {
            etcd.range().await.answer(&ranged(5, &BOTH()));
            readings += 1;
        }
    };
    let _: Result<(), _> = tokio::time::timeout(Duration::from_millis(500), answering).await;
    assert!(
        readings < STALE_READINGS_MAX,
        "{readings} readings, without a pause"
    );
    etcd.range().await.answer(&ranged(20, &[kv(KEY, 10)]));
    drop(locked(locking).await);
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
async fn a_revision_that_deletes_the_older_key_and_ours_grants_nothing() {
    let (_session, _etcd, locking, mut watching) = waiting(1).await;
    watching.send(&created(10));
    watching.send(&all_deleted(&[OLDER, KEY], 11));
    assert_eq!(refused(locking).await.code(), Code::Aborted);
}

#[tokio::test]
async fn an_older_key_that_came_back_before_the_watch_began_is_behind_us() {
    let (_session, mut etcd, locking, mut watching) = waiting(1).await;
    watching.send(&created(20));
    // A server that ignores the bound of the range shows the new one.
    etcd.range().await.answer(&ranged(20, &[kv(OLDER, 15), kv(KEY, 10)]));
    drop(locked(locking).await);
}

#[tokio::test]
async fn keys_of_a_nested_name_are_not_waited_for() {
    let (session, mut etcd) = session_on(1).await;
    let locking = lock(&session);
    etcd.txn().await.answer(&registered(10, &[kv(KEY, 10), kv("jobs/nightly/11", 3)]));
    drop(locked(locking).await);
}

#[tokio::test]
async fn a_compaction_takes_the_watch_and_not_the_place() {
    let (_session, mut etcd, locking, mut watching) = waiting(1).await;
    watching.send(&created(10));
    watching.send(&WatchResponse {
        canceled: true,
        compact_revision: 30,
        header: header(30),
        ..WatchResponse::default()
    });
    let mut watching = etcd.watch().await;
    assert_eq!(watching.request.start_revision, 0);
    watching.send_as(1, &created(31));
    etcd.range().await.answer(&ranged(31, &BOTH()));
    watching.send_as(1, &deleted(OLDER, 32));
    assert_eq!(locked(locking).await.token().create_revision(), Revision(10));
}

/// So often, and its waits double from 20 ms: from 0.6 to 1.2 s in all.
const CANCELS: i64 = 7;

/// The last of so many is asked for half a second later at the least, and so is each that follows it.
const SOON: Duration = Duration::from_millis(400);

fn cancelled() -> WatchResponse {
    WatchResponse {
        canceled: true,
        cancel_reason: "some etcd to come has a reason".into(),
        header: header(10),
        ..WatchResponse::default()
    }
}

/// Cancels the first watches as soon as they begin.
async fn cancel_at_once(etcd: &mut Etcd, mut watching: Watching) -> Watching {
    for id in 0..CANCELS {
        watching.send_as(id, &created(10));
        watching.send_as(id, &cancelled());
        watching = etcd.watch().await;
    }
    watching
}

#[tokio::test]
async fn a_watch_that_is_cancelled_as_soon_as_it_begins_is_asked_for_less_and_less_often() {
    let (_session, mut etcd, locking, watching) = waiting(1).await;
    let began = Instant::now();
    let mut watching = cancel_at_once(&mut etcd, watching).await;
    let took = began.elapsed();
    assert!(took > Duration::from_millis(600), "{CANCELS} in {took:?}");
    watching.send_as(CANCELS, &created(10));
    watching.send_as(CANCELS, &deleted(OLDER, 11));
    drop(locked(locking).await);
}

#[tokio::test]
async fn a_watch_that_is_cancelled_after_it_has_lived_is_asked_for_again_soon() {
    let (_session, mut etcd, locking, watching) = waiting(1).await;
    let mut watching = cancel_at_once(&mut etcd, watching).await;
    let mut took = Vec::new();
    let mut id = CANCELS;
    // On a machine that stands still now and then, one of them is soon.
    while took.iter().all(|took| *took >= SOON) {
        assert!(took.len() < 8, "{took:?}");
        watching.send_as(id, &created(10));
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let ended = Instant::now();
        watching.send_as(id, &cancelled());
        watching = etcd.watch().await;
        took.push(ended.elapsed());
        id += 1;
    }
    watching.send_as(id, &created(10));
    watching.send_as(id, &deleted(OLDER, 11));
    drop(locked(locking).await);
}

#[tokio::test]
async fn a_watch_that_was_cancelled_once_it_had_told_something_is_asked_for_again_soon() {
    let (_session, mut etcd, locking, mut watching) = waiting(1).await;
    let mut took = Vec::new();
    let cancels = 4 * CANCELS;
    for id in 0..cancels {
        let ended = Instant::now();
        watching.send_as(id, &created(10));
        watching.send_as(id, &deleted("jobs/99", 11));
        watching.send_as(id, &cancelled());
        watching = etcd.watch().await;
        took.push(ended.elapsed());
    }
    // However often the machine stands still, it is not each time.
    took.sort();
    assert!(took[took.len() / 2] < SOON, "{took:?}");
    watching.send_as(cancels, &created(10));
    watching.send_as(cancels, &deleted(OLDER, 12));
    drop(locked(locking).await);
}

#[tokio::test]
async fn a_deletion_that_grants_does_not_wait_for_a_range_under_way() {
    let (_session, mut etcd, locking, mut watching) = waiting(1).await;
    watching.send(&created(20));
    let unanswered = etcd.range().await;
    watching.send(&deleted(KEY, 21));
    assert_eq!(refused(locking).await.code(), Code::Aborted);
    drop(unanswered);
}

const NEAREST: &str = "jobs/66";

/// A lock so far behind that an answer does not show its whole queue.
async fn far_behind() -> (Session, Etcd, Locking, Watching, Watching) {
    let (session, mut etcd) = session_on(1).await;
    let locking = lock(&session);
    let queue = [kv(KEY, 10), kv("jobs/nightly/1", 9), kv(NEAREST, 8), kv(OLDER, 3)];
    etcd.txn().await.answer(&registered_with_more(10, &queue));
    let mut predecessor = etcd.watch().await;
    assert_eq!(predecessor.request.key, NEAREST);
    assert!(predecessor.request.range_end.is_empty());
    // Neither waits for the other.
    let own = etcd.watch().await;
    assert_eq!(own.request.key, KEY);
    predecessor.send(&created(10));
    (session, etcd, locking, predecessor, own)
}

#[tokio::test]
async fn far_behind_the_predecessors_deletion_grants_nothing_but_a_range() {
    let (_session, mut etcd, locking, mut predecessor, mut own) = far_behind().await;
    own.send_as(1, &created(10));
    // It gave up: somebody else is older still.
    predecessor.send(&deleted(NEAREST, 11));
    let asked = etcd.range().await;
    assert_eq!(asked.message, range(true));
    asked.answer(&ranged(11, &BOTH()));
    // Few enough are left to watch the whole queue.
    let mut watching = etcd.watch().await;
    assert_eq!(watching.request.key, PREFIX.0);
    watching.send_as(2, &created(11));
    watching.send_as(2, &deleted(OLDER, 12));
    assert_eq!(locked(locking).await.token().create_revision(), Revision(10));
}

#[tokio::test]
async fn far_behind_a_watch_of_ours_that_began_late_is_joined_to_a_range() {
    let (_session, mut etcd, locking, _predecessor, mut own) = far_behind().await;
    own.send_as(1, &created(20));
    let asked = etcd.range().await;
    assert_eq!(asked.message, range(true));
    asked.answer(&ranged(20, &[kv(OLDER, 3)]));
    assert_eq!(refused(locking).await.code(), Code::Aborted);
}

#[tokio::test]
async fn far_behind_our_own_key_stays_watched_from_one_predecessor_to_the_next() {
    let (session, mut etcd, locking, mut predecessor, mut own) = far_behind().await;
    own.send_as(1, &created(10));
    predecessor.send(&deleted(NEAREST, 11));
    let part = RangeResponse {
        more: true,
        ..ranged(11, &BOTH())
    };
    etcd.range().await.answer(&part);
    let mut next = etcd.watch().await;
    assert_eq!(next.request.key, OLDER);
    next.send_as(2, &created(11));
    own.send_as(1, &deleted(KEY, 12));
    assert_eq!(refused(locking).await.code(), Code::Aborted);
    // And nothing else was asked meanwhile.
    let _next = lock(&session);
    etcd.txn().await;
}

#[tokio::test]
async fn far_behind_our_own_deletion_ends_the_wait() {
    let (_session, _etcd, locking, _predecessor, mut own) = far_behind().await;
    own.send_as(1, &created(10));
    own.send_as(1, &deleted(KEY, 11));
    assert_eq!(refused(locking).await.code(), Code::Aborted);
}

#[tokio::test]
async fn where_nested_names_fill_an_answer_all_is_read_once() {
    let (session, mut etcd) = session_on(1).await;
    let locking = lock(&session);
    let nested = [kv(KEY, 10), kv("jobs/nightly/1", 9)];
    etcd.txn().await.answer(&registered_with_more(10, &nested));
    let asked = etcd.range().await;
    let whole = RangeRequest {
        max_create_revision: 10,
        ..keys(PREFIX.0, PREFIX.1)
    };
    assert_eq!(asked.message, whole);
    asked.answer(&ranged(10, &nested));
    drop(locked(locking).await);
}

#[tokio::test]
async fn an_answer_over_the_limit_is_an_error_and_our_place_is_given_back() {
    let (session, mut etcd) = session_on(1).await;
    let mutex = session.mutex("jobs").value(VALUE);
    let locking = tokio::spawn(async move { mutex.lock().await });
    let huge = KeyValue {
        value: vec![0; 65 << 20].into(),
        ..kv(OLDER, 3)
    };
    etcd.txn().await.answer(&registered(10, &[kv(KEY, 10), huge]));
    let error = refused(locking).await;
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    let withdrawal = etcd.txn().await;
    assert_eq!(withdrawal.message.success.len(), 2, "{:?}", withdrawal.message);
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
