//! A prefix of one cluster kept in step in another: the reads, the watch and the transactions of
//! one mirror, driven by whoever asks for its next step. How changes are found and cut is decided
//! by `core::mirror`.
//!
//! ```text
//!           no checkpoint             all is written
//!   Begin ─────────────────▶ Compare ────────────────▶ Follow ◀──── Begin, at a checkpoint
//!                               ▲                         │
//!                               └─────── compacted ───────┘
//! ```

mod progress;
mod reads;

use std::fmt;
use std::future::IntoFuture;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::watch::{Batch, BatchKind, WatchEnd};
use super::{Call, Client, Compare, Event, Op, Txn, chance};
use crate::core::backoff::Backoff;
pub use crate::core::mirror::MirrorEnd;
use crate::core::mirror::{Change, Checkpoint, Comparison, Cutter, Halt, Limits, Phase};
use crate::core::namespace::Namespace;
use crate::core::time::Instant;
use crate::error::{Code, Delivery, Error, EtcdError, Origin};
use crate::net::clock;
use crate::pb::etcdserverpb::response_op::Response;
use crate::pb::etcdserverpb::{RangeResponse, TxnResponse};
use crate::types::{KeyRange, Revision};
pub use progress::MirrorProgress;
use reads::{Compared, Followed};

/// What etcd takes by default (`--max-txn-ops`).
const TXN_OPS_DEFAULT: usize = 128;
/// The checkpoint's put.
const OPS_OF_CHECKPOINT: usize = 1;
/// Of the 1.5 MiB that etcd takes by default, with room for what is not a key or a value.
const TXN_BYTES: usize = 1 << 20;
const CHECKPOINT_PREFIX: &[u8] = b"tenure-mirror/";

const WAIT_FIRST: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(10);

impl Client {
    /// Keeps the keys behind `prefix` in step in another cluster: behind the prefix `to` of
    /// `destination` is what is here, with as little delay as can be.
    ///
    /// ```no_run
    /// # async fn example(here: tenure::Client, there: tenure::Client) -> Result<(), tenure::Error> {
    /// let mut mirror = here.mirror("app/", &there, "copy/of/app/");
    /// loop {
    ///     let progress = mirror.next().await?;
    ///     println!("as of revision {}, {} behind", progress.revision, progress.lag());
    /// }
    /// # }
    /// ```
    ///
    /// Nothing is read or written before the first step is asked for; [`Mirror::run`] takes them all.
    #[must_use]
    pub fn mirror(&self, prefix: impl Into<Bytes>, destination: &Client, to: impl Into<Bytes>) -> Mirror {
        let to = to.into();
        Mirror {
            source: self.namespace(prefix),
            copy: destination.namespace(to.clone()),
            destination: destination.clone(),
            checkpoint: [CHECKPOINT_PREFIX, &to].concat().into(),
            to: Namespace::new(to),
            txn_ops: TXN_OPS_DEFAULT,
            removes: true,
            resync: false,
            state: State::Begin,
            pending: None,
            sending: None,
            place: Place {
                writer: chance(),
                ..Place::default()
            },
            progress: MirrorProgress::default(),
            backoff: Backoff::new(WAIT_FIRST, WAIT_MAX, chance()),
            waits: None,
            end: None,
        }
    }
}

/// A mirror, as [`Client::mirror`] makes it.
///
/// # Guarantees
///
/// It begins with what differs: it reads both sides at one revision each, puts what is missing or
/// has another value, and deletes what the source does not have. While it does, the copy has some
/// keys as they were and some as they are. From then on the copy is always as the source was at one
/// revision: all changes of a revision go into one transaction. Where it is behind, one has
/// several revisions. Only a revision that has more changes or bytes than a
/// [transaction takes](Mirror::txn_ops), such as the deletion of a large range, goes into
/// several, one after the other.
///
/// Each transaction writes how far it has come to a [checkpoint](Mirror::checkpoint), a key of the
/// destination, and takes effect only while that key is as this mirror left it. So a mirror that was
/// dropped, or whose process ended, is gone on with by the next one where it was: nothing is left out. And of
/// two on one checkpoint the one that began last writes, while the other ends in
/// [`MirrorEnd::Superseded`]. One that was carried out without an answer is not carried out twice.
///
/// Where the source compacted what had not been copied, it compares both sides again.
///
/// It goes on whatever happens to connections and members of both sides; between attempts it waits.
///
/// # What is not mirrored
///
/// - **Leases.** A key is put without one; it goes when it goes in the source.
/// - **Revisions and versions** are the destination's own.
/// - The key that *is* the prefix.
/// - Whatever else writes behind the destination's prefix is undone by the next comparison only.
///
/// # Memory
///
/// A piece of a range of each side, or a batch of the watch and its buffer, and one transaction. How many keys
/// there are plays no part.
pub struct Mirror {
    /// What is mirrored is all of it.
    source: Client,
    /// All of it is the copy.
    copy: Client,
    /// Writes the copy and the checkpoint.
    destination: Client,
    /// What the copied keys begin with for `destination`.
    to: Option<Namespace>,
    checkpoint: Bytes,
    txn_ops: usize,
    removes: bool,
    resync: bool,
    state: State,
    /// The transaction that comes next, or is under way.
    pending: Option<Pending>,
    sending: Option<Pin<Box<Call<TxnResponse>>>>,
    place: Place,
    progress: MirrorProgress,
    backoff: Backoff,
    /// Until when it waits, and what out.
    waits: Option<(Instant, Arc<Error>)>,
    end: Option<MirrorEnd>,
}

/// How it stands with the checkpoint.
#[derive(Debug, Default)]
struct Place {
    cluster_id: u64,
    /// When the checkpoint was last written, by us once it was claimed.
    modified: Revision,
    /// The source's revision that is whole in the copy.
    revision: Revision,
    writer: u64,
    step: u64,
}

enum State {
    Begin,
    Compare(Box<Compared>),
    Follow(Box<Followed>),
}

/// What a transaction writes.
#[derive(Debug)]
struct Pending {
    changes: Vec<Change>,
    revision: Revision,
    phase: Phase,
}

impl Mirror {
    /// The key of the destination where it writes down how far it has come. Default: `tenure-mirror/`
    /// and the copy's prefix. It is one line of text. A key of this name in the source is not copied.
    #[must_use]
    pub fn checkpoint(mut self, key: impl Into<Bytes>) -> Mirror {
        self.checkpoint = key.into();
        self
    }

    /// How many operations the destination takes in a transaction, the checkpoint's included. Default: 128, as
    /// that of etcd's `--max-txn-ops`.
    #[must_use]
    pub fn txn_ops(mut self, operations: usize) -> Mirror {
        self.txn_ops = operations;
        self
    }

    /// A comparison leaves alone what only the copy has, instead of deleting it. What is deleted in the source
    /// while it is followed is deleted in the copy either way.
    #[must_use]
    pub fn keep_extra(mut self) -> Mirror {
        self.removes = false;
        self
    }

    /// Begins with a comparison whatever the checkpoint says, also where it is of another source: for a
    /// source that was restored from a snapshot, or moved.
    #[must_use]
    pub fn resync(mut self) -> Mirror {
        self.resync = true;
        self
    }

    /// Takes the next step: until something was written, or it is known that nothing had to be.
    ///
    /// # Errors
    ///
    /// Why it ended. It is the same from then on, at once.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it goes on with the next call where it was. A transaction that was
    /// under way goes on too, and is carried out once; a read is made again.
    pub async fn next(&mut self) -> Result<MirrorProgress, MirrorEnd> {
        let client = self.destination.clone();
        client.channel().runtime().run(self.step_on()).await
    }

    /// Takes step after step, until it ends.
    pub async fn run(mut self) -> MirrorEnd {
        loop {
            if let Err(end) = self.next().await {
                return end;
            }
        }
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> MirrorProgress {
        self.progress
    }

    /// What it waits out, where the last attempt to read or to write failed: to be looked at where a
    /// [`Mirror::next`] takes long.
    #[must_use]
    pub fn trouble(&self) -> Option<&Error> {
        self.waits.as_ref().map(|(_, error)| error.as_ref())
    }

    /// Asks the source how far it is; the answer is a step. Nothing happens while it compares.
    pub fn request_progress(&self) {
        if let State::Follow(followed) = &self.state {
            if let Some(watch) = &followed.watch {
                watch.request_progress();
            }
        }
    }

    async fn step_on(&mut self) -> Result<MirrorProgress, MirrorEnd> {
        loop {
            if let Some(end) = &self.end {
                return Err(end.clone());
            }
            if let Some((until, _)) = &self.waits {
                clock::sleep_until(*until).await;
            }
            let is_step = match self.step().await {
                Ok(is_step) => is_step,
                Err(Halt::Wait(error)) => {
                    let until = clock::now() + self.backoff.next_wait();
                    self.waits = Some((until, Arc::new(error)));
                    continue;
                }
                Err(Halt::End(end)) => {
                    self.end = Some(end);
                    continue;
                }
            };
            if self.waits.take().is_some() {
                self.backoff.reset();
            }
            if is_step {
                return Ok(self.progress);
            }
        }
    }

    /// Whether there is something to tell. Nothing is lost where it is dropped.
    async fn step(&mut self) -> Result<bool, Halt> {
        if self.pending.is_some() {
            return self.commit().await.map(|()| true);
        }
        match &self.state {
            State::Begin => self.begin().await.map(|()| false),
            State::Compare(_) => self.compare().await.map(|()| false),
            State::Follow(_) => self.follow().await,
        }
    }

    /// Looks where to begin, and claims the checkpoint for this mirror.
    async fn begin(&mut self) -> Result<(), Halt> {
        let source = self.source.get(KeyRange::all()).limit(1).keys_only().await.map_err(Halt::of_source)?;
        let found = self.destination.get(self.checkpoint.clone()).await.map_err(Halt::of_destination)?;
        let cluster_id = cluster_of(&source);
        if cluster_id == cluster_of(&found) {
            self.refuse_to_copy_the_copy()?;
        }
        self.place.cluster_id = cluster_id;
        self.place.modified = found.kvs.first().map_or(Revision::ZERO, |kv| Revision(kv.mod_revision));
        let earlier = match found.kvs.first() {
            Some(_) if self.resync => None,
            Some(kv) => {
                let earlier = Checkpoint::parse(&kv.value);
                Some(earlier.ok_or_else(|| Halt::refused("the checkpoint key has something else"))?)
            }
            None => None,
        };
        let earlier = earlier.map(|earlier| self.accept(earlier, &source)).transpose()?;
        self.place.revision = earlier.as_ref().map_or(Revision::ZERO, |earlier| earlier.revision);
        self.progress.revision = self.place.revision;
        self.progress.hear_of(source.revision());
        let phase = earlier.map_or(Phase::Syncing, |earlier| earlier.phase);
        self.state = match phase {
            Phase::Following => self.followed(),
            Phase::Syncing => self.compared(),
        };
        self.pending = Some(Pending {
            changes: Vec::new(),
            revision: self.place.revision,
            phase,
        });
        Ok(())
    }

    /// What it writes it would read again, for ever.
    fn refuse_to_copy_the_copy(&self) -> Result<(), Halt> {
        let (source, copy) = (self.source.prefix(), self.copy.prefix());
        let checkpoint = [self.destination.prefix(), &self.checkpoint].concat();
        if source.starts_with(copy) || copy.starts_with(source) || checkpoint.starts_with(source) {
            let message = "source and copy, or the checkpoint, are the same keys of one cluster";
            return Err(Halt::refused(message));
        }
        Ok(())
    }

    /// An earlier mirror's checkpoint, if this one can go on from there.
    fn accept(&self, earlier: Checkpoint, source: &RangeResponse) -> Result<Checkpoint, Halt> {
        let why = if earlier.cluster_id != self.place.cluster_id {
            "it is in another cluster"
        } else if !earlier.is_of(self.place.cluster_id, self.source.prefix()) {
            "it has another prefix"
        } else if source.revision() < earlier.revision {
            "it has lost revisions that were copied"
        } else {
            return Ok(earlier);
        };
        Err(Halt::End(MirrorEnd::OtherSource { why }))
    }

    fn compared(&mut self) -> State {
        self.progress.comparisons += 1;
        self.progress.is_following = false;
        State::Compare(Box::new(Compared {
            comparison: Comparison::new(self.removes),
            source: self.source.range_stream(KeyRange::all()),
            copy: self.copy.range_stream(KeyRange::all()),
            changes: Vec::new(),
            bytes: 0,
            carried: None,
        }))
    }

    fn followed(&self) -> State {
        State::Follow(Box::new(Followed {
            watch: None,
            cutter: Cutter::new(self.limits()),
        }))
    }

    fn limits(&self) -> Limits {
        Limits {
            changes: self.txn_ops.saturating_sub(OPS_OF_CHECKPOINT),
            bytes: TXN_BYTES,
        }
    }

    /// Reads on until a transaction is full, or both sides have been read.
    async fn compare(&mut self) -> Result<(), Halt> {
        let limits = self.limits();
        let hidden = self.hidden();
        let State::Compare(compared) = &mut self.state else {
            return Ok(());
        };
        let is_over = match compared.fill(limits, hidden.as_ref()).await {
            Ok(is_over) => is_over,
            Err(Halt::End(MirrorEnd::Source { error } | MirrorEnd::Destination { error }))
                if error.etcd() == Some(EtcdError::Compacted) =>
            {
                // One of the revisions that are read is gone. What was written is not found to differ again.
                self.state = self.compared();
                let message = "what was being compared was compacted";
                let again = Error::new(Code::OutOfRange, Origin::Library, Delivery::Answered, message);
                return Err(Halt::Wait(again.with_source(error)));
            }
            Err(halt) => return Err(halt),
        };
        let changes = mem::take(&mut compared.changes);
        compared.bytes = 0;
        let at = compared.source.revision();
        self.progress.hear_of(at);
        self.pending = Some(match is_over {
            true => Pending {
                changes,
                revision: at,
                phase: Phase::Following,
            },
            false => Pending {
                changes,
                revision: self.place.revision,
                phase: Phase::Syncing,
            },
        });
        if is_over {
            self.state = self.followed();
        }
        Ok(())
    }

    /// The checkpoint, where it lies within the copy.
    fn hidden(&self) -> Option<Bytes> {
        let Some(to) = &self.to else {
            return Some(self.checkpoint.clone());
        };
        let mut key = self.checkpoint.clone();
        to.leave_key(&mut key).is_ok().then_some(key)
    }

    /// The next transaction of what has happened since. Whether there is something to tell at once.
    async fn follow(&mut self) -> Result<bool, Halt> {
        let hidden = self.hidden();
        let State::Follow(followed) = &mut self.state else {
            return Ok(false);
        };
        if followed.cutter.is_empty() {
            match followed.read(&self.source, &self.place).await {
                Ok(Some(batch)) => return Ok(self.take(batch)),
                Ok(None) => return Ok(false),
                // What happened cannot be told any more, or not in one piece: a comparison finds it.
                Err(WatchEnd::Compacted { .. } | WatchEnd::TooLarge { .. }) => {
                    self.state = self.compared();
                    return Ok(false);
                }
                Err(end) => {
                    // It goes on behind what was written.
                    followed.watch = None;
                    return Err(halt_of(end));
                }
            }
        }
        if let Some(mut cut) = followed.cutter.poll_cut() {
            cut.changes.retain(|change| Some(&change.key) != hidden.as_ref());
            self.pending = Some(Pending {
                changes: cut.changes,
                revision: cut.completes.unwrap_or(self.place.revision),
                phase: Phase::Following,
            });
        }
        Ok(false)
    }

    fn take(&mut self, batch: Batch) -> bool {
        self.progress.hear_of(batch.revision);
        let State::Follow(followed) = &mut self.state else {
            return false;
        };
        match batch.kind {
            BatchKind::Events => {
                let mut events = batch.events.into_iter().peekable();
                while let Some(revision) = events.peek().map(Event::revision) {
                    let same = std::iter::from_fn(|| events.next_if(|event| event.revision() == revision));
                    followed.cutter.handle_revision(revision, same.map(Change::of));
                }
                false
            }
            BatchKind::Progress => {
                let complete = Revision(batch.resume_revision.0 - 1);
                if complete > self.place.revision {
                    // So that a compaction takes nothing from whoever goes on from here.
                    followed.cutter.handle_revision(complete, []);
                    return false;
                }
                true
            }
            BatchKind::Reconnected => false,
        }
    }

    /// Writes what is pending, and the checkpoint with it.
    async fn commit(&mut self) -> Result<(), Halt> {
        let Some(pending) = &self.pending else {
            return Ok(());
        };
        let checkpoint = Checkpoint {
            cluster_id: self.place.cluster_id,
            prefix: self.source.prefix().to_vec(),
            revision: pending.revision,
            phase: pending.phase,
            writer: self.place.writer,
            step: self.place.step + 1,
        };
        if self.sending.is_none() {
            self.sending = Some(Box::pin(self.transaction(pending, &checkpoint).into_future()));
        }
        let answer = match &mut self.sending {
            // It goes on where this is dropped.
            Some(sending) => sending.await,
            None => return Ok(()),
        };
        self.sending = None;
        let answer = answer.map_err(Halt::of_destination)?;
        self.place.modified = match answer.succeeded {
            true => answer.revision(),
            false => {
                let found = answer.responses.first().and_then(|op| op.response.as_ref());
                match written_at(found, &checkpoint) {
                    Some(at) => at,
                    None => return self.handle_refusal(),
                }
            }
        };
        self.place.step = checkpoint.step;
        self.place.revision = pending.revision;
        self.progress.is_following = pending.phase == Phase::Following;
        self.progress.count(&pending.changes, pending.revision);
        self.pending = None;
        Ok(())
    }

    /// It may be sent any number of times.
    fn transaction(&self, pending: &Pending, checkpoint: &Checkpoint) -> Txn<&Client> {
        let key = || self.checkpoint.clone();
        let is_ours = Compare::mod_revision(key()).equal(self.place.modified);
        let txn = self.destination.txn().idempotent().when(is_ours);
        let changes = pending.changes.iter().map(|change| self.op(change));
        let txn = changes.fold(txn, |txn, op| txn.then(op));
        txn.then(Op::put(key(), checkpoint.to_string())).or_else(Op::get(key()))
    }

    /// The checkpoint is not as we know it. Whoever has not written yet looks at it again.
    fn handle_refusal(&mut self) -> Result<(), Halt> {
        if self.place.step > 0 {
            return Err(Halt::End(MirrorEnd::Superseded));
        }
        (self.state, self.pending) = (State::Begin, None);
        Ok(())
    }

    fn op(&self, change: &Change) -> Op {
        let mut key = change.key.clone();
        if let Some(to) = &self.to {
            to.enter_key(&mut key);
        }
        match &change.value {
            Some(value) => Op::put(key, value.clone()).into(),
            None => Op::delete(key).into(),
        }
    }
}

/// When this transaction was carried out, if it was.
fn written_at(found: Option<&Response>, checkpoint: &Checkpoint) -> Option<Revision> {
    let Some(Response::ResponseRange(range)) = found else {
        return None;
    };
    let kv = range.kvs.first()?;
    let found = Checkpoint::parse(&kv.value)?;
    found.is_same_step(checkpoint).then_some(Revision(kv.mod_revision))
}

fn halt_of(end: WatchEnd) -> Halt {
    match end {
        WatchEnd::OtherCluster { .. } => Halt::End(MirrorEnd::OtherSource {
            why: "it is another cluster now",
        }),
        end => Halt::of_source(end.into()),
    }
}

fn cluster_of(answer: &RangeResponse) -> u64 {
    answer.header.as_ref().map_or(0, |header| header.cluster_id)
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror")
            .field("source", &self.source)
            .field("copy", &self.copy)
            .field("checkpoint", &self.checkpoint)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}
