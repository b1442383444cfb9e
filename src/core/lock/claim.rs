//! What an entry of a queue asks for, and beside which older ones it is granted.
//!
//! Every key of the queue is a claim, and the key itself says which:
//!
//! ```text
//!   <name>/<lease>             exclusive: the mutex, also of other clients
//!   <name>/<lease>-x<n>        exclusive: one of a multi-lock's keys
//!   <name>/<lease>-w<n>        a writer; beside it the same session's -r<n>
//!   <name>/<lease>-r<n>        a reader, or what a writer is once its -w<n> is gone
//!   <name>/<lease>-p<c>.<of>.<n>   c permits of so many
//! ```
//!
//! `n` counts the attempts of a session, so no key but the mutex's is created twice.
//! Whatever does not read as one of these is exclusive: who is not understood has
//! the lock for himself.
//!
//! A claim is granted when the older ones that are still there leave room for it. That
//! is *stable*: nobody gets in front, and what an entry asks for never grows. And it
//! is *safe*: of all that are granted at a moment the youngest was granted beside all
//! the others.

use std::fmt::Write;

use super::rules::{Rule, Rules};
use crate::types::LeaseId;

/// See the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nobody beside it.
    Exclusive,
    /// Nobody beside it, until it becomes a reader.
    Writer,
    /// Other readers beside it.
    Reader,
    /// Others beside it whose permits and its own are not more than there are.
    Permits {
        /// How many it asks for.
        count: u32,
        /// How many there are, as it was told. Where claims differ in that, the
        /// smallest number of those that are there counts.
        of: u32,
    },
}

impl Claim {
    /// What a key asks for, by the part of it behind `<name>/`.
    pub(super) fn of(entry: &[u8]) -> Claim {
        Claim::parse(entry).unwrap_or(Claim::Exclusive)
    }

    fn parse(entry: &[u8]) -> Option<Claim> {
        let (lease, claim) = std::str::from_utf8(entry).ok()?.split_once('-')?;
        if lease.is_empty() || !lease.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let (kind, numbers) = claim.split_at_checked(1)?;
        let mut numbers = numbers.split('.').map(number);
        let claim = match kind {
            "r" => Claim::Reader,
            "w" => Claim::Writer,
            "p" => {
                let (count, of) = (numbers.next()??, numbers.next()??);
                let (count, of) = (count.try_into().ok()?, of.try_into().ok()?);
                if count == 0 || count > of {
                    return None;
                }
                Claim::Permits { count, of }
            }
            _ => return None,
        };
        numbers.next()??;
        numbers.next().is_none().then_some(claim)
    }

    /// The part behind `<name>/` of the key that says it.
    pub(super) fn entry(self, lease: LeaseId, attempt: u64) -> String {
        let mut entry = format!("{lease}-");
        let written = match self {
            Claim::Exclusive => write!(entry, "x{attempt}"),
            Claim::Writer => write!(entry, "w{attempt}"),
            Claim::Reader => write!(entry, "r{attempt}"),
            Claim::Permits { count, of } => write!(entry, "p{count}.{of}.{attempt}"),
        };
        debug_assert!(written.is_ok(), "a string takes everything");
        entry
    }

    /// Whether an older entry of this kind can be in its way at all.
    pub(super) fn minds(self, rules: Rules, older: Claim) -> bool {
        match self {
            Claim::Reader => older != Claim::Reader && rules.keep(Rule::OlderWriters),
            _ => true,
        }
    }

    /// Whether it is to be granted beside these, all the older ones that it minds.
    pub(super) fn fits(self, rules: Rules, mut older: impl Iterator<Item = Claim>) -> bool {
        let Claim::Permits { count, of } = self else {
            return older.next().is_none();
        };
        let own = if rules.keep(Rule::OwnPermits) { count } else { 0 };
        let (mut taken, mut room) = (u64::from(own), of);
        for claim in older {
            let Claim::Permits { count, of } = claim else {
                return false;
            };
            taken += u64::from(count);
            room = room.min(of);
        }
        taken <= u64::from(room)
    }
}

/// Digits and nothing else: no sign, no space.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(count: u32, of: u32) -> Claim {
        Claim::Permits { count, of }
    }

    fn fits(claim: Claim, older: &[Claim]) -> bool {
        claim.fits(Rules::default(), older.iter().copied())
    }

    #[test]
    fn a_key_says_what_was_asked_for() {
        for claim in [
            Claim::Exclusive,
            Claim::Writer,
            Claim::Reader,
            permits(3, 10),
            permits(u32::MAX, u32::MAX),
        ] {
            let entry = claim.entry(LeaseId(0x77ab), u64::MAX);
            assert_eq!(Claim::of(entry.as_bytes()), claim, "{entry}");
        }
    }

    #[test]
    fn what_does_not_read_as_a_claim_is_exclusive() {
        for entry in [
            "",
            "77",
            "77-",
            "77-r",
            "77-rx",
            "77-r+1",
            "77-r1.2",
            "my-r1",
            "-r1",
            "77-R1",
            "77-s1",
            "77-p1",
            "77-p1.2",
            "77-p3.2.1",
            "77-p0.2.1",
            "77-p1.2.3.4",
            "77-p1.99999999999.1",
            "77-r1 ",
            "77-ä1",
            "77-r99999999999999999999",
        ] {
            assert_eq!(Claim::of(entry.as_bytes()), Claim::Exclusive, "{entry:?}");
        }
        assert_eq!(Claim::of(b"77-r\xff"), Claim::Exclusive);
    }

    #[test]
    fn a_reader_minds_everybody_but_readers() {
        let minds = |older| Claim::Reader.minds(Rules::default(), older);
        assert!(!minds(Claim::Reader));
        assert!(minds(Claim::Writer) && minds(Claim::Exclusive) && minds(permits(1, 2)));
    }

    #[test]
    fn permits_fit_as_long_as_all_of_them_are_not_more_than_there_are() {
        assert!(fits(permits(2, 3), &[]));
        assert!(fits(permits(2, 3), &[permits(1, 3)]));
        assert!(!fits(permits(2, 3), &[permits(1, 3), permits(1, 3)]));
        assert!(!fits(permits(1, 9), &[Claim::Exclusive]));
        assert!(!fits(permits(u32::MAX, u32::MAX), &[permits(u32::MAX, u32::MAX)]));
    }

    #[test]
    fn where_claims_differ_in_how_many_permits_there_are_the_smallest_number_counts() {
        assert!(!fits(permits(2, 9), &[permits(2, 3)]));
        assert!(!fits(permits(2, 3), &[permits(2, 9)]));
        assert!(fits(permits(1, 9), &[permits(2, 3)]));
    }
}
