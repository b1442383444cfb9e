//! One reader: it makes a watch, reads it, and goes on where the library says that one
//! goes on, until it leaves, the history was compacted, or all is seen. What it saw is
//! its [`Life`]. It can be told to make the mistakes that clients make.

use std::sync::Arc;
use std::time::Duration;

use tenure::{Batch, Client, Revision, Watch, WatchEnd};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep, sleep_until};

use crate::chance::Chance;
use crate::history::History;
use crate::life::{Counts, Ended, Life, Seen};
use crate::sight::Sight;

/// So long it looks out for more once it has seen all.
const LOOKOUT: Duration = Duration::from_millis(700);
/// A slow reader's pause.
const PAUSE: std::ops::Range<Duration> = Duration::from_millis(1)..Duration::from_millis(120);
/// Before it asks again for what was not to be had.
const AGAIN: Duration = Duration::from_millis(50);
/// One batch in so many is the last of its watch, where a reader is restless.
const RESTLESS: u64 = 12;

/// A mistake that a client can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// It goes on behind the revision of the store instead of behind the last event.
    HeaderRevision,
    /// It goes on behind a revision of which it has handed out a part.
    InsideRevision,
    /// It goes on at the last event instead of behind it.
    Again,
    /// It hands out the pieces of a revision as they come.
    Pieces,
    /// It does not pass on what is to be left out.
    Filter,
}

/// What a reader is to do.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) sight: Sight,
    /// Zero for "now".
    pub(crate) start: i64,
    /// It leaves after so many batches.
    pub(crate) leaves_after: Option<usize>,
    /// It gives a watch up now and then and makes another one.
    pub(crate) is_restless: bool,
    pub(crate) mistake: Option<Mistake>,
}

/// What all readers of a storm share: its beginning, and its history once that is whole.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    pub(crate) begun: Instant,
    pub(crate) history: Receiver<Option<Arc<History>>>,
}

pub(crate) async fn read(client: Client, orders: Orders, board: Board, chance: Chance) -> Life {
    let life = Life {
        sight: orders.sight.clone(),
        start: (orders.start > 0).then_some(orders.start),
        batches: Vec::new(),
        ended: Ended::Left,
        counts: Counts::default(),
    };
    let mut reader = Reader {
        client,
        goes_on_at: orders.start,
        orders,
        board,
        chance,
        life,
        complete_at: None,
    };
    reader.life.ended = reader.run().await;
    reader.life
}

struct Reader {
    client: Client,
    orders: Orders,
    board: Board,
    chance: Chance,
    life: Life,
    /// Where its next watch starts.
    goes_on_at: i64,
    complete_at: Option<Instant>,
}

/// What comes of a watch.
enum Next {
    Watch,
    End(Ended),
}

impl Reader {
    async fn run(&mut self) -> Ended {
        loop {
            let mut watch = match self.create().await {
                Ok(watch) => watch,
                Err(ended) => return ended,
            };
            let next = self.follow(&mut watch).await;
            self.life.counts.reconnects += watch.reconnects();
            self.life.counts.catch_ups += watch.catch_ups();
            self.life.counts.again += 1;
            if let Next::End(ended) = next {
                return ended;
            }
        }
    }

    async fn create(&mut self) -> Result<Watch, Ended> {
        loop {
            let mut sight = self.life.sight.clone();
            if self.orders.mistake == Some(Mistake::Filter) {
                (sight.no_put, sight.no_delete) = (false, false);
            }
            match sight.watch(&self.client, self.goes_on_at).await {
                Ok(watch) => {
                    let now = watch.created_revision().0 + 1;
                    self.life.start.get_or_insert(now);
                    self.goes_on_at = self.goes_on_at.max(self.life.last() + 1);
                    return Ok(watch);
                }
                Err(WatchEnd::Compacted { compact_revision }) => {
                    return Err(Ended::Compacted(compact_revision.0));
                }
                Err(WatchEnd::Refused { error }) => panic!("refused: {error}"),
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    /// Reads one watch to its end, or as long as it likes.
    async fn follow(&mut self, watch: &mut Watch) -> Next {
        loop {
            if self.orders.leaves_after.is_some_and(|batches| self.life.batches.len() >= batches) {
                return Next::End(Ended::Left);
            }
            let read = tokio::select! {
                biased;
                read = watch.next() => read,
                () = complete(&mut self.board, &self.life, &self.orders, &mut self.complete_at) => {
                    return Next::End(Ended::Complete);
                }
            };
            match read {
                Ok(batch) => {
                    if self.take(batch) {
                        return Next::Watch;
                    }
                }
                Err(end) => return self.end(watch, end).await,
            }
            if self.life.sight.slow.is_some() {
                sleep(self.chance.time(PAUSE)).await;
            }
        }
    }

    /// Notes a batch; whether the watch is then given up for another one.
    fn take(&mut self, mut batch: Batch) -> bool {
        let at = self.board.begun.elapsed();
        self.goes_on_at = batch.resume_revision.0;
        let is_over = self.orders.is_restless && self.chance.one_in(RESTLESS);
        let is_event = !batch.events.is_empty();
        match self.orders.mistake.filter(|_| is_over && is_event) {
            Some(Mistake::HeaderRevision) => self.goes_on_at = batch.revision.0 + 1,
            Some(Mistake::Again) => self.goes_on_at -= 1,
            Some(Mistake::InsideRevision) => drop(batch.events.pop()),
            _ => {}
        }
        if self.orders.mistake == Some(Mistake::Pieces) && batch.events.len() > 1 {
            let mut piece = batch.clone();
            piece.events = batch.events.split_off(batch.events.len() / 2);
            self.life.batches.push(Seen::of(&batch, at));
            batch = piece;
        }
        if is_event == batch.events.is_empty() {
            return is_over;
        }
        self.life.batches.push(Seen::of(&batch, at));
        is_over
    }

    async fn end(&mut self, watch: &mut Watch, end: WatchEnd) -> Next {
        if let WatchEnd::Compacted { compact_revision } = end {
            let again = watch.next().await;
            let is_same = matches!(again, Err(WatchEnd::Compacted { compact_revision: same }) if same == compact_revision);
            assert!(is_same, "another end: {again:?}");
            return Next::End(Ended::Compacted(compact_revision.0));
        }
        match end.resume_revision() {
            Some(Revision(resume)) if resume > 0 => self.goes_on_at = resume,
            _ => panic!("the watch ended: {end}"),
        }
        sleep(AGAIN).await;
        Next::Watch
    }
}

/// Waits until all is seen that there is, and a while longer.
async fn complete(board: &mut Board, life: &Life, orders: &Orders, complete_at: &mut Option<Instant>) {
    // The storm is over where the sender is gone.
    let history = match board.history.wait_for(Option::is_some).await {
        Ok(history) => history.clone(),
        Err(_) => None,
    };
    let (Some(history), Some(start)) = (history, life.start) else {
        return std::future::pending().await;
    };
    let shown = |event: &&crate::change::Change| event.revision() >= start && life.sight.shows(event);
    let last = history.changes.iter().rev().find(shown);
    // Who makes mistakes may wait in vain for what he lost.
    if orders.mistake.is_none() && last.is_some_and(|last| last.revision() > life.last()) {
        return std::future::pending().await;
    }
    let lookout = if orders.mistake.is_some() {
        LOOKOUT * 10
    } else {
        LOOKOUT
    };
    let until = *complete_at.get_or_insert_with(|| Instant::now() + lookout);
    sleep_until(until).await;
}
