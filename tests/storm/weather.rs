//! The weather of a simulation: what breaks, freezes, lags and refuses, by chance.

use std::ops::Range;
use std::time::Duration;

use tenure_testserver::{Fault, Lag, Late, Link};
use tokio::time::sleep;

use crate::chance::Chance;
use crate::embedded::{Embedded, WATCH};

const CALM: Range<Duration> = Duration::from_millis(1)..Duration::from_millis(180);
const OUTAGE: Range<Duration> = Duration::from_millis(1)..Duration::from_millis(400);
const LATE: Range<Duration> = Duration::from_millis(1)..Duration::from_millis(150);
const UNAVAILABLE: u16 = 14;

/// So many gusts, and then it is calm.
pub(crate) async fn blow(embedded: &Embedded, mut chance: Chance, gusts: usize) {
    embedded.ways.set_breaks(3);
    for _ in 0..gusts {
        sleep(chance.time(CALM)).await;
        let member = chance.index(embedded.member_count());
        let faults = embedded.faults(member);
        match chance.below(16) {
            0..=5 => embedded.ways.cut(),
            6..=7 => embedded.ways.set_breaks(1 + chance.below(6)),
            8 => faults.cut_after(chance.bytes(4..14) as usize),
            9 => out(embedded, member, Link::Down, &mut chance).await,
            10 => out(embedded, member, Link::Frozen, &mut chance).await,
            11 => faults.on_answer(
                WATCH,
                Fault::End {
                    code: UNAVAILABLE,
                    message: "etcdserver: leader changed".to_owned(),
                },
            ),
            12 => faults.on_answer(WATCH, Fault::Delay(Late::By(chance.time(LATE)))),
            13 => faults.on_request(WATCH, Fault::Delay(Late::By(chance.time(LATE)))),
            _ => lag(embedded, &mut chance),
        }
    }
    heal(embedded);
}

async fn out(embedded: &Embedded, member: usize, link: Link, chance: &mut Chance) {
    embedded.faults(member).set_link(link);
    sleep(chance.time(OUTAGE)).await;
    embedded.faults(member).set_link(Link::Up);
}

fn lag(embedded: &Embedded, chance: &mut Chance) {
    for follower in &embedded.followers {
        follower.set_lag(match chance.below(3) {
            0 => Lag::By(Duration::ZERO),
            1 => Lag::By(chance.time(LATE)),
            _ => Lag::Held,
        });
    }
}

fn heal(embedded: &Embedded) {
    embedded.ways.set_breaks(0);
    for member in 0..embedded.member_count() {
        embedded.faults(member).set_link(Link::Up);
        embedded.faults(member).clear();
    }
    for follower in &embedded.followers {
        follower.set_lag(Lag::By(Duration::ZERO));
    }
}
