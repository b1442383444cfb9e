//! What a mirror writes down beside the copy: of which source, and how far it has come.

use std::fmt;

use crate::types::Revision;

/// The first word of every one, so that nothing else is taken for one.
const FORM: &str = "tenure-mirror/1";

/// See the module. Written as one line of words, which a person can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The cluster of the source.
    pub cluster_id: u64,
    /// What the source's keys begin with in etcd.
    pub prefix: Vec<u8>,
    /// The source's revision that the copy has come to.
    pub revision: Revision,
    /// What the copy is.
    pub phase: Phase,
    /// Whose it is: another one for each mirror that was begun.
    pub writer: u64,
    /// How many of its transactions came before.
    pub step: u64,
}

/// What a copy is, as its checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Part of it may be older or newer than the revision: it has to be compared.
    Syncing,
    /// It is the source as of the revision, and maybe part of the next one.
    Following,
}

impl Checkpoint {
    /// Reads what [`Checkpoint::to_string`] wrote; `None` where it is something else.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Checkpoint> {
        let text = std::str::from_utf8(value).ok()?;
        let mut words = text.split(' ');
        let form = words.next()?;
        let mut field = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
        let checkpoint = Checkpoint {
            cluster_id: u64::from_str_radix(field("cluster")?, 16).ok()?,
            prefix: unhex(field("prefix")?)?,
            revision: Revision(field("revision")?.parse().ok()?),
            phase: match field("phase")? {
                "syncing" => Phase::Syncing,
                "following" => Phase::Following,
                _ => return None,
            },
            writer: u64::from_str_radix(field("writer")?, 16).ok()?,
            step: field("step")?.parse().ok()?,
        };
        (form == FORM && words.next().is_none()).then_some(checkpoint)
    }

    /// Whether it is of the same source.
    #[must_use]
    pub fn is_of(&self, cluster_id: u64, prefix: &[u8]) -> bool {
        self.cluster_id == cluster_id && self.prefix == prefix
    }

    /// Whether the same transaction wrote both.
    #[must_use]
    pub fn is_same_step(&self, other: &Checkpoint) -> bool {
        (self.writer, self.step) == (other.writer, other.step)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORM} cluster={:x} prefix=", self.cluster_id)?;
        self.prefix.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        let phase = match self.phase {
            Phase::Syncing => "syncing",
            Phase::Following => "following",
        };
        let Checkpoint {
            revision,
            writer,
            step,
            ..
        } = self;
        write!(
            f,
            " revision={revision} phase={phase} writer={writer:x} step={step}"
        )
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    };
    digits.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            cluster_id: 0xcdf8_1819_4e3a_8c32,
            prefix: b"app/ \xff".to_vec(),
            revision: Revision(42),
            phase: Phase::Following,
            writer: u64::MAX,
            step: 7,
        }
    }

    #[test]
    fn what_is_written_down_is_read_again() {
        for phase in [Phase::Syncing, Phase::Following] {
            for prefix in [&b""[..], b"a", b"\0 =\xff"] {
                let written = Checkpoint {
                    phase,
                    prefix: prefix.to_vec(),
                    ..checkpoint()
                };
                assert_eq!(Checkpoint::parse(written.to_string().as_bytes()), Some(written));
            }
        }
    }

    #[test]
    fn anything_else_is_no_checkpoint() {
        let text = checkpoint().to_string();
        for wrong in [
            String::new(),
            text.replace("mirror/1", "mirror/2"),
            text.replace("following", "resting"),
            text.replace("revision=42", "revision=x"),
            text.replace("prefix=61", "prefix=6"),
            format!("{text} more=1"),
            text[..text.len() - 7].to_owned(),
        ] {
            assert_eq!(Checkpoint::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(Checkpoint::parse(b"\xff"), None);
    }
}
