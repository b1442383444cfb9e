//! Names that nest: to us the lock of a longer name is no entry in the queue of a shorter one.

use std::time::Duration;

use tenure_etcd::Options;
use tenure_history::{History, check_claims, check_nothing_left};

use crate::evidence::{changes, history, none_of};
use crate::ours;
use crate::support::{TTL, client, cluster, patiently, runtime};

const NAMES: [&str; 3] = ["nest", "nest/inner", "nest/inner/most"];
const TIMES: usize = 60;
const SESSIONS: usize = 3;

#[test]
fn names_that_nest_are_locked_side_by_side() {
    let cluster = cluster(1, Options::default());
    runtime().block_on(async {
        let mut tasks = Vec::new();
        for (index, name) in NAMES.into_iter().enumerate().flat_map(|name| [name; SESSIONS]) {
            let session = client(&cluster).await.session().ttl(TTL).await.expect("a session");
            let hold = Duration::from_millis(1 + index as u64);
            let claims = async move { ours::contend(session, name, hold, |times| times == TIMES).await };
            tasks.push((index, tokio::spawn(claims)));
        }
        let mut claims = NAMES.map(|_| Vec::new());
        for (index, task) in tasks {
            claims[index].extend(patiently("a session's claims", task).await.expect("claims"));
        }
        let all = changes(&history(&client(&cluster).await, NAMES[0]).await);
        for (name, claims) in NAMES.into_iter().zip(&claims) {
            let history = History::fold(name, &all).expect("a history");
            none_of(name, &check_claims(&history, claims));
            none_of(name, &check_nothing_left(&history, &[], &[]));
            assert_eq!(history.owners().len(), TIMES * SESSIONS);
        }
        // Had they excluded each other, no two of different names would overlap.
        let both = [&claims[0][..], &claims[1]].concat();
        let outer = History::fold(NAMES[0], &all).expect("a history");
        let overlaps =
            |found: &&tenure_history::Violation| matches!(found, tenure_history::Violation::Overlap { .. });
        assert!(check_claims(&outer, &both).iter().filter(overlaps).count() > 0);
    });
}
