//! What a client says it had, held against the history and against the others.

use std::fmt;
use std::ops::Range;

use crate::history::text;
use crate::{Entry, History, Violation};

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

/// Every claim lies where the history says that its key owned the lock; no two
/// overlap; they were granted in the order of their keys' creation, so first come
/// first served, and with tokens that rise.
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

fn shared_tokens(by_token: &[&Claim]) -> impl Iterator<Item = Violation> {
    let shared = by_token.windows(2).filter(|pair| pair[0].token == pair[1].token);
    shared.map(|pair| Violation::TokenTwice {
        one: pair[0].to_string(),
        other: pair[1].to_string(),
    })
}

/// Of two tokens the greater was held later, so at later revisions.
fn revisions_out_of_order(by_token: &[&Claim]) -> Vec<Violation> {
    let mut last: Option<(i64, &Claim)> = None;
    let mut violations = Vec::new();
    for claim in by_token {
        let (least, greatest) = (claim.revisions.iter().min(), claim.revisions.iter().max());
        let (Some(least), Some(greatest)) = (least, greatest) else {
            continue;
        };
        if let Some((revision, earlier)) = last.filter(|(revision, _)| revision > least) {
            violations.push(Violation::HeldAgain {
                one: earlier.to_string(),
                other: claim.to_string(),
                revision,
            });
        }
        if last.is_none_or(|(revision, _)| revision < *greatest) {
            last = Some((*greatest, claim));
        }
    }
    violations
}

fn overlaps(by_time: &[(&Range<u64>, &Claim)]) -> Vec<Violation> {
    let mut longest: Option<(&Range<u64>, &Claim)> = None;
    let mut violations = Vec::new();
    for (held, claim) in by_time.iter().filter(|(held, _)| !held.is_empty()) {
        if let Some((_, other)) = longest.filter(|(other, _)| other.end > held.start) {
            violations.push(Violation::Overlap {
                one: other.to_string(),
                other: claim.to_string(),
            });
        }
        if longest.is_none_or(|(other, _)| other.end < held.end) {
            longest = Some((held, claim));
        }
    }
    violations
}

fn grants_out_of_order(by_time: &[(&Range<u64>, &Claim)]) -> impl Iterator<Item = Violation> {
    let fell = by_time.windows(2).filter(|pair| pair[0].1.token > pair[1].1.token);
    fell.map(|pair| Violation::OutOfTurn {
        one: pair[0].1.to_string(),
        other: pair[1].1.to_string(),
    })
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
