//! Software transactions that are dropped at each of their polls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tenure::{KeyRange, Op};

use super::server::{Etcd, alone, tasks, until_tasks};
use super::{POLLS_MAX, PREFIX, connect, poll_times, proxy};

const ONE: &str = "cancel/stm/one";
const TWO: &str = "cancel/stm/two";

/// It conflicts once, so that the wait and the second attempt are dropped too.
#[test]
fn a_transaction_dropped_at_any_poll_is_written_whole_or_not_at_all() {
    alone(async |etcd: Arc<Etcd>| {
        let proxy = proxy(&etcd);
        let tasks = tasks();
        let mut outcomes = [0, 0];
        for polls in 1..=POLLS_MAX {
            let client = connect(&proxy).await;
            let runs = AtomicU32::new(0);
            let mut running = Box::pin(client.stm().run(async |t| {
                let kvs = t.range(KeyRange::prefix("cancel/stm/")).await?;
                if runs.fetch_add(1, Ordering::SeqCst) == 0 {
                    etcd.client().put("cancel/stm/disturbance", polls.to_string()).await?;
                }
                t.put(ONE, "1");
                t.put(TWO, kvs.len().to_string());
                Ok(())
            }));
            let done = poll_times(running.as_mut(), polls).await;
            drop(running);
            drop(client);
            until_tasks(tasks).await;
            if let Some(done) = &done {
                assert_eq!(done.as_ref().unwrap().attempts, 2);
            }
            let both = etcd.client().txn().then(Op::get(ONE)).then(Op::get(TWO)).await.unwrap();
            let written = both.responses.iter().map(count).sum::<i64>();
            assert!(written == 0 || written == 2, "half of it was written");
            assert!(written == 2 || done.is_none());
            outcomes[usize::from(written == 2)] += 1;
            etcd.client().delete(KeyRange::prefix(PREFIX)).await.unwrap();
            if done.is_some() {
                assert!(outcomes.iter().all(|&count| count > 0), "{outcomes:?}");
                return etcd.until_keys(PREFIX, 0).await;
            }
        }
        panic!("not done after {POLLS_MAX} polls");
    });
}

fn count(op: &tenure::pb::etcdserverpb::ResponseOp) -> i64 {
    match &op.response {
        Some(tenure::pb::etcdserverpb::response_op::Response::ResponseRange(range)) => range.count,
        other => panic!("{other:?}"),
    }
}
