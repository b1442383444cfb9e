//! The pool against members that live, refuse, fail, freeze and swallow everything, as a
//! seed says, and against random inputs.
//!
//! What must hold: with one member that lives, calls get through within a bounded
//! time, and but for those that find out, all of them go to members that live.

use std::collections::BTreeMap;

use super::*;
use crate::core::ping::{self, Patience, Ping, Traffic};

const MILLI: u64 = 1_000_000;
const FAILURES: u32 = 5;
const LIMITS: Limits = Limits {
    connections_max: 3,
    streams_full: 8,
    breaker: Some(breaker::Rules {
        failures: FAILURES,
        pause: Duration::from_secs(1),
        probe: Duration::from_secs(8),
        silence: Duration::from_millis(300),
    }),
};
const PATIENCE: Patience = Patience {
    silence: Duration::from_millis(300),
    interval: Some(Duration::from_secs(10)),
    timeout: Duration::from_secs(3),
};
const DIAL_PATIENCE_MILLIS: u64 = 5000;
const STEP_MILLIS: u64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Lives,
    Refuses,
    /// Its kernel still takes connections, and it says no hello.
    Frozen,
    /// It answers its pings, and every call with a failure.
    Fails,
}

struct Link {
    endpoint: EndpointId,
    dialled: u64,
    is_up: bool,
    ping: Ping,
    traffic: Traffic,
    calls: Vec<u64>,
}

struct World {
    now: u64,
    chance: Jitter,
    pool: Pool,
    fates: BTreeMap<EndpointId, Fate>,
    links: BTreeMap<ConnectionId, Link>,
    answered: BTreeMap<EndpointId, u64>,
    failed: u64,
    lost: u64,
    stuck: u64,
}

impl World {
    fn new(seed: u64, fates: &[Fate]) -> World {
        let mut pool = Pool::new(LIMITS, seed);
        let fates = fates.iter().map(|fate| (pool.handle_added(Instant(0)), *fate)).collect();
        World {
            now: 0,
            chance: Jitter::new(seed),
            pool,
            fates,
            links: BTreeMap::new(),
            answered: BTreeMap::new(),
            failed: 0,
            lost: 0,
            stuck: 0,
        }
    }

    fn instant(&self) -> Instant {
        Instant(self.now * MILLI)
    }

    /// Lets this time pass, with a call in each step.
    fn run(&mut self, millis: u64) {
        for _ in 0..millis / STEP_MILLIS {
            self.now += STEP_MILLIS;
            let now = self.instant();
            if self.pool.poll_timeout().is_some_and(|at| at <= now) {
                self.pool.handle_timeout(now);
            }
            self.call();
            self.act();
            let ids: Vec<_> = self.links.keys().copied().collect();
            ids.into_iter().for_each(|id| self.live(id));
            self.act();
            self.pool.check();
        }
    }

    fn call(&mut self) {
        let now = self.instant();
        let Some((_, id)) = self.pool.pick(now, Want::call(Class::Bulk)) else {
            self.stuck += 1;
            return;
        };
        let link = self.links.get_mut(&id).expect("a connection that is there");
        assert!(link.is_up, "a call on a connection that said no hello");
        if link.calls.is_empty() {
            link.traffic.quiet_since = now;
        }
        link.calls.push(self.now);
    }

    fn act(&mut self) {
        while let Some(action) = self.pool.poll_action() {
            match action {
                Action::Dial(endpoint, id) => {
                    let link = Link {
                        endpoint,
                        dialled: self.now,
                        is_up: false,
                        ping: Ping::new(self.instant(), PATIENCE),
                        traffic: Traffic::default(),
                        calls: Vec::new(),
                    };
                    assert!(self.links.insert(id, link).is_none(), "an id twice");
                }
                Action::Retire(id) => {
                    let is_idle = self.links.get(&id).is_some_and(|link| link.calls.is_empty());
                    if is_idle {
                        self.lose(id);
                    }
                }
                Action::Close(id) => drop(self.links.remove(&id)),
            }
        }
    }

    fn lose(&mut self, id: ConnectionId) {
        if let Some(link) = self.links.remove(&id) {
            self.lost += link.calls.len() as u64;
            self.pool.handle_lost(self.instant(), id);
        }
    }

    fn live(&mut self, id: ConnectionId) {
        let now = self.instant();
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let fate = self.fates.get(&link.endpoint).copied().unwrap_or(Fate::Refuses);
        match (link.is_up, fate) {
            (_, Fate::Refuses) => return self.lose(id),
            (false, Fate::Lives | Fate::Fails) => {
                link.is_up = true;
                self.pool.handle_connected(now, id, 64);
            }
            (false, Fate::Frozen) => {
                if self.now - link.dialled >= DIAL_PATIENCE_MILLIS {
                    self.lose(id);
                }
                return;
            }
            (true, Fate::Lives | Fate::Fails) => {
                for begun in link.calls.drain(..) {
                    (link.traffic.quiet_since, link.traffic.heard) = (now, now);
                    let sign = match fate {
                        Fate::Fails => Sign::Ill,
                        _ => Sign::Well,
                    };
                    match sign {
                        Sign::Well => *self.answered.entry(link.endpoint).or_default() += 1,
                        _ => self.failed += 1,
                    }
                    self.pool.handle_answer(id);
                    self.pool.handle_sign(now, link.endpoint, Instant(begun * MILLI), sign);
                    self.pool.handle_closed(now, id);
                }
            }
            (true, Fate::Frozen) => {}
        }
        self.ping(id);
    }

    fn ping(&mut self, id: ConnectionId) {
        let now = self.instant();
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.traffic.calls = link.calls.len();
        link.traffic.streams = link.calls.len();
        link.ping.handle_traffic(now, link.traffic);
        while let Some(action) = link.ping.poll_action() {
            match action {
                ping::Action::Ping if self.fates[&link.endpoint] != Fate::Frozen => {
                    link.ping.handle_pong(now)
                }
                ping::Action::Ping => {}
                ping::Action::Silent => self.pool.handle_suspect(now, id),
                ping::Action::Mute => self.pool.handle_mute(id, true),
                ping::Action::Heard => self.pool.handle_mute(id, false),
                ping::Action::Dead => return self.lose(id),
            }
        }
    }

    fn answered(&self) -> u64 {
        self.answered.values().sum()
    }
}

#[test]
fn calls_are_spread_evenly_over_members_that_live() {
    let mut world = World::new(1, &[Fate::Lives; 3]);
    world.run(30_000);
    let (least, most) = (world.answered.values().min(), world.answered.values().max());
    assert!(
        least.zip(most).is_some_and(|(least, most)| most - least <= 2),
        "{:?}",
        world.answered
    );
    assert_eq!((world.answered.len(), world.lost), (3, 0));
}

#[test]
fn beside_members_that_never_were_there_one_that_lives_serves_everything() {
    for seed in 0..20 {
        for bad in [Fate::Refuses, Fate::Frozen] {
            let mut world = World::new(seed, &[bad, Fate::Lives, bad]);
            world.run(60_000);
            assert_eq!(world.lost, 0, "seed {seed}");
            assert!(
                world.stuck <= 1,
                "seed {seed}: {} calls found nobody",
                world.stuck
            );
        }
    }
}

#[test]
fn a_member_that_freezes_takes_only_the_calls_of_one_silence_and_some_that_find_out() {
    for seed in 0..20 {
        let mut world = World::new(seed, &[Fate::Lives, Fate::Lives]);
        world.run(1000);
        let frozen = *world.fates.keys().next().expect("two of them");
        world.fates.insert(frozen, Fate::Frozen);
        world.run(10_000);
        let silence = 300 / STEP_MILLIS / 2 + 2;
        // One for each time that the suspicion ran out before the ping did.
        assert!(world.lost <= silence + 4, "seed {seed}: {} lost", world.lost);
        assert_eq!(world.stuck, 1, "seed {seed}: only before the first hello");
        let before = world.answered[&frozen];
        world.fates.insert(frozen, Fate::Lives);
        world.run(10_000);
        assert!(
            world.answered[&frozen] > before + 100,
            "seed {seed}: it is not found again"
        );
    }
}

#[test]
fn a_member_that_fails_takes_so_many_calls_and_one_in_each_pause() {
    for seed in 0..20 {
        let mut world = World::new(seed, &[Fate::Lives, Fate::Lives, Fate::Lives]);
        world.run(1000);
        let failing = *world.fates.keys().next().expect("three of them");
        world.fates.insert(failing, Fate::Fails);
        world.run(10_000);
        // The pauses are of 0.5 to 1 s, 1 to 2 s, 2 to 4 s, 4 to 8 s.
        let probes = world.failed - u64::from(FAILURES);
        assert!((2..=4).contains(&probes), "seed {seed}: {probes} probes");
        world.fates.insert(failing, Fate::Lives);
        let before = world.answered[&failing];
        world.run(20_000);
        assert_eq!(world.pool.open_breakers(), 0, "seed {seed}");
        assert!(world.answered[&failing] > before + 100, "seed {seed}");
        assert_eq!(world.lost, 0, "seed {seed}");
    }
}

#[test]
fn where_all_members_fail_all_are_asked_and_the_first_that_is_well_serves_at_once() {
    for seed in 0..20 {
        let mut world = World::new(seed, &[Fate::Fails; 3]);
        world.run(10_000);
        assert_eq!(
            (world.stuck, world.answered()),
            (1, 0),
            "seed {seed}: only before the first hello"
        );
        let well = *world.fates.keys().last().expect("three of them");
        world.fates.insert(well, Fate::Lives);
        let failed = world.failed;
        world.run(1000);
        // By then each of the others was asked for its turn, and at most one pause of each was over.
        assert!(
            world.failed - failed <= 4,
            "seed {seed}: {} failed",
            world.failed - failed
        );
        assert!(world.answered() >= 195, "seed {seed}: {}", world.answered());
    }
}

#[test]
fn whatever_happens_one_member_that_lives_is_enough() {
    for seed in 0..15 {
        let mut world = World::new(seed, &[Fate::Lives; 4]);
        for _ in 0..12 {
            let ids: Vec<_> = world.fates.keys().copied().collect();
            let living = ids[(world.chance.next_u64() % 4) as usize % ids.len()];
            for id in ids {
                let fate = match world.chance.next_u64() % 4 {
                    _ if id == living => Fate::Lives,
                    0 => Fate::Lives,
                    1 => Fate::Refuses,
                    2 => Fate::Fails,
                    _ => Fate::Frozen,
                };
                world.fates.insert(id, fate);
            }
            // By then whoever is back was dialled again: the longest dial, and the longest wait.
            world.run(DIAL_PATIENCE_MILLIS + 2000);
            let (answered, stuck) = (world.answered(), world.stuck);
            world.run(2000);
            assert_eq!(world.stuck, stuck, "seed {seed}: calls find nobody");
            let answered = world.answered() - answered;
            assert!(
                answered >= 360,
                "seed {seed}: of 400 calls {answered} were answered"
            );
        }
    }
}

#[test]
fn no_list_of_inputs_breaks_the_machine() {
    for seed in 0..300 {
        let mut chance = Jitter::new(seed);
        let mut pool = Pool::new(LIMITS, seed);
        let (mut now, mut endpoints, mut connections) = (Instant(0), Vec::new(), Vec::new());
        for _ in 0..400 {
            let mut dice = |sides: u64| chance.next_u64() % sides;
            now = now + Duration::from_millis(dice(900));
            let id = ConnectionId(dice(30));
            let id = connections.get(id.0 as usize % (connections.len() + 1)).copied().unwrap_or(id);
            match dice(15) {
                0 if endpoints.len() < 6 => endpoints.push(pool.handle_added(now)),
                1 if !endpoints.is_empty() => {
                    let gone = endpoints.swap_remove(dice(endpoints.len() as u64) as usize);
                    pool.handle_removed(now, gone);
                }
                2 => pool.handle_lost(now, id),
                3 => pool.handle_goaway(now, id),
                4 => pool.handle_answer(id),
                5 => pool.handle_suspect(now, id),
                6 => pool.handle_mute(id, dice(2) == 0),
                7 => pool.handle_streams_max(id, dice(20) as usize),
                8 if dice(2) == 0 => pool.handle_stream_closed(now, id),
                8 => pool.handle_closed(now, id),
                9 | 10 => pool.handle_connected(now, id, dice(20) as usize),
                11 => pool.handle_timeout(now),
                12 if !endpoints.is_empty() => {
                    let endpoint = endpoints[dice(endpoints.len() as u64) as usize];
                    let sign = [Sign::Well, Sign::Ill, Sign::Nothing][dice(3) as usize];
                    let begun = Instant(now.0.saturating_sub(dice(MILLI * 900)));
                    let _ = pool.handle_sign(now, endpoint, begun, sign);
                }
                _ => {
                    let class = [Class::Bulk, Class::Control][dice(2) as usize];
                    let want = Want {
                        stream: dice(2) == 0,
                        ..Want::call(class)
                    };
                    let picked = pool.pick(now, want);
                    assert!(
                        picked.is_none_or(|(_, id)| connections.contains(&id)),
                        "seed {seed}"
                    );
                }
            }
            while let Some(action) = pool.poll_action() {
                if let Action::Dial(_, id) = action {
                    connections.push(id);
                }
            }
            pool.check();
            if let Some(due) = pool.poll_timeout().filter(|due| *due <= now) {
                pool.handle_timeout(now);
                assert_ne!(
                    pool.poll_timeout(),
                    Some(due),
                    "seed {seed}: a timeout for nothing"
                );
            }
        }
    }
}
