//! Sessions that come back under the name of their owner, and find the key of their
//! earlier life, whose requests may still be under way.

use super::*;

impl Client {
    /// The key is this owner's, if there is one.
    pub(super) fn begin_as(&mut self, owner: Option<u64>) {
        let Some(name) = owner else { return };
        let lease = self.place.lease;
        self.owner = owner;
        self.place = Place::of_owner("jobs", &name.to_string(), lease, "").unwrap();
        let mut lock = Lock::new(self.place.clone(), Instant(self.deadline), lease.0 as u64);
        (lock.watched_max, lock.reread_wait, lock.rules) = (self.lock.watched_max, REREAD, self.lock.rules);
        self.lock = lock;
    }

    /// Whether its watch tells of this change.
    pub(super) fn minds(&self, key: &Bytes, kv: &Option<KeyValue>) -> bool {
        kv.is_none() || self.place.is_owned() && self.place.is_own(key)
    }

    /// What rises from holder to holder.
    pub(super) fn token(&self, created: Revision) -> Revision {
        Revision(created.0 << 16 | i64::from(self.lock.put().takeovers))
    }
}

fn come_back(seed: u64, flaw: Flaw, rules: Rules) -> Result<u32, String> {
    play(Mix::Owners, seed, flaw, rules)
}

#[test]
fn whoever_comes_back_has_the_lock_alone_and_nothing_is_left_behind() {
    let mut grants = 0;
    for seed in 0..SEEDS {
        let granted = come_back(seed, Flaw::None, all());
        grants += granted.unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
    }
    assert!(grants > 2_000, "hardly ever granted: {grants}");
}

#[test]
fn places_are_taken_over() {
    // What is seen of that from outside: whoever comes back is granted an older key than its own life.
    let mut world = World::new(Mix::Owners, 1, Flaw::None, all());
    let mut taken_over = 0;
    for _ in 0..20 * CHAOS_STEPS {
        world.step().unwrap();
        let holding = world.clients.iter().filter(|client| matches!(client.task, Task::Holding(_)));
        taken_over += holding.filter(|client| client.lock.put().takeovers > 0).count();
    }
    assert!(taken_over > 0, "nobody ever came back in time");
}

#[test]
fn a_rule_of_an_owners_key_that_is_out_of_force_is_found_out() {
    for rule in [Rule::LastPut, Rule::Gate, Rule::WholeRevisions, Rule::Predecessor] {
        let rules = Rules { off: Some(rule) };
        let found = (0..5_000).any(|seed| come_back(seed, Flaw::None, rules).is_err());
        assert!(found, "{rule:?} makes no difference");
    }
    for flaw in [
        Flaw::TakesOverAnyPut,
        Flaw::ReleasesAnyPut,
        Flaw::WithdrawsAnyLease,
        Flaw::RegisterAtAnyGate,
    ] {
        let found = (0..5_000).any(|seed| come_back(seed, flaw, all()).is_err());
        assert!(found, "{flaw:?} makes no difference");
    }
}
