//! What a task notes: what it had and from when to when, what it wrote, and what became
//! of it. A line of text each, for it comes from another process.

use std::fmt;
use std::ops::Range;

use tenure_history::{Outcome, Token, Write};

#[derive(Clone, Debug)]
pub(crate) enum Note {
    /// A session was opened.
    Lease(i64),
    /// The server did not know a lease any more that was believed in.
    Unknown(i64),
    Held(Hold),
    /// A write of one of the names' registers.
    Wrote(String, Write),
    /// The guard was valid after its fence was refused: its key, its lease, and what is known of that.
    Gone(String, i64, String),
    /// An item was put, at this revision if that is known.
    Put(String, Option<i64>),
    Took(Take),
    /// Something that is counted only.
    Count(String),
}

/// One hold, of one name or of several at once.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) recipe: String,
    pub(crate) client: String,
    pub(crate) names: Vec<String>,
    /// What stands behind `<name>/` in its keys.
    pub(crate) entry: String,
    pub(crate) token: Token,
    /// While it looked whether it is held: from the grant to when the last look began that said so.
    pub(crate) held: Option<Range<u64>>,
    /// To when it acted without looking.
    pub(crate) acted: Option<Range<u64>>,
    /// Of its fenced writes.
    pub(crate) revisions: Vec<i64>,
}

/// An item of the queue that somebody worked on.
#[derive(Clone, Debug)]
pub(crate) struct Take {
    pub(crate) lease: i64,
    /// When the item was put.
    pub(crate) item: i64,
    pub(crate) held: Range<u64>,
    /// What came of it; `None` if it was given back, or dropped.
    pub(crate) done: Option<Outcome>,
}

impl Hold {
    /// The lease that its keys hang on.
    pub(crate) fn lease(&self) -> i64 {
        let lease = self.entry.split('-').next().unwrap_or_default();
        i64::from_str_radix(lease, 16).expect("a key of ours")
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Lease(lease) => write!(f, "lease {lease}"),
            Note::Unknown(lease) => write!(f, "unknown {lease}"),
            Note::Held(hold) => {
                let Hold {
                    recipe,
                    client,
                    names,
                    entry,
                    token,
                    revisions,
                    ..
                } = hold;
                let revisions: Vec<String> = revisions.iter().map(ToString::to_string).collect();
                write!(f, "held {recipe} {client} {} {entry} {token} ", names.join(","))?;
                write!(f, "{} {} ", Span(&hold.held), Span(&hold.acted))?;
                write!(f, "{}", revisions.join(","))
            }
            Note::Wrote(name, write) => {
                let Write {
                    id,
                    token,
                    called,
                    returned,
                    outcome,
                } = write;
                write!(f, "wrote {name} {id} {token} {called} {returned} {outcome:?}")
            }
            Note::Gone(key, lease, known) => write!(f, "gone {key} {lease} {known}"),
            Note::Put(value, revision) => write!(f, "put {value} {}", revision.unwrap_or(0)),
            Note::Took(take) => {
                let Take {
                    lease,
                    item,
                    held,
                    done,
                } = take;
                write!(f, "took {lease} {item} {}-{} ", held.start, held.end)?;
                match done {
                    Some(outcome) => write!(f, "{outcome:?}"),
                    None => write!(f, "None"),
                }
            }
            Note::Count(what) => write!(f, "count {what}"),
        }
    }
}

struct Span<'a>(&'a Option<Range<u64>>);

impl fmt::Display for Span<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(span) => write!(f, "{}-{}", span.start, span.end),
            None => write!(f, "0-0"),
        }
    }
}

impl Note {
    /// `None` for what is no note.
    pub(crate) fn parse(line: &str) -> Option<Note> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let mut word = || words.next();
        Some(match kind {
            "lease" => Note::Lease(word()?.parse().ok()?),
            "unknown" => Note::Unknown(word()?.parse().ok()?),
            "held" => Note::Held(Hold {
                recipe: word()?.to_owned(),
                client: word()?.to_owned(),
                names: word()?.split(',').map(str::to_owned).collect(),
                entry: word()?.to_owned(),
                token: token(word()?)?,
                held: span(word()?)?,
                acted: span(word()?)?,
                revisions: word()?.split(',').filter_map(|text| text.parse().ok()).collect(),
            }),
            "wrote" => Note::Wrote(
                word()?.to_owned(),
                Write {
                    id: word()?.parse().ok()?,
                    token: token(word()?)?,
                    called: word()?.parse().ok()?,
                    returned: word()?.parse().ok()?,
                    outcome: outcome(word()?)?,
                },
            ),
            "gone" => Note::Gone(word()?.to_owned(), word()?.parse().ok()?, word()?.to_owned()),
            "put" => Note::Put(
                word()?.to_owned(),
                Some(word()?.parse().ok()?).filter(|at| *at > 0),
            ),
            "took" => Note::Took(Take {
                lease: word()?.parse().ok()?,
                item: word()?.parse().ok()?,
                held: span(word()?)?.unwrap_or(0..0),
                done: outcome(word()?),
            }),
            "count" => Note::Count(word()?.to_owned()),
            _ => return None,
        })
    }
}

pub(crate) fn token(text: &str) -> Option<Token> {
    let (created, sequence) = text.split_once('.')?;
    Some(Token {
        created: created.parse().ok()?,
        sequence: sequence.parse().ok()?,
    })
}

fn span(text: &str) -> Option<Option<Range<u64>>> {
    let (start, end) = text.split_once('-')?;
    let span: Range<u64> = start.parse().ok()?..end.parse().ok()?;
    Some(Some(span).filter(|span| span.start > 0))
}

fn outcome(text: &str) -> Option<Outcome> {
    [Outcome::Applied, Outcome::Refused, Outcome::Unknown]
        .into_iter()
        .find(|outcome| format!("{outcome:?}") == text)
}
