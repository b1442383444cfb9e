//! The machine against a model server under a seed's faults: slow and lost
//! streams, silence, refused opens, full send buffers, clocks that drift, a
//! driver that comes late, leases revoked by others, users that come and go.
//!
//! What must hold: a lease that the machine says is valid is alive on the server, and
//! a lease ends for no reason but one of those faults.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// 500 ppm, which is as fast as NTP slews a clock.
const DRIFT_PPM: u64 = 500;
const MILLI: u64 = 1_000_000;

struct World {
    chance: Jitter,
    /// True time in nanoseconds; the client's and the server's clocks drift off it.
    time: u64,
    client_ppm: u64,
    server_ppm: u64,
    faults: Faults,
    leases: Leases,
    server: BTreeMap<LeaseId, Alive>,
    /// What the client's handles know: valid until then.
    handles: BTreeMap<LeaseId, Instant>,
    revoked_by_others: BTreeSet<LeaseId>,
    link: Link,
    next_id: i64,
    renewals: u64,
}

struct Faults {
    /// Of 1000 steps, how many bring one.
    loss: u64,
    silence: u64,
    refusal: u64,
    delay_max: u64,
    pause_max: u64,
}

/// A lease on the server, by the server's clock.
struct Alive {
    expires: u64,
    ttl: Duration,
}

#[derive(Default)]
struct Link {
    opening: Option<u64>,
    open: bool,
    silent: bool,
    /// When the send buffer takes the renewal it was given.
    room_at: Option<u64>,
    /// Requests on their way: when they reach the server.
    requests: VecDeque<(u64, LeaseId)>,
    /// Replies on their way: when they reach the client.
    replies: VecDeque<(u64, LeaseId, i64)>,
}

impl World {
    fn new(seed: u64, faults: Faults) -> World {
        let mut chance = Jitter::new(seed);
        World {
            time: 1_000_000 * MILLI,
            client_ppm: 1_000_000 - DRIFT_PPM + chance.next_u64() % (2 * DRIFT_PPM + 1),
            server_ppm: 1_000_000 - DRIFT_PPM + chance.next_u64() % (2 * DRIFT_PPM + 1),
            faults,
            leases: Leases::new(chance.next_u64()),
            server: BTreeMap::new(),
            handles: BTreeMap::new(),
            revoked_by_others: BTreeSet::new(),
            link: Link::default(),
            next_id: 1,
            renewals: 0,
            chance,
        }
    }

    fn client_now(&self) -> Instant {
        Instant(self.time / 1_000_000 * self.client_ppm)
    }

    fn server_now(&self) -> u64 {
        self.time / 1_000_000 * self.server_ppm
    }

    fn happens(&mut self, of_thousand: u64) -> bool {
        self.chance.next_u64() % 1000 < of_thousand
    }

    fn delay(&mut self) -> u64 {
        self.chance.next_u64() % self.faults.delay_max
    }

    fn step(&mut self) {
        self.expire_on_server();
        self.disturb();
        self.serve();
        self.deliver();
        let now = self.client_now();
        if self.leases.poll_timeout().is_some_and(|at| at <= now) {
            self.leases.handle_timeout(now);
            self.act();
        }
        self.assert_valid_means_alive();
        self.time = self.next_event();
        let paused = self.happens(5);
        if paused && self.faults.pause_max > 0 {
            self.time += self.chance.next_u64() % self.faults.pause_max;
        }
    }

    /// What is at the client: room in the buffer, an opened stream, replies.
    fn deliver(&mut self) {
        if self.link.opening.is_some_and(|at| at <= self.time) {
            self.link.opening = None;
            let now = self.client_now();
            if self.happens(self.faults.refusal) {
                self.leases.handle_closed(now);
            } else {
                self.link.open = true;
                self.link.silent = self.happens(self.faults.silence);
                self.leases.handle_opened(now);
            }
            self.act();
        }
        while let Some(&(at, id, ttl)) = self.link.replies.front() {
            if at > self.time {
                break;
            }
            self.link.replies.pop_front();
            self.leases.handle_reply(self.client_now(), id, ttl);
            self.act();
        }
        while self.link.room_at.is_some_and(|at| at <= self.time) {
            self.link.room_at = None;
            self.leases.handle_sent(self.client_now());
            self.act();
        }
    }

    fn act(&mut self) {
        self.leases.check();
        while let Some(action) = self.leases.poll_action() {
            match action {
                Action::Open => {
                    assert!(!self.link.open && self.link.opening.is_none(), "two streams");
                    self.link.opening = Some(self.time + self.delay());
                }
                Action::Close => self.link = Link::default(),
                Action::Renew(id) => self.send(id),
                Action::Extend(id, deadline) => {
                    let now = self.client_now();
                    if let Some(until) = self.handles.get_mut(&id) {
                        assert!(*until > now, "a dead lease was extended");
                        *until = deadline;
                    }
                }
                Action::End(id, end) => self.ended(id, end),
            }
        }
        self.leases.check();
    }

    fn send(&mut self, id: LeaseId) {
        assert!(
            self.link.open && self.link.room_at.is_none(),
            "sent without a stream or room"
        );
        self.renewals += 1;
        let room_at = if self.happens(10) {
            self.time + self.delay()
        } else {
            self.time
        };
        self.link.room_at = Some(room_at);
        if !self.link.silent {
            let behind = self.link.requests.back().map_or(0, |last| last.0);
            let at = (room_at + self.delay()).max(behind);
            self.link.requests.push_back((at, id));
        }
    }

    fn serve(&mut self) {
        while let Some(&(at, id)) = self.link.requests.front() {
            if at > self.time {
                break;
            }
            self.link.requests.pop_front();
            let now = self.server_now();
            let ttl = match self.server.get_mut(&id) {
                Some(alive) => {
                    alive.expires = now + alive.ttl.as_nanos() as u64;
                    alive.ttl.as_secs() as i64
                }
                None => 0,
            };
            let behind = self.link.replies.back().map_or(0, |last| last.0);
            let at = (self.time + self.delay()).max(behind);
            self.link.replies.push_back((at, id, ttl));
        }
    }

    fn expire_on_server(&mut self) {
        let now = self.server_now();
        self.server.retain(|_, alive| alive.expires > now);
    }

    fn disturb(&mut self) {
        if self.link.open && self.happens(self.faults.loss) {
            self.link = Link::default();
            self.leases.handle_closed(self.client_now());
            self.act();
        }
        if self.handles.len() < 20 && self.happens(200) {
            self.grant();
        }
        if self.happens(10) {
            self.give_up();
        }
        if self.faults.loss > 0 && self.happens(2) {
            let victim = self.server.keys().next().copied();
            if let Some(id) = victim {
                self.server.remove(&id);
                self.handles.remove(&id);
                self.revoked_by_others.insert(id);
            }
        }
    }

    fn grant(&mut self) {
        let seconds = [2, 3, 10, 60, 3600][(self.chance.next_u64() % 5) as usize];
        let ttl = Duration::from_secs(seconds);
        let sent = self.client_now();
        let id = LeaseId(self.next_id);
        self.next_id += 1;
        let expires = self.server_now() + ttl.as_nanos() as u64;
        self.server.insert(id, Alive { expires, ttl });
        self.handles.insert(id, valid_until(sent, ttl));
        // The server had it later than the client sent: at the same time is the hardest.
        self.leases.handle_kept(sent, id, sent, ttl);
        self.act();
    }

    fn give_up(&mut self) {
        let nth = (self.chance.next_u64() % 20) as usize;
        if let Some(id) = self.handles.keys().nth(nth).copied() {
            self.leases.handle_given_up(self.client_now(), id, LeaseEnd::Closed);
            self.act();
            assert!(!self.handles.contains_key(&id), "a lease outlived its user");
        }
    }

    fn ended(&mut self, id: LeaseId, end: LeaseEnd) {
        let known = self.handles.remove(&id).is_some();
        let by_others = self.revoked_by_others.remove(&id);
        assert!(known || by_others, "{id} ended twice");
        match end {
            LeaseEnd::Closed => {}
            LeaseEnd::UnknownToServer => assert!(!self.server.contains_key(&id), "{id} is alive"),
            LeaseEnd::Expired => assert!(
                self.faults.loss + self.faults.silence + self.faults.refusal + self.faults.pause_max > 0,
                "{id} could have been renewed"
            ),
            LeaseEnd::Revoked => panic!("nobody revoked {id} here"),
        }
        self.server.remove(&id);
    }

    fn assert_valid_means_alive(&self) {
        let now = self.client_now();
        for (id, &until) in &self.handles {
            assert!(
                now >= until || self.server.contains_key(id),
                "{id} is valid here and dead there"
            );
        }
    }

    /// The next thing to happen, at most a quarter of a second ahead.
    fn next_event(&self) -> u64 {
        let link = [
            self.link.opening,
            self.link.room_at,
            self.link.requests.front().map(|front| front.0),
            self.link.replies.front().map(|front| front.0),
        ];
        let timeout = self.leases.poll_timeout().map(|at| at.0 / self.client_ppm * 1_000_000 + 2_000_000);
        let latest = self.time + 250 * MILLI;
        let next = link.into_iter().chain([timeout]).flatten().fold(latest, u64::min);
        next.max(self.time + 1)
    }
}

fn simulate(seed: u64, faults: Faults) -> World {
    let mut world = World::new(seed, faults);
    for _ in 0..10_000 {
        world.step();
    }
    assert!(world.renewals > 100, "seed {seed} renewed nothing");
    world
}

#[test]
fn a_lease_that_is_called_valid_is_alive_under_every_fault() {
    for seed in 0..16 {
        let faults = Faults {
            loss: 20,
            silence: 200,
            refusal: 200,
            delay_max: 800 * MILLI,
            pause_max: 4000 * MILLI,
        };
        simulate(seed, faults);
    }
}

#[test]
fn a_lease_that_can_be_renewed_never_ends() {
    for seed in 100..108 {
        let faults = Faults {
            loss: 0,
            silence: 0,
            refusal: 0,
            delay_max: 100 * MILLI,
            pause_max: 0,
        };
        let world = simulate(seed, faults);
        assert!(!world.handles.is_empty());
    }
}

#[test]
fn a_seed_replays_its_run() {
    let run = || {
        let faults = Faults {
            loss: 20,
            silence: 100,
            refusal: 100,
            delay_max: 500 * MILLI,
            pause_max: 1000 * MILLI,
        };
        let world = simulate(7, faults);
        (world.time, world.renewals, world.handles)
    };
    assert_eq!(run(), run());
}
