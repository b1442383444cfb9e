//! One endpoint that is well and one that is not: nothing fails.

use std::collections::HashSet;

use tenure::Client;
use tenure_proxy::{Direction, Door, Flow, Proxy};

use crate::ledger::{Ledger, Told, Write};
use crate::load::{Load, write};
use crate::stage::{cluster, rounds, runtime, settle};

const PUTS: usize = 1000;
const TASKS: usize = 10;
const WRITERS: usize = 20;

#[test]
fn beside_a_dead_endpoint_no_put_fails() {
    none_fails(|live| {
        let dead = proxy(live);
        dead.door(Door::Refusing);
        dead
    });
}

#[test]
fn beside_an_endpoint_that_resets_no_put_fails() {
    // Nobody listens on port 1.
    none_fails(|_| proxy("127.0.0.1:1"));
}

#[test]
fn beside_a_black_hole_no_put_fails() {
    none_fails(|live| {
        let hole = proxy(live);
        hole.black_hole();
        hole
    });
}

#[test]
fn beside_a_black_hole_that_accepts_no_put_fails() {
    none_fails(|live| {
        let hole = proxy(live);
        hole.flow(Direction::Up, Flow::Hold);
        hole.flow(Direction::Down, Flow::Hold);
        hole
    });
}

fn proxy(target: &str) -> Proxy {
    Proxy::start(target).expect("a proxy")
}

/// With the endpoint that is not well as the first, and as the last.
fn none_fails(dead: impl Fn(&str) -> Proxy) {
    let (cluster, runtime, ledger) = (cluster(1), runtime(), Ledger::default());
    let live = cluster.member(0).endpoint();
    let dead = dead(&live);
    let both = [live.as_str(), dead.endpoint()];
    for (run, endpoints) in [both, [both[1], both[0]]].into_iter().enumerate() {
        let client = runtime.block_on(Client::connect(endpoints)).expect("a client");
        let puts = |task: usize| runtime.spawn(puts(client.clone(), run * TASKS + task));
        let tasks: Vec<_> = (0..TASKS).map(puts).collect();
        for task in tasks {
            ledger.open().writes.extend(runtime.block_on(task).expect("a writer"));
        }
    }
    settle(&runtime, &cluster, &ledger);
    assert_eq!(ledger.open().told(Told::Applied), 2 * PUTS, "{}", ledger.open());
}

/// A task's share; the first failure says enough, and the next one takes as long.
async fn puts(client: Client, writer: usize) -> Vec<Write> {
    let mut writes = Vec::new();
    for number in 0..PUTS / TASKS {
        writes.push(write(&client, writer, number).await);
        if writes[number].told != Told::Applied {
            break;
        }
    }
    writes
}

/// Each writer has one write in flight. Those that are on it fail, and nobody falls
/// into it a second time.
#[test]
fn a_black_hole_that_opens_takes_only_what_is_in_flight_on_it() {
    let (cluster, runtime) = (cluster(1), runtime());
    let live = cluster.member(0).endpoint();
    let (hole, way) = (proxy(&live), proxy(&live));
    let endpoints = [hole.endpoint(), way.endpoint()];
    let client = runtime.block_on(Client::connect(endpoints)).expect("a client");
    let load = Load::of(&runtime, vec![client], WRITERS);
    load.goes_on("nothing has happened yet");
    for _ in 0..rounds() {
        let before = load.ledger.open().writes.len();
        hole.black_hole();
        load.goes_on("a way is a black hole");
        load.goes_on("it still is");
        check_fallen(&load.ledger.open().writes[before..], hole.endpoint());
        hole.heal();
        load.goes_on("all is well again");
    }
    let ledger = load.stop(&runtime);
    settle(&runtime, &cluster, &ledger);
}

fn check_fallen(writes: &[Write], hole: &str) {
    let mut fallen = HashSet::new();
    for write in writes.iter().filter(|write| write.told != Told::Applied) {
        let error = write.error.as_ref().expect("an error");
        assert!(error.may_be_applied(), "{write}");
        assert_eq!(error.endpoint(), Some(hole), "{write}");
        assert!(fallen.insert(write.writer), "a second time: {write}");
    }
}
