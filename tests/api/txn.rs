//! Transactions against a real server: comparisons, branches, nesting, refusals.

use tenure::pb::etcdserverpb::TxnResponse;
use tenure::pb::etcdserverpb::response_op::Response;
use tenure::{Client, Compare, EtcdError, KeyRange, LeaseId, Op, Revision, Txn};

use crate::support::{client, run};

fn response(answer: &TxnResponse, index: usize) -> &Response {
    answer.responses[index].response.as_ref().expect("an operation's answer")
}

async fn holds(client: &Client, compare: Compare) -> bool {
    client.txn().when(compare).await.unwrap().succeeded
}

#[test]
fn the_branch_follows_the_comparisons() {
    run(async {
        let client = client().await;
        let take = || {
            client
                .txn()
                .when(Compare::create_revision("txn/seat").equal(Revision::ZERO))
                .then(Op::put("txn/seat", "mine"))
                .or_else(Op::get("txn/seat"))
        };
        let first = take().await.unwrap();
        assert!(first.succeeded && matches!(response(&first, 0), Response::ResponsePut(_)));
        let second = take().await.unwrap();
        assert!(!second.succeeded);
        match response(&second, 0) {
            Response::ResponseRange(range) => assert_eq!(range.kvs[0].value, "mine"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn every_target_and_result_compares() {
    run(async {
        let client = client().await;
        let lease = LeaseId(0x5eed_0003);
        client.lease_grant(std::time::Duration::from_secs(60)).id(lease).await.unwrap();
        let created = client.put("txn/compare", "m").await.unwrap().revision();
        let changed = client.put("txn/compare", "n").lease(lease).await.unwrap().revision();
        let key = "txn/compare";
        assert!(holds(&client, Compare::version(key).equal(2)).await);
        assert!(holds(&client, Compare::version(key).greater(1)).await);
        assert!(!holds(&client, Compare::version(key).less(2)).await);
        assert!(holds(&client, Compare::create_revision(key).equal(created)).await);
        assert!(holds(&client, Compare::mod_revision(key).equal(changed)).await);
        assert!(holds(&client, Compare::mod_revision(key).not_equal(created)).await);
        assert!(holds(&client, Compare::value(key).equal("n")).await);
        assert!(holds(&client, Compare::value(key).greater("m")).await);
        assert!(holds(&client, Compare::lease(key).equal(lease)).await);
        assert!(!holds(&client, Compare::value("txn/absent").equal("")).await);
    });
}

#[test]
fn a_range_compares_only_where_every_key_does() {
    run(async {
        let client = client().await;
        client.put("txn/range/a", "x").await.unwrap();
        client.put("txn/range/b", "y").await.unwrap();
        let range = || KeyRange::prefix("txn/range/");
        assert!(holds(&client, Compare::version(range()).greater(0)).await);
        assert!(!holds(&client, Compare::value(range()).equal("x")).await);
        assert!(!holds(&client, Compare::create_revision(range()).equal(Revision::ZERO)).await);
        let nobody = KeyRange::prefix("txn/nobody/");
        assert!(holds(&client, Compare::create_revision(nobody).equal(Revision::ZERO)).await);
    });
}

#[test]
fn transactions_nest() {
    run(async {
        let client = client().await;
        client.put("txn/nest/a", "1").await.unwrap();
        let inner = Txn::new()
            .when(Compare::value("txn/nest/a").equal("1"))
            .then(Op::put("txn/nest/b", "2"))
            .then(Op::delete("txn/nest/a").prev_kv())
            .or_else(Op::get("txn/nest/a"));
        let answer = client.txn().then(inner).then(Op::get("txn/nest/b")).await.unwrap();
        assert!(answer.succeeded);
        match response(&answer, 0) {
            Response::ResponseTxn(inner) => {
                assert!(inner.succeeded);
                assert!(matches!(response(inner, 0), Response::ResponsePut(_)));
                match response(inner, 1) {
                    Response::ResponseDeleteRange(delete) => assert_eq!(delete.prev_kvs[0].value, "1"),
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other:?}"),
        }
        match response(&answer, 1) {
            Response::ResponseRange(range) => assert_eq!(range.kvs[0].value, "2"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn what_a_server_refuses_is_told() {
    run(async {
        let client = client().await;
        let twice = client.txn().then(Op::put("txn/twice", "1")).then(Op::put("txn/twice", "2")).await;
        assert_eq!(twice.unwrap_err().etcd(), Some(EtcdError::DuplicateKey));
        let many = (0..129).fold(client.txn(), |txn, index| {
            txn.then(Op::get(format!("txn/many/{index}")))
        });
        assert_eq!(many.await.unwrap_err().etcd(), Some(EtcdError::TooManyOps));
    });
}
