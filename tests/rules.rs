//! The switches for the rules of a watch reach clients that are made outside of the
//! crate: a stalled reader has a bound, and without that rule it has none. What notices
//! the others is the storm's to show, and the simulation's.

use tenure::core::watch::{Rule, Rules};
use tenure::{Client, KeyRange};
use tenure_testserver::Server;

const PUTS: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_rule_that_is_out_of_force_where_a_watch_is_made_is_so_wherever_it_runs() {
    assert!(catch_ups(None).await > 0);
    assert_eq!(catch_ups(Some(Rule::Bound)).await, 0);
    assert!(catch_ups(Some(Rule::Fragments)).await > 0, "one is not another");
}

/// How often a reader catches up that reads nothing before all is written.
async fn catch_ups(off: Option<Rule>) -> u64 {
    let server = Server::start().await.unwrap();
    let client = Client::connect([server.endpoint()]).await.unwrap();
    let keys = || KeyRange::prefix("rules/");
    Rules::switch_off(off);
    let mut stalled = client.watch(keys()).buffer_bytes(4 << 10).await.unwrap();
    Rules::switch_off(None);
    let mut quick = client.watch(keys()).await.unwrap();
    for _ in 0..PUTS {
        client.put("rules/key", vec![b'x'; 1 << 10]).await.unwrap();
        quick.next().await.unwrap();
    }
    let mut seen = 0;
    while seen < PUTS {
        seen += stalled.next().await.unwrap().events.len();
    }
    stalled.catch_ups()
}
