//! What the sessions of a run want, what must hold of those who have it, and the
//! runs where they want other things than a mutex.

use std::collections::BTreeMap;

use super::*;

/// What the sessions want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mix {
    /// The mutex of one name, each session with the one key that it always has.
    Mutexes,
    /// One name, to read and to write.
    ReadWrite,
    /// Permits of one name, and not always told the same number of them.
    Permits,
    /// All of that on one name.
    Anything,
    /// Several names at once.
    Several,
    /// The mutex of one name, each session with the key of an owner that comes back.
    Owners,
}

impl Mix {
    /// What the next attempt is for; `None` for the session's mutex.
    pub(super) fn choose(self, chance: &mut Jitter) -> Option<(Vec<&'static str>, Claim)> {
        let mut below = |bound: u64| chance.next_u64() % bound;
        let readers_or_writers = [Claim::Reader, Claim::Writer];
        let claim = match (self, below(3)) {
            (Mix::Mutexes | Mix::Owners, _) => return None,
            (Mix::Several, _) => {
                let names: Vec<_> = NAMES.into_iter().filter(|_| below(3) > 0).collect();
                let names = if names.is_empty() { vec![NAMES[1]] } else { names };
                return Some((names, Claim::Exclusive));
            }
            (Mix::Anything, 0) => Claim::Exclusive,
            (Mix::ReadWrite, _) | (Mix::Anything, 1) => readers_or_writers[below(2) as usize],
            _ => {
                let of = 2 + below(2) as u32;
                let count = 1 + below(of.into()) as u32;
                Claim::Permits { count, of }
            }
        };
        Some((vec![NAMES[0]], claim))
    }
}

/// The greatest token that was granted in each queue: any, and to somebody who has it alone.
#[derive(Default)]
pub(super) struct Ledger(BTreeMap<Bytes, (Revision, Revision)>);

impl Ledger {
    /// Who has it alone comes after all before him; whoever else after the last of those.
    pub(super) fn granted(&mut self, place: &Place, created: Revision) -> Outcome {
        self.note(place, place.claim(), created, false)
    }

    /// The same of what was written, by a holder as often as he likes.
    pub(super) fn written(&mut self, place: &Place, claim: Claim, created: Revision) -> Outcome {
        self.note(place, claim, created, true)
    }

    fn note(&mut self, place: &Place, claim: Claim, created: Revision, again: bool) -> Outcome {
        for prefix in place.prefixes() {
            let (any, alone) = self.0.entry(prefix.clone()).or_default();
            let is_alone = matches!(claim, Claim::Exclusive | Claim::Writer);
            let last = if is_alone { *any } else { *alone };
            if created < last || created == last && !again {
                return Err(format!("token {created} after {last}"));
            }
            *any = created.max(*any);
            *alone = if is_alone { created } else { *alone };
        }
        Ok(())
    }
}

/// Whether those who hold something may hold it beside each other.
pub(super) fn check<'a>(clients: impl Iterator<Item = &'a Client> + Clone) -> Outcome {
    for name in NAMES {
        let prefix = format!("{name}/");
        let here = clients.clone().filter(|client| client.place.prefixes().any(|other| *other == prefix));
        let held: Vec<Claim> = here.filter_map(Client::holds).collect();
        let all_read = held.iter().all(|claim| *claim == Claim::Reader);
        let permits = |claim: &Claim| match claim {
            Claim::Permits { count, of } => Some((*count, *of)),
            _ => None,
        };
        let fits = match held.iter().map(permits).collect::<Option<Vec<_>>>() {
            Some(all) => all.iter().all(|(_, of)| all.iter().map(|(count, _)| count).sum::<u32>() <= *of),
            None => held.len() <= 1 || all_read,
        };
        if !fits {
            return Err(format!("{name}: {held:?} at the same time"));
        }
    }
    Ok(())
}

impl World {
    /// A writer becomes a reader.
    pub(super) fn downgrade(&mut self, client: &mut Client) {
        if let Some(key) = client.place.writers_key().filter(|_| !client.reads) {
            if self.store.keys.contains_key(key) {
                self.store.commit(vec![(key.clone(), None)]);
            }
            client.reads = true;
        }
    }

    /// Another attempt of the same session was withdrawn, and moved the gate.
    pub(super) fn move_a_gate(&mut self) {
        let one = self.below(SESSIONS) as usize;
        let place = &self.clients[one].place;
        if !matches!(self.mix, Mix::Mutexes | Mix::Owners) && self.store.leases.contains(&place.lease.0) {
            let put = (place.gate.clone(), Some(place.lease.0));
            self.store.commit(vec![put]);
        }
    }

    /// A session has one of the keys that it is going to register already.
    pub(super) fn adopt(&mut self, place: &Place) {
        let early = place.keys().nth(1).filter(|key| !self.store.keys.contains_key(*key));
        if let (Some(key), true) = (early, self.store.leases.contains(&place.lease.0)) {
            self.store.commit(vec![(key.clone(), Some(place.lease.0))]);
        }
    }
}

pub(super) const MIXES: [Mix; 4] = [Mix::ReadWrite, Mix::Permits, Mix::Anything, Mix::Several];

#[test]
fn whoever_has_a_claim_has_it_beside_the_others_and_nothing_is_left_behind() {
    for mix in MIXES {
        let mut grants = 0;
        for seed in 0..SEEDS / 4 {
            let granted = play(mix, seed, Flaw::None, all());
            grants += granted.unwrap_or_else(|fault| panic!("{mix:?}, seed {seed}: {fault}"));
        }
        assert!(grants > 500, "{mix:?}: hardly ever granted: {grants}");
    }
}

#[test]
fn a_rule_of_a_claim_that_is_out_of_force_is_found_out() {
    for (mix, rule) in [
        (Mix::ReadWrite, Rule::OlderWriters),
        (Mix::ReadWrite, Rule::Predecessor),
        (Mix::ReadWrite, Rule::WholeRevisions),
        (Mix::ReadWrite, Rule::Gate),
        (Mix::ReadWrite, Rule::GateOnCancel),
        (Mix::Permits, Rule::OwnPermits),
        (Mix::Permits, Rule::OwnKey),
        (Mix::Permits, Rule::Gate),
        (Mix::Permits, Rule::GateOnCancel),
        (Mix::Several, Rule::Predecessor),
        (Mix::Several, Rule::EveryKey),
        (Mix::Several, Rule::Gate),
        (Mix::Several, Rule::GateOnCancel),
    ] {
        let rules = Rules { off: Some(rule) };
        let found = (0..5_000).any(|seed| play(mix, seed, Flaw::None, rules).is_err());
        assert!(found, "{mix:?}: {rule:?} makes no difference");
    }
}

#[test]
fn a_lock_of_several_that_takes_an_older_key_for_its_own_is_found_out() {
    // That its keys are of different ages would be seen when all of them are looked at.
    let rules = Rules {
        off: Some(Rule::EveryKey),
    };
    let found = (0..5_000).find_map(|seed| play(Mix::Several, seed, Flaw::Adopts, rules).err());
    assert_eq!(
        found.as_deref(),
        Some("in calm not everybody gets the lock, or a key is left"),
        "they wait for each other"
    );
}

#[test]
fn a_server_that_breaks_a_rule_is_found_out_by_every_mix() {
    for (mix, flaw) in MIXES.into_iter().flat_map(|mix| {
        let flaws = [
            Flaw::RegisterAtAnyGate,
            Flaw::GateStaysOpen,
            Flaw::NumbersUsedAgain,
        ];
        flaws.map(|flaw| (mix, flaw))
    }) {
        let found = (0..5_000).any(|seed| play(mix, seed, flaw, all()).is_err());
        assert!(found, "{mix:?}: {flaw:?} makes no difference");
    }
}
