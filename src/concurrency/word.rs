//! The state word of one lock in one session: whether the session has the lock's
//! key in etcd, what may be done with it, and who among the session's tasks has it.
//!
//! ```text
//!              take              granted                  end: passed, lingers
//!   Nothing ---------> Registering -----> Held(s) --------------------------> Idle(s)
//!      ^                   |             |   ^ ^  take: s + 1, no request        | |
//!      |                   | end     end |   | '---------------------------------' |
//!      |  freed            v             |   |                                     |
//!      '-------------- Releasing <-------'   '-- lose --> Lost <-- lose -----------|
//!                          ^                               |   take, collect       |
//!                          '-------------------------------+-----------------------'
//! ```
//!
//! There is one *turn*, which the caller keeps: a permit of the local queue. Registering, Held
//! and Releasing belong to who has it. In Nothing, Idle and Lost nobody needs to. All that
//! changes the state demands the turn, but for [`Word::lose`]; the counter of waiters
//! and the marks anybody may change, at any time.
//!
//! Why at most one task has the lock: it has the turn, and the word said Idle or
//! Nothing. Why none has it any more when the key is deleted: that is asked for in
//! Releasing only, which one step enters, and nothing is granted there.
//!
//! Why no key stays behind: Idle, with nobody waiting and not lingering, is *unclaimed*.
//! Whoever brings that about, and whoever gives the turn back, asks
//! [`Word::collect`] afterwards. It takes the turn and goes to Releasing; where somebody
//! else has the turn, that one asks later.

use super::atomics::{AtomicI64, AtomicU64, Ordering, fence};

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Word {
    /// From the lowest bit: the tag, the marks, how many wait, the local sequence s.
    word: AtomicU64,
    /// What tells the key from others, a revision: that of its creation, or where it can be taken over that of
    /// its last put. Written only while Registering.
    mark: AtomicI64,
    /// When the key was granted, in nanoseconds of the boot clock; written as `mark` is.
    since: AtomicU64,
    /// The last revision at which the own key was deleted, as far as that was heard.
    deleted: AtomicI64,
    #[cfg(test)]
    pub(super) off: Option<Rule>,
}

/// What a task with the turn is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The lock is held: the key's mark, and how often it was granted again.
    Granted(i64, u32),
    /// There is no key: Registering.
    Fresh,
    /// The key that is there is not to be granted: Releasing.
    Stale,
}

/// Until when a key is kept for the session's own tasks. Times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// It is handed over so many times at most.
    pub(super) handed_max: u32,
    /// And while it has been ours for no longer than this.
    pub(super) handed_time_max: u64,
    /// How long it stays ours when nobody here wants it; 0: not at all.
    pub(super) linger: u64,
    /// For how long it may be ours while nobody calls it back.
    pub(super) kept_time_max: u64,
    /// Each grant has a key of its own.
    pub(super) one_token_per_key: bool,
}

/// What the recall watch does to the word at a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Nothing,
    Lingers,
    Other,
}

const TAG: u64 = 0b111;
const NOTHING: u64 = 0;
const REGISTERING: u64 = 1;
const HELD: u64 = 2;
const IDLE: u64 = 3;
const RELEASING: u64 = 4;
const LOST: u64 = 5;

/// A recall watch hears whoever registers elsewhere. It outlives the key.
const WATCHED: u64 = 1 << 3;
/// Somebody elsewhere waits.
const RECALLED: u64 = 1 << 4;
/// The key may stay Idle without a waiter. Only with WATCHED and without RECALLED.
const LINGERS: u64 = 1 << 5;
/// The key is not to be granted again.
const UNCLEAN: u64 = 1 << 6;

const WAITER: u64 = 1 << 7;
const WAITERS: u64 = (GRANT - 1) & !(WAITER - 1);
/// One step of s, the highest 32 bits.
const GRANT: u64 = 1 << 32;

/// A rule that a test can put out of force, to show that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A step is taken from the state that it was decided on, or not at all.
    Compare,
    /// Who gives the turn back and who makes a key unclaimed see one another.
    Fence,
    /// Nothing is granted in Releasing.
    Releasing,
    /// There is no lingering without a watch.
    Watched,
}

impl Word {
    pub(super) fn new() -> Word {
        Word {
            word: AtomicU64::new(NOTHING),
            mark: AtomicI64::new(0),
            since: AtomicU64::new(0),
            deleted: AtomicI64::new(0),
            #[cfg(test)]
            off: None,
        }
    }

    /// Somebody may have left a key that is not to be granted.
    pub(super) fn inheriting() -> Word {
        Word {
            word: AtomicU64::new(LOST),
            ..Word::new()
        }
    }

    /// One more waits for the turn. Not where the counter is full; that one is not
    /// passed a key, but waits until the turn is free.
    pub(super) fn enter(&self) -> bool {
        self.change(|word| (word & WAITERS != WAITERS).then_some(word + WAITER)).is_ok()
    }

    /// One that entered waits no more. [`Word::collect`] is to be called.
    pub(super) fn leave(&self) {
        self.word.fetch_sub(WAITER, Ordering::AcqRel);
    }

    /// What the turn is worth to a task that has it. `entered`: it had entered, and
    /// does not wait any more. `valid`: the deadline has not passed. `alone`: it wants
    /// a key that nobody had before.
    pub(super) fn take(&self, entered: bool, valid: bool, alone: bool) -> Taken {
        let left = if entered { WAITER } else { 0 };
        let taken = self.change(|word| {
            let word = word - left;
            Some(match word & TAG {
                NOTHING => (word & (WATCHED | WAITERS)) | REGISTERING,
                IDLE if valid && !alone => ((word + GRANT) & !(TAG | LINGERS)) | HELD,
                RELEASING if !self.keeps(Rule::Releasing) => ((word + GRANT) & !TAG) | HELD,
                _ => (word & !(TAG | LINGERS)) | RELEASING,
            })
        });
        let word = taken.unwrap_or(RELEASING);
        match word & TAG {
            HELD => Taken::Granted(self.mark.load(Ordering::Relaxed), sequence(word)),
            REGISTERING => Taken::Fresh,
            _ => Taken::Stale,
        }
    }

    /// The key is ours. Only while Registering. Says false where it is lost already.
    pub(super) fn granted(&self, mark: i64, now: u64) -> bool {
        // Relaxed: who reads them has seen Held or Idle, which is written after.
        self.mark.store(mark, Ordering::Relaxed);
        self.since.store(now, Ordering::Relaxed);
        let _ = self.change(|word| Some((word & !TAG) | HELD));
        // Its end may have been heard before its beginning. See `lose`.
        let is_lost = self.deleted.load(Ordering::Relaxed) > mark;
        if is_lost {
            self.taint();
        }
        !is_lost
    }

    /// Whoever has the turn is done. Where this says true, the key stays for the next
    /// of the session: the turn is to be given back, and [`Word::collect`] called. Else it is Releasing.
    pub(super) fn end(&self, now: u64, valid: bool, terms: &Terms) -> bool {
        let age = now.saturating_sub(self.since.load(Ordering::Relaxed));
        let ended = self.change(|word| {
            let kept = match word & TAG {
                HELD if valid && word & UNCLEAN == 0 => self.kept(word, age, terms),
                _ => None,
            };
            Some((word & !TAG) | kept.unwrap_or(RELEASING))
        });
        ended.is_ok_and(|word| word & TAG == IDLE)
    }

    /// Nothing of the key is left. Only with the turn.
    pub(super) fn freed(&self) {
        let _ = self.change(|word| Some(word & (WATCHED | WAITERS)));
    }

    /// The key that is there is not to be granted again. Only by its holder.
    pub(super) fn taint(&self) {
        self.word.fetch_or(UNCLEAN, Ordering::AcqRel);
    }

    /// The watch hears everybody from now on. `others`: there may be somebody already
    /// who waits for the key that we have or are about to have. That calls it back, as
    /// [`Word::recall`] does, and is answered so.
    pub(super) fn watched(&self, others: bool) -> Option<u32> {
        // In this order, so that it never lingers meanwhile.
        let regrants = if others { self.recall() } else { None };
        self.word.fetch_or(WATCHED, Ordering::AcqRel);
        regrants
    }

    /// The watch hears no more. [`Word::collect`] is to be called.
    pub(super) fn unwatched(&self) {
        self.word.fetch_and(!(WATCHED | LINGERS), Ordering::AcqRel);
    }

    /// Somebody elsewhere waits. Where that calls back a key, how often that has been granted
    /// again; [`Word::collect`] is to be called. A key that is still asked for is called
    /// back too, for who waits may be behind it.
    pub(super) fn recall(&self) -> Option<u32> {
        let recalled = self.change(|word| match word & TAG {
            NOTHING | RELEASING => None,
            _ if word & RECALLED != 0 => None,
            _ => Some((word & !LINGERS) | RECALLED),
        });
        recalled.ok().map(sequence)
    }

    /// The own key was deleted at this revision, by somebody. It is final for the key that was
    /// ours then; [`Word::collect`] is to be called. A later key may be taken for it, which costs a
    /// register and no more. Says whether somebody had the lock.
    pub(super) fn lose(&self, deleted: i64) -> bool {
        self.deleted.fetch_max(deleted, Ordering::Relaxed);
        let mut was_held = false;
        // Written also where it does not change: then whoever makes it Held sees the revision.
        let _ = self.change(|word| {
            let is_lost = matches!(word & TAG, HELD | IDLE) && self.mark.load(Ordering::Relaxed) < deleted;
            was_held = is_lost && word & TAG == HELD;
            Some(match is_lost {
                true => (word & !(TAG | LINGERS)) | LOST,
                false => word,
            })
        });
        was_held
    }

    pub(super) fn in_use(&self) -> Use {
        let word = self.load();
        match word & TAG {
            NOTHING => Use::Nothing,
            IDLE if word & LINGERS != 0 => Use::Lingers,
            _ => Use::Other,
        }
    }

    /// The key has lingered long enough. [`Word::collect`] is to be called.
    pub(super) fn let_go(&self) {
        self.word.fetch_and(!LINGERS, Ordering::AcqRel);
    }

    /// Takes the turn for a key that is unclaimed, if there is one: the caller is to have it deleted.
    pub(super) fn collect<T>(&self, mut take_turn: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            // One gives the turn back and looks at the word, another changes the word and
            // looks for the turn. Between these fences, one of them sees the other.
            if self.keeps(Rule::Fence) {
                fence(Ordering::SeqCst);
            }
            if !is_unclaimed(self.load()) {
                return None;
            }
            let turn = take_turn()?;
            let collected = self.change(|word| is_unclaimed(word).then_some((word & !TAG) | RELEASING));
            if collected.is_ok() {
                return Some(turn);
            }
            // Somebody may have looked for the turn meanwhile.
            drop(turn);
        }
    }

    /// Asserts what always holds.
    #[cfg(test)]
    #[allow(dead_code, reason = "for who includes this file")]
    pub(super) fn check(&self) {
        let word = self.load();
        let lingers = word & LINGERS != 0;
        let may_linger = matches!(word & TAG, IDLE) && word & (WATCHED | RECALLED | UNCLEAN) == WATCHED;
        assert!(!lingers || may_linger, "{word:#x} lingers");
    }

    /// Idle, with LINGERS where it may stay without a waiter; `None`: it is to go.
    fn kept(&self, word: u64, age: u64, terms: &Terms) -> Option<u64> {
        if terms.one_token_per_key || sequence(word) == u32::MAX {
            return None;
        }
        // While a watch hears that nobody waits, nobody is kept waiting.
        let alone = word & (WATCHED | RECALLED) == WATCHED || !self.keeps(Rule::Watched);
        let lingers = alone && terms.linger > 0 && age < terms.kept_time_max;
        let bounded = sequence(word) < terms.handed_max && age < terms.handed_time_max;
        let hands_over = word & WAITERS != 0 && (lingers || bounded);
        match lingers {
            true => Some(IDLE | LINGERS),
            false => hands_over.then_some(IDLE),
        }
    }

    fn load(&self) -> u64 {
        self.word.load(Ordering::Acquire)
    }

    /// The word after a step, or as it was found where there is none.
    fn change(&self, mut step: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
        let mut word = self.load();
        loop {
            let Some(next) = step(word) else {
                return Err(word);
            };
            if !self.keeps(Rule::Compare) {
                self.word.store(next, Ordering::Release);
                return Ok(next);
            }
            match self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(next),
                Err(found) => word = found,
            }
        }
    }

    #[cfg(test)]
    fn keeps(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    #[cfg(not(test))]
    const fn keeps(&self, _: Rule) -> bool {
        true
    }
}

fn sequence(word: u64) -> u32 {
    // The highest half fits.
    u32::try_from(word / GRANT).unwrap_or(u32::MAX)
}

/// Nobody has it, nobody will come for it, and it is not to stay.
fn is_unclaimed(word: u64) -> bool {
    matches!(word & TAG, IDLE | LOST) && word & (WAITERS | LINGERS) == 0
}
