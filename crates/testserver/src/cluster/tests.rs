//! Which member answers what, and when.

use super::*;
use crate::pb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseTimeToLiveResponse, MemberListResponse, PutRequest,
    PutResponse, RangeResponse, RequestOp, StatusResponse, TxnResponse,
};
use crate::pb::{Operation, WatchCommand, WatchCreate};

const NOW: Duration = Duration::from_secs(50);
const SECOND: Duration = Duration::from_secs(1);

fn cluster() -> (Cluster, MemberId) {
    let mut cluster = Cluster::new(&Options::default(), "http://one");
    let follower = cluster.add_follower("http://two");
    (cluster, follower)
}

fn ask(cluster: &mut Cluster, id: MemberId, path: &str, request: &impl Message) -> Outcome {
    cluster.request(id, NOW, path, &request.encode_to_vec().into())
}

/// The answer to a request that need not wait.
fn answer<M: Message + Default>(outcome: Outcome) -> M {
    match outcome {
        Outcome::Done(Ok(bytes)) => M::decode(bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn put(lease: i64) -> PutRequest {
    PutRequest {
        key: "key".into(),
        lease,
        ..PutRequest::default()
    }
}

fn range(serializable: bool) -> RangeRequest {
    RangeRequest {
        key: "key".into(),
        serializable,
        ..RangeRequest::default()
    }
}

fn revision(cluster: &mut Cluster, id: MemberId) -> i64 {
    let answer: RangeResponse = answer(ask(cluster, id, service::RANGE, &range(true)));
    answer.header.unwrap().revision
}

#[test]
fn a_follower_is_behind_by_its_lag_and_no_more() {
    let (mut cluster, follower) = cluster();
    cluster.set_lag(follower, NOW, Lag::By(SECOND));
    for after in [0, 1] {
        let body = put(0).encode_to_vec().into();
        cluster.request(LEADER, NOW + SECOND * after / 2, service::PUT, &body);
    }
    cluster.handle_timeout(NOW + SECOND - Duration::from_nanos(1));
    assert_eq!(revision(&mut cluster, follower), 1);
    assert_eq!(cluster.poll_timeout(), NOW + SECOND);
    cluster.handle_timeout(NOW + SECOND);
    assert_eq!(
        (revision(&mut cluster, LEADER), revision(&mut cluster, follower)),
        (3, 2)
    );
    cluster.set_lag(follower, NOW + SECOND, Lag::Held);
    cluster.handle_timeout(NOW + SECOND * 100);
    assert_eq!(
        (revision(&mut cluster, follower), cluster.behind(follower)),
        (2, 1)
    );
    cluster.set_lag(follower, NOW + SECOND * 100, Lag::By(Duration::ZERO));
    assert_eq!(revision(&mut cluster, follower), 3);
}

#[test]
fn a_follower_that_joins_late_or_applies_late_ends_with_the_same_state() {
    let (mut cluster, early) = cluster();
    cluster.set_lag(early, NOW, Lag::Held);
    let grant = LeaseGrantRequest { ttl: 5, id: 0 };
    let granted: LeaseGrantResponse = answer(ask(&mut cluster, LEADER, service::LEASE_GRANT, &grant));
    ask(&mut cluster, LEADER, service::PUT, &put(granted.id));
    let late = cluster.add_follower("http://three");
    ask(&mut cluster, LEADER, service::PUT, &put(granted.id));
    assert_eq!(cluster.member(early).lease_count(), 0);
    assert_eq!(cluster.apply(early, NOW, 100), 3);
    for id in [LEADER, early, late] {
        let found: RangeResponse = answer(ask(&mut cluster, id, service::RANGE, &range(true)));
        assert_eq!((found.kvs[0].version, found.kvs[0].lease), (2, granted.id));
        let members: MemberListResponse = answer(ask(
            &mut cluster,
            id,
            "/etcdserverpb.Cluster/MemberList",
            &range(true),
        ));
        assert_eq!(members.members.len(), 3);
    }
}

#[test]
fn a_lease_ends_at_the_leader_first_and_is_renewed_through_a_follower() {
    let (mut cluster, follower) = cluster();
    ask(
        &mut cluster,
        LEADER,
        service::LEASE_GRANT,
        &LeaseGrantRequest { ttl: 5, id: 1 },
    );
    ask(&mut cluster, LEADER, service::PUT, &put(1));
    cluster.set_lag(follower, NOW, Lag::Held);
    ask(&mut cluster, LEADER, service::PUT, &put(1));
    let renewed = cluster.lease_keep_alive(follower, NOW + SECOND * 4, &LeaseId { id: 1 });
    assert_eq!((renewed.ttl, renewed.header.unwrap().revision), (5, 2));
    cluster.handle_timeout(NOW + SECOND * 8);
    assert_eq!(cluster.member(LEADER).lease_count(), 1);
    cluster.handle_timeout(NOW + SECOND * 10);
    let counts = [LEADER, follower].map(|id| cluster.member(id).lease_count());
    assert_eq!((counts, revision(&mut cluster, follower)), ([0, 1], 2));
    let asked = LeaseTimeToLiveRequest { id: 1, keys: false };
    let told: LeaseTimeToLiveResponse =
        answer(ask(&mut cluster, follower, service::LEASE_TIME_TO_LIVE, &asked));
    assert_eq!(
        (told.ttl, told.header.unwrap().revision),
        (-1, 2),
        "told by the leader"
    );
    cluster.apply(follower, NOW, 2);
    assert_eq!(
        (
            cluster.member(follower).lease_count(),
            revision(&mut cluster, follower)
        ),
        (0, 4)
    );
}

#[test]
fn a_write_at_a_follower_waits_and_is_answered_in_its_name() {
    let (mut cluster, follower) = cluster();
    cluster.set_lag(follower, NOW, Lag::Held);
    let Outcome::Waiting(wait) = ask(&mut cluster, follower, service::PUT, &put(0)) else {
        panic!("it has not applied it");
    };
    let body = put(0).encode_to_vec().into();
    assert_eq!(cluster.resume(wait, NOW, service::PUT, &body), None);
    cluster.apply(follower, NOW, 1);
    let answered = cluster.resume(wait, NOW, service::PUT, &body).unwrap().unwrap();
    let header = PutResponse::decode(answered).unwrap().header.unwrap();
    assert_eq!(
        (header.member_id, header.revision),
        (Options::default().member_id + 1, 2)
    );
    let Outcome::Waiting(wait) = ask(&mut cluster, follower, service::PUT, &put(0)) else {
        panic!("it has not applied it");
    };
    cluster.forget(wait);
    cluster.apply(follower, NOW, 1);
    assert!(cluster.followers[0].wanted.is_empty(), "nobody waits");
}

#[test]
fn transactions_wait_unless_all_their_reads_may_be_old() {
    let (mut cluster, follower) = cluster();
    cluster.set_lag(follower, NOW, Lag::Held);
    ask(&mut cluster, LEADER, service::PUT, &put(0));
    let read = |serializable| TxnRequest {
        success: vec![RequestOp {
            operation: Some(Operation::Range(range(serializable))),
        }],
        ..TxnRequest::default()
    };
    let old: TxnResponse = answer(ask(&mut cluster, follower, service::TXN, &read(true)));
    assert_eq!(old.header.unwrap().revision, 1);
    let new = ask(&mut cluster, follower, service::TXN, &read(false));
    assert!(matches!(new, Outcome::Waiting(wait) if !wait.is_write), "{new:?}");
    let nested = TxnRequest {
        failure: vec![RequestOp {
            operation: Some(Operation::Txn(read(true))),
        }],
        ..TxnRequest::default()
    };
    let nested = ask(&mut cluster, follower, service::TXN, &nested);
    assert!(
        matches!(nested, Outcome::Waiting(wait) if wait.is_write),
        "{nested:?}"
    );
}

#[test]
fn a_compaction_ends_watches_of_a_follower_when_it_gets_there() {
    let (mut cluster, follower) = cluster();
    for _ in 0..3 {
        ask(&mut cluster, LEADER, service::PUT, &put(0));
    }
    cluster.set_lag(follower, NOW, Lag::Held);
    let compaction = crate::pb::CompactionRequest {
        revision: 4,
        physical: false,
    };
    ask(&mut cluster, LEADER, service::COMPACT, &compaction);
    let create = WatchCreate {
        key: "key".into(),
        start_revision: 2,
        ..WatchCreate::default()
    };
    let mut told = Vec::new();
    for id in [LEADER, follower] {
        let stream = cluster.member(id).watches().open();
        cluster.member(id).handle_watch_command(stream, &WatchCommand::Create(create.clone()));
        cluster.member(id).watches().pop(stream).unwrap();
        cluster.handle_timeout(NOW + SECOND * (1 + u32::try_from(id.0).unwrap()));
        let answer = cluster.member(id).watches().pop(stream).unwrap();
        told.push((answer.compact_revision, answer.events.len()));
    }
    assert_eq!(told, [(4, 0), (0, 3)]);
}

#[test]
fn a_member_says_how_far_it_is_and_refuses_writes_where_that_is_too_far() {
    let (mut cluster, follower) = cluster();
    cluster.set_lag(follower, NOW, Lag::Held);
    for _ in 0..=BEHIND_MAX {
        ask(&mut cluster, LEADER, service::PUT, &put(0));
    }
    let status: StatusResponse = answer(ask(&mut cluster, follower, service::MAINTENANCE_STATUS, &put(0)));
    assert_eq!(
        (status.leader, status.raft_applied_index),
        (Options::default().member_id, 1)
    );
    assert!(status.raft_index > 5000);
    let refused = ask(&mut cluster, follower, service::PUT, &put(0));
    let Outcome::Done(Err(status)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(
        (status.code, &status.message[..]),
        (2, "etcdserver: too many requests")
    );
}
