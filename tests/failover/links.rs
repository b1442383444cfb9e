//! What happens to the ways to members that are well: they go dead, in both
//! directions or in one, and break in the middle of an answer.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tenure_proxy::{Direction, Ending, Flow};

use crate::stage::{Stage, play};

const PATIENCE: Duration = Duration::from_secs(120);
const RESETS: u64 = 30;

#[test]
fn a_client_is_cut_off_from_a_follower() {
    play(|stage, round| {
        let follower = stage.follower(round);
        cut_off(stage, follower);
    });
}

#[test]
fn a_client_is_cut_off_from_the_leader() {
    play(|stage, _| cut_off(stage, stage.leader()));
}

fn cut_off(stage: &Stage, member: usize) {
    stage.proxies[member].black_hole();
    stage.load.goes_on("a member is cut off");
    stage.proxies[member].heal();
}

#[test]
fn a_way_is_half_open() {
    play(|stage, round| {
        let member = round % 3;
        for direction in [Direction::Up, Direction::Down] {
            stage.proxies[member].flow(direction, Flow::Hold);
            stage.load.goes_on("one direction is dead");
            stage.proxies[member].heal();
        }
    });
}

#[test]
fn a_way_brings_byte_after_byte_and_late() {
    play(|stage, round| {
        let proxy = &stage.proxies[round % 3];
        proxy.flow(Direction::Up, Flow::Bytewise);
        proxy.flow(Direction::Down, Flow::Bytewise);
        stage.load.goes_on("bytes come one by one");
        proxy.flow(Direction::Down, Flow::Delay(Duration::from_millis(100)));
        stage.load.goes_on("a way is long");
        proxy.heal();
    });
}

#[test]
fn connections_are_reset_in_the_middle_of_an_answer() {
    play(|stage, round| {
        for reset in 0..RESETS {
            let proxy = &stage.proxies[reset as usize % 3];
            // Within the frames of an answer, wherever: they are a hundred bytes or so.
            let bytes = 1 + (reset * 37 + round as u64 * 13) % 150;
            proxy.cut_after(Direction::Down, bytes, Ending::Reset);
            let asked = Instant::now();
            while proxy.is_cut_due() {
                assert!(
                    asked.elapsed() < PATIENCE,
                    "a member that is well is not asked any more"
                );
                sleep(Duration::from_millis(5));
            }
        }
        stage.load.goes_on("every way was reset");
    });
}
