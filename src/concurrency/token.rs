//! The fencing token of a lock.

use std::fmt;

use crate::types::Revision;

/// A number that rises with every grant of a lock, for resources that are to
/// refuse a holder that is late: they keep the greatest token they saw, and
/// refuse a smaller one (M. Kleppmann, "How to do distributed locking", 2016).
///
/// It is three numbers, compared one after the other, as `Ord` does: the create_revision of
/// the session's key in etcd; how often the key was taken over since, by another session of the same
/// [owner](super::Mutex::owner); and how often the session has granted it before to tasks of
/// its own, without asking etcd. A resource that stores
///
/// - bytes keeps [`Token::to_be_bytes`], which compare as the tokens do;
/// - a number of 128 bits keeps [`Token::to_u128`];
/// - one number of 64 bits takes locks with
///   [`Mutex::one_token_per_key`](super::Mutex::one_token_per_key), and keeps the
///   create_revision: it is different for each grant then, and the others are always 0.
///
/// ```
/// # fn example(earlier: tenure::Token, later: tenure::Token) {
/// // What is true of two grants of one lock, the earlier one first:
/// assert!(earlier < later);
/// assert!(earlier.to_u128() < later.to_u128());
/// assert!(earlier.to_be_bytes() < later.to_be_bytes());
/// // Equal where it was passed on within a session, or taken over.
/// assert!(earlier.create_revision() <= later.create_revision());
/// # }
/// ```
///
/// As text it is `<create_revision>+<takeovers>.<sequence>`, without what is 0.
/// Texts do not compare as the tokens do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    // In the order in which they are compared.
    created: Revision,
    takeovers: u32,
    sequence: u32,
}

impl Token {
    pub(super) fn new(created: Revision, takeovers: u32, sequence: u32) -> Token {
        Token {
            created,
            takeovers,
            sequence,
        }
    }

    /// The create_revision of the holder's key.
    #[must_use]
    pub fn create_revision(self) -> Revision {
        self.created
    }

    /// How often the key had been taken over by another session of its owner.
    #[must_use]
    pub fn takeovers(self) -> u32 {
        self.takeovers
    }

    /// How often the session had granted the key before.
    #[must_use]
    pub fn sequence(self) -> u32 {
        self.sequence
    }

    /// One number, which is below 2^127.
    #[must_use]
    pub fn to_u128(self) -> u128 {
        // A revision is never negative.
        let created = u128::from(u64::try_from(self.created.0).unwrap_or_default());
        created << 64 | u128::from(self.takeovers) << 32 | u128::from(self.sequence)
    }

    /// The three numbers, big-endian: 8 bytes of revision, 4 of takeovers, 4 of sequence.
    #[must_use]
    pub fn to_be_bytes(self) -> [u8; 16] {
        self.to_u128().to_be_bytes()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.created.fmt(f)?;
        if self.takeovers > 0 {
            write!(f, "+{}", self.takeovers)?;
        }
        match self.sequence {
            0 => Ok(()),
            sequence => write!(f, ".{sequence}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_by_revision_then_by_takeovers_then_by_sequence_in_every_form() {
        let rising = [
            (1, 0, 0),
            (1, 0, 1),
            (1, 0, u32::MAX),
            (1, 1, 0),
            (1, 1, 1),
            (1, u32::MAX, 0),
            (2, 0, 0),
            (255, 7, 0),
            (256, 0, 0),
            (i64::MAX, 0, 1),
        ];
        let rising = rising.map(|(created, over, sequence)| Token::new(Revision(created), over, sequence));
        assert!(rising.is_sorted_by(|a, b| a < b));
        assert!(rising.is_sorted_by(|a, b| a.to_u128() < b.to_u128()));
        assert!(rising.is_sorted_by(|a, b| a.to_be_bytes() < b.to_be_bytes()));
        let texts = rising.map(|token| token.to_string());
        assert_eq!(
            [&texts[0], &texts[1], &texts[3], &texts[4]],
            ["1", "1.1", "1+1", "1+1.1"]
        );
    }
}
