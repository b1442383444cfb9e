//! Sessions that fight for one lock on a model of etcd, under a seed's faults:
//! requests that are carried out long after they were given up, answers that are
//! lost, members that lag, tasks that are cancelled in any state, crashes, leases
//! that run out, other clients in the queue, and somebody who deletes keys by hand.
//!
//! What must hold: whoever was granted the lock owns it in the store until its
//! deadline; what is written under its fence, however late, is never behind what a later
//! holder wrote; a machine at rest has no key there, not even later; once all is
//! healthy everybody gets the lock and nothing is left.
//!
//! What it is worth is shown by the last test: with any one rule out of force
//! some seed fails.

mod client;
mod fence;
mod mix;
mod owners;
mod store;

use self::client::{Client, Pending, Task};
use self::fence::Write;
use self::mix::{Ledger, Mix};
use self::store::{Answer, Flaw, NAMES, OTHERS, Store, is_queued};
use super::*;
use crate::core::jitter::Jitter;

/// Some hundred thousand find what is rarer.
const SEEDS: u64 = 2_000;
const SESSIONS: u64 = 3;
const MEMBERS: u64 = 3;
const CHAOS_STEPS: u32 = 250;
const CALM_STEPS_MAX: u32 = 4_000;
/// In steps of the world, as all times here.
const TTL: u64 = 120;
const REREAD: Duration = Duration::from_nanos(60);
const CALL_TIMEOUT: u64 = 12;
const LATE_MAX: u64 = 90;

/// A request that the server may still carry out.
struct Call {
    id: u64,
    at: u64,
    place: Place,
    action: Action,
    member: u64,
    answered: bool,
}

struct World {
    chance: Jitter,
    time: u64,
    store: Store,
    /// How far each member has come.
    applied: [i64; MEMBERS as usize],
    clients: Vec<Client>,
    calls: Vec<Call>,
    /// When the server lets go of leases that are no longer renewed.
    dying: Vec<(u64, i64)>,
    last_id: u64,
    last_lease: i64,
    calm: bool,
    by_hand: bool,
    mix: Mix,
    ledger: Ledger,
    writes: Vec<Write>,
    written: Ledger,
    grants: u32,
    /// The predecessor mode begins behind so many older keys.
    watched_max: usize,
    rules: Rules,
}

type Outcome = Result<(), String>;

impl World {
    fn new(mix: Mix, seed: u64, flaw: Flaw, rules: Rules) -> World {
        let mut world = World {
            chance: Jitter::new(seed),
            time: 1,
            store: Store::new(flaw, 2 + (seed / 8 % 3) as usize * 4),
            applied: [1; MEMBERS as usize],
            clients: Vec::new(),
            calls: Vec::new(),
            dying: Vec::new(),
            last_id: 0,
            last_lease: 0x70,
            calm: false,
            by_hand: seed % 2 == 1,
            mix,
            ledger: Ledger::default(),
            writes: Vec::new(),
            written: Ledger::default(),
            grants: 0,
            watched_max: [0, 1, 2, 32][(seed / 2 % 4) as usize],
            rules,
        };
        for index in 0..SESSIONS {
            let mut client = world.session();
            client.begin_as((mix == Mix::Owners).then_some(index));
            world.clients.push(client);
        }
        world
    }

    fn session(&mut self) -> Client {
        self.last_lease += 1;
        self.store.leases.insert(self.last_lease);
        Client::new(self.last_lease, self.time, self.watched_max, self.rules)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.chance.next_u64() % bound
    }

    /// Chance of a fault, of 1000; none in calm.
    fn fault(&mut self, of_thousand: u64) -> bool {
        self.below(1000) < of_thousand && !self.calm
    }

    fn step(&mut self) -> Outcome {
        self.time += 1;
        self.serve();
        self.carry_out_writes()?;
        self.disturb();
        for index in 0..self.clients.len() {
            let mut client = self.clients.remove(index);
            let driven = self.drive(&mut client);
            self.clients.insert(index, client);
            driven?;
        }
        self.check()
    }

    /// The servers: late and timely requests, members that follow, leases that end.
    fn serve(&mut self) {
        while let Some(due) = self.calls.iter().position(|call| call.at <= self.time) {
            let call = self.calls.swap_remove(due);
            let answer = self.carry_out(&call);
            let at = self.time + self.below(3);
            let pending = self
                .clients
                .iter_mut()
                .find_map(|client| client.pending.as_mut().filter(|p| p.id == call.id));
            if let Some(pending) = pending.filter(|_| call.answered) {
                pending.answer = Some((at, answer));
            }
        }
        for member in 0..self.applied.len() {
            if self.calm || self.below(8) == 0 {
                let behind = self.store.revision - self.applied[member];
                let step = if self.calm {
                    behind
                } else {
                    1 + self.below(4) as i64
                };
                self.applied[member] += step.min(behind);
            }
        }
        while let Some(due) = self.dying.iter().position(|(at, _)| *at <= self.time) {
            let (_, lease) = self.dying.swap_remove(due);
            self.store.expire(lease);
        }
    }

    fn carry_out(&mut self, call: &Call) -> Answer {
        match call.action {
            Action::Register { gate } => self.store.register(&call.place, gate, false),
            Action::RegisterIfEmpty { gate } => self.store.register(&call.place, gate, true),
            Action::TakeOver { gate, seen } => self.store.take_over(&call.place, gate, seen),
            Action::Release { created, close_gate } => self.store.release(&call.place, created, close_gate),
            Action::Withdraw { gate } => self.store.withdraw(&call.place, gate),
            Action::Watch(_) => Answer::Watching(call.member, Revision(self.applied[call.member as usize])),
            Action::Range {
                upto,
                whole,
                linearizable,
            } => {
                let revision = match linearizable {
                    true => self.store.revision,
                    false => self.applied[call.member as usize],
                };
                let mut queues = self.store.queues_at(revision);
                queues.retain(|kv| kv.create_revision <= upto.0);
                let (part, more) = match whole {
                    true => (queues, false),
                    false => self.store.newest(&call.place, &queues),
                };
                Answer::Ranged(Revision(revision), (part, more))
            }
            _ => unreachable!("nothing that is sent"),
        }
    }

    /// Other clients of the queue, and somebody who deletes by hand.
    fn disturb(&mut self) {
        let name = match self.mix {
            Mix::Several => NAMES[self.below(3) as usize],
            _ => NAMES[0],
        };
        let key = Bytes::from(match self.below(4) {
            0 => format!("{name}/nightly/1"),
            other => format!("{name}/{other}"),
        });
        let there = self.store.keys.contains_key(&key);
        if there && (self.calm || self.below(20) == 0) {
            self.store.commit(vec![(key, None)]);
        } else if !there && self.fault(15) {
            self.store.commit(vec![(key, Some(OTHERS))]);
        }
        if self.fault(10) {
            self.move_a_gate();
        }
        if self.by_hand && self.fault(6) {
            let all = self.below(2) == 0;
            let one = &self.clients[self.chance.next_u64() as usize % SESSIONS as usize].place;
            let one = one.keys().nth(self.time as usize % one.keys().count()).cloned().unwrap_or_default();
            let doomed = self.store.queues().into_iter().filter(|kv| all || kv.key == one);
            let doomed: Vec<_> = doomed.map(|kv| (kv.key, None)).collect();
            for client in &mut self.clients {
                if all || client.place.is_own(&one) {
                    let there = client.place.keys().filter_map(|key| self.store.keys.get(key));
                    client.robbed.extend(there.map(|kv| kv.create_revision));
                }
            }
            if !doomed.is_empty() {
                self.store.commit(doomed);
            }
        }
    }

    fn drive(&mut self, client: &mut Client) -> Outcome {
        self.live(client);
        let now = Instant(self.time);
        client.lock.handle_deadline(Instant(client.deadline));
        self.decide_to(client, now);
        if let Some(pending) = client.pending.take() {
            match pending.answer {
                Some((at, answer)) if at <= self.time => {
                    client.handle_answer(now, &pending.action, answer, self.store.flaw);
                }
                _ if pending.fails_at <= self.time => {
                    client.handle_failed(now, &pending.action, pending.unknown);
                    client.ready_at = self.time + self.below(6);
                }
                _ => client.pending = Some(pending),
            }
            client.lock.check();
        }
        // A reading under way keeps no deletion from being told.
        let reads = |pending: &Pending| matches!(pending.action, Action::Range { .. });
        let waits = client.lock.actions.is_empty() && client.pending.as_ref().is_none_or(reads);
        if client.task == Task::Locking && waits && client.ready_at <= self.time {
            client.lock.handle_timeout(now);
            self.watch(client);
        }
        while client.pending.is_none() && client.ready_at <= self.time {
            match client.lock.poll_action() {
                Some(Action::Grant(created)) => self.granted(client, created)?,
                Some(Action::Fail(failure)) => {
                    // In calm somebody has to try until it is free.
                    client.tries_left = client.tries_left.saturating_sub(u32::from(failure == Failure::Busy));
                    client.release();
                }
                Some(Action::Freed) => client.task = Task::Idle,
                Some(action) => self.send(client, action),
                None => break,
            }
        }
        Ok(())
    }

    /// The session: renewed, orphaned, ended, crashed, and another in its place.
    fn live(&mut self, client: &mut Client) {
        let crashes = self.fault(2);
        // A session that is over stays so.
        client.renews &= !self.fault(3) && self.time < client.deadline;
        if client.renews && (self.calm || self.below(10) == 0) {
            client.deadline = self.time + TTL;
        }
        // The timer may be late; the next answer is not to be believed for that.
        if self.time >= client.deadline && self.below(2) == 0 {
            client.lock.handle_deadline(Instant(client.deadline));
            client.lock.handle_session_ended();
        }
        if crashes || (self.time >= client.deadline && self.below(4) == 0) {
            let at = client.deadline.max(self.time) + self.below(20);
            self.dying.push((at, client.place.lease.0));
            let (grants, owner) = (client.grants, client.owner);
            *client = self.session();
            client.grants = grants;
            client.begin_as(owner);
        }
    }

    /// What the user does: wants the lock, gives it up, cancels at any time.
    fn decide_to(&mut self, client: &mut Client, now: Instant) {
        match client.task {
            Task::Idle if !self.calm && self.below(6) == 0 || self.calm && client.grants == 0 => {
                if let Some((names, claim)) = self.mix.choose(&mut self.chance) {
                    client.attempt(&names, claim, self.store.flaw);
                }
                client.shown = 0;
                client.task = Task::Locking;
                match client.tries_left > 0 && self.below(4) == 0 {
                    true => client.lock.handle_try_acquire(now),
                    false => client.lock.handle_acquire(now),
                }
            }
            Task::Holding(_) if self.below(8) == 0 => client.release(),
            Task::Holding(_) if self.below(8) == 0 => self.downgrade(client),
            Task::Holding(created) if self.mix != Mix::Owners && self.below(6) == 0 => {
                self.write(client, created);
            }
            Task::Locking if self.fault(40) => client.release(),
            Task::Undoing if self.fault(60) => client.release(),
            _ => {}
        }
    }

    fn send(&mut self, client: &mut Client, action: Action) {
        self.last_id += 1;
        if let (Action::Register { .. }, Flaw::Adopts) = (&action, self.store.flaw) {
            self.adopt(&client.place);
        }
        if let Action::Watch(_) = action {
            client.watch = None;
        }
        // A proxy may ask any member, whatever the watch's is.
        let member = match &client.watch {
            Some(told) if !self.fault(100) => told.member,
            _ => self.below(MEMBERS),
        };
        let soon = self.time + self.below(5);
        let late = self.time + self.below(LATE_MAX);
        // Carried out when, if at all; whether the answer arrives; whether a failure leaves it open.
        let (at, answered, unknown) = match self.below(10) {
            _ if self.calm => (Some(soon), true, true),
            0 => (Some(soon), false, true),
            1 => (Some(late), false, true),
            2 => (Some(late), true, true),
            3 => (None, false, self.below(2) == 0),
            _ => (Some(soon), true, true),
        };
        let call = |at| Call {
            id: self.last_id,
            at,
            place: client.place.clone(),
            action: action.clone(),
            member,
            answered,
        };
        self.calls.extend(at.map(call));
        client.pending = Some(Pending {
            id: self.last_id,
            fails_at: self.time + CALL_TIMEOUT,
            action,
            unknown,
            answer: None,
        });
    }

    /// Some whole revisions that the member has come to, or the end of the watch.
    fn watch(&mut self, client: &mut Client) {
        let (lost, deaf) = (self.fault(20), self.fault(4));
        let Some(mut told) = client.watch.take() else {
            return;
        };
        if lost {
            client.pending = None;
            client.ready_at = self.time + self.below(6);
            return client.lock.handle_watch_lost();
        }
        told.deaf |= deaf;
        let upto = self.applied[told.member as usize].min(told.upto + 1 + self.below(3) as i64);
        let is_watched = |key: &Bytes| match &told.watched {
            Watched::Queue => client.place.prefixes().any(|prefix| key.starts_with(prefix)),
            Watched::Predecessor(predecessor) => key == predecessor || *key == client.place.key,
        };
        let news = self.store.log.iter().filter(|(at, key, kv)| {
            told.upto < *at && *at <= upto && is_watched(key) && client.minds(key, kv)
        });
        let mut news: Vec<_> = news.map(|(at, key, _)| (key.clone(), Revision(*at))).collect();
        if told.deaf {
            news.clear();
        }
        told.upto = told.upto.max(upto);
        client.watch = Some(told);
        client.shown = client.shown.max(news.last().map_or(0, |last| last.1.0));
        client.handle_deletions(Instant(self.time), &news, self.store.flaw);
        client.lock.check();
        // What is to be done goes before a reading under way.
        if client.lock.has_action() {
            client.pending = None;
        }
    }

    fn granted(&mut self, client: &mut Client, created: Revision) -> Outcome {
        if self.time >= client.deadline {
            return Err(format!("granted {created} after the deadline"));
        }
        let seen_deleted = self.store.log.iter().any(|(at, key, kv)| {
            client.place.is_own(key) && kv.is_none() && created.0 < *at && *at <= client.shown
        });
        if seen_deleted {
            return Err(format!("granted {created}, which was seen deleted"));
        }
        if !self.by_hand {
            self.ledger.granted(&client.place, client.token(created))?;
        }
        self.grants += 1;
        client.grants += u32::from(self.calm);
        client.watch = None;
        client.task = Task::Holding(created);
        Ok(())
    }

    fn check(&self) -> Outcome {
        let alive = |client: &&Client| self.time < client.deadline;
        for client in self.clients.iter().filter(alive) {
            let (place, lease) = (&client.place, client.place.lease);
            let of_lease = self.store.keys.values().filter(|kv| kv.lease == lease.0 && is_queued(&kv.key));
            for kv in of_lease {
                if client.lock.is_free() || !place.is_own(&kv.key) {
                    return Err(format!("session {lease} has the key {:?} for nothing", kv.key));
                }
            }
            let Task::Holding(created) = client.task else {
                continue;
            };
            if client.robbed.contains(&created.0) {
                continue;
            }
            let queue = self.store.queue(place);
            let is_it = |kv: &KeyValue| {
                kv.create_revision == created.0 && kv.lease == lease.0 || self.store.flaw == Flaw::Adopts
            };
            let is_there = |own: &Bytes| queue.iter().any(|kv| kv.key == *own && is_it(kv));
            if !place.keys().all(|own| is_there(own) || client.reads && place.writers_key() == Some(own)) {
                return Err(format!("session {lease} holds {created} without a key"));
            }
            let older = place.older(Rules::default(), &queue, created).map(|kv| &kv.key);
            if !place.fits(Rules::default(), older) {
                return Err(format!("session {lease} holds {created}, somebody older too"));
            }
        }
        let robbed =
            |client: &Client| matches!(client.task, Task::Holding(at) if client.robbed.contains(&at.0));
        mix::check(self.clients.iter().filter(alive).filter(|client| !robbed(client)))
    }

    fn is_done(&self) -> bool {
        let done = |client: &Client| client.task == Task::Idle && client.grants > 0;
        self.calls.is_empty() && self.dying.is_empty() && self.clients.iter().all(done)
    }
}

/// Runs a seed with mutexes, and says how often the lock was granted.
fn simulate(seed: u64, flaw: Flaw, rules: Rules) -> Result<u32, String> {
    play(Mix::Mutexes, seed, flaw, rules)
}

fn play(mix: Mix, seed: u64, flaw: Flaw, rules: Rules) -> Result<u32, String> {
    let mut world = World::new(mix, seed, flaw, rules);
    for _ in 0..CHAOS_STEPS {
        world.step()?;
    }
    world.calm = true;
    let calls = world.last_id;
    let mut left = CALM_STEPS_MAX;
    while !world.is_done() || !world.store.queues().is_empty() {
        world.step()?;
        left -= 1;
        if left == 0 {
            return Err("in calm not everybody gets the lock, or a key is left".to_owned());
        }
    }
    if world.last_id - calls > 200 {
        return Err("in calm too much is sent".to_owned());
    }
    Ok(world.grants)
}

fn all() -> Rules {
    Rules::default()
}

#[test]
fn whoever_holds_the_lock_owns_it_and_nothing_is_left_behind() {
    let mut grants = 0;
    for seed in 0..SEEDS {
        let granted = simulate(seed, Flaw::None, all());
        grants += granted.unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
    }
    assert!(grants > 2_000, "hardly ever granted: {grants}");
}

#[test]
fn a_server_or_a_driver_that_breaks_a_rule_is_found_out() {
    for flaw in [
        Flaw::RegisterAtAnyGate,
        Flaw::GateStaysOpen,
        Flaw::WithdrawAtAnyGate,
        Flaw::OwnKeyUnseen,
        Flaw::OldNewsCount,
        Flaw::GapIgnored,
        Flaw::RevisionsTorn,
    ] {
        let found = (0..5_000).any(|seed| simulate(seed, flaw, all()).is_err());
        assert!(found, "{flaw:?} makes no difference");
    }
}

#[test]
fn a_rule_of_the_machine_that_is_out_of_force_is_found_out() {
    for rule in [
        Rule::WholeRevisions,
        Rule::OwnKey,
        Rule::Deadline,
        Rule::Gate,
        Rule::GateOnCancel,
        Rule::OldNews,
        Rule::Reread,
        Rule::Incarnations,
        Rule::Predecessor,
    ] {
        let rules = Rules { off: Some(rule) };
        let found = (0..5_000).any(|seed| simulate(seed, Flaw::None, rules).is_err());
        assert!(found, "{rule:?} makes no difference");
    }
}

#[test]
fn a_seed_replays_its_run() {
    assert_eq!(simulate(7, Flaw::None, all()), simulate(7, Flaw::None, all()));
}
