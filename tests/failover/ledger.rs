//! The ledger: what was written, and what its writers were told; and the proof, by
//! the server's own history, that they were told the truth.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tenure::{Client, Delivery, Error, KeyRange};

use crate::load::{READ_TIMEOUT, WRITE_TIMEOUT};

/// What a call may take over its deadline, beside what the machine is late by.
const OVERRUN_MAX: Duration = Duration::from_secs(1);
/// All keys of a ledger.
const KEYS: &str = "ledger/";

/// What a writer was told of its write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Told {
    Applied,
    Refused,
    NotSent,
    Unknown,
}

/// A write of a key that nobody else writes.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) writer: usize,
    pub(crate) number: usize,
    pub(crate) begun: Instant,
    pub(crate) took: Duration,
    pub(crate) told: Told,
    pub(crate) error: Option<Error>,
}

/// A linearizable read of a key whose write was acknowledged.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) reader: usize,
    pub(crate) begun: Instant,
    pub(crate) took: Duration,
    /// How often the key had been written, as the server said.
    pub(crate) version: Result<i64, Error>,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
pub(crate) struct Pages {
    pub(crate) writes: Vec<Write>,
    pub(crate) reads: Vec<Read>,
    /// What a task that does nothing but sleep was late by, at worst.
    pub(crate) lateness: Duration,
}

impl Told {
    pub(crate) fn of(error: Option<&Error>) -> Told {
        match error.map(Error::delivery) {
            None => Told::Applied,
            Some(Delivery::Answered) => Told::Refused,
            Some(Delivery::NotSent) => Told::NotSent,
            Some(Delivery::Unknown) => Told::Unknown,
        }
    }
}

impl Write {
    pub(crate) fn key(&self) -> String {
        key(self.writer, self.number)
    }
}

pub(crate) fn key(writer: usize, number: usize) -> String {
    format!("{KEYS}{writer}/{number}")
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, told, took) = (self.key(), self.told, self.took);
        write!(f, "{key}, {told:?} after {took:?}")?;
        self.error.as_ref().map_or(Ok(()), |error| write!(f, ", {error}"))
    }
}

impl Ledger {
    pub(crate) fn open(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the ledger against what the server has, which is the last word: no
    /// fault is left, and its clients are gone.
    pub(crate) async fn settle(&self, server: &Client) {
        let all = server.get(KeyRange::all()).timeout(READ_TIMEOUT).await.expect("the server's history");
        let mut versions = HashMap::new();
        for kv in &all.kvs {
            let key = String::from_utf8(kv.key.to_vec()).expect("a key of the ledger");
            versions.insert(key, kv.version);
        }
        let pages = self.open();
        println!("{pages}");
        pages.check_deadlines();
        pages.check_reads();
        for write in &pages.writes {
            let version = versions.remove(&write.key()).unwrap_or(0);
            let is_true = match write.told {
                Told::Applied => version == 1,
                Told::Refused | Told::NotSent => version == 0,
                Told::Unknown => version <= 1,
            };
            assert!(is_true, "applied {version} times: {write}");
        }
        assert!(versions.is_empty(), "nobody wrote {versions:?}");
        // Each write is a revision, and the first is 2: nothing came and went either.
        let revision = all.header.expect("a header").revision;
        assert_eq!(
            revision,
            1 + all.kvs.len() as i64,
            "revisions that no write accounts for"
        );
    }
}

impl Pages {
    pub(crate) fn told(&self, told: Told) -> usize {
        self.writes.iter().filter(|write| write.told == told).count()
    }

    /// How far calls went over their deadlines at worst, the failed ones.
    pub(crate) fn overrun(&self) -> Duration {
        let writes = self.writes.iter().map(|write| write.took.saturating_sub(WRITE_TIMEOUT));
        let reads = self.reads.iter().map(|read| read.took.saturating_sub(READ_TIMEOUT));
        writes.chain(reads).max().unwrap_or_default()
    }

    fn check_deadlines(&self) {
        let (overrun, max) = (self.overrun(), OVERRUN_MAX + self.lateness);
        assert!(
            overrun <= max,
            "a call outlasted its deadline by {overrun:?}, the machine is late by {:?}",
            self.lateness
        );
    }

    fn check_reads(&self) {
        for read in &self.reads {
            let is_fresh = matches!(read.version, Ok(1));
            assert!(is_fresh, "an acknowledged write was not there once: {read:?}");
        }
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} writes:", self.writes.len())?;
        for told in [Told::Applied, Told::Refused, Told::NotSent, Told::Unknown] {
            write!(f, " {} {told:?},", self.told(told))?;
        }
        let (reads, overrun, late) = (self.reads.len(), self.overrun(), self.lateness);
        write!(
            f,
            " {reads} reads, over the deadline by {overrun:?}, machine late by {late:?}"
        )?;
        for write in self.writes.iter().filter(|write| write.told != Told::Applied) {
            write!(f, "\n  {write}")?;
        }
        for read in self.reads.iter().filter(|read| read.version.is_err()) {
            write!(f, "\n  {read:?}")?;
        }
        Ok(())
    }
}
