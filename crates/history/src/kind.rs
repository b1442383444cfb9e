//! What an entry of a queue asks for, read out of its key, and beside which older ones
//! it has that. Written down from the documentation of the keys, not from the client.
//!
//! ```text
//!   <lease>-w<n>             a writer; the same attempt has an -r<n> as well
//!   <lease>-r<n>             a reader, or what is left of a writer that became one
//!   <lease>-p<c>.<of>.<n>    c permits of so many
//!   anything else            alone
//! ```

/// What an entry of a queue asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nobody else: a mutex, a writer, a candidate, a part of a multi-lock, a stranger.
    Alone,
    /// Nobody but readers.
    Reader,
    /// Nobody but others with permits, all together no more than anyone says there are.
    Permits {
        /// How many.
        count: u32,
        /// How many there are, as it says.
        of: u32,
    },
}

impl Kind {
    /// By the part of the key behind `<name>/`.
    #[must_use]
    pub fn of(entry: &[u8]) -> Kind {
        let parts = || {
            let (lease, claim) = std::str::from_utf8(entry).ok()?.split_once('-')?;
            let is_lease = !lease.is_empty() && lease.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_lease.then_some(claim)
        };
        let Some(claim) = parts() else {
            return Kind::Alone;
        };
        if let Some(number) = claim.strip_prefix('r') {
            return if is_number(number) {
                Kind::Reader
            } else {
                Kind::Alone
            };
        }
        let numbers: Option<Vec<&str>> = claim.strip_prefix('p').map(|numbers| numbers.split('.').collect());
        match numbers.as_deref() {
            Some([count, of, number]) if [count, of, number].iter().all(|text| is_number(text)) => {
                match (count.parse(), of.parse()) {
                    (Ok(count @ 1..), Ok(of)) if count <= of => Kind::Permits { count, of },
                    _ => Kind::Alone,
                }
            }
            _ => Kind::Alone,
        }
    }

    /// Whether these can have it at the same time.
    pub(crate) fn fit(all: impl Iterator<Item = Kind> + Clone) -> bool {
        let mut count = 0_u64;
        let mut room = u64::MAX;
        for kind in all.clone() {
            if let Kind::Permits { count: more, of } = kind {
                count += u64::from(more);
                room = room.min(of.into());
            }
        }
        let others = all.clone().filter(|kind| !matches!(kind, Kind::Permits { .. }));
        let readers = all.clone().filter(|kind| *kind == Kind::Reader);
        match all.count() {
            0 | 1 => true,
            held if readers.count() == held => true,
            _ => others.count() == 0 && count <= room,
        }
    }

    /// Whether it has what it asks for beside these older ones that are still there. A
    /// reader is in no reader's way, whoever that one waits for.
    pub(crate) fn fits(self, older: impl Iterator<Item = Kind> + Clone) -> bool {
        match self {
            Kind::Alone => older.count() == 0,
            Kind::Reader => older.clone().all(|kind| kind == Kind::Reader),
            Kind::Permits { .. } => Kind::fit(older.chain([self])),
        }
    }
}

/// Digits alone, and such as 64 bits take.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok()
}

/// The attempt that a key belongs to, where it has several: a writer's two keys.
pub(crate) fn attempt(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = key.iter().rposition(|byte| *byte == b'-')?;
    let (lease, claim) = (&key[..at], &key[at + 1..]);
    let number = claim.strip_prefix(b"w").or_else(|| claim.strip_prefix(b"r"))?;
    Some((lease, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(count: u32, of: u32) -> Kind {
        Kind::Permits { count, of }
    }

    #[test]
    fn a_key_says_what_it_asks_for() {
        assert_eq!(Kind::of(b"77ab-r12"), Kind::Reader);
        assert_eq!(Kind::of(b"77ab-p2.3.9"), permits(2, 3));
        for alone in [
            "77ab",
            "77ab-w1",
            "77ab-x1",
            "77ab-r",
            "77ab-r1x",
            "zz-r1",
            "-r1",
            "77ab-p0.3.1",
            "77ab-p4.3.1",
            "77ab-p1.3",
            "77ab-p+1.3.1",
            "77ab-p1.3.1.1",
        ] {
            assert_eq!(Kind::of(alone.as_bytes()), Kind::Alone, "{alone}");
        }
    }

    #[test]
    fn who_is_older_leaves_room_or_does_not() {
        let fits = |kind: Kind, older: &[Kind]| kind.fits(older.iter().copied());
        assert!(fits(Kind::Alone, &[]) && !fits(Kind::Alone, &[Kind::Reader]));
        assert!(fits(Kind::Reader, &[Kind::Reader]) && !fits(Kind::Reader, &[Kind::Alone]));
        assert!(!fits(Kind::Reader, &[permits(1, 3)]) && !fits(permits(1, 3), &[Kind::Reader]));
        assert!(fits(permits(1, 3), &[permits(2, 3)]) && !fits(permits(2, 3), &[permits(2, 3)]));
        assert!(
            !fits(permits(2, 9), &[permits(2, 3)]),
            "the smallest number counts"
        );
    }

    #[test]
    fn the_two_keys_of_a_writer_are_one_attempt() {
        assert_eq!(attempt(b"a/77-w3"), attempt(b"a/77-r3"));
        assert_ne!(attempt(b"a/77-w3"), attempt(b"a/77-r4"));
        assert_ne!(attempt(b"a/77-w3"), attempt(b"a/78-r3"));
        assert_eq!(attempt(b"a/77"), None);
        assert_eq!(attempt(b"a/77-x3"), None);
    }
}
