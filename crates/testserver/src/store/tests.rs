//! What a store answers, in the terms of etcd's requests.

use super::*;
use crate::pb::{
    Compare, DeleteRequest, Operand, Operation, Outcome, PutRequest, RangeRequest, RequestOp, TxnRequest,
    TxnResponse, compare, sort_order, sort_target,
};

fn put_request(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    }
}

fn range_request(key: &str, end: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        ..RangeRequest::default()
    }
}

fn put(store: &mut Store, key: &str, value: &str) -> i64 {
    let mut write = Write::new(store);
    write.put(&put_request(key, value), &|_| true).unwrap();
    write.commit();
    store.revision()
}

fn delete_request(key: &str, end: &str) -> DeleteRequest {
    DeleteRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        ..DeleteRequest::default()
    }
}

fn delete(store: &mut Store, key: &str) -> i64 {
    let mut write = Write::new(store);
    let deleted = write.delete(&delete_request(key, "")).deleted;
    write.commit();
    deleted
}

fn txn(store: &mut Store, request: &TxnRequest) -> Result<TxnResponse, Error> {
    check_txn(request)?;
    let mut write = Write::new(store);
    let response = write.txn(request, &|lease| lease == 7)?;
    write.commit();
    Ok(response)
}

fn op(operation: Operation) -> RequestOp {
    RequestOp {
        operation: Some(operation),
    }
}

fn put_op(key: &str, value: &str) -> RequestOp {
    op(Operation::Put(put_request(key, value)))
}

fn then(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        success,
        ..TxnRequest::default()
    }
}

/// A store with a to e: put in the order c, a, e, b, d, at revisions 2 to 6.
fn five() -> Store {
    let mut store = Store::new();
    for (key, value) in [("c", "3"), ("a", "5"), ("e", "1"), ("b", "4"), ("d", "2")] {
        put(&mut store, key, value);
    }
    store
}

fn keys(store: &Store, request: &RangeRequest) -> String {
    let kvs = store.range(request).unwrap().kvs;
    kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
}

#[test]
fn a_deletion_ends_a_generation() {
    let mut store = Store::new();
    assert_eq!(put(&mut store, "k", "1"), 2);
    put(&mut store, "k", "2");
    assert_eq!((delete(&mut store, "k"), delete(&mut store, "k")), (1, 0));
    assert_eq!(store.revision(), 4, "a deletion of nothing is no revision");
    put(&mut store, "k", "3");
    let facts = |revision| {
        let kv = store.at(b"k", revision)?;
        Some((kv.create_revision, kv.mod_revision, kv.version))
    };
    let all: Vec<_> = (1..=5).map(facts).collect();
    assert_eq!(
        all,
        [None, Some((2, 2, 1)), Some((2, 3, 2)), None, Some((5, 5, 1))]
    );
}

#[test]
fn ranges_are_points_half_open_or_all_from_a_key() {
    let store = five();
    for (key, end, expected) in [
        ("b", "", "b"),
        ("b", "d", "bc"),
        ("b", "\0", "bcde"),
        ("\0", "\0", "abcde"),
        ("d", "b", ""),
        ("b", "b", ""),
        ("x", "", ""),
    ] {
        assert_eq!(
            keys(&store, &range_request(key, end)),
            expected,
            "{key:?} {end:?}"
        );
    }
}

#[test]
fn order_comes_before_the_limit_and_the_count_before_both() {
    let store = five();
    let request = |order, target| RangeRequest {
        limit: 2,
        sort_order: order,
        sort_target: target,
        ..range_request("a", "\0")
    };
    let cases = [
        (sort_order::NONE, sort_target::KEY, "ab"),
        (sort_order::DESCEND, sort_target::KEY, "ed"),
        (sort_order::ASCEND, sort_target::VALUE, "ed"),
        (sort_order::DESCEND, sort_target::CREATE, "db"),
        (sort_order::ASCEND, sort_target::MOD, "ca"),
        // Without an order only what the limit lets through, and one more, is sorted.
        (sort_order::NONE, sort_target::VALUE, "cb"),
    ];
    for (order, target, expected) in cases {
        let response = store.range(&request(order, target)).unwrap();
        assert_eq!(
            keys(&store, &request(order, target)),
            expected,
            "{order} {target}"
        );
        assert_eq!((response.count, response.more), (5, true));
    }
}

#[test]
fn filters_count_what_they_hide() {
    let store = five();
    let request = RangeRequest {
        min_mod_revision: 3,
        max_create_revision: 5,
        limit: 2,
        ..range_request("a", "\0")
    };
    let response = store.range(&request).unwrap();
    assert_eq!(keys(&store, &request), "ab");
    assert_eq!((response.count, response.more), (5, true));
    let count = RangeRequest {
        count_only: true,
        ..request
    };
    let response = store.range(&count).unwrap();
    assert_eq!((response.count, response.more, response.kvs.len()), (5, false, 0));
}

#[test]
fn compaction_keeps_what_its_revision_shows() {
    let mut store = Store::new();
    put(&mut store, "a", "1"); // 2
    put(&mut store, "a", "2"); // 3
    put(&mut store, "b", "1"); // 4
    delete(&mut store, "b"); // 5
    put(&mut store, "a", "3"); // 6
    assert_eq!(store.compact(7), Err(Error::FutureRevision));
    store.compact(5).unwrap();
    assert_eq!(store.compact(5), Err(Error::Compacted));
    let at = |revision| {
        let request = RangeRequest {
            revision,
            ..range_request("a", "\0")
        };
        store
            .range(&request)
            .map(|range| range.kvs.iter().map(|kv| kv.value.clone()).collect::<Vec<_>>())
    };
    assert_eq!(at(4), Err(Error::Compacted));
    assert_eq!(at(5).unwrap(), ["2"]);
    assert_eq!(at(6).unwrap(), ["3"]);
    assert_eq!(at(0).unwrap(), ["3"]);
    assert_eq!(at(7), Err(Error::FutureRevision));
    assert!(!store.keys.contains_key(&b"b"[..]), "dead, and dropped");
    let revisions: Vec<i64> = store.events_from(0).map(|(revision, _)| revision).collect();
    assert_eq!(revisions, [5, 6]);
}

#[test]
fn a_compaction_at_zero_is_valid_once() {
    let mut store = Store::new();
    assert_eq!(store.compact(-1), Err(Error::Compacted));
    assert_eq!(store.compact(0), Ok(()));
    assert_eq!(store.compact(0), Err(Error::Compacted));
}

#[test]
fn a_transaction_is_one_revision_and_reads_its_own_writes() {
    let mut store = five();
    let request = then(vec![
        op(Operation::Range(range_request("a", "\0"))),
        put_op("f", "new"),
        op(Operation::Delete(delete_request("a", "c"))),
        op(Operation::Range(range_request("a", "\0"))),
    ]);
    let response = txn(&mut store, &request).unwrap();
    assert_eq!(store.revision(), 7);
    let counts: Vec<_> = response
        .responses
        .iter()
        .filter_map(|response| match response.outcome.as_ref()? {
            Outcome::Range(range) => Some((range.count, range.header.as_ref()?.revision)),
            _ => None,
        })
        .collect();
    assert_eq!(counts, [(5, 6), (4, 7)]);
    assert_eq!(response.header.unwrap().revision, 7);
}

#[test]
fn nested_comparisons_are_decided_before_anything_is_written() {
    let mut store = Store::new();
    let absent = Compare {
        target: compare::VERSION,
        key: "k".into(),
        operand: Some(Operand::Version(0)),
        ..Compare::default()
    };
    let inner = TxnRequest {
        compare: vec![absent],
        success: vec![op(Operation::Range(range_request("k", "")))],
        failure: Vec::new(),
    };
    let request = then(vec![put_op("k", "1"), op(Operation::Txn(inner))]);
    let response = txn(&mut store, &request).unwrap();
    match response.responses[1].outcome.as_ref().unwrap() {
        Outcome::Txn(inner) => {
            assert!(inner.succeeded);
            match inner.responses[0].outcome.as_ref().unwrap() {
                Outcome::Range(range) => assert_eq!(range.kvs[0].value, "1"),
                other => panic!("{other:?}"),
            }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_comparison_of_a_range_holds_for_every_key_and_no_value_is_absent() {
    let compare = |result, target, key: &str, end: &str, operand| Compare {
        result,
        target,
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        operand: Some(operand),
    };
    let holds = |compare| {
        let mut store = five();
        let request = TxnRequest {
            compare: vec![compare],
            ..TxnRequest::default()
        };
        txn(&mut store, &request).unwrap().succeeded
    };
    let created = |revision| Operand::CreateRevision(revision);
    assert!(holds(compare(
        compare::GREATER,
        compare::CREATE,
        "a",
        "f",
        created(1)
    )));
    assert!(!holds(compare(
        compare::GREATER,
        compare::CREATE,
        "a",
        "f",
        created(2)
    )));
    assert!(holds(compare(
        compare::EQUAL,
        compare::CREATE,
        "x",
        "z",
        created(0)
    )));
    let value = |value: &'static str| Operand::Value(value.into());
    assert!(holds(compare(
        compare::LESS,
        compare::VALUE,
        "a",
        "\0",
        value("6")
    )));
    assert!(!holds(compare(
        compare::NOT_EQUAL,
        compare::VALUE,
        "x",
        "",
        value("6")
    )));
}

#[test]
fn what_a_taken_branch_cannot_do_leaves_nothing_behind() {
    let mut store = five();
    let keeps = PutRequest {
        ignore_value: true,
        ..put_request("x", "")
    };
    let keeps_lease = PutRequest {
        ignore_lease: true,
        ..put_request("x", "")
    };
    let leased = PutRequest {
        lease: 8,
        ..put_request("y", "")
    };
    let future = RangeRequest {
        revision: 7,
        ..range_request("a", "")
    };
    for (operation, expected) in [
        (Operation::Put(keeps), Error::KeyNotFound),
        (Operation::Put(keeps_lease), Error::KeyNotFound),
        (Operation::Put(leased), Error::LeaseNotFound),
        (Operation::Range(future), Error::FutureRevision),
    ] {
        let request = then(vec![put_op("z", "1"), op(operation.clone())]);
        assert_eq!(txn(&mut store, &request), Err(expected));
        assert_eq!((store.revision(), store.at(b"z", 6)), (6, None));
        let not_taken = TxnRequest {
            failure: vec![op(operation)],
            ..TxnRequest::default()
        };
        txn(&mut store, &not_taken).unwrap();
    }
}

#[test]
fn a_key_is_put_once_and_not_where_it_may_be_deleted() {
    let nested = |success, failure| {
        op(Operation::Txn(TxnRequest {
            success,
            failure,
            ..TxnRequest::default()
        }))
    };
    let del = |key, end| op(Operation::Delete(delete_request(key, end)));
    let refused = [
        vec![put_op("k", "1"), put_op("k", "2")],
        vec![put_op("k", "1"), del("k", "")],
        vec![del("a", "z"), put_op("k", "1")],
        vec![nested(vec![put_op("k", "1")], vec![]), put_op("k", "2")],
        vec![
            nested(vec![put_op("k", "1")], vec![]),
            nested(vec![], vec![put_op("k", "2")]),
        ],
        vec![
            nested(vec![del("k", "")], vec![]),
            nested(vec![put_op("k", "2")], vec![]),
        ],
    ];
    for operations in refused {
        let request = then(operations);
        assert_eq!(check_txn(&request), Err(Error::DuplicateKey), "{request:?}");
    }
    let accepted = [
        vec![nested(vec![put_op("k", "1")], vec![put_op("k", "2")])],
        vec![
            nested(vec![put_op("k", "1")], vec![]),
            nested(vec![del("k", "")], vec![]),
        ],
        vec![del("a", "k"), put_op("k", "1")],
        vec![del("a", "\0"), put_op("k", "1")],
    ];
    for operations in accepted {
        let request = then(operations);
        assert_eq!(check_txn(&request), Ok(()), "{request:?}");
    }
}

#[test]
fn operations_are_counted_with_those_they_are_nested_in() {
    let ranges = |count: usize| vec![op(Operation::Range(range_request("k", ""))); count];
    assert_eq!(check_txn(&then(ranges(128))), Ok(()));
    assert_eq!(check_txn(&then(ranges(129))), Err(Error::TooManyOperations));
    let nested = |outer: usize, inner| {
        let mut operations = ranges(outer - 1);
        operations.push(op(Operation::Txn(then(ranges(inner)))));
        then(operations)
    };
    assert_eq!(check_txn(&nested(28, 100)), Ok(()));
    assert_eq!(check_txn(&nested(28, 101)), Err(Error::TooManyOperations));
}
