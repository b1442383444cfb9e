//! What holders write under their fence, which may be carried out long after they hold
//! nothing any more: tokens never fall in what was written.

use super::mix::MIXES;
use super::*;

/// A write on its way to the server.
pub(super) struct Write {
    at: u64,
    place: Place,
    claim: Claim,
    /// The key that the fence compares, and what its create_revision has to be.
    fence: (Bytes, Revision),
}

impl World {
    /// A holder writes. Nobody waits for the answer.
    pub(super) fn write(&mut self, client: &Client, created: Revision) {
        let Some(claim) = client.holds() else { return };
        let place = client.place.clone();
        let key = place.writers_key().filter(|_| !client.reads).unwrap_or(&place.key).clone();
        let at = self.time + self.below(LATE_MAX);
        self.writes.push(Write {
            at,
            claim,
            fence: (key, created),
            place,
        });
    }

    pub(super) fn carry_out_writes(&mut self) -> Outcome {
        while let Some(due) = self.writes.iter().position(|write| write.at <= self.time) {
            let write = self.writes.swap_remove(due);
            let (key, created) = &write.fence;
            let holds = |kv: &KeyValue| {
                // A key that is there has a version above 0, whoever has created it.
                kv.create_revision == created.0 || self.store.flaw == Flaw::FencedByVersion
            };
            if self.store.keys.get(key).is_some_and(holds) {
                self.written.written(&write.place, write.claim, *created)?;
            }
        }
        Ok(())
    }
}

#[test]
fn a_fence_that_asks_whether_there_is_a_key_is_found_out() {
    let found = (0..5_000).find_map(|seed| simulate(seed, Flaw::FencedByVersion, all()).err());
    let found = found.expect("it makes no difference");
    assert!(found.starts_with("token "), "{found}");
}

/// `cargo test --release --lib core::lock -- --ignored`
#[test]
#[ignore = "10,000 seeds of every mix take a minute, in a release build"]
fn ten_thousand_seeds_of_every_mix_hold() {
    for mix in MIXES.into_iter().chain([Mix::Mutexes]) {
        let mut grants = 0;
        for seed in 0..10_000 {
            let granted = play(mix, seed, Flaw::None, all());
            grants += granted.unwrap_or_else(|fault| panic!("{mix:?}, seed {seed}: {fault}"));
        }
        println!("{mix:?}: 10000 seeds, {grants} grants");
    }
}
