//! The machine against a model server under a seed's faults: slow and lost
//! streams, silence, members that freeze, refused opens, round trips longer than a
//! third of a TTL, full send buffers, clocks that drift, a driver that comes late,
//! leases revoked by others, IDs used again, users that come and go.
//!
//! What must hold: a lease that the machine says is valid is alive on the server, and
//! a lease ends for no reason but one of those faults. With a rule of the machine out
//! of force it does not hold.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// 500 ppm, which is as fast as NTP slews a clock.
const DRIFT_PPM: u64 = 500;
const MILLI: u64 = 1_000_000;
const STEPS: u64 = 3_000;

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
    links: [Link; STREAMS_MAX],
    next_id: i64,
    renewals: u64,
    /// How many streams were opened beside another one.
    seconds: u64,
    violation: Option<String>,
}

#[derive(Clone, Copy, Default)]
struct Faults {
    /// Of 1000 steps, how many bring one.
    loss: u64,
    silence: u64,
    refusal: u64,
    /// One member of two freezes.
    freeze: u64,
    delay_min: u64,
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
    fn new(seed: u64, faults: Faults, rules: Rules) -> World {
        let mut chance = Jitter::new(seed);
        let mut leases = Leases::new(chance.next_u64());
        leases.rules = rules;
        World {
            time: 1_000_000 * MILLI,
            client_ppm: 1_000_000 - DRIFT_PPM + chance.next_u64() % (2 * DRIFT_PPM + 1),
            server_ppm: 1_000_000 - DRIFT_PPM + chance.next_u64() % (2 * DRIFT_PPM + 1),
            faults,
            leases,
            server: BTreeMap::new(),
            handles: BTreeMap::new(),
            revoked_by_others: BTreeSet::new(),
            links: std::array::from_fn(|_| Link::default()),
            next_id: 1,
            renewals: 0,
            seconds: 0,
            violation: None,
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
        self.faults.delay_min + self.chance.next_u64() % (self.faults.delay_max - self.faults.delay_min)
    }

    fn step(&mut self) {
        self.expire_on_server();
        self.disturb();
        for at in 0..STREAMS_MAX {
            self.serve(at);
            self.deliver(at);
        }
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
    fn deliver(&mut self, stream: usize) {
        if self.links[stream].opening.is_some_and(|at| at <= self.time) {
            self.links[stream].opening = None;
            let now = self.client_now();
            if self.happens(self.faults.refusal) {
                let refusal = self.happens(500).then_some(Code::PermissionDenied);
                self.leases.handle_closed(now, stream, refusal);
            } else {
                self.links[stream].open = true;
                self.links[stream].silent = self.happens(self.faults.silence);
                self.leases.handle_opened(now, stream);
            }
            self.act();
        }
        while let Some(&(at, id, ttl)) = self.links[stream].replies.front() {
            if at > self.time {
                break;
            }
            self.links[stream].replies.pop_front();
            self.leases.handle_reply(self.client_now(), stream, id, ttl);
            self.act();
        }
        while self.links[stream].room_at.is_some_and(|at| at <= self.time) {
            self.links[stream].room_at = None;
            self.leases.handle_sent(self.client_now(), stream);
            self.act();
        }
    }

    fn act(&mut self) {
        self.leases.check();
        while let Some(action) = self.leases.poll_action() {
            match action {
                Action::Open(stream) => {
                    let is_up = |link: &Link| link.open || link.opening.is_some();
                    assert!(!is_up(&self.links[stream]), "one stream twice");
                    self.seconds += u64::from(self.links.iter().any(is_up));
                    // A stream is there before the first answer is.
                    let opening = self.delay() - self.faults.delay_min;
                    self.links[stream].opening = Some(self.time + opening);
                }
                Action::Close(stream) => self.links[stream] = Link::default(),
                Action::Renew(stream, id) => self.send(stream, id),
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

    fn send(&mut self, stream: usize, id: LeaseId) {
        assert!(
            self.links[stream].open && self.links[stream].room_at.is_none(),
            "sent without a stream or room"
        );
        self.renewals += 1;
        let is_full = self.faults.delay_min == 0 && self.happens(10);
        let room_at = if is_full {
            self.time + self.delay()
        } else {
            self.time
        };
        self.links[stream].room_at = Some(room_at);
        if !self.links[stream].silent {
            let behind = self.links[stream].requests.back().map_or(0, |last| last.0);
            let at = (room_at + self.delay()).max(behind);
            self.links[stream].requests.push_back((at, id));
        }
    }

    fn serve(&mut self, stream: usize) {
        while let Some(&(at, id)) = self.links[stream].requests.front() {
            if at > self.time {
                break;
            }
            self.links[stream].requests.pop_front();
            let now = self.server_now();
            let ttl = match self.server.get_mut(&id) {
                Some(alive) => {
                    alive.expires = now + alive.ttl.as_nanos() as u64;
                    alive.ttl.as_secs() as i64
                }
                None => 0,
            };
            let behind = self.links[stream].replies.back().map_or(0, |last| last.0);
            let at = (self.time + self.delay()).max(behind);
            self.links[stream].replies.push_back((at, id, ttl));
        }
    }

    fn expire_on_server(&mut self) {
        let now = self.server_now();
        self.server.retain(|_, alive| alive.expires > now);
    }

    fn disturb(&mut self) {
        for at in 0..STREAMS_MAX {
            if self.links[at].open && self.happens(self.faults.loss) {
                self.links[at] = Link::default();
                self.leases.handle_closed(self.client_now(), at, None);
                self.act();
            }
            if self.happens(self.faults.freeze) && self.links.iter().all(|link| !link.silent) {
                let open = self.links[at].open;
                self.links[at] = Link {
                    open,
                    silent: open,
                    ..Link::default()
                };
                if open {
                    self.leases.handle_sent(self.client_now(), at);
                    self.act();
                }
            }
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
        let id = LeaseId(self.next_id);
        self.next_id += 1;
        self.grant_as(id, ttl);
    }

    fn grant_as(&mut self, id: LeaseId, ttl: Duration) {
        let sent = self.client_now();
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
            let ttl = self.server.get(&id).map(|alive| alive.ttl);
            self.leases.handle_given_up(self.client_now(), id, LeaseEnd::Closed);
            self.act();
            assert!(!self.handles.contains_key(&id), "a lease outlived its user");
            if let Some(ttl) = ttl.filter(|_| self.happens(500)) {
                self.grant_as(id, ttl);
            }
        }
    }

    fn ended(&mut self, id: LeaseId, end: LeaseEnd) {
        let known = self.handles.remove(&id).is_some();
        let by_others = self.revoked_by_others.remove(&id);
        assert!(known || by_others, "{id} ended twice");
        let Faults {
            loss,
            silence,
            refusal,
            pause_max,
            ..
        } = self.faults;
        let is_wrong = match end {
            LeaseEnd::Closed => false,
            LeaseEnd::UnknownToServer => self.server.contains_key(&id),
            LeaseEnd::Expired => loss + silence + refusal + pause_max == 0,
            LeaseEnd::Refused(code) => refusal == 0 || code != Code::PermissionDenied,
            LeaseEnd::Revoked => true,
        };
        if is_wrong {
            self.violation = Some(format!("{id} ended although it is alive or could be: {end:?}"));
        }
        self.server.remove(&id);
    }

    fn assert_valid_means_alive(&mut self) {
        let now = self.client_now();
        let mut valid = self.handles.iter().filter(|(_, until)| now < **until);
        if let Some((id, _)) = valid.find(|(id, _)| !self.server.contains_key(id)) {
            self.violation = Some(format!("{id} is valid here and dead there"));
        }
    }

    /// The next thing to happen, at most a quarter of a second ahead.
    fn next_event(&self) -> u64 {
        let links = self.links.iter().flat_map(|link| {
            [
                link.opening,
                link.room_at,
                link.requests.front().map(|front| front.0),
                link.replies.front().map(|front| front.0),
            ]
        });
        let timeout = self.leases.poll_timeout().map(|at| at.0 / self.client_ppm * 1_000_000 + 2_000_000);
        let latest = self.time + 250 * MILLI;
        let next = links.chain([timeout]).flatten().fold(latest, u64::min);
        next.max(self.time + 1)
    }
}

fn simulate(seed: u64, faults: Faults, rules: Rules) -> Result<World, String> {
    let mut world = World::new(seed, faults, rules);
    for _ in 0..STEPS {
        world.step();
        if let Some(violation) = world.violation {
            return Err(format!("seed {seed}: {violation}"));
        }
    }
    assert!(world.renewals > 30, "seed {seed} renewed nothing");
    Ok(world)
}

fn obeying(seed: u64, faults: Faults) -> World {
    simulate(seed, faults, Rules::default()).unwrap_or_else(|violation| panic!("{violation}"))
}

/// Everything that can happen.
const EVERY: Faults = Faults {
    loss: 20,
    silence: 200,
    refusal: 200,
    freeze: 5,
    delay_min: 0,
    delay_max: 800 * MILLI,
    pause_max: 4000 * MILLI,
};

const NONE: Faults = Faults {
    loss: 0,
    silence: 0,
    refusal: 0,
    freeze: 0,
    delay_min: 0,
    delay_max: 100 * MILLI,
    pause_max: 0,
};

const ONE_FREEZES: Faults = Faults { freeze: 5, ..NONE };

#[test]
fn a_lease_that_is_called_valid_is_alive_under_every_fault() {
    (0..16).for_each(|seed| drop(obeying(seed, EVERY)));
}

#[test]
fn a_lease_that_can_be_renewed_never_ends_and_needs_one_stream() {
    for seed in 100..104 {
        let world = obeying(seed, NONE);
        assert!(!world.handles.is_empty());
        assert_eq!(world.seconds, 0, "seed {seed}");
    }
}

#[test]
fn no_lease_is_lost_while_one_member_of_two_is_frozen() {
    let seconds: u64 = (200..208).map(|seed| obeying(seed, ONE_FREEZES).seconds).sum();
    assert!(seconds > 8, "only {seconds} second streams");
}

#[test]
fn a_round_trip_above_a_third_of_the_ttl_loses_nothing() {
    for round_trip in [700, 900, 1100] {
        let delay_min = round_trip * MILLI / 2;
        let faults = Faults {
            delay_min,
            delay_max: delay_min + MILLI,
            ..NONE
        };
        for seed in 300..303 {
            assert!(obeying(seed, faults).seconds > 0);
        }
    }
}

#[test]
fn without_one_of_its_rules_a_lease_is_called_valid_when_it_is_not_or_lost() {
    for (rule, faults) in [(Rule::SentTime, EVERY), (Rule::SecondStream, ONE_FREEZES)] {
        let rules = Rules { off: Some(rule) };
        let caught = (0..200).any(|seed| simulate(seed, faults, rules).is_err());
        assert!(caught, "{rule:?} makes no difference");
    }
}

#[test]
fn a_seed_replays_its_run() {
    let run = || {
        let world = obeying(7, EVERY);
        (world.time, world.renewals, world.handles)
    };
    assert_eq!(run(), run());
}
