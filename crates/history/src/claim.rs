//! What a client says it had, held against the history and against the others.

use std::fmt;
use std::ops::Range;

use crate::history::text;
use crate::{Entry, History, Kind, Violation};

/// A fencing token: the create_revision of the holder's key, and which of the
/// grants under this key it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// The create_revision of the holder's key.
    pub created: i64,
    /// Rises where one key is handed from task to task; else 0.
    pub sequence: u32,
}

/// One hold, as the holder knows it.
///
/// What is claimed must be certain to the client: the hold begins when it learns of
/// the grant, and ends before it gives the lock back, or when it last knew that its
/// lease is alive, whichever comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who claims it, for people.
    pub client: String,
    /// The holder's key.
    pub key: Vec<u8>,
    /// The token that the grant came with.
    pub token: Token,
    /// Revisions at which it held the lock: of its own writes under the lock, or
    /// that the server gave as proof of the grant.
    pub revisions: Vec<i64>,
    /// From when to when it held the lock.
    pub held: Option<Range<u64>>,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} as {}", self.client, text(&self.key), self.token)?;
        if let Some(held) = &self.held {
            write!(
                f,
                ", at {} ns for {} ns",
                held.start,
                held.end.saturating_sub(held.start)
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.created, self.sequence)
    }
}

/// Every claim lies where the history says that its key owned the lock; those that overlap
/// may; who is alone was granted behind all that were created before, and before all that
/// were created later, so first come first served, and with tokens that rise.
#[must_use]
pub fn check_claims(history: &History, claims: &[Claim]) -> Vec<Violation> {
    let mut violations = Vec::new();
    violations.extend(claims.iter().filter_map(|claim| outside_of_history(history, claim)));
    let mut by_token: Vec<&Claim> = claims.iter().collect();
    by_token.sort_by_key(|claim| claim.token);
    violations.extend(shared_tokens(&by_token));
    violations.extend(revisions_out_of_order(&by_token));
    let mut by_time: Vec<(&Range<u64>, &Claim)> =
        claims.iter().filter_map(|claim| Some((claim.held.as_ref()?, claim))).collect();
    by_time.sort_by_key(|(held, claim)| (held.start, claim.token));
    violations.extend(overlaps(&by_time));
    violations.extend(grants_out_of_order(&by_time));
    violations
}

impl Claim {
    /// What its key asks for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let entry = self.key.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        Kind::of(&self.key[entry..])
    }

    fn is_alone(&self) -> bool {
        self.kind() == Kind::Alone
    }
}

fn outside_of_history(history: &History, claim: &Claim) -> Option<Violation> {
    let entry: Option<&Entry> = history.entry(&claim.key, claim.token.created);
    let Some(owned) = entry.and_then(|entry| entry.owned.as_ref()) else {
        return Some(Violation::NeverOwned {
            claim: claim.to_string(),
        });
    };
    let outside = claim.revisions.iter().find(|revision| !owned.contains(revision))?;
    Some(Violation::NotOwner {
        claim: claim.to_string(),
        revision: *outside,
        owned: owned.clone(),
    })
}

/// Readers join one another; nobody else has what another one has.
fn shared_tokens(by_token: &[&Claim]) -> impl Iterator<Item = Violation> {
    let shared = by_token.windows(2).filter(|pair| {
        let is_shared = pair.iter().any(|claim| claim.kind() == Kind::Reader);
        pair[0].token == pair[1].token && !is_shared
    });
    shared.map(|pair| Violation::TokenTwice {
        one: pair[0].to_string(),
        other: pair[1].to_string(),
    })
}

/// Of two tokens the greater was held later, so at later revisions, where one of both is alone.
fn revisions_out_of_order(by_token: &[&Claim]) -> Vec<Violation> {
    let (mut any, mut alone) = (None::<(i64, &Claim)>, None::<(i64, &Claim)>);
    let mut violations = Vec::new();
    for claim in by_token {
        let (least, greatest) = (claim.revisions.iter().min(), claim.revisions.iter().max());
        let (Some(least), Some(greatest)) = (least, greatest) else {
            continue;
        };
        let last = if claim.is_alone() { any } else { alone };
        let is_one_attempt = |earlier: &Claim| earlier.token.created == claim.token.created;
        let is_late = |(revision, earlier): &(i64, &Claim)| {
            // A writer that became a reader wrote before.
            revision > least && (claim.is_alone() || !is_one_attempt(earlier))
        };
        if let Some((revision, earlier)) = last.filter(is_late) {
            violations.push(Violation::HeldAgain {
                one: earlier.to_string(),
                other: claim.to_string(),
                revision,
            });
        }
        for last in std::iter::once(&mut any).chain(claim.is_alone().then_some(&mut alone)) {
            if last.is_none_or(|(revision, _)| revision < *greatest) {
                *last = Some((*greatest, claim));
            }
        }
    }
    violations
}

/// Those that held it when another one began to, and had no room beside it.
fn overlaps(by_time: &[(&Range<u64>, &Claim)]) -> Vec<Violation> {
    let mut holders: Vec<(&Range<u64>, &Claim)> = Vec::new();
    let mut violations = Vec::new();
    for (held, claim) in by_time.iter().filter(|(held, _)| !held.is_empty()) {
        holders.retain(|(other, _)| other.end > held.start);
        // Tasks that share a reader's key, and one that was a writer before, are one entry.
        let is_other = |(_, other): &&(&Range<u64>, &Claim)| other.token != claim.token;
        let is_same = |(_, other): &&(&Range<u64>, &Claim)| other.token == claim.token;
        let joins = claim.kind() == Kind::Reader && holders.iter().any(|holder| is_same(&holder));
        let kinds = holders.iter().filter(is_other).map(|(_, other)| other.kind());
        let two_alone = holders.iter().filter(is_same).any(|(_, other)| other.is_alone() || claim.is_alone());
        if two_alone || (!joins && !Kind::fit(kinds.chain([claim.kind()]))) {
            if let Some((_, other)) = holders.last() {
                violations.push(Violation::Overlap {
                    one: other.to_string(),
                    other: claim.to_string(),
                });
            }
        }
        holders.push((held, claim));
    }
    violations
}

/// Whoever is alone comes after all before him, whoever is not after the last that was.
fn grants_out_of_order(by_time: &[(&Range<u64>, &Claim)]) -> Vec<Violation> {
    let (mut any, mut alone) = (None::<&Claim>, None::<&Claim>);
    let mut violations = Vec::new();
    for (_, claim) in by_time {
        let last = if claim.is_alone() { any } else { alone };
        if let Some(last) = last.filter(|last| last.token > claim.token) {
            violations.push(Violation::OutOfTurn {
                one: last.to_string(),
                other: claim.to_string(),
            });
        }
        for last in std::iter::once(&mut any).chain(claim.is_alone().then_some(&mut alone)) {
            if last.is_none_or(|last| last.token < claim.token) {
                *last = Some(claim);
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{delete, fold, put};

    /// The first owns at 2 to 5, the second at 5 to 8, the third gives up before its turn.
    fn history() -> History {
        fold(&[
            put("a/1", 2),
            put("a/2", 3),
            put("a/3", 4),
            delete("a/1", 5),
            delete("a/3", 6),
            delete("a/2", 8),
        ])
    }

    fn claim(key: &str, created: i64, revisions: &[i64], held: Range<u64>) -> Claim {
        Claim {
            client: "one".to_owned(),
            key: key.into(),
            token: Token { created, sequence: 0 },
            revisions: revisions.to_vec(),
            held: Some(held),
        }
    }

    fn nth(sequence: u32, claim: Claim) -> Claim {
        let token = Token {
            sequence,
            ..claim.token
        };
        Claim { token, ..claim }
    }

    #[test]
    fn claims_that_follow_one_another_are_right() {
        let claims = [claim("a/2", 3, &[5, 7], 20..30), claim("a/1", 2, &[2, 4], 10..20)];
        assert_eq!(check_claims(&history(), &claims), []);
        assert_eq!(check_claims(&history(), &[]), []);
    }

    #[test]
    fn holds_under_one_key_follow_one_another() {
        let first = claim("a/1", 2, &[2], 10..12);
        let second = nth(1, claim("a/1", 2, &[4], 12..15));
        assert_eq!(check_claims(&history(), &[first.clone(), second.clone()]), []);
        let swapped = [nth(1, first), nth(0, second)];
        let found = check_claims(&history(), &swapped);
        assert!(
            matches!(
                &found[..],
                [Violation::HeldAgain { .. }, Violation::OutOfTurn { .. }]
            ),
            "{found:?}"
        );
    }

    #[test]
    fn a_claim_of_no_key_or_of_a_waiter_is_reported() {
        for (key, created) in [("a/1", 3), ("a/9", 2), ("a/3", 4)] {
            let found = check_claims(&history(), &[claim(key, created, &[], 1..2)]);
            assert!(matches!(&found[..], [Violation::NeverOwned { .. }]), "{found:?}");
        }
    }

    #[test]
    fn a_claim_outside_of_what_its_key_owned_is_reported() {
        for revision in [3, 4, 8] {
            let found = check_claims(&history(), &[claim("a/2", 3, &[5, revision], 1..2)]);
            assert!(matches!(&found[..], [Violation::NotOwner { .. }]), "{found:?}");
        }
    }

    #[test]
    fn two_that_hold_at_once_are_reported() {
        let long = claim("a/1", 2, &[], 10..21);
        for short in [20..30, 11..12] {
            let found = check_claims(&history(), &[long.clone(), claim("a/2", 3, &[], short)]);
            assert!(matches!(&found[..], [Violation::Overlap { .. }]), "{found:?}");
        }
        // The one in the middle must not hide the long one.
        let history = fold(&[
            put("a/1", 2),
            delete("a/1", 3),
            put("a/2", 4),
            delete("a/2", 5),
            put("a/3", 6),
        ]);
        let claims = [long, claim("a/2", 4, &[], 11..12), claim("a/3", 6, &[], 20..22)];
        let found = check_claims(&history, &claims);
        assert!(
            matches!(&found[..], [Violation::Overlap { .. }, Violation::Overlap { .. }]),
            "{found:?}"
        );
    }

    #[test]
    fn readers_are_beside_each_other_and_a_writer_is_not() {
        let history = fold(&[
            put("a/7-r1", 2),
            put("a/8-r1", 3),
            put("a/9-w1", 4),
            put("a/9-r1", 4),
            delete("a/7-r1", 5),
            delete("a/8-r1", 6),
            delete("a/9-w1", 8),
            put("a/7-r2", 9),
        ]);
        let mut claims = vec![
            claim("a/7-r1", 2, &[4], 10..30),
            // Two tasks have joined it.
            claim("a/8-r1", 3, &[3], 12..20),
            claim("a/8-r1", 3, &[5], 15..40),
            claim("a/9-w1", 4, &[6, 7], 40..50),
            // And becomes a reader.
            claim("a/9-r1", 4, &[8, 10], 50..70),
            claim("a/7-r2", 9, &[9], 60..65),
        ];
        assert_eq!(check_claims(&history, &claims), []);
        claims[3].held = Some(39..50);
        let found = check_claims(&history, &claims);
        assert!(matches!(&found[..], [Violation::Overlap { .. }]), "{found:?}");
        claims[3].held = Some(40..61);
        claims[4].held = None;
        let found = check_claims(&history, &claims);
        assert!(matches!(&found[..], [Violation::Overlap { .. }]), "{found:?}");
    }

    #[test]
    fn permits_are_added_up() {
        let history = fold(&[
            put("a/7-p2.3.1", 2),
            put("a/8-p1.3.1", 3),
            put("a/9-p1.3.1", 4),
            delete("a/7-p2.3.1", 5),
        ]);
        let claims = |third| {
            [
                claim("a/7-p2.3.1", 2, &[4], 10..30),
                claim("a/8-p1.3.1", 3, &[3], 12..50),
                claim("a/9-p1.3.1", 4, &[5], third..60),
            ]
        };
        assert_eq!(check_claims(&history, &claims(30)), []);
        let found = check_claims(&history, &claims(29));
        assert!(matches!(&found[..], [Violation::Overlap { .. }]), "{found:?}");
    }

    #[test]
    fn who_is_served_before_an_older_one_is_reported() {
        let claims = [claim("a/2", 3, &[], 10..20), claim("a/1", 2, &[], 20..30)];
        let found = check_claims(&history(), &claims);
        assert!(matches!(&found[..], [Violation::OutOfTurn { .. }]), "{found:?}");
    }

    #[test]
    fn a_token_that_is_given_twice_is_reported() {
        let claims = [claim("a/1", 2, &[2], 10..20), claim("a/1", 2, &[3], 20..30)];
        let found = check_claims(&history(), &claims);
        assert!(matches!(&found[..], [Violation::TokenTwice { .. }]), "{found:?}");
    }
}
