//! The machine against a small model of the server: a history of revisions, and
//! watches that are served from it late, in pieces, and interleaved. Streams break,
//! readers stall, fall behind and catch up, watches are refused and cancelled. Whatever happens, a reader whose watch
//! resumes, or that goes on itself where its watch ended, sees every revision once,
//! whole and in order, and no more waits for a reader than its bound.
//!
//! That these checks can fail is checked too: see [`Rule`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::event::bytes_of;
use super::resume::gone;
use super::{Action, Batch, Create, Event, Queue, Rule, Rules, WatchEnd, WatchKey, Watches};
use crate::core::time::Instant;
use crate::pb::etcdserverpb::watch_request::RequestUnion;
use crate::pb::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse};
use crate::pb::mvccpb;
use crate::types::Revision;

const SEEDS: u64 = 400;
const STEPS: usize = 300;
const KEYS: u64 = 3;
const READERS_MAX: usize = 8;

/// Room for a few batches.
const QUEUE_BYTES: usize = 4 << 10;

#[test]
fn every_reader_sees_the_history_once_whole_and_in_order() {
    let (mut batches, mut resumes) = (0, 0);
    let mut catch_ups = 0;
    for seed in 0..SEEDS {
        let mut failing = Failing(Some(seed));
        let world = run(seed);
        batches += world.readers.iter().map(|reader| reader.seen.len()).sum::<usize>();
        resumes += world.resumes;
        catch_ups += world.catch_ups;
        failing.0 = None;
    }
    assert!(batches > 10_000, "the simulation does nothing: {batches}");
    assert!(resumes > 1_000, "nothing resumes: {resumes}");
    assert!(catch_ups > 1_000, "nobody catches up: {catch_ups}");
}

#[test]
fn each_rule_is_missed_where_it_is_out_of_force() {
    assert!(!is_caught(None), "something is caught where there is nothing");
    for rule in [
        Rule::EventRevision,
        Rule::WholeRevisions,
        Rule::Fragments,
        Rule::Bound,
    ] {
        assert!(is_caught(Some(rule)), "nobody misses {rule:?}");
    }
}

/// Whether some early seed fails.
fn is_caught(off: Option<Rule>) -> bool {
    Rules::switch_off(off);
    let caught = (0..SEEDS / 10).any(|seed| std::panic::catch_unwind(|| run(seed)).is_err());
    Rules::switch_off(None);
    caught
}

fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.settle();
    world
}

/// Says which seed failed, unless it was told that none did.
struct Failing(Option<u64>);

impl Drop for Failing {
    fn drop(&mut self) {
        if let Some(seed) = self.0 {
            eprintln!("failed with seed {seed}");
        }
    }
}

struct World {
    chance: Chance,
    server: Server,
    watches: Watches<usize>,
    readers: Vec<Reader>,
    keys: u64,
    now: Instant,
    open: bool,
    resumes: usize,
    catch_ups: usize,
}

/// One reader, over all the watches it had one after another.
struct Reader {
    watched: Option<u64>,
    key: Option<WatchKey>,
    /// The first revision that it has to see; unknown until it is created.
    from: Option<i64>,
    seen: Vec<Event>,
    queue: Queue,
    /// What is in the queue.
    waiting: VecDeque<usize>,
    /// The queue refused a batch.
    behind: bool,
    catch_up: bool,
    /// Its watches go on by themselves when a stream breaks.
    resume: bool,
    left: bool,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            chance: Chance(seed),
            server: Server::default(),
            watches: Watches::new(seed),
            readers: Vec::new(),
            keys: 0,
            now: Instant::default(),
            open: false,
            resumes: 0,
            catch_ups: 0,
        }
    }

    fn step(&mut self) {
        match self.chance.below(100) {
            0..=24 => self.server.write(&mut self.chance),
            25..=34 if self.readers.len() < READERS_MAX => self.arrive(),
            35..=49 => self.send(usize::MAX),
            50..=54 => self.send(1),
            55..=69 => self.server.serve(&mut self.chance),
            70..=88 => self.receive(),
            89..=92 => self.read(),
            93 => self.ask_progress(),
            94 => self.server.notify_progress(),
            95 => self.leave(),
            96 => self.server.cancel_one(&mut self.chance),
            97..=98 => self.disconnect(),
            _ => {}
        }
    }

    /// Lets everything through and holds the readers against the history.
    fn settle(&mut self) {
        loop {
            self.send(usize::MAX);
            while self.server.catch_up(&mut self.chance) {}
            let waits = self.watches.needs_stream() || self.watches.poll_timeout().is_some();
            let unread = self.readers.iter().any(|reader| !reader.queue.is_empty());
            if self.server.wire.is_empty() && !waits && !unread {
                break;
            }
            while !self.server.wire.is_empty() {
                self.receive();
            }
            for reader in 0..self.readers.len() {
                self.read_all(reader);
            }
        }
        for reader in self.readers.iter().filter(|reader| !reader.left) {
            let from = reader.from.expect("a reader was never told that its watch exists");
            let expected =
                self.server.history.iter().filter(|event| {
                    event.revision >= from && reader.watched.is_none_or(|key| key == event.key)
                });
            let expected: Vec<_> = expected.map(|event| (event.revision, event.key)).collect();
            let seen: Vec<_> = reader.seen.iter().map(identity).collect();
            assert_eq!(seen, expected);
        }
    }

    fn arrive(&mut self) {
        let start = match self.chance.below(3) {
            0 => 1 + self.chance.below(self.server.revision as u64 + 3) as i64,
            _ => 0,
        };
        let watched = (self.chance.below(2) == 0).then(|| self.chance.below(KEYS));
        self.readers.push(Reader {
            watched,
            resume: self.chance.below(3) > 0,
            catch_up: self.chance.below(2) > 0,
            from: (start > 0).then_some(start),
            key: None,
            seen: Vec::new(),
            queue: Queue::new(QUEUE_BYTES),
            waiting: VecDeque::new(),
            behind: false,
            left: false,
        });
        self.create(self.readers.len() - 1, start);
    }

    fn create(&mut self, reader: usize, start: i64) {
        self.keys += 1;
        let key = WatchKey(self.keys);
        self.readers[reader].key = Some(key);
        let watched = self.readers[reader].watched.map_or(String::new(), |key| key.to_string());
        let request = WatchCreateRequest {
            key: watched.into(),
            start_revision: start,
            ..WatchCreateRequest::default()
        };
        let create = Create {
            request,
            buffer_bytes: 1 << 20,
            resume: self.readers[reader].resume,
            catch_up: self.readers[reader].catch_up,
            ..Create::default()
        };
        self.watches.handle_create(key, create, reader);
        self.act();
    }

    fn leave(&mut self) {
        let reader = self.pick_reader();
        if let Some(key) = reader.and_then(|reader| self.readers[reader].key) {
            self.watches.handle_cancel(key);
            self.act();
        }
    }

    /// Some reader reads a batch, or all that it has.
    fn read(&mut self) {
        if let Some(reader) = self.pick_reader() {
            match self.chance.below(2) {
                0 => drop(self.read_one(reader)),
                _ => self.read_all(reader),
            }
        }
    }

    fn read_all(&mut self, reader: usize) {
        while self.read_one(reader) {}
    }

    fn read_one(&mut self, index: usize) -> bool {
        let reader = &mut self.readers[index];
        let has_read = reader.read();
        if reader.queue.is_empty() && std::mem::take(&mut reader.behind) {
            // Without a key it has left meanwhile.
            reader.key.inspect(|&key| self.watches.handle_drained(key));
            self.watches.check();
        }
        has_read
    }

    fn ask_progress(&mut self) {
        let reader = self.pick_reader();
        if let Some(key) = reader.and_then(|reader| self.readers[reader].key) {
            self.watches.handle_progress_request(key);
            self.act();
        }
    }

    fn pick_reader(&mut self) -> Option<usize> {
        let count = self.readers.len() as u64;
        (count > 0).then(|| self.chance.below(count) as usize)
    }

    /// Sends so many requests at most, over a new stream where there is none.
    fn send(&mut self, count: usize) {
        if let Some(at) = self.watches.poll_timeout() {
            self.now = self.now.max(at);
            self.watches.handle_timeout(self.now);
        }
        if self.watches.needs_stream() && !self.open {
            self.watches.handle_opened(self.now);
            self.open = true;
        }
        if !self.open {
            return;
        }
        for _ in 0..count {
            let Some(request) = self.watches.poll_request() else {
                return;
            };
            self.watches.check();
            self.server.take(request, &mut self.chance);
        }
    }

    fn receive(&mut self) {
        if let Some(response) = self.server.wire.pop_front() {
            self.watches.handle_response(self.now, response);
            self.act();
        }
    }

    fn disconnect(&mut self) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        self.server.lose_stream();
        self.watches.handle_disconnect(self.now, &Arc::new(gone()));
        self.act();
    }

    fn act(&mut self) {
        self.watches.check();
        let mut resumes = Vec::new();
        while let Some(action) = self.watches.poll_action() {
            match action {
                Action::Created { reader, revision, .. } => {
                    self.readers[reader].from.get_or_insert(revision.0 + 1);
                }
                Action::Resumed { reader, caught_up } => {
                    let readers = &self.readers[reader];
                    assert!(
                        !readers.left
                            && if caught_up {
                                readers.catch_up
                            } else {
                                readers.resume
                            }
                    );
                    self.resumes += usize::from(!caught_up);
                    self.catch_ups += usize::from(caught_up);
                }
                Action::Refused { reader, .. } => assert!(self.readers[reader].resume),
                Action::Deliver { key, reader, batch } => {
                    if !self.readers[reader].take(key, batch) {
                        self.watches.handle_refused(key);
                    }
                }
                Action::End { reader, end } => match end {
                    WatchEnd::Closed => {
                        self.readers[reader].left = true;
                        self.readers[reader].key = None;
                    }
                    WatchEnd::Disconnected { .. } if self.readers[reader].resume => {
                        panic!("a watch that resumes ended with its stream")
                    }
                    end => resumes.push((reader, end.resume_revision().expect("it ended for good"))),
                },
                // Its own breaches would show here: the model makes none.
                Action::TokenRefused(_) => unreachable!("nobody asks who reads"),
                Action::Close => assert!(self.server.wire.is_empty() && self.server.watchers.is_empty()),
            }
        }
        for (reader, Revision(start)) in resumes {
            self.read_all(reader);
            self.create(reader, start);
        }
    }
}

impl Reader {
    /// Says whether there was room.
    fn take(&mut self, key: WatchKey, batch: Batch) -> bool {
        assert!(
            !self.left && self.key == Some(key) && !self.behind,
            "events for a watch that ended"
        );
        let is_progress = batch.is_progress();
        let bytes = bytes_of(&batch.events);
        if self.queue.push(batch).is_err() {
            self.behind = self.catch_up;
            return false;
        }
        if !is_progress {
            self.waiting.push_back(bytes);
        }
        let waiting: usize = self.waiting.iter().sum();
        let several = self.waiting.len() > 1;
        assert!(!several || waiting <= QUEUE_BYTES, "{waiting} bytes wait");
        true
    }

    /// Reads a batch; says whether there was one.
    fn read(&mut self) -> bool {
        let Some(batch) = self.queue.pop() else {
            return false;
        };
        if !batch.is_progress() {
            self.waiting.pop_front();
        }
        self.see(batch);
        true
    }

    fn see(&mut self, batch: Batch) {
        if let Some(last) = batch.events.last() {
            assert_eq!(batch.resume_revision, last.revision().next());
        }
        if let (Some(last), Some(first)) = (self.seen.last(), batch.events.first()) {
            assert!(
                last.revision() < first.revision(),
                "a revision came in two batches"
            );
        }
        self.seen.extend(batch.events);
    }
}

/// Revision and key, which the value repeats.
fn identity(event: &Event) -> (i64, u64) {
    let text = std::str::from_utf8(&event.kv().key).unwrap();
    (event.revision().0, text.parse().unwrap())
}

#[derive(Clone, Copy)]
struct Change {
    revision: i64,
    key: u64,
}

/// What the machine may assume of a server, and nothing more.
#[derive(Default)]
struct Server {
    revision: i64,
    history: Vec<Change>,
    watchers: BTreeMap<i64, Watcher>,
    id_next: i64,
    wire: VecDeque<WatchResponse>,
}

struct Watcher {
    watched: Option<u64>,
    /// Everything below was sent.
    next: i64,
}

impl Server {
    /// A transaction that changes some keys.
    fn write(&mut self, chance: &mut Chance) {
        self.revision += 1;
        let revision = self.revision;
        let first = chance.below(KEYS);
        let keys = (0..KEYS).filter(|&key| key == first || chance.below(2) == 0);
        self.history.extend(keys.map(|key| Change { revision, key }));
    }

    fn take(&mut self, request: WatchRequest, chance: &mut Chance) {
        match request.request_union.unwrap() {
            RequestUnion::CreateRequest(_) if chance.below(10) == 0 => {
                let reason = "etcdserver: too many requests".to_owned();
                let id = -(chance.below(2) as i64);
                let refusal = WatchResponse {
                    created: true,
                    canceled: true,
                    cancel_reason: reason,
                    ..self.answer(id)
                };
                self.wire.push_back(refusal);
            }
            RequestUnion::CreateRequest(create) => self.create(&create, chance),
            RequestUnion::CancelRequest(cancel) => {
                if self.watchers.remove(&cancel.watch_id).is_some() {
                    self.wire.push_back(WatchResponse {
                        canceled: true,
                        ..self.answer(cancel.watch_id)
                    });
                }
            }
            // Some servers' answer is ahead of the events, and some leave it out.
            RequestUnion::ProgressRequest(_) if chance.below(2) == 0 => self.wire.push_back(self.answer(-1)),
            RequestUnion::ProgressRequest(_) => {}
        }
    }

    fn create(&mut self, create: &WatchCreateRequest, chance: &mut Chance) {
        let id = self.id_next;
        self.id_next += 1 + chance.below(2) as i64;
        // The watcher is registered before the revision for the answer is read.
        let registered = self.revision + 1 - chance.below(3) as i64;
        let next = if create.start_revision > 0 {
            create.start_revision
        } else {
            registered
        };
        let watched = std::str::from_utf8(&create.key).unwrap().parse().ok();
        self.watchers.insert(id, Watcher { watched, next });
        self.wire.push_back(WatchResponse {
            created: true,
            ..self.answer(id)
        });
    }

    /// Sends some revisions to some watcher.
    fn serve(&mut self, chance: &mut Chance) {
        let count = self.watchers.len() as u64;
        if count > 0 {
            let id = *self.watchers.keys().nth(chance.below(count) as usize).unwrap();
            self.serve_one(id, chance);
        }
    }

    fn serve_one(&mut self, id: i64, chance: &mut Chance) {
        let watcher = self.watchers.get_mut(&id).unwrap();
        let to = (watcher.next + chance.below(6) as i64).min(self.revision);
        let range = watcher.next..=to;
        watcher.next = watcher.next.max(to + 1);
        let matching = self.history.iter().filter(|change| {
            range.contains(&change.revision) && watcher.watched.is_none_or(|key| key == change.key)
        });
        let mut events: VecDeque<_> = matching.map(|change| change.event()).collect();
        while !events.is_empty() {
            let take = 1 + chance.below(events.len() as u64) as usize;
            let events_now: Vec<_> = events.drain(..take).collect();
            let fragment = !events.is_empty();
            self.wire.push_back(WatchResponse {
                events: events_now,
                fragment,
                ..self.answer(id)
            });
        }
    }

    /// Serves whoever is behind; says whether anybody was.
    fn catch_up(&mut self, chance: &mut Chance) -> bool {
        let behind = self.watchers.iter().find(|(_, watcher)| watcher.next <= self.revision);
        let Some((&id, _)) = behind else {
            return false;
        };
        self.serve_one(id, chance);
        true
    }

    fn notify_progress(&mut self) {
        let synced = self.watchers.iter().filter(|(_, watcher)| watcher.next > self.revision);
        let ids: Vec<_> = synced.map(|(&id, _)| id).collect();
        for id in ids {
            self.wire.push_back(self.answer(id));
        }
    }

    fn cancel_one(&mut self, chance: &mut Chance) {
        let count = self.watchers.len() as u64;
        if count > 0 {
            let id = *self.watchers.keys().nth(chance.below(count) as usize).unwrap();
            self.watchers.remove(&id);
            self.wire.push_back(WatchResponse {
                canceled: true,
                ..self.answer(id)
            });
        }
    }

    fn lose_stream(&mut self) {
        self.watchers.clear();
        self.wire.clear();
        self.id_next = 0;
    }

    fn answer(&self, id: i64) -> WatchResponse {
        let header = ResponseHeader {
            revision: self.revision,
            ..ResponseHeader::default()
        };
        WatchResponse {
            header: Some(header),
            watch_id: id,
            ..WatchResponse::default()
        }
    }
}

impl Change {
    fn event(&self) -> mvccpb::Event {
        let key = self.key.to_string().into();
        let kv = mvccpb::KeyValue {
            key,
            mod_revision: self.revision,
            ..mvccpb::KeyValue::default()
        };
        mvccpb::Event {
            kv: Some(kv),
            ..mvccpb::Event::default()
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): any seed will do.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
