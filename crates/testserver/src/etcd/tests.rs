//! Store, leases and watches together: what one does to the others.

use super::*;
use crate::pb::{WatchCreate, event};

const TTL: Duration = Duration::from_secs(5);

fn etcd() -> Etcd {
    Etcd::new(&Options::default())
}

fn put(key: &'static str, lease: i64) -> PutRequest {
    PutRequest {
        key: key.into(),
        lease,
        ..PutRequest::default()
    }
}

fn grant(etcd: &mut Etcd, id: i64) {
    let request = LeaseGrantRequest { ttl: 5, id };
    etcd.lease_grant(Duration::ZERO, &request).unwrap();
}

fn watch_all(etcd: &mut Etcd) -> StreamId {
    let stream = etcd.watches().open();
    let all = WatchCreate {
        key: "\0".into(),
        range_end: "\0".into(),
        ..WatchCreate::default()
    };
    etcd.handle_watch_command(stream, &WatchCommand::Create(all));
    etcd.watches().pop(stream).unwrap();
    stream
}

#[test]
fn the_keys_of_a_lease_go_with_it_in_one_revision_and_in_order() {
    let mut etcd = etcd();
    grant(&mut etcd, 1);
    for key in ["c", "a", "b"] {
        etcd.put(&put(key, 1)).unwrap();
    }
    let stream = watch_all(&mut etcd);
    let header = etcd.lease_revoke(&LeaseId { id: 1 }).unwrap().header.unwrap();
    assert_eq!(header.revision, 5);
    let sent = etcd.watches().pop(stream).unwrap();
    let deleted: Vec<_> = sent.events.iter().map(|event| event.kv.as_ref().unwrap()).collect();
    assert!(sent.events.iter().all(|event| event.kind == event::DELETE));
    let keys: Vec<_> = deleted.iter().map(|kv| (&kv.key[..], kv.mod_revision)).collect();
    assert_eq!(keys, [(&b"a"[..], 5), (b"b", 5), (b"c", 5)]);
    let again = etcd.lease_revoke(&LeaseId { id: 1 });
    assert_eq!(again, Err(Error::LeaseNotFound));
}

fn tick(etcd: &mut Etcd, now: Duration) {
    for id in etcd.expired(now) {
        etcd.lease_revoke(&LeaseId { id }).unwrap();
    }
    etcd.handle_tick(now);
}

#[test]
fn a_lease_ends_with_the_first_scan_after_its_ttl() {
    let mut etcd = etcd();
    grant(&mut etcd, 1);
    etcd.put(&put("k", 1)).unwrap();
    tick(&mut etcd, TTL - Duration::from_millis(1));
    assert_eq!(etcd.store.revision(), 2);
    tick(&mut etcd, TTL + Duration::from_millis(100));
    assert_eq!(etcd.store.revision(), 2, "the scan is not due yet");
    tick(&mut etcd, TTL + EXPIRY_SCAN_INTERVAL);
    assert_eq!(etcd.store.revision(), 3);
    let request = LeaseTimeToLiveRequest { id: 1, keys: true };
    assert_eq!(etcd.lease_time_to_live(TTL, &request).ttl, -1);
}

#[test]
fn a_lease_without_keys_ends_without_a_revision() {
    let mut etcd = etcd();
    grant(&mut etcd, 1);
    tick(&mut etcd, TTL + EXPIRY_SCAN_INTERVAL);
    assert_eq!((etcd.store.revision(), etcd.lease_leases().leases.len()), (1, 0));
}

#[test]
fn a_put_with_a_lease_that_is_not_there_is_refused() {
    let mut etcd = etcd();
    assert_eq!(etcd.put(&put("k", 9)), Err(Error::LeaseNotFound));
    assert_eq!(etcd.store.revision(), 1);
}

#[test]
fn a_write_above_the_limit_is_refused() {
    let mut etcd = etcd();
    let request = |bytes: usize| PutRequest {
        value: vec![0; bytes].into(),
        ..put("k", 0)
    };
    assert_eq!(etcd.put(&request(REQUEST_BYTES_MAX)), Err(Error::RequestTooLarge));
    etcd.put(&request(REQUEST_BYTES_MAX - 100)).unwrap();
}

#[test]
fn every_header_names_the_member() {
    let mut etcd = etcd();
    let header = etcd.put(&put("k", 0)).unwrap().header.unwrap();
    let options = Options::default();
    assert_eq!(
        (header.cluster_id, header.member_id, header.revision),
        (options.cluster_id, options.member_id, 2)
    );
}
