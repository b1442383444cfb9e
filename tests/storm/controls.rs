//! That the judge can find something: each mistake that a client, or a server, can make
//! is made here, and is caught.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tenure::Op;
use tenure_testserver::Fault as ServerFault;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::chance::Chance;
use crate::embedded::{Embedded, WATCH, simulate};
use crate::historian::Historian;
use crate::history::History;
use crate::judge::{Fault, judge};
use crate::life::{Ended, Life};
use crate::reader::{self, Board, Mistake, Orders};
use crate::sight::Sight;
use crate::simulation::run;

/// So many storms are enough to catch a mistake.
const SEEDS: u64 = 6;

/// What the judge says of storms whose readers make a mistake.
fn caught(mistake: Mistake) -> BTreeSet<Fault> {
    (1..=SEEDS).flat_map(|seed| run(seed, Some(mistake)).outcome.faults()).collect()
}

#[test]
fn to_resume_behind_the_stores_revision_is_caught() {
    let caught = caught(Mistake::HeaderRevision);
    assert!(caught.contains(&Fault::Lost), "{caught:?}");
}

#[test]
fn to_resume_inside_a_revision_is_caught() {
    let caught = caught(Mistake::InsideRevision);
    assert!(caught.contains(&Fault::Lost), "{caught:?}");
}

#[test]
fn to_resume_at_the_last_event_is_caught() {
    let caught = caught(Mistake::Again);
    assert!(caught.contains(&Fault::Twice), "{caught:?}");
}

#[test]
fn to_hand_out_a_revision_in_pieces_is_caught() {
    let caught = caught(Mistake::Pieces);
    assert!(caught.contains(&Fault::Split), "{caught:?}");
}

#[test]
fn to_ignore_a_filter_is_caught() {
    let caught = caught(Mistake::Filter);
    assert!(caught.contains(&Fault::Filtered), "{caught:?}");
}

#[test]
fn a_fragment_that_the_server_drops_is_caught() {
    let calm = judged(Sight::of(6), |_| {});
    assert_eq!(calm, Ok(()));
    // What is dropped is the first piece of a revision, or the whole of a small one.
    for pieces in 0..3 {
        let judged = judged(Sight::of(6), |embedded| {
            let faults = embedded.faults(0);
            for _ in 0..pieces {
                faults.on_answer(
                    WATCH,
                    ServerFault::Delay(tenure_testserver::Late::By(Duration::ZERO)),
                );
            }
            faults.on_answer(WATCH, ServerFault::Drop);
        });
        assert!(
            matches!(judged, Err(Fault::Lost | Fault::Split)),
            "{pieces}: {judged:?}"
        );
    }
}

#[test]
fn events_that_are_mutated_are_caught() {
    type Mutation = (Fault, fn(&mut Life));
    let (life, history) = one_life(Sight::of(6), |_| {});
    let mutations: [Mutation; 8] = [
        (Fault::Lost, |life| drop(life.batches.remove(3))),
        (Fault::Lost, |life| drop(life.batches.pop())),
        (Fault::Twice, |life| {
            let again = life.batches[3].clone();
            life.batches.insert(5, again);
        }),
        (Fault::Disordered, |life| life.batches.swap(3, 4)),
        (Fault::Disordered, |life| life.batches[3].changes.reverse()),
        (Fault::PrevKv, |life| life.batches[5].changes[0].prev = None),
        (Fault::PrevKv, |life| {
            let older = life.batches[1].changes[0].kv.clone();
            life.batches[5].changes[0].prev = Some(older);
        }),
        (Fault::Invented, |life| life.batches[3].changes[0].kv.version += 1),
    ];
    assert!(judge(&life, &history).is_ok());
    for (number, (fault, mutate)) in mutations.into_iter().enumerate() {
        let mut mutated = life.clone();
        mutate(&mut mutated);
        let verdict = judge(&mutated, &history).map_err(|verdict| verdict.fault);
        assert_eq!(verdict, Err(fault), "mutation {number}");
    }
}

#[test]
fn a_history_that_cannot_be_is_caught() {
    let (_, history) = one_life(Sight::of(6), |_| {});
    let mutations: [fn(&mut History); 4] = [
        |history| drop(history.changes.remove(3)),
        |history| history.changes.swap(0, 8),
        |history| history.changes[8].prev = None,
        |history| history.changes[8].kv.value = history.changes[0].kv.value.clone(),
    ];
    assert_eq!(history.check(), Ok(()));
    for (number, mutate) in mutations.into_iter().enumerate() {
        let mut mutated = History {
            changes: history.changes.clone(),
            compactions: Vec::new(),
        };
        mutate(&mut mutated);
        assert!(mutated.check().is_err(), "mutation {number}");
    }
}

fn judged(sight: Sight, prepare: impl Fn(&Embedded)) -> Result<(), Fault> {
    let (life, history) = one_life(sight, prepare);
    judge(&life, &history).map_err(|verdict| verdict.fault)
}

/// One reader, and ten transactions of two keys, whose events are in pieces.
fn one_life(sight: Sight, prepare: impl Fn(&Embedded)) -> (Life, Arc<History>) {
    simulate(1, async {
        let embedded = Embedded::start(0, Chance::of(1, 1));
        let clients = embedded.clients().await;
        let (announce, history) = watch::channel(None);
        let board = Board {
            begun: Instant::now(),
            history,
        };
        let orders = Orders {
            sight,
            start: 1,
            leaves_after: None,
            is_restless: false,
            mistake: None,
        };
        let reader = reader::read(clients.readers[0].clone(), orders, board, Chance::of(1, 2));
        let reader = tokio::spawn(reader);
        sleep(Duration::from_secs(1)).await;
        prepare(&embedded);
        for number in 0..10 {
            let value = |key: &str| format!("{number}{key}{}", "x".repeat(300));
            let txn = clients.historian.txn().then(Op::put("a", value("a")));
            txn.then(Op::put("b", value("b"))).await.expect("it is written");
        }
        sleep(Duration::from_secs(1)).await;
        embedded.faults(0).clear();
        let mut historian = Historian::new(clients.historian, Chance::of(1, 3));
        historian.read_on().await;
        let history = Arc::new(historian.history);
        // A reader that lost the last event would wait for it: here all is there by now.
        announce.send_replace(Some(Arc::new(History::default())));
        let mut life = reader.await.expect("no panic");
        life.ended = Ended::Complete;
        (life, history)
    })
}
