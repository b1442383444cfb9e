//! What one kind of check has said in a child: enough of it to tell whether any
//! of them was wrong, in one line of text.

use std::fmt;

/// Times are nanoseconds of the boot clock, 0 for never.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Record {
    pub(crate) checks: u64,
    /// When the last check that said "ours" began.
    pub(crate) last_valid: u64,
    /// When the first check that said "lost" began.
    pub(crate) first_lost: u64,
    /// Until when the lock was said to be ours, by any check.
    pub(crate) claimed: u64,
    /// How many checks said "ours" after one had said "lost".
    pub(crate) revivals: u64,
}

impl Record {
    /// Notes a check that began at `began`, and for how long from then it said "ours".
    pub(crate) fn note(&mut self, began: u64, valid_for: Option<u64>) {
        self.checks += 1;
        match valid_for {
            Some(valid_for) => {
                self.last_valid = began;
                self.claimed = self.claimed.max(began + valid_for);
                self.revivals += u64::from(self.first_lost != 0);
            }
            None if self.first_lost == 0 => self.first_lost = began,
            None => {}
        }
    }

    pub(crate) fn parse(words: &mut dyn Iterator<Item = &str>) -> Record {
        let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
        Record {
            checks: number(),
            last_valid: number(),
            first_lost: number(),
            claimed: number(),
            revivals: number(),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record {
            checks,
            last_valid,
            first_lost,
            claimed,
            revivals,
        } = self;
        write!(f, "{checks} {last_valid} {first_lost} {claimed} {revivals}")
    }
}
