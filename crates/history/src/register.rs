//! A register that fences: it keeps the greatest token that it was written with,
//! and refuses a write with a smaller one.

use std::collections::{HashMap, HashSet};

use crate::{Claim, Token, Violation};

/// One call that writes to the register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// A number that no other write has.
    pub id: u64,
    /// The token that it was sent with.
    pub token: Token,
    /// When it was sent.
    pub called: u64,
    /// When the answer came, or the caller gave up.
    pub returned: u64,
    /// What the answer was.
    pub outcome: Outcome,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The register took it.
    Applied,
    /// The register refused its token.
    Refused,
    /// There was no answer: it may have been applied, and may still be.
    Unknown,
}

/// What the register took, out of its own history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The [`Write::id`].
    pub id: u64,
    /// The token.
    pub token: Token,
}

/// The calls, the grants they were made under and the register's own history, in
/// its order, agree: tokens in the register never fall, a grant's token is above
/// every token that was written before it, a write is refused only because of a
/// greater token, and what was answered is what happened, once. A call of unknown
/// fate may have happened at any time after it was sent, or not.
#[must_use]
pub fn check_register(writes: &[Write], claims: &[Claim], stored: &[Stored]) -> Vec<Violation> {
    let mut violations = answers_against_history(writes, stored);
    violations.extend(falling_tokens(stored));
    violations.extend(late_writes(writes));
    violations.extend(low_grants(writes, claims));
    violations.extend(needless_refusals(writes));
    violations
}

fn answers_against_history(writes: &[Write], stored: &[Stored]) -> Vec<Violation> {
    let known: HashMap<u64, &Write> = writes.iter().map(|write| (write.id, write)).collect();
    let mut violations = Vec::new();
    let mut seen = HashSet::new();
    for Stored { id, token } in stored {
        match known.get(id) {
            Some(write) if write.outcome == Outcome::Refused => {
                violations.push(Violation::RefusedAndStored { id: *id });
            }
            Some(write) if write.token == *token => {}
            _ => violations.push(Violation::StoredByNobody { id: *id }),
        }
        if !seen.insert(*id) {
            violations.push(Violation::StoredTwice { id: *id });
        }
    }
    let applied = writes.iter().filter(|write| write.outcome == Outcome::Applied);
    let lost = applied.filter(|write| !seen.contains(&write.id));
    violations.extend(lost.map(|write| Violation::WriteLost { id: write.id }));
    violations
}

fn falling_tokens(stored: &[Stored]) -> impl Iterator<Item = Violation> {
    let fell = stored.windows(2).filter(|pair| pair[0].token > pair[1].token);
    fell.map(|pair| Violation::StaleWrite {
        id: pair[1].id,
        token: pair[1].token,
        greater: pair[0].token,
    })
}

/// Applied, though a greater token had been written before it was sent.
fn late_writes(writes: &[Write]) -> Vec<Violation> {
    let mut before = Greatest::of(applied(writes).map(|write| (write.returned, write.token)));
    let mut calls: Vec<&Write> = applied(writes).collect();
    calls.sort_by_key(|write| write.called);
    let late = calls.into_iter().filter_map(|write| {
        let greater = before.before(write.called).filter(|greatest| *greatest > write.token)?;
        Some(Violation::StaleWrite {
            id: write.id,
            token: write.token,
            greater,
        })
    });
    late.collect()
}

/// Granted, though a write with this token or a greater one had been applied before.
fn low_grants(writes: &[Write], claims: &[Claim]) -> Vec<Violation> {
    let mut before = Greatest::of(applied(writes).map(|write| (write.returned, write.token)));
    let mut grants: Vec<(u64, &Claim)> =
        claims.iter().filter_map(|claim| Some((claim.held.as_ref()?.start, claim))).collect();
    grants.sort_by_key(|(granted, _)| *granted);
    let low = grants.into_iter().filter_map(|(granted, claim)| {
        let written = before.before(granted).filter(|greatest| *greatest >= claim.token)?;
        Some(Violation::LowGrant {
            claim: claim.to_string(),
            written,
        })
    });
    low.collect()
}

/// Refused, though nothing with a greater token was sent before the answer.
fn needless_refusals(writes: &[Write]) -> Vec<Violation> {
    let possible = writes.iter().filter(|write| write.outcome != Outcome::Refused);
    let mut before = Greatest::of(possible.map(|write| (write.called, write.token)));
    let mut refused: Vec<&Write> = writes.iter().filter(|write| write.outcome == Outcome::Refused).collect();
    refused.sort_by_key(|write| write.returned);
    let needless = refused.into_iter().filter(|write| {
        let greatest = before.before(write.returned);
        greatest.is_none_or(|greatest| greatest <= write.token)
    });
    needless
        .map(|write| Violation::NeedlessRefusal {
            id: write.id,
            token: write.token,
        })
        .collect()
}

fn applied(writes: &[Write]) -> impl Iterator<Item = &Write> {
    writes.iter().filter(|write| write.outcome == Outcome::Applied)
}

/// The greatest token up to a time, asked for with times that rise.
struct Greatest {
    /// The earliest last.
    later: Vec<(u64, Token)>,
    greatest: Option<Token>,
}

impl Greatest {
    fn of(tokens: impl Iterator<Item = (u64, Token)>) -> Greatest {
        let mut later: Vec<(u64, Token)> = tokens.collect();
        later.sort_by(|one, other| other.cmp(one));
        Greatest {
            later,
            greatest: None,
        }
    }

    fn before(&mut self, time: u64) -> Option<Token> {
        while let Some((_, token)) = self.later.last().filter(|(at, _)| *at < time) {
            self.greatest = self.greatest.max(Some(*token));
            self.later.pop();
        }
        self.greatest
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    fn token(created: i64) -> Token {
        Token { created, sequence: 0 }
    }

    fn write(id: u64, created: i64, times: Range<u64>, outcome: Outcome) -> Write {
        Write {
            id,
            token: token(created),
            called: times.start,
            returned: times.end,
            outcome,
        }
    }

    fn stored(ids: &[(u64, i64)]) -> Vec<Stored> {
        ids.iter()
            .map(|&(id, created)| Stored {
                id,
                token: token(created),
            })
            .collect()
    }

    fn granted(created: i64, at: u64) -> Claim {
        Claim {
            client: "one".to_owned(),
            key: b"a/1".to_vec(),
            token: token(created),
            revisions: Vec::new(),
            held: Some(at..at + 1),
        }
    }

    #[test]
    fn a_register_that_fences_is_right() {
        let writes = [
            write(1, 5, 10..12, Outcome::Applied),
            write(2, 5, 12..14, Outcome::Unknown),
            write(3, 8, 20..22, Outcome::Applied),
            write(4, 5, 21..24, Outcome::Refused),
            // Sent before the greater one had returned: it may have come first.
            write(5, 5, 21..30, Outcome::Applied),
            write(6, 8, 40..42, Outcome::Unknown),
        ];
        let claims = [granted(5, 9), granted(8, 19)];
        let took = stored(&[(1, 5), (5, 5), (3, 8), (6, 8)]);
        assert_eq!(check_register(&writes, &claims, &took), []);
    }

    #[test]
    fn a_write_behind_a_greater_token_is_reported() {
        let writes = [
            write(1, 8, 10..12, Outcome::Applied),
            write(2, 5, 13..14, Outcome::Applied),
        ];
        let found = check_register(&writes, &[], &stored(&[(2, 5), (1, 8)]));
        assert!(
            matches!(&found[..], [Violation::StaleWrite { id: 2, .. }]),
            "by the calls: {found:?}"
        );
        let writes = writes.map(|write| Write { called: 1, ..write });
        let found = check_register(&writes, &[], &stored(&[(1, 8), (2, 5)]));
        assert!(
            matches!(&found[..], [Violation::StaleWrite { id: 2, .. }]),
            "by the history: {found:?}"
        );
    }

    #[test]
    fn a_grant_that_is_not_above_what_was_written_is_reported() {
        let writes = [write(1, 8, 10..12, Outcome::Applied)];
        for created in [7, 8] {
            let found = check_register(&writes, &[granted(created, 13)], &stored(&[(1, 8)]));
            assert!(matches!(&found[..], [Violation::LowGrant { .. }]), "{found:?}");
        }
        for right in [granted(9, 13), granted(8, 9)] {
            assert_eq!(check_register(&writes, &[right], &stored(&[(1, 8)])), []);
        }
    }

    #[test]
    fn a_refusal_without_a_greater_token_is_reported() {
        let refused = write(2, 5, 20..22, Outcome::Refused);
        for other in [
            write(1, 5, 10..12, Outcome::Applied),
            write(1, 8, 23..24, Outcome::Unknown),
            write(1, 8, 10..12, Outcome::Refused),
        ] {
            let took = if other.outcome == Outcome::Applied {
                stored(&[(1, 5)])
            } else {
                Vec::new()
            };
            let found = check_register(&[other, refused.clone()], &[], &took);
            let needless = |found: &&Violation| matches!(found, Violation::NeedlessRefusal { id: 2, .. });
            assert_eq!(found.iter().filter(needless).count(), 1, "{found:?}");
        }
        // What has no answer may well have been what was in the way.
        let open = write(1, 8, 10..12, Outcome::Unknown);
        assert_eq!(check_register(&[open, refused], &[], &[]), []);
    }

    #[test]
    fn answers_that_the_history_contradicts_are_reported() {
        let write = write(1, 5, 10..12, Outcome::Applied);
        let check = |outcome, took: &[(u64, i64)]| {
            let write = Write {
                outcome,
                ..write.clone()
            };
            let (greater, claims) = (self::write(9, 9, 1..2, Outcome::Unknown), [granted(5, 3)]);
            check_register(&[write, greater], &claims, &stored(took))
        };
        assert_eq!(check(Outcome::Applied, &[(1, 5)]), []);
        assert_eq!(check(Outcome::Unknown, &[(1, 5)]), []);
        assert_eq!(check(Outcome::Unknown, &[]), []);
        assert_eq!(check(Outcome::Refused, &[]), []);
        assert_eq!(check(Outcome::Applied, &[]), [Violation::WriteLost { id: 1 }]);
        assert_eq!(
            check(Outcome::Refused, &[(1, 5)]),
            [Violation::RefusedAndStored { id: 1 }]
        );
        assert_eq!(
            check(Outcome::Unknown, &[(1, 5), (1, 5)]),
            [Violation::StoredTwice { id: 1 }]
        );
        assert_eq!(
            check(Outcome::Applied, &[(1, 6)]),
            [Violation::StoredByNobody { id: 1 }]
        );
        assert_eq!(
            check(Outcome::Applied, &[(1, 5), (2, 6)]),
            [Violation::StoredByNobody { id: 2 }]
        );
    }
}
